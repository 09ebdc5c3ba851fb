//! What is known of one disk while its run goes on.

use std::sync::Arc;

use api::vma::{RunDiskView, SyncMode};
use model::ChangeId;
use mover::progress::DiskProgress;
use parking_lot::Mutex;

/// How a disk is copied, once that is decided.
#[derive(Debug, Clone, Default)]
struct Chosen {
    mode: Option<SyncMode>,
    reason: Option<String>,
    change_id: Option<ChangeId>,
    extents: u64,
    durable: bool,
}

/// One disk of a run.
#[derive(Debug)]
pub(crate) struct DiskState {
    disk_id: String,
    chosen: Mutex<Chosen>,
    progress: Arc<DiskProgress>,
}

impl DiskState {
    pub(super) fn new(disk_id: String) -> Self {
        Self { disk_id, chosen: Mutex::default(), progress: Arc::default() }
    }

    pub(super) fn progress(&self) -> Arc<DiskProgress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn chose(&self, mode: SyncMode, reason: String, change_id: Option<ChangeId>, extents: usize) {
        let chosen =
            Chosen { mode: Some(mode), reason: Some(reason), change_id, extents: extents as u64, durable: false };
        *self.chosen.lock() = chosen;
    }

    pub(super) fn is_durable(&self) {
        self.chosen.lock().durable = true;
    }

    pub(super) fn view(&self) -> RunDiskView {
        let chosen = self.chosen.lock().clone();
        let progress = self.progress.view();
        RunDiskView {
            disk_id: self.disk_id.clone(),
            sync_mode: chosen.mode,
            reason: chosen.reason,
            change_id: chosen.change_id,
            bytes_total: progress.bytes_total,
            bytes_done: progress.bytes_done,
            bytes_read: progress.bytes_read,
            bytes_sent: progress.bytes_sent,
            bytes_zero: progress.bytes_zero,
            extents: chosen.extents,
            speed_bps: progress.speed_bps,
            eta_seconds: progress.eta_seconds,
            average_bps: progress.average_bps,
            time: progress.time,
            durable: chosen.durable,
        }
    }
}
