//! Disks whose VM has vm_snapshots of others: read over HTTPS with their parents, whatever keeps the deltas.

use api::vma::{RunPhase, SyncMode};
use lab::ports::ReservedPort;
use lab::vcenter::{DeltaFormat, DiskSpec, Effect, FaultRule, VcenterConfig, VmSpec};

use crate::site::{SIZES, Site, VM, next_run};

/// The VM of these tests with a vm_snapshot of somebody else, after which the guest wrote.
fn with_vm_snapshot(delta_format: DeltaFormat) -> VmSpec {
    let disk = |size: &u64| DiskSpec { delta_format, ..DiskSpec::empty(*size) };
    let vm = SIZES.iter().fold(VmSpec::named(VM), |vm, size| vm.with_disk(disk(size)));
    VmSpec { existing_vm_snapshots: vec!["before the upgrade".to_owned()], ..vm }
}

#[tokio::test(flavor = "multi_thread")]
async fn deltas_of_every_format_are_read_over_their_base() {
    for delta_format in [DeltaFormat::SeSparse, DeltaFormat::Cowd] {
        let site = Site::with(with_vm_snapshot(delta_format)).await;
        site.write_everywhere(1);
        site.guest().zero(2000, 20 << 20, 1 << 20).unwrap();
        let (request, devices) = site.first_run("job-1").await;
        // The session ends in the middle: the next read logs in again.
        site.sim.inject(FaultRule { method: "/folder".to_owned(), what: Effect::Hold, count: 1, skip: 14 });
        site.client.start_run(&request).await.unwrap();
        site.until_called("/folder", 15).await;
        assert_eq!(site.sim.expire_sessions(), 1);
        site.sim.clear_injections();
        let first = site.until("job-1", RunPhase::Copied).await;
        site.assert_equal(&first, &devices);
        assert_eq!(first.disks[0].sync_mode, Some(SyncMode::Full), "{delta_format:?}");
        // A flat base may hold data anywhere; zeroes that a table names need not be read.
        let zeroes = if delta_format == DeltaFormat::SeSparse { 1 << 20 } else { 0 };
        assert_eq!(first.disks[0].bytes_total, SIZES[0] - zeroes, "{delta_format:?}");
        let asked = site.sim.calls()["/folder"];
        assert!(asked < 120, "{delta_format:?}: {asked} requests for 30 MiB");
        site.client.release_run("job-1").await.unwrap();

        site.guest().write(2000, 11 << 20, &[7; 70_000]).unwrap();
        let second = site.start_until(&next_run(&request, &first, "job-2"), RunPhase::Copied).await;
        site.assert_equal(&second, &devices);
        assert_eq!(second.disks[0].sync_mode, Some(SyncMode::Incremental), "{delta_format:?}");
        site.client.release_run("job-2").await.unwrap();
        assert_eq!(site.vm_snapshot_names(), ["before the upgrade"]);
        site.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_read_directly_with_a_ticket_for_each_request() {
    let port = ReservedPort::take().unwrap();
    let vcenter = VcenterConfig {
        listen: port.address(),
        hosts: vec![port.address().to_string()],
        single_use_tickets: true,
        vms: vec![with_vm_snapshot(DeltaFormat::SeSparse)],
        ..VcenterConfig::default()
    };
    let site = Site::built(vcenter, |_, _, config| config.folder.host_direct = true).await;
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    let run = site.start_until(&request, RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    let calls = site.sim.calls();
    assert!(calls["AcquireGenericServiceTicket"] > 20, "{calls:?}");
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_datastore_says_of_a_delta_is_told() {
    let site = Site::with(with_vm_snapshot(DeltaFormat::SeSparse)).await;
    let (mut request, _devices) = site.first_run("job-1").await;
    request.disks.truncate(1);
    // The descriptor is read twice before its delta is.
    let broken = FaultRule { method: "/folder".to_owned(), what: Effect::Status { status: 503 }, count: 1, skip: 2 };
    site.sim.inject(broken);
    let problem = site.start_until(&request, RunPhase::Failed).await.error.unwrap();
    assert_eq!((problem.kind, problem.retryable), (model::FailureKind::Unavailable, true), "{problem:?}");
    site.stop().await;
}
