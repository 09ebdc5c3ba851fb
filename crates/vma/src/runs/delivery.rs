//! One disk's way to the hub: copied over connections that may be lost at any time, and gone on with where it was once the
//! hub is back.
//!
//! What need not be sent again is asked of the hub each time (its ledger) and held against the digests that are proven
//! here. Only what interrupts is outlasted; what fails (a full volume, a source that cannot be read, an export that is not
//! there) fails at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::vma::{RunDisk, SyncMode};
use model::Extent;
use mover::digest_file::{DigestFile, proven};
use mover::ledger::{self, ledger_name, writing_name};
use mover::plan::Plan;
use mover::progress::Moved;
use mover::reader::Source;
use mover::target::Target;
use mover::{DiskCopy, Interruption, MoverError};
use nbd::Lane;
use nbd::client::Wishes;
use runtime::retry::Backoff;

use super::disk::DiskState;
use super::run::Run;
use crate::error::VmaError;

/// The first pause before the hub is dialled again is up to this; half of each is left to chance.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a hub that is back is found within seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A copy that came so much further than where it went on is no longer in the same trouble, in bytes.
const GOT_ON_BYTES: u64 = 64 << 20;
/// How long a hub that is there may refuse the export for now: what it holds for another run ends sooner, or never.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(120);

/// A disk on its way.
pub(super) struct Delivery<'a> {
    pub(super) run: &'a Run,
    pub(super) wanted: &'a RunDisk,
    pub(super) state: &'a DiskState,
    /// Names the frozen content.
    pub(super) generation: &'a str,
    pub(super) source: Source,
    pub(super) mode: SyncMode,
    /// All of it.
    pub(super) plan: Plan,
    /// The copy under way; none before the first and while the hub is away.
    copy: Option<Arc<DiskCopy>>,
    trouble: Trouble,
    is_durable: bool,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(
        (run, wanted, state): (&'a Run, &'a RunDisk, &'a DiskState),
        generation: &'a str,
        source: Source,
        (mode, plan): (SyncMode, Plan),
    ) -> Self {
        let trouble = Trouble::new(run.surroundings().config.resume_patience());
        Self { run, wanted, state, generation, source, mode, plan, copy: None, trouble, is_durable: false }
    }

    /// Opens the export, as soon as the hub lets it be opened.
    pub(super) async fn open(&mut self) -> Result<(), VmaError> {
        loop {
            match self.opened().await {
                Ok(copy) => {
                    self.trouble.ended(copy.plan.bytes_kept);
                    self.state.goes_on(copy.plan.bytes_kept);
                    tracing::info!(
                        job_id = self.run.job_id(),
                        disk_id = self.wanted.disk_id,
                        bytes_total = copy.plan.bytes_total,
                        bytes_kept = copy.plan.bytes_kept,
                        "the replica is open for writing"
                    );
                    // A disk that waits for its turn is work to be done, too.
                    copy.progress.begin(copy.plan.bytes_total, copy.plan.bytes_kept);
                    self.state.takes_digests(copy.digests.clone());
                    self.copy = Some(Arc::new(copy));
                    return Ok(());
                }
                Err(error) => self.outlast(error).await?,
            }
        }
    }

    /// Sends all that is not durable yet.
    pub(super) async fn transfer(&mut self) -> Result<(), VmaError> {
        while !self.is_durable {
            let Some(copy) = self.copy.clone() else {
                self.open().await?;
                continue;
            };
            let turn = self.turn().await;
            let transferred = copy.transfer(self.run.cancellation()).await;
            drop(turn);
            match transferred {
                Ok(()) => return Ok(()),
                Err(error) => self.interrupted(&copy, error).await?,
            }
        }
        Ok(())
    }

    /// Waits until it is this disk's turn to copy.
    async fn turn(&self) -> impl Sized + use<> {
        let request = self.run.request();
        self.run.surroundings().wan.turn(&request.moref, request.connections_per_disk).await
    }

    /// Has the hub make everything durable; `false` when that was interrupted, and there is more to transfer.
    pub(super) async fn make_durable(&mut self) -> Result<bool, VmaError> {
        if self.is_durable {
            return Ok(true);
        }
        let Some(copy) = self.copy.clone() else { return Ok(false) };
        match copy.make_durable().await {
            Ok(()) => {
                self.is_durable = true;
                self.state.is_durable();
                // Its connections are of no more use.
                self.copy = None;
            }
            Err(error) => self.interrupted(&copy, error).await?,
        }
        Ok(self.is_durable)
    }

    /// Gives the copy up and keeps its digests, if what happened is an interruption.
    async fn interrupted(&mut self, copy: &DiskCopy, error: MoverError) -> Result<(), VmaError> {
        let error = self.failed(error);
        if interruption(&error).is_none() {
            return Err(error);
        }
        self.copy = None;
        if copy.progress.view().bytes_done >= copy.plan.bytes_kept + GOT_ON_BYTES {
            // The link was good for a while: this is another trouble.
            self.trouble.is_over();
        }
        copy.keep_digests().await.map_err(|error| self.failed(error))?;
        self.outlast(error).await
    }

    /// Waits a while after an interruption; what is none, or takes too long, comes back.
    async fn outlast(&mut self, error: VmaError) -> Result<(), VmaError> {
        let pause = interruption(&error).and_then(|kind| self.trouble.pause(kind, Instant::now()));
        let Some(pause) = pause else { return Err(error) };
        self.state.waits();
        tracing::warn!(
            job_id = self.run.job_id(),
            disk_id = self.wanted.disk_id,
            error = &error as &dyn std::error::Error,
            pause_ms = pause.as_millis(),
            "the copy is interrupted; it goes on when the hub is back"
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn failed(&self, source: MoverError) -> VmaError {
        VmaError::Copy { disk_id: self.wanted.disk_id.clone(), source }
    }

    /// Opens the connections, and plans what is left to do.
    async fn opened(&self) -> Result<DiskCopy, VmaError> {
        // In this order: what of a damaged journal cannot be told is forgotten when the ledger is opened.
        let durable = self.durable().await?;
        let target = self.target().await?;
        let (path, whole) = (self.run.digest_path(&self.wanted.disk_id), self.plan.clone());
        let capacity_bytes = self.wanted.capacity_bytes;
        let planning = tokio::task::spawn_blocking(move || {
            let proven = proven(&path, capacity_bytes)?;
            rest_of(&whole, durable, proven, capacity_bytes)
        });
        let planned = planning.await.map_err(|source| self.failed(MoverError::Worker { source }))?;
        let (plan, digests, moved) = planned.map_err(|error| self.failed(error))?;
        let progress = self.state.progress();
        if progress.moved() == Moved::default() {
            progress.restore(moved);
        }
        let (source, mode, digests) = (self.source.clone(), self.mode, Some(Arc::new(digests)));
        Ok(DiskCopy { source, target, plan, mode, digests, progress })
    }

    /// What the hub has of the generation for good.
    async fn durable(&self) -> Result<Vec<Extent>, VmaError> {
        let name = ledger_name(&self.wanted.export_name, self.generation);
        let lane = self.lane(&name).await?;
        let reading = tokio::task::spawn_blocking(move || ledger::read(lane, &name));
        let read = reading.await.map_err(|source| self.failed(MoverError::Worker { source }))?;
        read.map_err(|error| self.failed(error))
    }

    async fn lane(&self, name: &str) -> Result<Lane, VmaError> {
        let channel = Box::new(self.run.surroundings().dialer.dial_data(self.state.link()).await?);
        let lane = Lane::open(channel, name, Wishes::default()).await;
        lane.map_err(|source| self.failed(MoverError::OpenTarget { export: name.to_owned(), source }))
    }

    /// Opens the connections to the export and proves that it was made for this disk.
    async fn target(&self) -> Result<Target, VmaError> {
        let wanted = self.wanted;
        let name = writing_name(&wanted.export_name, self.generation);
        let first = self.lane(&name).await?;
        let made_for = api::gateway::export_description(&wanted.disk_uuid);
        if first.export().description.as_deref() != Some(made_for.as_str()) {
            let export = wanted.export_name.clone();
            return Err(VmaError::OtherExport { export, disk_id: wanted.disk_id.clone() });
        }
        let connections = if first.can_multi_conn() { self.run.request().connections_per_disk } else { 1 };
        let mut lanes = vec![first];
        for _ in 1..connections {
            lanes.push(self.lane(&name).await?);
        }
        Target::new(lanes, &wanted.export_name, wanted.capacity_bytes).map_err(|error| self.failed(error))
    }
}

/// What is left of the plan, the digest file that goes on, and what was moved when it was last covered.
fn rest_of(
    whole: &Plan,
    durable: Vec<Extent>,
    proven: mover::digest_file::Proven,
    capacity_bytes: u64,
) -> Result<(Plan, DigestFile, Moved), MoverError> {
    let (rest, kept) = whole.resume(durable, &proven.extents, capacity_bytes);
    let moved = proven.moved;
    Ok((rest, proven.keep(&kept)?, moved))
}

/// Why a run may go on after this error; `None` when it cannot.
fn interruption(error: &VmaError) -> Option<Interruption> {
    match error {
        VmaError::Copy { source, .. } => source.interruption(),
        VmaError::Tunnel(source) => source.kind().is_transient().then_some(Interruption::Lost),
        _ => None,
    }
}

/// How long a disk has been in trouble, and how much longer it may be.
#[derive(Debug)]
struct Trouble {
    patience: Duration,
    backoff: Backoff,
    /// Since when nothing became durable.
    since: Option<Instant>,
    /// Since when the hub is there and refuses.
    refused_since: Option<Instant>,
    /// What was durable when it last went on.
    bytes_kept: u64,
}

impl Trouble {
    fn new(patience: Duration) -> Self {
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self { patience, backoff, since: None, refused_since: None, bytes_kept: 0 }
    }

    /// It went well for a while.
    fn is_over(&mut self) {
        self.since = None;
        self.backoff.reset();
    }

    /// The copy goes on; only with more that is durable is the trouble over.
    fn ended(&mut self, bytes_kept: u64) {
        self.refused_since = None;
        if bytes_kept > self.bytes_kept {
            self.is_over();
        }
        self.bytes_kept = bytes_kept;
    }

    /// How long to wait; `None` when it has been long enough.
    fn pause(&mut self, kind: Interruption, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let refused_for = match kind {
            Interruption::Lost => {
                self.refused_since = None;
                Duration::ZERO
            }
            Interruption::NotNow => now - *self.refused_since.get_or_insert(now),
        };
        if now - since >= self.patience || refused_for >= REFUSAL_PATIENCE {
            return None;
        }
        self.backoff.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_lost_hub_is_waited_for_with_short_pauses_until_patience_ends() {
        let (mut trouble, began) = (Trouble::new(30 * MINUTE), Instant::now());
        for minute in 0..30 {
            let pause = trouble.pause(Interruption::Lost, began + minute * MINUTE).unwrap();
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{pause:?}");
        }
        assert_eq!(trouble.pause(Interruption::Lost, began + 30 * MINUTE), None);
    }

    #[test]
    fn a_hub_that_refuses_is_waited_for_two_minutes() {
        let (mut trouble, began) = (Trouble::new(30 * MINUTE), Instant::now());
        assert!(trouble.pause(Interruption::Lost, began).is_some());
        assert!(trouble.pause(Interruption::NotNow, began + MINUTE).is_some());
        assert!(trouble.pause(Interruption::NotNow, began + 2 * MINUTE).is_some());
        assert_eq!(trouble.pause(Interruption::NotNow, began + 3 * MINUTE), None);
    }

    #[test]
    fn going_on_without_getting_on_is_no_end_of_trouble() {
        let (mut trouble, began) = (Trouble::new(2 * MINUTE), Instant::now());
        trouble.ended(10);
        assert!(trouble.pause(Interruption::Lost, began).is_some());
        trouble.ended(20);
        assert!(trouble.pause(Interruption::Lost, began + 2 * MINUTE).is_some(), "it had got on");
        trouble.ended(20);
        assert_eq!(trouble.pause(Interruption::Lost, began + 4 * MINUTE), None);
    }
}
