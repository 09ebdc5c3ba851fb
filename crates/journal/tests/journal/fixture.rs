//! A disk of a few hundred KiB, a folder for journals, and what every test asks of them.

use std::sync::{Arc, LazyLock};

use block::{BlockDevice, MemoryDevice};
use journal::{Journal, JournalFolder, Kind, Lengths, Overlay, Run};
use tempfile::TempDir;

pub(crate) const SIZE: u64 = 300_000;
pub(crate) const EXPORT: &str = "migration-vol-1";
pub(crate) const JOB: &str = "job-1";

pub(crate) struct Place {
    pub(crate) root: TempDir,
    pub(crate) folder: JournalFolder,
}

impl Place {
    pub(crate) fn new() -> Self {
        // In memory: thousands of these are made, and what is durable is not the question here.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let folder = JournalFolder::open(root.path()).unwrap();
        Self { root, folder }
    }

    pub(crate) fn path(&self, end: &str) -> std::path::PathBuf {
        self.root.path().join("journals").join(EXPORT).join(format!("{JOB}.{end}"))
    }

    pub(crate) fn committed(&self, lengths: Lengths) -> Arc<Journal> {
        Arc::new(self.folder.committed(EXPORT, JOB, lengths).unwrap())
    }
}

pub(crate) fn run(kind: Kind, job: &str, capacity_bytes: u64) -> Run {
    let generation = "00112233445566778899aabbccddeeff".to_owned();
    Run { kind, disk_uuid: "6000C29-1".to_owned(), capacity_bytes, job_id: job.to_owned(), generation }
}

/// What the volume holds before: nothing in the middle third.
pub(crate) fn base_content() -> Vec<u8> {
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let third = SIZE / 3;
        (0..SIZE).map(|at| if (third..2 * third).contains(&at) { 0 } else { (at % 249) as u8 + 1 }).collect()
    });
    CONTENT.clone()
}

pub(crate) fn base() -> Arc<dyn BlockDevice> {
    Arc::new(MemoryDevice::from_bytes(&base_content()))
}

pub(crate) fn over_base(journal: Journal) -> Overlay {
    Overlay::new(base(), Vec::new(), Some(Arc::new(journal)))
}

pub(crate) fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn lengths(journal: &Journal) -> Lengths {
    let (index_bytes, data_bytes) = journal.lengths();
    Lengths { index_bytes, data_bytes }
}
