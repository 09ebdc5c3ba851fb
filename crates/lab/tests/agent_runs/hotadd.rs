//! Disks added to the agent's own VM: read, removed again whatever happens, and nothing removed that was not added.

use api::vma::{ReaderSpec, RunPhase, StartRun, SyncMode};
use lab::vcenter::{DiskSpec, Effect, FaultRule, VmSpec};
use model::FailureKind;
use vsphere::{AttachDisk, ConnectionSpec, DiskSlot, MoRef, Trust, VimSession, VmSnapshotSpec};

use crate::site::{AGENT_VM, Site, VM, next_run, soon, web_server};

fn by_hotadd(mut request: StartRun) -> StartRun {
    for disk in &mut request.disks {
        disk.reader = ReaderSpec::Hotadd;
    }
    request
}

/// Nothing of another VM is on the agent's, and nothing is written down.
fn assert_nothing_added(site: &Site) {
    assert_eq!(site.sim.foreign_disks(AGENT_VM).unwrap(), Vec::<String>::new());
    if let Ok(record) = std::fs::read_to_string(site.config.state_dir.join("hotadd.json")) {
        assert_eq!(record, "[]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_disks_are_added_read_and_removed() {
    let site = Site::with_agent_vm().await;
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    let request = by_hotadd(request);
    let first = site.start_until(&request, RunPhase::Copied).await;
    site.assert_equal(&first, &devices);
    assert_nothing_added(&site);
    assert_eq!(site.sim.folder_bytes(), 0, "nothing came over HTTPS");
    for disk in &first.disks {
        assert!(disk.reason.as_deref().is_some_and(|reason| reason.ends_with("read by hotadd")), "{:?}", disk.reason);
    }
    site.client.release_run("job-1").await.unwrap();

    site.guest().write(2000, 11 << 20, &[7; 70_000]).unwrap();
    let second = site.start_until(&next_run(&request, &first, "job-2"), RunPhase::Copied).await;
    site.assert_equal(&second, &devices);
    assert_eq!(second.disks[0].sync_mode, Some(SyncMode::Incremental));
    assert_nothing_added(&site);
    site.client.release_run("job-2").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_disk_is_added_removes_it_before_the_vm_snapshot() {
    let site = Site::with_agent_vm().await;
    site.write_everywhere(1);
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    site.client.release_run("job-1").await.unwrap();
    let before = site.sim.calls()["ReconfigVM_Task"];

    site.sim.set_task_delay(std::time::Duration::from_millis(900));
    let again = StartRun { job_id: "job-2".to_owned(), ..by_hotadd(request) };
    site.client.start_run(&again).await.unwrap();
    site.until_called("ReconfigVM_Task", before + 1).await;
    let run = soon("the stop", site.client.cancel_run("job-2")).await.unwrap();
    assert_eq!(run.phase, RunPhase::Cancelled);
    assert_nothing_added(&site);
    assert!(site.vm_snapshot_names().is_empty(), "a disk that is added keeps its vm_snapshot");
    site.sim.set_task_delay(std::time::Duration::ZERO);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vcenter_refuses_is_told_with_a_remedy_and_leaves_nothing() {
    let site = Site::with_agent_vm().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    site.client.release_run("job-1").await.unwrap();
    let cases = [
        ("job-2", "FileNotFound", FailureKind::NotFound, "see the disk's datastore"),
        ("job-3", "FileTooLarge", FailureKind::Exhausted, "VMFS 6"),
        ("job-4", "InvalidDeviceSpec", FailureKind::Invalid, "[hotadd]"),
        ("job-5", "FileLocked", FailureKind::Unavailable, "backup product"),
    ];
    for (job_id, fault, kind, remedy) in cases {
        let what = Effect::TaskFault { fault: fault.to_owned(), message: String::new() };
        site.sim.inject(FaultRule { method: "ReconfigVM_Task".to_owned(), what, count: 2, skip: 0 });
        let refused = StartRun { job_id: job_id.to_owned(), ..by_hotadd(request.clone()) };
        let problem = site.start_until(&refused, RunPhase::Failed).await.error.unwrap();
        assert_eq!(problem.kind, kind, "{problem:?}");
        assert!(problem.remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{problem:?}");
        site.sim.clear_injections();
        assert_nothing_added(&site);
        assert!(site.vm_snapshot_names().is_empty());
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_no_vm_of_this_vcenter_says_so() {
    let site = Site::configured(vec![web_server()], |_, sim, config| {
        config.hotadd.vm_uuid = Some(sim.bios_uuid(VM).unwrap().replace('4', "5"));
    })
    .await;
    let (request, _devices) = site.first_run("job-1").await;
    let problem = site.start_until(&by_hotadd(request), RunPhase::Failed).await.error.unwrap();
    assert_eq!(problem.kind, FailureKind::Conflict);
    assert!(problem.remedy.as_deref().is_some_and(|text| text.contains("vm_uuid")), "{problem:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_controller_gets_a_second_one_and_disks_of_others_stay() {
    let disks = (0..15).fold(VmSpec::named(AGENT_VM), |vm, _| vm.with_disk(DiskSpec::empty(1 << 20)));
    let other = VmSpec::named("other").with_disk(DiskSpec::empty(1 << 20));
    let full = VmSpec { hardware_version: 13, ..disks };
    let site = Site::configured(vec![web_server(), full, other], |_, sim, config| {
        config.hotadd.vm_uuid = Some(sim.bios_uuid(AGENT_VM).unwrap());
        config.hotadd.device_dir = sim.device_dir(AGENT_VM);
    })
    .await;
    site.write_everywhere(1);
    let (own, vim) = (MoRef::vm(site.sim.moref(AGENT_VM).unwrap()), session(&site).await);
    let spec = VmSnapshotSpec { name: "of a backup".to_owned(), description: String::new(), quiesce: false };
    vim.create_vm_snapshot(&MoRef::vm(site.sim.moref("other").unwrap()), &spec).await.unwrap();
    let strange = AttachDisk {
        vmdk_path: "[datastore1] other/other.vmdk".to_owned(),
        capacity_bytes: 1 << 20,
        slot: DiskSlot::NewController { bus: 3 },
    };
    let task = vim.start_attaching_disk(&own, &strange).await.unwrap();
    vim.wait_for_task(&task, |_| {}).await.unwrap();

    let (request, devices) = site.first_run("job-1").await;
    let run = site.start_until(&by_hotadd(request), RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    assert_eq!(site.sim.foreign_disks(AGENT_VM).unwrap(), [strange.vmdk_path]);
    site.client.release_run("job-1").await.unwrap();
    vim.log_out().await.unwrap();
    site.stop().await;
}

async fn session(site: &Site) -> VimSession {
    let connection = site.vcenter();
    let spec = ConnectionSpec {
        url: connection.url,
        username: connection.username,
        password: connection.password,
        trust: Trust::Thumbprint(connection.thumbprint.unwrap()),
    };
    VimSession::connect(spec).await.unwrap()
}
