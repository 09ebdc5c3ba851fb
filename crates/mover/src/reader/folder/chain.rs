//! Reads a frozen link with all its parents from its datastore: flat bases, `COWD` and seSparse deltas, wherever the bytes
//! of the disk are.
//!
//! Tables are read ahead and kept on threads that may wait, the bytes of the disk by tasks: a look-up seldom costs a
//! request. Memory is bounded: 8 MiB of blocks and the tables' cache.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use model::Extent;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use vmdk::source::is_plain_name;
use vmdk::{Files, ImageFile, OpenOptions, ReadAt, VmdkDevice, VmdkError};
use vsphere::{DatastorePath, FolderFile, FolderStore, VsphereError};

use super::requests::{Request, requests};
use super::{PARALLELISM, ReadBudget};
use crate::error::MoverError;
use crate::reader::{Reader, allocated_of};

/// What is read at once where tables are, in bytes: those of 64 MiB to 256 MiB of the disk.
const BLOCK_BYTES: u64 = 512 * 1024;
/// Blocks kept per disk.
const MAX_BLOCKS: usize = 16;

/// A frozen link and its parents.
pub struct ChainReader {
    device: Arc<VmdkDevice>,
    /// By the numbers the device knows them by.
    files: Vec<Arc<FolderFile>>,
    budget: ReadBudget,
}

impl ChainReader {
    /// Opens the chain whose top is `vmdk_path`; files and parents are taken from its folder only.
    ///
    /// # Errors
    /// A file is missing, locked, damaged or elsewhere, or the disk has another size.
    pub async fn open(
        store: FolderStore,
        vmdk_path: &str,
        capacity_bytes: u64,
        budget: ReadBudget,
    ) -> Result<Self, MoverError> {
        let path: DatastorePath = vmdk_path.parse().map_err(|source| MoverError::Datastore { source })?;
        let folder = Arc::new(Folder {
            store,
            top: path.clone(),
            runtime: Handle::current(),
            budget: budget.clone(),
            opened: Mutex::default(),
            blocks: Arc::default(),
        });
        let opening = Arc::clone(&folder);
        let opened = tokio::task::spawn_blocking(move || {
            let image = image(&opening, &path).map_err(|source| VmdkError::Needed {
                of: path.to_string(),
                wanted: path.file().to_owned(),
                source,
            })?;
            VmdkDevice::open(image, &OpenOptions::default())
        });
        let device = opened.await.map_err(|source| MoverError::Worker { source })?.map_err(of_image)?;
        let found_bytes = block::BlockDevice::size_bytes(&device);
        if found_bytes != capacity_bytes {
            return Err(MoverError::SourceSize { capacity_bytes, found_bytes });
        }
        for note in device.notes() {
            tracing::warn!(vmdk_path, note, "the disk can be read, with something to know about it");
        }
        let opened = folder.opened.lock();
        let names = (0..).map(|number| device.file_name(number)).take_while(|name| !name.is_empty());
        let files = names.map(|name| opened.get(name).map(Arc::clone)).collect::<Option<Vec<_>>>();
        let unnamed = || MoverError::OpenImage { source: VmdkError::Unrecognised { file: vmdk_path.to_owned() } };
        let files = files.ok_or_else(unnamed)?;
        Ok(Self { device: Arc::new(device), files, budget })
    }

    async fn fulfil(&self, request: &Request, buffer: &mut [u8]) -> Result<(), MoverError> {
        let unknown = || VmdkError::Unrecognised { file: self.device.file_name(request.file).to_owned() };
        let file = self.files.get(request.file).ok_or_else(|| of_image(unknown()))?;
        let failed = |source| MoverError::Datastore { source };
        let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if let [part] = request.parts.as_slice() {
            let part_of = &mut buffer[length(part.at)..length(part.at + part.length)];
            return self.budget.read(file, part.offset, part_of).await.map_err(failed);
        }
        let mut read = vec![0; length(request.range.length)];
        self.budget.read(file, request.range.offset, &mut read).await.map_err(failed)?;
        for part in &request.parts {
            let from = length(part.offset - request.range.offset);
            let wanted = &read[from..from + length(part.length)];
            buffer[length(part.at)..length(part.at + part.length)].copy_from_slice(wanted);
        }
        Ok(())
    }
}

#[async_trait]
impl Reader for ChainReader {
    fn capacity_bytes(&self) -> u64 {
        block::BlockDevice::size_bytes(&*self.device)
    }

    fn parallelism(&self) -> usize {
        PARALLELISM
    }

    async fn read_into(&self, offset: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, MoverError> {
        let (device, extent) = (Arc::clone(&self.device), Extent::new(offset, buffer.len() as u64));
        let located = tokio::task::spawn_blocking(move || device.locate(extent, usize::MAX)).await;
        let pieces = located.map_err(|source| MoverError::Worker { source })?.map_err(of_image)?;
        let Some(requests) = requests(&pieces, offset) else {
            let device = Arc::clone(&self.device);
            let reading = tokio::task::spawn_blocking(move || device.read(&mut buffer, offset).map(|()| buffer));
            return reading.await.map_err(|source| MoverError::Worker { source })?.map_err(of_image);
        };
        buffer.fill(0);
        for request in &requests {
            self.fulfil(request, &mut buffer).await?;
        }
        Ok(buffer)
    }

    fn allocated(&self, capacity_bytes: u64) -> Result<Option<Vec<Extent>>, MoverError> {
        allocated_of(&*self.device, capacity_bytes).map(Some)
    }
}

/// What the datastore said is told as such: its kind decides on retries.
fn of_image(error: VmdkError) -> MoverError {
    match error {
        VmdkError::Read { file, offset, length, source } => match datastore_error(source) {
            Ok(source) => MoverError::Datastore { source },
            Err(source) => MoverError::OpenImage { source: VmdkError::Read { file, offset, length, source } },
        },
        VmdkError::Needed { of, wanted, source } => match datastore_error(source) {
            Ok(source) => MoverError::Datastore { source },
            Err(source) => MoverError::OpenImage { source: VmdkError::Needed { of, wanted, source } },
        },
        source => MoverError::OpenImage { source },
    }
}

fn datastore_error(error: io::Error) -> Result<VsphereError, io::Error> {
    error.downcast::<VsphereError>()
}

/// The folder of the top link: the only one files are taken from.
struct Folder {
    store: FolderStore,
    top: DatastorePath,
    runtime: Handle,
    budget: ReadBudget,
    opened: Mutex<HashMap<String, Arc<FolderFile>>>,
    blocks: Arc<Mutex<Blocks>>,
}

/// A descriptor as an image whose files are in the same folder.
fn image(folder: &Arc<Folder>, path: &DatastorePath) -> io::Result<ImageFile> {
    let text = folder.runtime.block_on(folder.store.descriptor(path)).map_err(io::Error::other)?;
    let files = Arc::new(Beside(Arc::clone(folder)));
    Ok(ImageFile { name: path.to_string(), bytes: Arc::new(text), files })
}

struct Beside(Arc<Folder>);

impl Files for Beside {
    fn extent(&self, name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        if !is_plain_name(name) {
            return Ok(None);
        }
        let folder = &self.0;
        let opening = folder.store.file(folder.top.sibling(name));
        let file = Arc::new(folder.runtime.block_on(opening).map_err(io::Error::other)?);
        let mut opened = folder.opened.lock();
        opened.insert(name.to_owned(), Arc::clone(&file));
        let tables = Tables {
            number: opened.len(),
            file,
            runtime: folder.runtime.clone(),
            budget: folder.budget.clone(),
            blocks: Arc::clone(&folder.blocks),
        };
        Ok(Some(Arc::new(tables)))
    }

    fn parent(&self, hint: &str) -> io::Result<Option<ImageFile>> {
        if !is_plain_name(hint) {
            return Ok(None);
        }
        image(&self.0, &self.0.top.sibling(hint)).map(Some)
    }
}

/// A file whose tables are looked up, on a thread that may wait.
struct Tables {
    number: usize,
    file: Arc<FolderFile>,
    runtime: Handle,
    budget: ReadBudget,
    blocks: Arc<Mutex<Blocks>>,
}

impl Tables {
    fn fetch(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.runtime.block_on(self.budget.read(&self.file, offset, buffer)).map_err(io::Error::other)
    }

    fn block(&self, number: u64) -> io::Result<Arc<Vec<u8>>> {
        // Held while it is fetched: whoever needs the same block waits for it instead of asking again.
        let mut blocks = self.blocks.lock();
        if let Some(block) = blocks.get((self.number, number)) {
            return Ok(block);
        }
        let start = number * BLOCK_BYTES;
        let length = BLOCK_BYTES.min(self.file.size_bytes().saturating_sub(start));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.fetch(start, &mut bytes)?;
        Ok(blocks.put((self.number, number), bytes))
    }
}

impl ReadAt for Tables {
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if buf.len() as u64 > BLOCK_BYTES {
            return self.fetch(offset, buf);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + filled as u64;
            let block = self.block(at / BLOCK_BYTES)?;
            let from = usize::try_from(at % BLOCK_BYTES).unwrap_or_default();
            let there = block.get(from..).filter(|rest| !rest.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = there.len().min(buf.len() - filled);
            buf[filled..filled + length].copy_from_slice(&there[..length]);
            filled += length;
        }
        Ok(())
    }
}

/// A file's number, and that of a block of it.
type BlockKey = (usize, u64);

/// The blocks used last, the newest at the end.
#[derive(Default)]
struct Blocks {
    kept: VecDeque<(BlockKey, Arc<Vec<u8>>)>,
}

impl Blocks {
    fn get(&mut self, key: BlockKey) -> Option<Arc<Vec<u8>>> {
        let at = self.kept.iter().position(|(kept, _)| *kept == key)?;
        let found = self.kept.remove(at)?;
        let block = Arc::clone(&found.1);
        self.kept.push_back(found);
        Some(block)
    }

    fn put(&mut self, key: BlockKey, bytes: Vec<u8>) -> Arc<Vec<u8>> {
        if self.kept.len() == MAX_BLOCKS {
            self.kept.pop_front();
        }
        let block = Arc::new(bytes);
        self.kept.push_back((key, Arc::clone(&block)));
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_used_last_are_kept() {
        let mut blocks = Blocks::default();
        for number in 0..MAX_BLOCKS as u64 {
            blocks.put((0, number), vec![1]);
        }
        assert!(blocks.get((0, 0)).is_some());
        blocks.put((1, 0), vec![2]);
        assert!(blocks.get((0, 0)).is_some() && blocks.get((0, 1)).is_none());
        assert_eq!(blocks.kept.len(), MAX_BLOCKS);
    }

    #[test]
    fn what_the_datastore_said_is_not_lost_in_what_the_image_says() {
        let locked = VsphereError::FileLocked { path: "[ds] web/web-flat.vmdk".to_owned() };
        let source = io::Error::other(locked);
        let error = of_image(VmdkError::Needed { of: "web.vmdk".into(), wanted: "web-flat.vmdk".into(), source });
        assert!(matches!(error, MoverError::Datastore { source: VsphereError::FileLocked { .. } }), "{error:?}");
        let error = of_image(VmdkError::NotFollowed { of: "web.vmdk".into(), wanted: "/x".into() });
        assert!(matches!(error, MoverError::OpenImage { .. }));
    }
}
