//! What happens to a run after it has ended: sealed, forgotten, and as a recovery point merged, applied or discarded.
//! Everything may be repeated, and goes on after being broken off anywhere.

use std::sync::Arc;

use api::gateway::{DiscardReport, PointsReport, SealReport, WrittenPoint};
use block::BlockDevice;
use journal::{Journal, Kind, Merged, Run, merge};
use model::Extent;
use model::extent::total_bytes;
use model::status::PointState;
use store::nbd_exports::{self, ExportTarget};
use store::recovery_points::{self, RecoveryPoint};

use super::open::flush;
use super::{Live, Open, Replica, Replicas, base_of, database, disk_uuid, is_journalled, present_path, waiting};
use crate::error::GatewayError;

/// The generation of a journal that was made because nobody wrote.
const NO_GENERATION: &str = "0";

/// What lies beside the volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Recovery points that are kept.
    pub(crate) points: u64,
    /// Room that all journals take, in bytes.
    pub(crate) bytes: u64,
}

/// Most recovery points counted.
const MAX_COUNTED: u32 = 1_000_000;

fn no_journal(durable: &[Extent]) -> SealReport {
    SealReport { journal: false, index_bytes: 0, data_bytes: 0, durable_bytes: total_bytes(durable) }
}

fn of_journal(journal: &Journal) -> SealReport {
    let (index_bytes, data_bytes) = journal.lengths();
    SealReport { journal: true, index_bytes, data_bytes, durable_bytes: total_bytes(&journal.durable()) }
}

impl Replicas {
    /// The export with its device, whatever its status.
    async fn target(&self, export: &str) -> Result<ExportTarget, GatewayError> {
        let found = nbd_exports::target(&self.store, export).await.map_err(database)?;
        found.ok_or_else(|| GatewayError::NoExport { name: export.to_owned() })
    }

    /// Makes what the run of `job` has written durable and takes nothing more of it.
    ///
    /// # Errors
    /// The medium fails; the journal is damaged; there is no such export.
    pub(crate) async fn seal(&self, export: &str, job: &str) -> Result<SealReport, GatewayError> {
        let target = self.target(export).await?;
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        if let Some(point) = self.point_of(export, job).await? {
            let (index_bytes, data_bytes) = (*point.index_bytes, *point.data_bytes);
            return Ok(SealReport { journal: true, index_bytes, data_bytes, durable_bytes: 0 });
        }
        if let Some(live) = open.live_of(job) {
            live.seal();
            flush(&target, live.device()).await?;
            let run = open.live().and_then(|(_, run)| run.cloned());
            open.sealed = run;
            return Ok(match live {
                Live::Journal(device) => device.active().map_or_else(|| no_journal(&[]), |active| of_journal(active)),
                Live::Direct(device) => no_journal(&device.ledger().durable()),
                Live::Plain(_) => no_journal(&[]),
            });
        }
        self.seal_files(&target, &mut open, job).await
    }

    /// Another generation may write again: whoever sealed the run begins it anew.
    pub(crate) async fn unseal(&self, export: &str) {
        self.of(export).open.lock().await.sealed = None;
    }

    async fn seal_files(&self, target: &ExportTarget, open: &mut Open, job: &str) -> Result<SealReport, GatewayError> {
        let export = target.export_name.as_str();
        let its_job = job.to_owned();
        let found = self.on_files(export, move |folder, export| folder.run_of(export, &its_job)).await?;
        let its_job = job.to_owned();
        let (report, generation) = match found {
            Some(run) => {
                let report = self.on_files(export, move |folder, export| match run.kind {
                    Kind::Journal => folder.resume_journal(export, &its_job).map(|journal| of_journal(&journal)),
                    Kind::Ledger => folder.resume_ledger(export, &its_job).map(|l| no_journal(&l.durable())),
                });
                (report.await?, run.generation)
            }
            // A disk without changes is a point like those of the other disks.
            None if is_journalled(target) && target.job_id.as_deref() == Some(job) => {
                let run = Run {
                    kind: Kind::Journal,
                    disk_uuid: disk_uuid(target).unwrap_or_default().to_owned(),
                    capacity_bytes: *target.size_bytes,
                    job_id: its_job,
                    generation: NO_GENERATION.to_owned(),
                };
                let begun = self.on_files(export, move |folder, export| folder.begin_journal(export, &run)).await?;
                (of_journal(&begun), NO_GENERATION.to_owned())
            }
            None => return Ok(no_journal(&[])),
        };
        open.sealed = Some((job.to_owned(), generation));
        Ok(report)
    }

    /// Deletes what the run of `job` has left, unless it was committed.
    ///
    /// # Errors
    /// The run is connected; the files cannot be deleted.
    pub(crate) async fn forget(&self, export: &str, job: &str) -> Result<(), GatewayError> {
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        if self.point_of(export, job).await?.is_some_and(|point| *point.state == PointState::Kept) {
            return Ok(());
        }
        if open.live_of(job).is_some() {
            return Err(GatewayError::StillInUse { name: export.to_owned() });
        }
        open.sealed.take_if(|(sealed, _)| sealed == job);
        let job = job.to_owned();
        self.on_files(export, move |folder, export| folder.forget(export, &job)).await
    }

    /// Writes the oldest recovery points into the volume until `keep` are left.
    ///
    /// # Errors
    /// Somebody reads a state below the newest to be merged; a journal is damaged; the volume cannot be written.
    pub(crate) async fn merge(&self, export: &str, keep: u32) -> Result<PointsReport, GatewayError> {
        let target = self.target(export).await?;
        let replica = self.of(export);
        let _one_at_a_time = replica.changing.lock().await;
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let mut report = PointsReport::default();
        let done = self.merge_until(&target, &replica, keep, &mut report).await;
        replica.open.lock().await.writing_through = None;
        done?;
        report.kept = u32::try_from(self.kept(export).await?.len()).unwrap_or(u32::MAX);
        Ok(report)
    }

    async fn merge_until(
        &self,
        target: &ExportTarget,
        replica: &Replica,
        keep: usize,
        report: &mut PointsReport,
    ) -> Result<(), GatewayError> {
        let export = target.export_name.as_str();
        loop {
            let kept = self.kept(export).await?;
            let Some(merged) = kept.len().checked_sub(keep).and_then(|count| kept.get(..count)) else { break };
            let (Some(oldest), Some(newest)) = (merged.first(), merged.last()) else { break };
            let journal = self.begin_writing(target, replica, oldest, *newest.sequence).await?;
            // From here on the volume is no state one could go back to, until all of it is written.
            recovery_points::merge_begins(&self.store, &oldest.id).await.map_err(database)?;
            let wrote = write_into_volume(target, journal).await?;
            {
                // Rows and files change together for whoever opens a state meanwhile.
                let mut open = replica.open.lock().await;
                let state = PointState::Merged;
                recovery_points::set_state(&self.store, &oldest.id, state).await.map_err(database)?;
                open.journals.remove(&oldest.id);
                open.sealed.take_if(|(sealed, _)| *sealed == oldest.job_id);
                let job = oldest.job_id.clone();
                self.on_files(export, move |folder, export| folder.forget(export, &job)).await?;
            }
            tracing::info!(
                export,
                job_id = oldest.job_id,
                data_bytes = wrote.data_bytes,
                "a recovery point was merged"
            );
            report.written.push(written(oldest, wrote));
        }
        Ok(())
    }

    /// Lets nobody begin to read below `through`, and opens the journal of a point.
    async fn begin_writing(
        &self,
        target: &ExportTarget,
        replica: &Replica,
        point: &RecoveryPoint,
        through: u64,
    ) -> Result<Arc<Journal>, GatewayError> {
        let name = || target.export_name.clone();
        let mut open = replica.open.lock().await;
        if open.is_read_below(through) {
            let reason = "a state before a recovery point that is to be merged is being read".to_owned();
            return Err(GatewayError::InUse { name: name(), reason });
        }
        if open.live().is_some_and(|(live, _)| !matches!(live, Live::Journal(_))) {
            let reason = "somebody writes the volume itself".to_owned();
            return Err(GatewayError::InUse { name: name(), reason });
        }
        open.writing_through = Some(through);
        let journals = self.journals(&target.export_name, &mut open, std::slice::from_ref(point)).await?;
        let missing = || GatewayError::NoPoint { name: name(), id: point.id.clone() };
        journals.into_iter().next().ok_or_else(missing)
    }

    /// Writes the kept points up to `through` (row id; all without one) into the volume; they stay kept.
    ///
    /// # Errors
    /// There is no such point; somebody reads an earlier state; a journal is damaged; the volume cannot be written.
    pub(crate) async fn apply(&self, export: &str, through: Option<&str>) -> Result<PointsReport, GatewayError> {
        let target = self.target(export).await?;
        let replica = self.of(export);
        let _one_at_a_time = replica.changing.lock().await;
        let kept = self.kept(export).await?;
        let count = match through {
            None => kept.len(),
            Some(id) => {
                let missing = || GatewayError::NoPoint { name: export.to_owned(), id: id.to_owned() };
                kept.iter().position(|point| point.id == id).ok_or_else(missing)? + 1
            }
        };
        let mut report =
            PointsReport { kept: u32::try_from(kept.len()).unwrap_or(u32::MAX), ..PointsReport::default() };
        let chosen = kept.get(..count).unwrap_or_default();
        let newest = chosen.last().map_or(0, |newest| *newest.sequence);
        let mut done = Ok(());
        for point in chosen {
            let wrote = match self.begin_writing(&target, &replica, point, newest).await {
                Ok(journal) => write_into_volume(&target, journal).await,
                Err(error) => Err(error),
            };
            match wrote {
                Ok(wrote) => report.written.push(written(point, wrote)),
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        replica.open.lock().await.writing_through = None;
        done.map(|()| report)
    }

    /// Gives up every kept recovery point and whatever a run has left: the volume stays as it is.
    ///
    /// # Errors
    /// Somebody is connected for writing; the files cannot be deleted.
    pub(crate) async fn discard(&self, export: &str) -> Result<DiscardReport, GatewayError> {
        let replica = self.of(export);
        let _one_at_a_time = replica.changing.lock().await;
        let mut open = replica.open.lock().await;
        if open.live().is_some_and(|(live, _)| matches!(live, Live::Journal(_))) {
            let reason = "a run still writes".to_owned();
            return Err(GatewayError::InUse { name: export.to_owned(), reason });
        }
        let discarded = recovery_points::discard_all_of(&self.store, export).await.map_err(database)?;
        open.sealed = None;
        open.journals.clear();
        if open.live().is_none() {
            self.drop_uncommitted(export, None).await?;
        }
        tracing::info!(export, discarded, "recovery points were discarded");
        Ok(DiscardReport { discarded })
    }

    /// Deletes what was merged or discarded and is still there, because a process died in between.
    pub(crate) async fn sweep(&self) -> Result<(), GatewayError> {
        for export in self.on_files("(all)", |folder, _| folder.exports()).await? {
            let replica = self.of(&export);
            let _nobody_opens = replica.open.lock().await;
            for job in self.on_files(&export, |folder, export| folder.jobs(export)).await? {
                let ended = self.point_of(&export, &job).await?.is_some_and(|p| *p.state != PointState::Kept);
                if ended {
                    tracing::info!(export, job, "deleting the journal of a recovery point that has ended");
                    self.on_files(&export, move |folder, export| folder.forget(export, &job)).await?;
                }
            }
        }
        Ok(())
    }

    /// What lies beside the volumes.
    pub(crate) async fn usage(&self) -> Result<Usage, GatewayError> {
        let points = recovery_points::kept(&self.store, MAX_COUNTED).await.map_err(database)?.len() as u64;
        let bytes = self.on_files("(all)", |folder, _| folder.bytes()).await?;
        Ok(Usage { points, bytes })
    }
}

fn written(point: &RecoveryPoint, wrote: Merged) -> WrittenPoint {
    WrittenPoint {
        point_id: point.id.clone(),
        job_id: point.job_id.clone(),
        data_bytes: wrote.data_bytes,
        zero_bytes: wrote.zero_bytes,
    }
}

async fn write_into_volume(target: &ExportTarget, journal: Arc<Journal>) -> Result<Merged, GatewayError> {
    let base = base_of(target, false).await?;
    let (name, path) = (target.export_name.clone(), present_path(target).unwrap_or_default());
    waiting(&target.export_name, move || {
        let base: &dyn BlockDevice = base.as_ref();
        merge(&journal, base).map_err(|source| GatewayError::Device { name, path, source })
    })
    .await
}
