//! What is refused, with its kind, before a byte is written or a vm_snapshot taken.

use std::sync::Arc;

use api::vma::{DiscoverRequest, ReaderSpec, RunPhase, RunView, StartRun};
use block::BlockDevice;
use model::FailureKind;

use crate::site::{Site, export_name, is_untouched, wrong_password};

async fn refused(site: &Site, request: &StartRun, devices: &[Arc<dyn BlockDevice>]) -> RunView {
    let run = site.start_until(request, RunPhase::Failed).await;
    assert!(devices.iter().all(|device| is_untouched(&**device)), "something was written");
    assert!(site.vm_snapshot_names().is_empty());
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_the_one_meant_is_refused() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    let mut other_uuid = request.clone();
    other_uuid.disks[1].disk_uuid = request.disks[0].disk_uuid.clone();
    let mut other_size = StartRun { job_id: "job-2".to_owned(), ..request.clone() };
    other_size.disks[1].capacity_bytes += 512;
    let mut unknown = StartRun { job_id: "job-3".to_owned(), ..request.clone() };
    unknown.disks[1].disk_id = "disk-2009".to_owned();
    for wrong in [other_uuid, other_size, unknown] {
        let problem = refused(&site, &wrong, &devices).await.error.unwrap();
        assert_eq!((problem.kind, problem.data_safe), (FailureKind::Conflict, true), "{problem:?}");
        assert!(problem.detail.contains("disk-200") && problem.remedy.is_some(), "{problem:?}");
    }
    assert!(!site.sim.calls().contains_key("CreateSnapshot_Task"), "a vm_snapshot was taken for nothing");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_vm_under_the_same_reference_is_refused() {
    let site = Site::start().await;
    let (mut request, devices) = site.first_run("job-1").await;
    request.instance_uuid = "503c0000-0000-0000-0000-000000000000".to_owned();
    let problem = refused(&site, &request, &devices).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::Conflict, "{problem:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_made_for_another_disk_is_refused() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    site.hub.export(&export_name("disk-2001"), "another-uuid", Arc::clone(&devices[1]));
    let problem = refused(&site, &request, &devices).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::Conflict, "{problem:?}");
    assert!(problem.detail.contains("another disk"), "{problem:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_not_there_or_too_small_is_refused() {
    let site = Site::start().await;
    let (request, devices) = site.first_run("job-1").await;
    let small: Arc<dyn BlockDevice> = Arc::new(block::MemoryDevice::new(request.disks[1].capacity_bytes - 1));
    site.hub.export(&export_name("disk-2001"), &request.disks[1].disk_uuid, small);
    let problem = refused(&site, &request, &devices).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::Invalid, "{problem:?}");
    let mut elsewhere = StartRun { job_id: "job-2".to_owned(), ..request };
    elsewhere.disks[1].export_name = "migration-vol-none".to_owned();
    let problem = refused(&site, &elsewhere, &devices).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::NotFound, "{problem:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_an_unexpected_certificate_are_told_apart() {
    let site = Site::start().await;
    let (request, devices) = site.first_run("job-1").await;
    let mut login = request.clone();
    login.vcenter.password = wrong_password();
    let problem = refused(&site, &login, &devices).await.error.unwrap();
    assert_eq!((problem.kind, problem.retryable), (FailureKind::Unauthenticated, false));

    let mut pinned = StartRun { job_id: "job-2".to_owned(), ..request };
    pinned.vcenter.thumbprint = Some("ab".repeat(20));
    let problem = refused(&site, &pinned, &devices).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::Forbidden);
    let cause = problem.cause.unwrap();
    assert!(cause.contains(site.sim.sha1_thumbprint()), "it does not tell what was found: {cause}");

    let discovery = DiscoverRequest { vcenter: login.vcenter, filter: None };
    assert_eq!(site.client.discover(&discovery).await.unwrap_err().kind(), FailureKind::Unauthenticated);
    let discovery = DiscoverRequest { vcenter: pinned.vcenter, filter: None };
    assert_eq!(site.client.discover(&discovery).await.unwrap_err().kind(), FailureKind::Forbidden);
    let trusted =
        api::vma::VcenterConnection { thumbprint: None, ca_pem: Some(site.sim.ca_pem().to_owned()), ..site.vcenter() };
    let discovery = DiscoverRequest { vcenter: trusted, filter: None };
    assert_eq!(site.client.discover(&discovery).await.unwrap().vms.len(), 1);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_can_neither_name_a_program_nor_a_file_of_its_own() {
    let site = Site::start().await;
    let (request, devices) = site.first_run("job-1").await;
    let readers =
        [ReaderSpec::NbdCommand { name: "sh".to_owned() }, ReaderSpec::File { path: "/etc/passwd".to_owned() }];
    for (index, reader) in readers.into_iter().enumerate() {
        let mut wrong = StartRun { job_id: format!("job-{index}"), ..request.clone() };
        wrong.disks[0].reader = reader;
        let problem = refused(&site, &wrong, &devices).await.error.unwrap();
        assert_eq!(problem.kind, FailureKind::Invalid, "{problem:?}");
    }
    let mut escaping = request;
    escaping.job_id = "../../etc".to_owned();
    assert_eq!(site.client.start_run(&escaping).await.unwrap_err().kind(), FailureKind::Invalid);
    site.stop().await;
}
