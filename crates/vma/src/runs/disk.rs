//! What is known of one disk while its run goes on.

use std::sync::Arc;

use api::vma::{RunDiskView, SyncMode};
use model::ChangeId;
use mover::MoverError;
use mover::digest_file::DigestFile;
use mover::progress::DiskProgress;
use parking_lot::Mutex;
use tunnel::DataLink;

/// How a disk is copied, once that is decided.
#[derive(Debug, Clone, Default)]
struct Chosen {
    mode: Option<SyncMode>,
    reason: Option<String>,
    change_id: Option<ChangeId>,
    extents: u64,
    bytes_to_scrub: u64,
    durable: bool,
}

/// How often the copy was interrupted, and what that cost.
#[derive(Debug, Clone, Copy, Default)]
struct Interruptions {
    was_open: bool,
    waiting: bool,
    resumed: u32,
    bytes_kept: u64,
}

/// One disk of a run.
pub(crate) struct DiskState {
    disk_id: String,
    chosen: Mutex<Chosen>,
    interruptions: Mutex<Interruptions>,
    /// Of the copy under way.
    digests: Mutex<Option<Arc<DigestFile>>>,
    progress: Arc<DiskProgress>,
    link: DataLink,
}

impl DiskState {
    pub(super) fn new(disk_id: String, link: DataLink) -> Self {
        let (chosen, interruptions, digests) = Default::default();
        Self { disk_id, chosen, interruptions, digests, progress: Arc::default(), link }
    }

    /// What its connections to the hub are to be like.
    pub(super) fn link(&self) -> &DataLink {
        &self.link
    }

    pub(super) fn progress(&self) -> Arc<DiskProgress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn chose(&self, mode: SyncMode, reason: String, change_id: Option<ChangeId>, extents: usize) {
        let chosen =
            Chosen { mode: Some(mode), reason: Some(reason), change_id, extents: extents as u64, ..Chosen::default() };
        *self.chosen.lock() = chosen;
    }

    /// How much is read only to prove that it is unchanged, in bytes.
    pub(super) fn scrubs(&self, bytes: u64) {
        self.chosen.lock().bytes_to_scrub = bytes;
    }

    pub(super) fn is_durable(&self) {
        self.chosen.lock().durable = true;
    }

    /// The copy stands still until the hub is back.
    pub(super) fn waits(&self) {
        self.interruptions.lock().waiting = true;
    }

    /// The copy begins, or goes on with so much that is durable already.
    pub(super) fn goes_on(&self, bytes_kept: u64) {
        let mut interruptions = self.interruptions.lock();
        interruptions.resumed += u32::from(interruptions.was_open);
        *interruptions = Interruptions { was_open: true, waiting: false, bytes_kept, ..*interruptions };
    }

    /// The digests of the copy that begins are taken there.
    pub(super) fn takes_digests(&self, digests: Option<Arc<DigestFile>>) {
        *self.digests.lock() = digests;
    }

    /// What was digested so far outlasts the process. It waits for the disk the digests lie on.
    pub(super) fn keep_digests(&self) -> Result<(), MoverError> {
        let digests = self.digests.lock().clone();
        digests.map_or(Ok(()), |digests| digests.finish(self.progress.moved()))
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.interruptions.lock().waiting
    }

    /// How often the copy went on in this process.
    pub(super) fn resumed(&self) -> u32 {
        self.interruptions.lock().resumed
    }

    pub(super) fn view(&self) -> RunDiskView {
        let chosen = self.chosen.lock().clone();
        let (progress, wire) = (self.progress.view(), self.link.meter.view());
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
            bytes_to_scrub: chosen.bytes_to_scrub,
            extents: chosen.extents,
            speed_bps: progress.speed_bps,
            eta_seconds: progress.eta_seconds,
            average_bps: progress.average_bps,
            time: progress.time,
            durable: chosen.durable,
            bytes_kept: self.interruptions.lock().bytes_kept,
            bytes_on_wire: wire.bytes_on_wire,
            compressed_share_percent: wire.compressed_share_percent(),
            compression_ratio_percent: wire.compression_ratio_percent(),
        }
    }
}
