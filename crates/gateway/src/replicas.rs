//! What is open of each replica: one writer for all connections of a run, readers that look at a state nobody changes
//! under them, and the journals that were committed. It knows no peer and no name on the wire.
//!
//! Two locks per export: `open` for as long as something is opened or rows and files change together, `changing` for as
//! long as recovery points are written into the volume, which may be minutes; peers are served meanwhile.

mod open;
mod points;

pub(crate) use points::Usage;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use block::{BlockDevice, FileDevice};
use journal::{Direct, Journal, JournalFolder, Lengths, Overlay};
use model::status::{LinuxState, PointState};
use parking_lot::Mutex;
use store::nbd_exports::ExportTarget;
use store::recovery_points::{self, RecoveryPoint};
use store::{Store, StoreError};

use crate::error::GatewayError;

/// Every replica that something was asked of.
pub(crate) struct Replicas {
    store: Store,
    folder: JournalFolder,
    by_export: Mutex<HashMap<String, Arc<Replica>>>,
}

/// One of them.
#[derive(Default)]
struct Replica {
    open: tokio::sync::Mutex<Open>,
    changing: tokio::sync::Mutex<()>,
}

/// What is open of it. Nothing is held open by being listed here.
#[derive(Default)]
struct Open {
    writer: Option<Writer>,
    /// The run that is to be committed as it is: its job and generation.
    sealed: Option<(String, String)>,
    /// Committed journals by the ids of their points.
    journals: HashMap<String, Weak<Journal>>,
    views: Vec<View>,
    /// Points up to this one are being written into the volume; below it nothing can be read.
    writing_through: Option<u64>,
}

/// Who writes, or wrote last.
struct Writer {
    /// Job and generation of its run; none for tools that write the plain export.
    run: Option<(String, String)>,
    device: WeakDevice,
}

enum WeakDevice {
    Journal(Weak<Overlay>),
    Direct(Weak<Direct>),
    Plain(Weak<FileDevice>),
}

/// A writer that is connected.
enum Live {
    Journal(Arc<Overlay>),
    Direct(Arc<Direct>),
    Plain(Arc<FileDevice>),
}

impl Live {
    fn device(&self) -> Arc<dyn BlockDevice> {
        match self {
            Self::Journal(device) => Arc::<Overlay>::clone(device),
            Self::Direct(device) => Arc::<Direct>::clone(device),
            Self::Plain(device) => Arc::<FileDevice>::clone(device),
        }
    }

    fn listed(&self) -> WeakDevice {
        match self {
            Self::Journal(device) => WeakDevice::Journal(Arc::downgrade(device)),
            Self::Direct(device) => WeakDevice::Direct(Arc::downgrade(device)),
            Self::Plain(device) => WeakDevice::Plain(Arc::downgrade(device)),
        }
    }

    fn seal(&self) {
        match self {
            Self::Journal(device) => device.active().into_iter().for_each(|journal| journal.seal()),
            Self::Direct(device) => device.ledger().seal(),
            Self::Plain(_) => {}
        }
    }

    fn unseal(&self) {
        match self {
            Self::Journal(device) => device.active().into_iter().for_each(|journal| journal.unseal()),
            Self::Direct(device) => device.ledger().unseal(),
            Self::Plain(_) => {}
        }
    }
}

/// A reader's device: the volume with the points up to `through` over it.
struct View {
    device: Weak<dyn BlockDevice>,
    through: u64,
}

impl Open {
    /// The writer, if it is still connected.
    fn live(&self) -> Option<(Live, Option<&(String, String)>)> {
        let writer = self.writer.as_ref()?;
        let live = match &writer.device {
            WeakDevice::Journal(device) => Live::Journal(device.upgrade()?),
            WeakDevice::Direct(device) => Live::Direct(device.upgrade()?),
            WeakDevice::Plain(device) => Live::Plain(device.upgrade()?),
        };
        Some((live, writer.run.as_ref()))
    }

    /// The writer, if it is still connected and writes the run of `job`.
    fn live_of(&self, job: &str) -> Option<Live> {
        self.live().filter(|(_, run)| run.is_some_and(|(its_job, _)| its_job == job)).map(|(live, _)| live)
    }

    /// Lists a device that is read, so that nothing is merged under it.
    fn list_view(&mut self, device: &Arc<dyn BlockDevice>, through: u64) {
        self.views.retain(|view| view.device.strong_count() > 0);
        self.views.push(View { device: Arc::downgrade(device), through });
    }

    fn is_read_below(&self, through: u64) -> bool {
        self.views.iter().any(|view| view.through < through && view.device.strong_count() > 0)
    }
}

impl Replicas {
    /// With its journals in `state_dir`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn new(store: Store, state_dir: &Path) -> Result<Self, GatewayError> {
        let folder = JournalFolder::open(state_dir)
            .map_err(|source| GatewayError::Journal { name: "(all)".to_owned(), source })?;
        Ok(Self { store, folder, by_export: Mutex::default() })
    }

    fn of(&self, export: &str) -> Arc<Replica> {
        Arc::clone(self.by_export.lock().entry(export.to_owned()).or_default())
    }

    async fn kept(&self, export: &str) -> Result<Vec<RecoveryPoint>, GatewayError> {
        recovery_points::of_export(&self.store, export).await.map_err(database)
    }

    /// The point a job has made of an export, whatever became of it.
    async fn point_of(&self, export: &str, job: &str) -> Result<Option<RecoveryPoint>, GatewayError> {
        recovery_points::of_job(&self.store, export, job).await.map_err(database)
    }

    /// The journals of these points, oldest first, opened once for all who look at them.
    async fn journals(
        &self,
        export: &str,
        open: &mut Open,
        points: &[RecoveryPoint],
    ) -> Result<Vec<Arc<Journal>>, GatewayError> {
        open.journals.retain(|_, journal| journal.strong_count() > 0);
        let mut journals = Vec::with_capacity(points.len());
        for point in points {
            let known = open.journals.get(&point.id).and_then(Weak::upgrade);
            let journal = match known {
                Some(journal) => journal,
                None => self.committed(export, point).await?,
            };
            open.journals.insert(point.id.clone(), Arc::downgrade(&journal));
            journals.push(journal);
        }
        Ok(journals)
    }

    async fn committed(&self, export: &str, point: &RecoveryPoint) -> Result<Arc<Journal>, GatewayError> {
        let lengths = Lengths { index_bytes: *point.index_bytes, data_bytes: *point.data_bytes };
        let job = point.job_id.clone();
        self.on_files(export, move |folder, export| folder.committed(export, &job, lengths).map(Arc::new)).await
    }

    /// Deletes the files of runs that were not committed, and of points that have ended, but those of `spared`.
    async fn drop_uncommitted(&self, export: &str, spared: Option<&str>) -> Result<(), GatewayError> {
        let jobs = self.on_files(export, |folder, export| folder.jobs(export)).await?;
        for job in jobs.into_iter().filter(|job| spared != Some(job.as_str())) {
            let point = self.point_of(export, &job).await?;
            if point.is_some_and(|point| *point.state == PointState::Kept) {
                continue;
            }
            tracing::info!(export, job, "deleting what a run that was not committed has left");
            self.on_files(export, move |folder, export| folder.forget(export, &job)).await?;
        }
        Ok(())
    }

    /// Works on the files of an export on a thread that may wait.
    async fn on_files<T: Send + 'static>(
        &self,
        export: &str,
        work: impl FnOnce(&JournalFolder, &str) -> Result<T, journal::JournalError> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let (folder, name) = (self.folder.clone(), export.to_owned());
        waiting(export, move || {
            work(&folder, &name).map_err(|source| GatewayError::Journal { name: name.clone(), source })
        })
        .await
    }
}

fn database(source: StoreError) -> GatewayError {
    GatewayError::Database { source }
}

/// Runs what may wait for a medium on a thread of its own.
async fn waiting<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, GatewayError> + Send + 'static,
) -> Result<T, GatewayError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|source| Err(GatewayError::Unfinished { name: name.to_owned(), source }))
}

/// Where the volume behind an export is: the stable link where there is one, as a device node may be given to another
/// volume. `None` while it is not on this machine.
pub(crate) fn present_path(target: &ExportTarget) -> Option<PathBuf> {
    let present = target.linux_state.is_some_and(|state| *state == LinuxState::Present);
    let path = target.device_path.as_ref().map(|device| target.symlink_path.as_ref().unwrap_or(device));
    path.filter(|_| present).map(PathBuf::from)
}

/// The volume behind an export, whatever the export's status; as large as the export at least.
async fn base_of(target: &ExportTarget, read_only: bool) -> Result<Arc<FileDevice>, GatewayError> {
    let name = target.export_name.clone();
    let path = present_path(target).ok_or_else(|| GatewayError::NoDevice { name: name.clone() })?;
    let expected_bytes = *target.size_bytes;
    waiting(&target.export_name, move || {
        let opened = FileDevice::open(&path, read_only);
        let device =
            opened.map_err(|source| GatewayError::Device { name: name.clone(), path: path.clone(), source })?;
        let size_bytes = device.size_bytes();
        if size_bytes < expected_bytes {
            return Err(GatewayError::DeviceTooSmall { name, path, size_bytes, expected_bytes });
        }
        Ok(Arc::new(device))
    })
    .await
}

/// The disk's uuid an export was made for.
pub(crate) fn disk_uuid(target: &ExportTarget) -> Option<&str> {
    target.metadata.get("disk_uuid").and_then(|uuid| uuid.as_str())
}

/// Whether what a run writes goes to a journal.
fn is_journalled(target: &ExportTarget) -> bool {
    target.metadata.get("journal").and_then(serde_json::Value::as_bool).unwrap_or(false)
}
