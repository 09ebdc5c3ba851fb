//! The replica's side: a device behind our NBD server, reached over in-memory streams; and readers that misbehave.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::gateway::{DIGEST_RECORD_BYTES, DigestRecord};
use api::vma::SyncMode;
use async_trait::async_trait;
use block::{BlockDevice, MemoryDevice};
use model::{Extent, LEAF_SIZE_BYTES};
use mover::digest_file::DigestFile;
use mover::plan::plan;
use mover::progress::{DiskProgress, ProgressView};
use mover::reader::{Reader, Source};
use mover::target::Target;
use mover::{DiskCopy, MoverError};
use nbd::channel::Hangup;
use nbd::client::Wishes;
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions, serve_connection};
use nbd::{Lane, channel};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// Name of the export in these tests.
pub(crate) const EXPORT: &str = "migration-vol-1";
/// Length of a leaf in memory.
pub(crate) const LEAF: usize = LEAF_SIZE_BYTES as usize;

struct OneExport(Arc<dyn BlockDevice>);

#[async_trait]
impl ExportSource for OneExport {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        if name == EXPORT { Ok(OpenExport::new(Arc::clone(&self.0))) } else { Err(OpenRefused::Unknown) }
    }

    async fn list(&self) -> Vec<ExportListing> {
        Vec::new()
    }
}

/// One connection to the device.
pub(crate) async fn connection(device: &Arc<dyn BlockDevice>) -> Lane {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let exports = Arc::new(OneExport(Arc::clone(device)));
    let theirs = channel::unix(theirs).unwrap();
    tokio::spawn(async move {
        let _ = serve_connection(theirs, exports, ServeOptions::default()).await;
    });
    let ours = Box::new(channel::unix(ours).unwrap());
    Lane::open(ours, EXPORT, Wishes::default()).await.unwrap()
}

/// Cuts the connection.
pub(crate) fn cut(lane: &Lane) -> Hangup {
    lane.hangup().unwrap()
}

/// Two connections to the device.
pub(crate) async fn target(device: &Arc<dyn BlockDevice>, capacity_bytes: u64) -> Target {
    let lanes = vec![connection(device).await, connection(device).await];
    Target::new(lanes, EXPORT, capacity_bytes).unwrap()
}

/// One copy, ready to run, with its digests in a folder of its own.
pub(crate) struct Setup {
    pub(crate) source: Source,
    pub(crate) mode: SyncMode,
    pub(crate) extents: Option<Vec<Extent>>,
    folder: tempfile::TempDir,
    progress: Arc<DiskProgress>,
}

impl Setup {
    pub(crate) fn new(reader: impl Reader + 'static, mode: SyncMode) -> Self {
        Self::of(Source::remote(reader), mode)
    }

    pub(crate) fn of(source: Source, mode: SyncMode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { source, mode, extents: None, folder, progress: Arc::default() }
    }

    pub(crate) fn only(mut self, extents: &[Extent]) -> Self {
        self.extents = Some(extents.to_vec());
        self
    }

    pub(crate) fn copy_into(&self, target: Target) -> DiskCopy {
        DiskCopy {
            source: self.source.clone(),
            target,
            plan: plan(self.mode, self.source.capacity_bytes(), self.extents.clone()),
            mode: self.mode,
            digests: Some(Arc::new(DigestFile::create(&self.digest_path()).unwrap())),
            progress: Arc::clone(&self.progress),
        }
    }

    /// Runs it over two connections.
    pub(crate) async fn run(&self, device: &Arc<dyn BlockDevice>) -> Result<ProgressView, MoverError> {
        let copy = self.copy_into(target(device, self.source.capacity_bytes()).await);
        copy.run(&CancellationToken::new()).await?;
        Ok(self.progress.view())
    }

    /// The digests in the file: leaf and digest, in order of leaves.
    pub(crate) fn digests(&self) -> Vec<(u64, [u8; 32])> {
        let bytes = std::fs::read(self.digest_path()).unwrap();
        assert_eq!(bytes.len() % DIGEST_RECORD_BYTES, 0);
        let records =
            bytes.chunks(DIGEST_RECORD_BYTES).map(|bytes| DigestRecord::decode(bytes.try_into().unwrap()).unwrap());
        let named = |record: DigestRecord| {
            (record.first_leaf..record.first_leaf + u64::from(record.leaf_count)).map(move |leaf| (leaf, record.digest))
        };
        let mut all: Vec<_> = records.flat_map(named).collect();
        all.sort_unstable();
        all
    }

    fn digest_path(&self) -> std::path::PathBuf {
        self.folder.path().join("disk-2000.digests")
    }
}

/// What the digest file must hold for these leaves, computed from the source by itself.
pub(crate) fn expected_digests(source: &[u8], leaves: impl Iterator<Item = usize>) -> Vec<(u64, [u8; 32])> {
    leaves
        .map(|leaf| {
            let end = source.len().min((leaf + 1) * LEAF);
            (leaf as u64, *blake3::hash(&source[leaf * LEAF..end]).as_bytes())
        })
        .collect()
}

/// Everything a device holds.
pub(crate) fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A device of that size full of 0xFF: whatever must become zero has to be made zero.
pub(crate) fn dirty(size_bytes: usize) -> Arc<dyn BlockDevice> {
    Arc::new(MemoryDevice::from_bytes(&vec![0xFF; size_bytes]))
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Two MiB of data, a hole of three, one MiB with a single byte, a hole, and an end inside a leaf.
pub(crate) fn patchy_source() -> Vec<u8> {
    let mut source = vec![0; 9 * (1 << 20) + 3 * 512];
    let (data, length) = (noise(2 << 20, 1), source.len());
    source[..2 << 20].copy_from_slice(&data);
    source[5 * (1 << 20) + 777_777] = 1;
    source[length - 1] = 0x7E;
    source
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// A source in memory that does something at its `at`th read, before it answers.
pub(crate) struct Trapped<F> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) then: F,
    reads: AtomicUsize,
}

impl<F> Trapped<F> {
    pub(crate) fn new(bytes: Vec<u8>, at: usize, then: F) -> Self {
        Self { bytes, at, then, reads: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl<F, R> Reader for Trapped<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = ()> + Send,
{
    fn capacity_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn parallelism(&self) -> usize {
        2
    }

    async fn read_into(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, MoverError> {
        if self.reads.fetch_add(1, Ordering::SeqCst) == self.at {
            (self.then)().await;
        }
        let (from, length) = (usize::try_from(offset).unwrap(), buffer.len());
        buffer.copy_from_slice(&self.bytes[from..from + length]);
        Ok(buffer)
    }
}
