//! Opening a replica: for the run that writes it, for whoever reads it, for what is durable of a run, for a proof.

use std::sync::Arc;

use block::{BlockDevice, MemoryDevice};
use journal::{Direct, Journal, JournalError, Kind, Overlay, Run};
use model::Extent;
use store::nbd_exports::ExportTarget;
use store::recovery_points::RecoveryPoint;

use super::{Live, Open, Replicas, Writer, base_of, disk_uuid, is_journalled};
use crate::error::GatewayError;

/// First bytes of the export that says what is durable of a run.
const LEDGER_MAGIC: &[u8; 8] = b"MKLEDGR1";

fn in_use(target: &ExportTarget, reason: &str) -> GatewayError {
    GatewayError::InUse { name: target.export_name.clone(), reason: reason.to_owned() }
}

fn refused(target: &ExportTarget, reason: &str) -> GatewayError {
    GatewayError::Refused { name: target.export_name.clone(), reason: reason.to_owned() }
}

fn job_of(target: &ExportTarget) -> Result<&str, GatewayError> {
    target.job_id.as_deref().ok_or_else(|| refused(target, "no replication writes it"))
}

impl Replicas {
    /// The device that the run of `generation` writes to; all its connections share it.
    ///
    /// # Errors
    /// Another run is connected, is sealed, or was committed; the device or the journals cannot be used.
    pub(crate) async fn writer(
        &self,
        target: &ExportTarget,
        generation: &str,
    ) -> Result<Arc<dyn BlockDevice>, GatewayError> {
        let (export, job) = (target.export_name.as_str(), job_of(target)?);
        let run = (job.to_owned(), generation.to_owned());
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        if self.point_of(export, job).await?.is_some() {
            return Err(refused(target, "what this run wrote was committed"));
        }
        if let Some((live, its_run)) = open.live() {
            if its_run != Some(&run) {
                return Err(in_use(target, "another run still writes"));
            }
            live.unseal();
            open.sealed = None;
            return Ok(live.device());
        }
        if open.sealed.as_ref().is_some_and(|sealed| sealed.0 == run.0 && sealed.1 != run.1) {
            return Err(refused(target, "what another run wrote for this job is to be committed"));
        }
        let kind = if is_journalled(target) { Kind::Journal } else { Kind::Ledger };
        let live = self.begin_or_resume(target, &mut open, &run, kind).await?;
        let device = live.device();
        open.writer = Some(Writer { run: Some(run), device: live.listed() });
        open.sealed = None;
        Ok(device)
    }

    async fn begin_or_resume(
        &self,
        target: &ExportTarget,
        open: &mut Open,
        (job, generation): &(String, String),
        kind: Kind,
    ) -> Result<Live, GatewayError> {
        let export = target.export_name.as_str();
        let kept = self.kept(export).await?;
        if kind == Kind::Ledger && !kept.is_empty() {
            return Err(in_use(target, "recovery points are kept beside the volume: it cannot be written in place"));
        }
        let base = base_of(target, kind == Kind::Journal).await?;
        let run = Run {
            kind,
            disk_uuid: disk_uuid(target).unwrap_or_default().to_owned(),
            capacity_bytes: base.size_bytes(),
            job_id: job.clone(),
            generation: generation.clone(),
        };
        let its_job = job.clone();
        // A damaged one is not begun anew here: the run may have been told what is durable of it.
        let found = self.on_files(export, move |folder, export| folder.run_of(export, &its_job)).await?;
        let resumed = found.is_some_and(|found| found == run);
        self.drop_uncommitted(export, resumed.then_some(job.as_str())).await?;
        tracing::info!(export, job, generation, ?kind, resumed, "a run writes");
        let job = job.clone();
        if kind == Kind::Ledger {
            let ledger = self.on_files(export, move |folder, export| match resumed {
                true => folder.resume_ledger(export, &job),
                false => folder.begin_ledger(export, &run),
            });
            return Ok(Live::Direct(Arc::new(Direct::new(base, ledger.await?))));
        }
        let committed = self.journals(export, open, &kept).await?;
        let active = self.on_files(export, move |folder, export| match resumed {
            true => folder.resume_journal(export, &job),
            false => folder.begin_journal(export, &run),
        });
        Ok(Live::Journal(Arc::new(Overlay::new(base, committed, Some(Arc::new(active.await?))))))
    }

    /// The volume itself, for tools that write it without a run; `None` when only reading is possible: what a run writes
    /// goes to a journal.
    ///
    /// # Errors
    /// Somebody else is connected for writing, or recovery points are kept; the device cannot be used.
    pub(crate) async fn plain_writer(
        &self,
        target: &ExportTarget,
    ) -> Result<Option<Arc<dyn BlockDevice>>, GatewayError> {
        let export = target.export_name.as_str();
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        match open.live() {
            Some((live @ Live::Plain(_), _)) => return Ok(Some(live.device())),
            Some(_) => return Err(in_use(target, "a run still writes")),
            None => {}
        }
        if is_journalled(target) {
            return Ok(None);
        }
        if !self.kept(export).await?.is_empty() {
            return Err(in_use(target, "recovery points are kept beside the volume: it cannot be written in place"));
        }
        // What a ledger says of the volume ends to be true.
        self.drop_uncommitted(export, None).await?;
        let live = Live::Plain(base_of(target, false).await?);
        open.writer = Some(Writer { run: None, device: live.listed() });
        Ok(Some(live.device()))
    }

    /// Whether a run that was cut off may go on, or points are kept: then the plain export is only read.
    pub(crate) async fn is_waiting(&self, export: &str) -> Result<bool, GatewayError> {
        let jobs = self.on_files(export, |folder, export| folder.jobs(export)).await?;
        Ok(!jobs.is_empty() || !self.kept(export).await?.is_empty())
    }

    /// The newest committed state, or that of one recovery point (row id), for reading.
    ///
    /// # Errors
    /// There is no such point, or what is below a point is being written into the volume; the device or the journals
    /// cannot be used.
    pub(crate) async fn view(
        &self,
        target: &ExportTarget,
        point: Option<&str>,
    ) -> Result<Arc<dyn BlockDevice>, GatewayError> {
        let export = target.export_name.as_str();
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        let mut kept = self.kept(export).await?;
        if let Some(id) = point {
            let no_point = || GatewayError::NoPoint { name: export.to_owned(), id: id.to_owned() };
            let at = kept.iter().position(|kept| kept.id == id).ok_or_else(no_point)?;
            kept.truncate(at + 1);
        }
        let through = kept.last().map_or(0, |newest| *newest.sequence);
        if open.writing_through.is_some_and(|writing| through < writing) {
            return Err(in_use(target, "later recovery points are being written into the volume"));
        }
        let device = self.read_only(target, &mut open, &kept).await?;
        open.list_view(&device, through);
        Ok(device)
    }

    async fn read_only(
        &self,
        target: &ExportTarget,
        open: &mut Open,
        points: &[RecoveryPoint],
    ) -> Result<Arc<dyn BlockDevice>, GatewayError> {
        let base = base_of(target, true).await?;
        if points.is_empty() {
            return Ok(base);
        }
        let journals = self.journals(&target.export_name, open, points).await?;
        Ok(Arc::new(Overlay::new(base, journals, None)))
    }

    /// What is durable of a generation, as the bytes of an export.
    ///
    /// # Errors
    /// The database or the files cannot be read.
    pub(crate) async fn ledger(
        &self,
        target: &ExportTarget,
        generation: &str,
    ) -> Result<Arc<dyn BlockDevice>, GatewayError> {
        let extents = match target.job_id.as_deref() {
            Some(job) => self.durable(target, job, generation).await?,
            None => Vec::new(),
        };
        Ok(Arc::new(MemoryDevice::from_bytes(&ledger_bytes(&extents)).read_only()))
    }

    async fn durable(&self, target: &ExportTarget, job: &str, generation: &str) -> Result<Vec<Extent>, GatewayError> {
        let export = target.export_name.as_str();
        let replica = self.of(export);
        let open = replica.open.lock().await;
        // What was committed is told to nobody who would write on, and its files are not to be touched.
        if self.point_of(export, job).await?.is_some() {
            return Ok(Vec::new());
        }
        if let Some((live, run)) = open.live() {
            let its_own = run.is_some_and(|(its_job, its_generation)| its_job == job && its_generation == generation);
            return if its_own { flushed(target, live).await } else { Ok(Vec::new()) };
        }
        let (job, generation) = (job.to_owned(), generation.to_owned());
        self.on_files(export, move |folder, export| {
            let durable = match folder.run_of(export, &job) {
                Ok(Some(run)) if run.generation != generation => return Ok(Vec::new()),
                Ok(None) => return Ok(Vec::new()),
                Ok(Some(run)) if run.kind == Kind::Journal => {
                    folder.resume_journal(export, &job).map(|journal| journal.durable())
                }
                Ok(Some(_)) => folder.resume_ledger(export, &job).map(|ledger| ledger.durable()),
                Err(error) => Err(error),
            };
            match durable {
                Err(error @ (JournalError::Damaged { .. } | JournalError::Other { .. })) => {
                    // The run has not been told of it yet, so it begins anew.
                    tracing::error!(error = &error as &dyn std::error::Error, export, job, "a run is begun anew");
                    folder.forget(export, &job)?;
                    Ok(Vec::new())
                }
                durable => durable,
            }
        })
        .await
    }

    /// The device that a proof re-reads: the volume with the points that are kept and what the export's run has written
    /// over it, flushed.
    ///
    /// # Errors
    /// The device or the journals cannot be used.
    pub(crate) async fn proof(&self, target: &ExportTarget) -> Result<Arc<dyn BlockDevice>, GatewayError> {
        let export = target.export_name.as_str();
        // Opened for writing so that the flush reaches the medium, whoever wrote.
        let base = base_of(target, false).await?;
        let replica = self.of(export);
        let mut open = replica.open.lock().await;
        let connected = open.live().map(|(live, _)| live);
        let live = match (connected, target.job_id.as_deref()) {
            (Some(live), _) => Some(live),
            (None, Some(job)) if is_journalled(target) => self.uncommitted(target, &mut open, job).await?,
            _ => None,
        };
        let device: Arc<dyn BlockDevice> = match live {
            Some(live @ Live::Journal(_)) => live.device(),
            Some(live) => {
                flush(target, live.device()).await?;
                Arc::<block::FileDevice>::clone(&base)
            }
            None => {
                let kept = self.kept(export).await?;
                if kept.is_empty() {
                    Arc::<block::FileDevice>::clone(&base)
                } else {
                    let through = kept.last().map_or(0, |newest| *newest.sequence);
                    let device = self.read_only(target, &mut open, &kept).await?;
                    open.list_view(&device, through);
                    device
                }
            }
        };
        drop(open);
        flush(target, base).await?;
        flush(target, Arc::clone(&device)).await?;
        Ok(device)
    }

    /// The journal of a run that was not committed, opened as its writer would open it.
    async fn uncommitted(
        &self,
        target: &ExportTarget,
        open: &mut Open,
        job: &str,
    ) -> Result<Option<Live>, GatewayError> {
        let export = target.export_name.as_str();
        if self.point_of(export, job).await?.is_some() {
            return Ok(None);
        }
        let its_job = job.to_owned();
        let found = self.on_files(export, move |folder, export| folder.run_of(export, &its_job)).await?;
        let Some(run) = found.filter(|run| run.kind == Kind::Journal) else { return Ok(None) };
        let kept = self.kept(export).await?;
        let committed = self.journals(export, open, &kept).await?;
        let base = base_of(target, true).await?;
        let its_job = job.to_owned();
        let active: Journal =
            self.on_files(export, move |folder, export| folder.resume_journal(export, &its_job)).await?;
        if open.sealed.as_ref().is_some_and(|(sealed, _)| sealed == job) {
            active.seal();
        }
        let live = Live::Journal(Arc::new(Overlay::new(base, committed, Some(Arc::new(active)))));
        open.writer = Some(Writer { run: Some((run.job_id, run.generation)), device: live.listed() });
        Ok(Some(live))
    }
}

/// What is durable of a run that is connected, after a barrier.
async fn flushed(target: &ExportTarget, live: Live) -> Result<Vec<Extent>, GatewayError> {
    flush(target, live.device()).await?;
    Ok(match live {
        Live::Journal(device) => device.active().map(|journal| journal.durable()).unwrap_or_default(),
        Live::Direct(device) => device.ledger().durable(),
        Live::Plain(_) => Vec::new(),
    })
}

/// Flushes a device on a thread that may wait.
pub(super) async fn flush(target: &ExportTarget, device: Arc<dyn BlockDevice>) -> Result<(), GatewayError> {
    let (name, path) = (target.export_name.clone(), super::present_path(target).unwrap_or_default());
    super::waiting(&target.export_name, move || {
        device.flush().map_err(|source| GatewayError::Device { name, path, source })
    })
    .await
}

/// 8 bytes of magic, the number of extents, then offset and length of each; numbers are 64 bit little-endian.
fn ledger_bytes(extents: &[Extent]) -> Vec<u8> {
    let mut bytes = LEDGER_MAGIC.to_vec();
    bytes.extend_from_slice(&(extents.len() as u64).to_le_bytes());
    for extent in extents {
        bytes.extend_from_slice(&extent.offset.to_le_bytes());
        bytes.extend_from_slice(&extent.length.to_le_bytes());
    }
    bytes
}
