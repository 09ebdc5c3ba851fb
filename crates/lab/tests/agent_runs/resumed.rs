//! Runs that are cut off go on in their vm_snapshot and send only what is missing, or begin anew when that cannot be.

use std::sync::Arc;

use api::vma::{RunPhase, RunView, StartRun};
use block::BlockDevice;
use lab::vcenter::{Effect, FaultRule};
use model::{FailureKind, LEAF_SIZE_BYTES};
use nbd::server::Command;

use crate::ledger::BARRIER_BYTES;
use crate::site::{Site, VM, digests_of, export_name, next_run};

/// Bytes of noise on the first disk: far more than is made durable at a time.
const NOISE_BYTES: u64 = 16 << 20;
/// Reads of the datastore that are let through before a run stands still.
const READS: u64 = 12;

fn hold(skip: u64) -> FaultRule {
    FaultRule { method: "/folder".to_owned(), what: Effect::Hold, count: u64::MAX, skip }
}

/// A site whose first disk holds noise.
async fn noisy(site: &Site) -> (StartRun, Vec<Arc<dyn BlockDevice>>) {
    let mut noise = vec![0; usize::try_from(NOISE_BYTES).unwrap()];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    site.guest().write(2000, 0, &noise).unwrap();
    site.guest().write(2001, 3 << 20, b"one small note").unwrap();
    site.first_run("job-1").await
}

/// A first copy that stands still in its middle, some of it durable.
async fn half_copied(site: &Site) -> (StartRun, Vec<Arc<dyn BlockDevice>>, RunView) {
    let (request, devices) = noisy(site).await;
    site.sim.inject(hold(READS));
    site.start_until(&request, RunPhase::Copying).await;
    let run = site
        .until_run("job-1", |_| site.hub.durable_bytes(&export_name("disk-2000"), NOISE_BYTES) >= 2 * BARRIER_BYTES)
        .await;
    assert!(run.disks[0].bytes_done < run.disks[0].bytes_total, "{run:#?}");
    (request, devices, run)
}

/// Every replica and every digest is what the vm_snapshot froze, and each leaf is named once.
async fn proven(site: &Site, run: &RunView, devices: &[Arc<dyn BlockDevice>]) {
    site.assert_equal(run, devices);
    for (index, disk) in run.disks.iter().enumerate() {
        assert_eq!((disk.bytes_done, disk.durable), (disk.bytes_total, true), "{disk:?}");
        let digests = site.digests(&run.job_id, &disk.disk_id).await;
        let leaves: Vec<u64> = digests.iter().map(|(leaf, _)| *leaf).collect();
        assert!(leaves.windows(2).all(|pair| pair[0] < pair[1]), "a leaf is named twice");
        assert_eq!(leaves.len() as u64, disk.bytes_total.div_ceil(LEAF_SIZE_BYTES));
        assert_eq!(digests, digests_of(&site.frozen(run, index), leaves.into_iter()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_interrupts_a_run_and_does_not_fail_it() {
    let site = Site::start().await;
    let (request, devices) = noisy(&site).await;
    site.hub.cut_after(Some((Command::Write, 30)));
    let before = site.start_until_waiting(&request).await;
    assert_eq!((before.phase, before.resumed), (RunPhase::Copying, 0));
    site.hub.lose_what_is_not_durable();
    let first_bytes = site.hub.written_bytes(&export_name("disk-2000"));
    let durable = site.hub.durable_bytes(&export_name("disk-2000"), NOISE_BYTES);
    assert!(durable >= BARRIER_BYTES);

    site.hub.cut_after(None);
    let run = site.until("job-1", RunPhase::Copied).await;
    assert_eq!(run.vm_snapshot, before.vm_snapshot, "one run, one vm_snapshot");
    assert_eq!((run.resumed, run.waiting_for_hub), (1, false));
    proven(&site, &run, &devices).await;
    let disk = &run.disks[0];
    assert!(disk.bytes_kept >= durable - LEAF_SIZE_BYTES, "{disk:?}");
    let again = site.hub.written_bytes(&export_name("disk-2000")) - first_bytes;
    assert_eq!(again, disk.bytes_total - disk.bytes_kept, "what is durable is not sent again");
    assert!(disk.bytes_sent >= disk.bytes_total, "counted over the whole run: {disk:?}");
    site.client.release_run("job-1").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lost_while_the_replica_is_flushed_is_outlasted_as_well() {
    let site = Site::start().await;
    let (request, devices) = noisy(&site).await;
    site.hub.cut_after(Some((Command::Flush, 1)));
    let before = site.start_until_waiting(&request).await;
    site.hub.lose_what_is_not_durable();
    site.hub.cut_after(None);
    let run = site.until("job-1", RunPhase::Copied).await;
    assert_eq!(run.vm_snapshot, before.vm_snapshot);
    assert!(run.resumed >= 1);
    proven(&site, &run, &devices).await;
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_patience_a_lost_link_fails_the_run_and_its_vm_snapshot_goes() {
    let site = Site::start().await.with_patience(0).await;
    let (request, devices) = noisy(&site).await;
    site.hub.cut_after(Some((Command::Write, 3)));
    let run = site.start_until(&request, RunPhase::Failed).await;
    let problem = run.error.unwrap();
    assert_eq!((problem.kind, problem.retryable), (FailureKind::Unavailable, true), "{problem:?}");
    assert!(site.vm_snapshot_names().is_empty());

    site.hub.cut_after(None);
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_eq!((run.resumed, run.bytes_kept), (0, 0), "it began anew");
    proven(&site, &run, &devices).await;
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_gone_when_the_link_is_back_fails_the_run() {
    let site = Site::start().await;
    let (request, _devices) = noisy(&site).await;
    site.hub.cut_after(Some((Command::Write, 3)));
    site.start_until_waiting(&request).await;
    site.hub.remove_export(&export_name("disk-2000"));
    site.hub.cut_after(None);
    let run = site.until("job-1", RunPhase::Failed).await;
    assert_eq!(run.error.unwrap().kind, FailureKind::NotFound);
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_until_another_one_has_left_the_export() {
    let site = Site::start().await;
    let (request, devices) = noisy(&site).await;
    let other = site.hub.write_as_another_run(&export_name("disk-2000"));
    let waiting = site.start_until_waiting(&request).await;
    assert!(waiting.vm_snapshot.is_some());
    drop(other);
    let run = site.until("job-1", RunPhase::Copied).await;
    assert_eq!(run.resumed, 0, "it had not begun");
    proven(&site, &run, &devices).await;
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_restarted_goes_on_where_it_was() {
    let site = Site::start().await;
    let (request, devices, before) = half_copied(&site).await;
    let site = site.restarted().await;
    assert_eq!(site.vm_snapshot_names(), ["migratekit-job-1"], "it is left for whoever goes on");
    assert_eq!(site.sim.session_count(), 0);
    assert_eq!(site.client.run("job-1").await.unwrap_err().kind(), FailureKind::NotFound);
    site.hub.lose_what_is_not_durable();
    let (first_bytes, durable) = (
        site.hub.written_bytes(&export_name("disk-2000")),
        site.hub.durable_bytes(&export_name("disk-2000"), NOISE_BYTES),
    );
    let vm_snapshots_taken = site.sim.calls()["CreateSnapshot_Task"];

    site.sim.clear_injections();
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_eq!((&run.vm_snapshot, run.started_at), (&before.vm_snapshot, before.started_at));
    assert_eq!(site.sim.calls()["CreateSnapshot_Task"], vm_snapshots_taken, "no other vm_snapshot was taken");
    assert_eq!(run.resumed, 1);
    proven(&site, &run, &devices).await;
    let disk = &run.disks[0];
    assert!(disk.bytes_kept > 0 && disk.bytes_kept <= durable, "{disk:?}");
    let again = site.hub.written_bytes(&export_name("disk-2000")) - first_bytes;
    assert_eq!(again, disk.bytes_total - disk.bytes_kept, "what is durable is not sent again");
    assert!(disk.bytes_sent >= disk.bytes_total, "counted over the whole run: {disk:?}");
    site.client.release_run("job-1").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    assert!(!site.config.run_folder("job-1").exists());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_run_of_a_restarted_agent_is_copied_without_sending_anything() {
    let site = Site::start().await;
    let (request, devices) = noisy(&site).await;
    let before = site.start_until(&request, RunPhase::Copied).await;
    let site = site.restarted().await;
    let bytes = site.hub.written_bytes(&export_name("disk-2000"));
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_eq!((&run.vm_snapshot, run.resumed), (&before.vm_snapshot, 1));
    assert_eq!(site.hub.written_bytes(&export_name("disk-2000")), bytes);
    for (before, now) in before.disks.iter().zip(&run.disks) {
        assert_eq!((now.bytes_kept, now.bytes_sent), (now.bytes_total, before.bytes_sent));
        assert_eq!((&now.change_id, now.sync_mode), (&before.change_id, before.sync_mode));
    }
    proven(&site, &run, &devices).await;
    site.client.release_run("job-1").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());

    // The next cycle is one like any other.
    site.guest().write(2000, 5 << 20, b"changed").unwrap();
    let next = site.start_until(&next_run(&request, &run, "job-2"), RunPhase::Copied).await;
    site.assert_equal(&next, &devices);
    assert_eq!((next.resumed, next.bytes_kept), (0, 0));
    site.client.release_run("job-2").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_vm_snapshot_a_run_begins_anew() {
    let site = Site::start().await;
    let (request, devices, before) = half_copied(&site).await;
    let site = site.restarted().await;
    site.sim.clear_injections();
    site.sim.remove_vm_snapshots(VM).unwrap();
    site.guest().write(2000, 1 << 20, b"after the vm_snapshot").unwrap();
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_ne!(run.vm_snapshot, before.vm_snapshot);
    assert_eq!((run.resumed, run.bytes_kept), (0, 0), "what the other vm_snapshot froze counts for nothing");
    proven(&site, &run, &devices).await;
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_or_job_does_not_go_on_with_it() {
    let site = Site::start().await;
    let (mut request, devices, before) = half_copied(&site).await;
    let site = site.restarted().await;
    site.sim.clear_injections();
    assert!(site.config.run_folder("job-1").exists());
    request.job_id = "job-2".to_owned();
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_ne!(run.vm_snapshot, before.vm_snapshot);
    assert_eq!(site.vm_snapshot_names(), ["migratekit-job-2"], "the other one is removed");
    assert!(!site.config.run_folder("job-1").exists(), "and forgotten");
    assert_eq!((run.resumed, run.bytes_kept), (0, 0));
    proven(&site, &run, &devices).await;
    site.client.release_run("job-2").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_can_be_stopped() {
    let site = Site::start().await;
    let (request, _devices, _) = half_copied(&site).await;
    let site = site.restarted().await;
    // As the hub undoes a run the agent no longer knows.
    let sweep = api::vma::VmRequest { vcenter: site.vcenter() };
    let removed = site.client.remove_vm_snapshots(&request.moref, &sweep).await.unwrap();
    assert_eq!(removed, ["migratekit-job-1"]);
    assert!(!site.config.run_folder("job-1").exists());
    site.sim.clear_injections();
    site.stop().await;
}
