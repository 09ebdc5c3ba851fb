//! Runs that are stopped or fail: no vm_snapshot stays, but for a run that can be gone on with, and no session.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use api::vma::RunPhase;
use block::{BlockDevice, BlockError, Fault, FaultDevice, FaultPlan, MemoryDevice, Region};
use lab::vcenter::{Effect, FaultRule};
use model::{Extent, FailureKind};

use crate::site::{SIZES, Site, VM, dirty, export_name, soon};

fn hanging_reads() -> FaultRule {
    FaultRule { method: "/folder".to_owned(), what: Effect::Hang, count: u64::MAX, skip: 6 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_bytes_move_removes_the_vm_snapshot() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, _devices) = site.first_run("job-1").await;
    site.sim.inject(hanging_reads());
    site.start_until(&request, RunPhase::Copying).await;
    assert_eq!(site.vm_snapshot_names(), ["migratekit-job-1"]);
    let early = site.client.release_run("job-1").await.unwrap_err();
    assert_eq!(early.kind(), FailureKind::Conflict, "what is not copied cannot be released");
    let run = soon("the stop", site.client.cancel_run("job-1")).await.unwrap();
    assert_eq!((run.phase, run.error), (RunPhase::Cancelled, None));
    assert!(site.vm_snapshot_names().is_empty());
    assert!(!site.config.run_folder("job-1").exists(), "its files are gone");
    site.sim.clear_injections();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_vm_snapshot_is_taken_removes_it_too() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    site.client.release_run("job-1").await.unwrap();
    let before = site.sim.calls()["CreateSnapshot_Task"];

    site.sim.set_task_delay(std::time::Duration::from_millis(1500));
    let again = api::vma::StartRun { job_id: "job-2".to_owned(), ..request };
    site.client.start_run(&again).await.unwrap();
    site.until_called("CreateSnapshot_Task", before + 1).await;
    let run = soon("the stop", site.client.cancel_run("job-2")).await.unwrap();
    assert_eq!(run.phase, RunPhase::Cancelled);
    assert!(site.vm_snapshot_names().is_empty(), "it appeared after the stop and stayed");
    site.sim.set_task_delay(std::time::Duration::ZERO);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_change_tracking_is_switched_on_leaves_nothing() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.sim.set_task_delay(std::time::Duration::from_millis(700));
    site.client.start_run(&request).await.unwrap();
    site.until_called("CreateSnapshot_Task", 1).await;
    let run = soon("the stop", site.client.cancel_run("job-1")).await.unwrap();
    assert_eq!(run.phase, RunPhase::Cancelled);
    assert!(site.vm_snapshot_names().is_empty());
    site.sim.set_task_delay(std::time::Duration::ZERO);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_run_can_still_be_stopped() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    assert_eq!(site.client.cancel_run("job-1").await.unwrap().phase, RunPhase::Cancelled);
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_fails_for_good_and_the_job_can_be_started_again() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, mut devices) = site.first_run("job-1").await;
    let full = FaultPlan { write_budget_bytes: Some((SIZES[0] / 2, Fault::Full)), ..FaultPlan::default() };
    let small: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(Arc::new(MemoryDevice::new(SIZES[0])), full));
    site.hub.export(&export_name("disk-2000"), &request.disks[0].disk_uuid, small);
    let run = site.start_until(&request, RunPhase::Failed).await;
    let problem = run.error.unwrap();
    assert_eq!((problem.kind, problem.retryable, problem.data_safe), (FailureKind::Exhausted, false, false));
    assert_eq!(problem.job_id.as_deref(), Some("job-1"));
    assert!(problem.remedy.is_some());
    assert!(site.vm_snapshot_names().is_empty());

    devices[0] = dirty(SIZES[0]);
    site.hub.export(&export_name("disk-2000"), &request.disks[0].disk_uuid, Arc::clone(&devices[0]));
    let run = site.start_until(&request, RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_read_of_the_datastore_fails_the_run() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, _devices) = site.first_run("job-1").await;
    let what = Effect::CutAfter { bytes: 1000 };
    site.sim.inject(FaultRule { method: "/folder".to_owned(), what, count: 1, skip: 8 });
    let run = site.start_until(&request, RunPhase::Failed).await;
    let problem = run.error.unwrap();
    assert!(problem.detail.contains("disk-200"), "{problem:?}");
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

/// A replica whose writes wait until they are let through.
struct Gate {
    inner: MemoryDevice,
    reached: Sender<()>,
    opened: Mutex<Receiver<()>>,
}

impl BlockDevice for Gate {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), BlockError> {
        self.reached.send(()).unwrap();
        // Answered, or the test is over.
        let _ = self.opened.lock().unwrap().recv();
        self.inner.write_at(data, offset)
    }

    fn write_zeroes(&self, extent: Extent, may_punch_holes: bool) -> Result<(), BlockError> {
        self.inner.write_zeroes(extent, may_punch_holes)
    }

    fn trim(&self, extent: Extent) -> Result<(), BlockError> {
        self.inner.trim(extent)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.inner.map_front(extent, max_regions)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_from_a_vm_snapshot_that_is_gone_is_never_called_copied() {
    let site = Site::start().await;
    // One write: all is read when it arrives.
    site.guest().write(2000, 4 << 20, b"one small note").unwrap();
    let (mut request, _devices) = site.first_run("job-1").await;
    request.disks.truncate(1);
    let (reached, arrived) = channel();
    let (open, opened) = channel();
    let gate = Gate { inner: MemoryDevice::new(SIZES[0]), reached, opened: Mutex::new(opened) };
    site.hub.export(&export_name("disk-2000"), &request.disks[0].disk_uuid, Arc::new(gate));
    site.start_until(&request, RunPhase::Copying).await;
    soon("the write", tokio::task::spawn_blocking(move || arrived.recv())).await.unwrap().unwrap();
    site.sim.remove_vm_snapshots(VM).unwrap();
    drop(open);
    let run = site.until("job-1", RunPhase::Failed).await;
    let problem = run.error.unwrap();
    assert_eq!((problem.kind, problem.data_safe), (FailureKind::Conflict, false));
    assert!(problem.detail.contains("was removed while the disks were read"), "{problem:?}");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_agent_leaves_what_waits_for_the_hub_and_no_session() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    site.shutdown.cancel();
    soon("the end of the agent", site.agent).await.unwrap().unwrap();
    assert_eq!(site.sim.vm_snapshots(crate::site::VM).unwrap().len(), 1, "the next process goes on with it");
    assert_eq!(site.sim.session_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_is_answered_with_its_run_and_another_of_the_vm_is_refused() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    let run = site.start_until(&request, RunPhase::Copied).await;
    let repeated = site.client.start_run(&request).await.unwrap();
    assert_eq!((repeated.phase, repeated.started_at), (RunPhase::Copied, run.started_at));
    let other = api::vma::StartRun { job_id: "job-2".to_owned(), ..request.clone() };
    assert_eq!(site.client.start_run(&other).await.unwrap_err().kind(), FailureKind::Conflict);
    let sweep = api::vma::VmRequest { vcenter: site.vcenter() };
    let refused = site.client.remove_vm_snapshots(&request.moref, &sweep).await.unwrap_err();
    assert_eq!(refused.kind(), FailureKind::Conflict, "its vm_snapshot is in use");
    assert_eq!(site.client.run("job-9").await.unwrap_err().kind(), FailureKind::NotFound);
    assert_eq!(site.client.digests("job-1", "disk-9").await.err().unwrap().kind(), FailureKind::NotFound);
    site.stop().await;
}
