//! The links of one simulated disk: a sparse base file and the copy-on-write deltas on top of it.
//!
//! Knows bytes and files only; VM snapshots, change tracking and locks belong to `disk`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use super::block_set::{Area, BlockSet};
use super::change_tracking::GRAIN_BYTES;

/// Unit of copy-on-write: one map bit stands for this many bytes.
const BLOCK_BYTES: u64 = 4096;
/// Most bytes moved in one go while merging or copying, so that the lock is never held for long.
const COPY_STEP_BYTES: u64 = 1 << 20;

/// A delta: only the blocks in `map` are its own, at the same offsets as in the disk.
#[derive(Debug)]
struct Delta {
    name: String,
    path: PathBuf,
    file: File,
    map: BlockSet,
}

/// A base file and its deltas, the last being the one that is written.
#[derive(Debug)]
pub(crate) struct DiskChain {
    capacity: u64,
    directory: PathBuf,
    stem: String,
    base: File,
    deltas: Vec<Delta>,
}

impl DiskChain {
    /// Opens (or makes) the base file and brings it to at least `capacity` bytes.
    ///
    /// Deltas are kept in `directory`; link names are `stem.vmdk`, `stem-000001.vmdk`, …
    pub(crate) fn open(base_path: &Path, directory: &Path, stem: &str, capacity: u64) -> io::Result<Self> {
        let base = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(base_path)?;
        let length = base.metadata()?.len();
        let capacity = capacity.max(length).next_multiple_of(512);
        if length < capacity {
            base.set_len(capacity)?;
        }
        Ok(Self { capacity, directory: directory.to_owned(), stem: stem.to_owned(), base, deltas: Vec::new() })
    }

    /// Size in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Number of links; the last is written, the others are frozen.
    pub(crate) fn link_count(&self) -> usize {
        self.deltas.len() + 1
    }

    /// File name of a link, without folder: `stem.vmdk` or `stem-000001.vmdk`.
    pub(crate) fn link_name(&self, link: usize) -> String {
        match link.checked_sub(1).and_then(|index| self.deltas.get(index)) {
            Some(delta) => delta.name.clone(),
            None => format!("{}.vmdk", self.stem),
        }
    }

    /// Reads what the disk held as of `link` (deltas above it do not count).
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64, link: usize) -> io::Result<()> {
        self.check_range(offset, buffer.len() as u64)?;
        let visible = &self.deltas[..link.min(self.deltas.len())];
        if visible.is_empty() {
            return self.base.read_exact_at(buffer, offset);
        }
        let end = offset + buffer.len() as u64;
        let mut at = offset;
        while at < end {
            let owner = owner_of(visible, at);
            let mut run_end = block_end(at);
            while run_end < end && owner_of(visible, run_end) == owner {
                run_end += BLOCK_BYTES;
            }
            let run_end = run_end.min(end);
            let file = owner.and_then(|index| visible.get(index)).map_or(&self.base, |delta| &delta.file);
            file.read_exact_at(slice_mut(buffer, at - offset, run_end - at)?, at)?;
            at = run_end;
        }
        Ok(())
    }

    /// Writes to the active link.
    pub(crate) fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        let length = data.len() as u64;
        self.check_range(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        self.own_edges(offset, length)?;
        match self.deltas.last_mut() {
            Some(top) => {
                top.file.write_all_at(data, offset)?;
                top.map.insert_bytes(offset, length);
                Ok(())
            }
            None => self.base.write_all_at(data, offset),
        }
    }

    /// Makes a range of the active link read as zeros, giving its space back.
    pub(crate) fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.check_range(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        self.own_edges(offset, length)?;
        match self.deltas.last_mut() {
            Some(top) => {
                punch(&top.file, offset, length)?;
                top.map.insert_bytes(offset, length);
                Ok(())
            }
            None => punch(&self.base, offset, length),
        }
    }

    /// Freezes the active link and puts an empty delta on top.
    pub(crate) fn push_delta(&mut self) -> io::Result<()> {
        let name = (1_u32..)
            .map(|number| format!("{}-{number:06}.vmdk", self.stem))
            .find(|name| self.deltas.iter().all(|delta| delta.name != *name))
            .unwrap_or_default();
        let path = self.directory.join(format!("{name}.delta"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(self.capacity)?;
        self.deltas.push(Delta { name, path, file, map: BlockSet::new(BLOCK_BYTES) });
        Ok(())
    }

    /// Throws away what the active delta holds.
    pub(crate) fn empty_active(&mut self) -> io::Result<()> {
        if let Some(top) = self.deltas.last_mut() {
            top.file.set_len(0)?;
            top.file.set_len(self.capacity)?;
            top.map = BlockSet::new(BLOCK_BYTES);
        }
        Ok(())
    }

    /// Moves a part of the link above `link` into `link`; removes it and answers `true` when nothing is left to move.
    pub(crate) fn merge_step(&mut self, link: usize) -> io::Result<bool> {
        if link >= self.deltas.len() {
            return Ok(true);
        }
        let (below, above) = self.deltas.split_at_mut(link);
        let Some(child) = above.first_mut() else { return Ok(true) };
        let Some(area) = child.map.first_area(COPY_STEP_BYTES, self.capacity) else {
            let child = self.deltas.remove(link);
            std::fs::remove_file(&child.path)?;
            return Ok(true);
        };
        let mut parent = below.last_mut();
        let target = parent.as_ref().map_or(&self.base, |delta| &delta.file);
        copy(&child.file, target, area)?;
        if let Some(parent) = parent.as_mut() {
            parent.map.insert_bytes(area.start, area.length);
        }
        child.map.remove_bytes(area.start, area.length.next_multiple_of(BLOCK_BYTES));
        Ok(false)
    }

    /// Areas that hold data as of `link`, in whole grains.
    pub(crate) fn allocated(&self, link: usize) -> io::Result<Vec<Area>> {
        let mut grains = BlockSet::new(GRAIN_BYTES);
        for area in data_areas(&self.base, self.capacity)? {
            grains.insert_bytes(area.start, area.length);
        }
        for delta in &self.deltas[..link.min(self.deltas.len())] {
            for area in delta.map.areas(self.capacity) {
                grains.insert_bytes(area.start, area.length);
            }
        }
        Ok(grains.areas(self.capacity))
    }

    /// The blocks a delta has of its own, in order: offset in the disk and 4096 bytes each, zeroes behind the disk's end.
    pub(crate) fn delta_blocks(&self, link: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let delta = link.checked_sub(1).and_then(|index| self.deltas.get(index));
        let delta = delta.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut blocks = Vec::new();
        for area in delta.map.areas(self.capacity) {
            for start in (area.start..area.end()).step_by(usize::try_from(BLOCK_BYTES).unwrap_or(4096)) {
                let mut block = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(4096)];
                let length = BLOCK_BYTES.min(self.capacity - start);
                delta.file.read_exact_at(slice_mut(&mut block, 0, length)?, start)?;
                blocks.push((start, block));
            }
        }
        Ok(blocks)
    }

    /// Copies what the disk held as of `link` into a sparse raw file.
    pub(crate) fn copy_to(&self, path: &Path, link: usize) -> io::Result<()> {
        let target = File::create(path)?;
        target.set_len(self.capacity)?;
        let mut buffer = vec![0_u8; usize::try_from(COPY_STEP_BYTES).unwrap_or(1 << 20)];
        for area in self.allocated(link)? {
            let mut at = area.start;
            while at < area.end() {
                let step = COPY_STEP_BYTES.min(area.end() - at);
                let part = slice_mut(&mut buffer, 0, step)?;
                self.read_at(part, at, link)?;
                if !is_zero(part) {
                    target.write_all_at(part, at)?;
                }
                at += step;
            }
        }
        target.sync_all()
    }

    /// Fills the parts of the first and last block that a write of that range leaves out, from the links below.
    fn own_edges(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        for edge in [offset, end - 1] {
            let start = edge - edge % BLOCK_BYTES;
            let stop = block_end(edge).min(self.capacity);
            let partly = offset > start || end < stop;
            let Some(top) = self.deltas.last() else { return Ok(()) };
            if !partly || top.map.contains_byte(edge) {
                continue;
            }
            let mut block = [0_u8; BLOCK_BYTES as usize];
            let part = slice_mut(&mut block, 0, stop - start)?;
            self.read_at(part, start, self.deltas.len())?;
            if let Some(top) = self.deltas.last_mut() {
                top.file.write_all_at(part, start)?;
                top.map.insert_bytes(start, stop - start);
            }
        }
        Ok(())
    }

    fn check_range(&self, offset: u64, length: u64) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.capacity => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the range lies outside the disk")),
        }
    }
}

/// Index of the topmost delta that holds the block of that byte.
fn owner_of(deltas: &[Delta], offset: u64) -> Option<usize> {
    deltas.iter().rposition(|delta| delta.map.contains_byte(offset))
}

fn block_end(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES + BLOCK_BYTES
}

fn slice_mut(buffer: &mut [u8], start: u64, length: u64) -> io::Result<&mut [u8]> {
    let outside = || io::Error::from(io::ErrorKind::InvalidInput);
    let (start, length) = (usize::try_from(start), usize::try_from(length));
    let (Ok(start), Ok(length)) = (start, length) else { return Err(outside()) };
    buffer.get_mut(start..start + length).ok_or_else(outside)
}

fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    Ok(fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)?)
}

/// Compares block by block with a block of zeros, which is fast even in unoptimised builds.
fn is_zero(buffer: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
    buffer.chunks(ZEROS.len()).all(|block| ZEROS.get(..block.len()) == Some(block))
}

/// Copies one area between files, leaving holes where it is all zero.
fn copy(from: &File, to: &File, area: Area) -> io::Result<()> {
    let mut buffer = vec![0_u8; usize::try_from(area.length).unwrap_or_default()];
    from.read_exact_at(&mut buffer, area.start)?;
    if is_zero(&buffer) { punch(to, area.start, area.length) } else { to.write_all_at(&buffer, area.start) }
}

/// The areas of a sparse file that hold data, as its file system tells.
fn data_areas(file: &File, capacity: u64) -> io::Result<Vec<Area>> {
    let mut areas = Vec::new();
    let mut at = 0;
    while at < capacity {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(capacity);
        if end <= start {
            break;
        }
        areas.push(Area { start, length: end - start });
        at = end;
    }
    Ok(areas)
}

#[cfg(test)]
mod tests;
