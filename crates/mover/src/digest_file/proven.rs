//! What a digest file holds for certain after a crash, and the file that goes on with some of it.
//!
//! A torn tail, of either file, is dropped: the leaves it named are read again. A pair of files is replaced by another one
//! under `.next` names; which of the two counts is told by what is there, whenever a crash came.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use api::gateway::{DIGEST_RECORD_BYTES, DigestRecord};
use model::extent::{normalise, total_bytes};
use model::{Extent, LEAF_SIZE_BYTES};

use super::mirror::{ENTRY_BYTES, Entry, Mirror, path_of};
use super::{BUFFER_BYTES, DigestFile};
use crate::error::MoverError;
use crate::progress::Moved;

/// Records taken from the file at a time.
const BATCH_RECORDS: usize = 1024;
/// Extents collected before they are joined.
const MAX_LOOSE_EXTENTS: usize = 1 << 16;

/// The part of a digest file that can be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// The leaves it names, normalised.
    pub extents: Vec<Extent>,
    /// What the run had moved when it was written.
    pub moved: Moved,
    /// Its length, in bytes.
    bytes: u64,
    capacity_bytes: u64,
    path: PathBuf,
}

/// Reads the digest file at `path` of a disk of `capacity_bytes`. One that is not there, or that cannot be right, proves
/// nothing.
///
/// # Errors
/// When a file cannot be read.
pub fn proven(path: &Path, capacity_bytes: u64) -> Result<Proven, MoverError> {
    let failed = |source| MoverError::digests(path, source);
    settle(path).map_err(failed)?;
    let nothing = || Proven { capacity_bytes, path: path.to_owned(), ..Proven::default() };
    let (Some(digests), Some(mirror)) = (open(path).map_err(failed)?, open(&path_of(path)).map_err(failed)?) else {
        return Ok(nothing());
    };
    let mut reading = Reading { digests: BufReader::with_capacity(BUFFER_BYTES, digests), found: nothing(), named: 0 };
    let mut mirror = BufReader::new(mirror);
    let mut bytes = [0; ENTRY_BYTES];
    while fill(&mut mirror, &mut bytes).map_err(failed)? {
        let Some(entry) = Entry::decode(&bytes) else { break };
        if !reading.take(&entry).map_err(failed)? {
            break;
        }
    }
    let mut found = reading.found;
    found.extents = normalise(found.extents);
    if total_bytes(&found.extents) != reading.named {
        tracing::warn!(path = %path.display(), "the digests name a leaf twice: none of them is kept");
        return Ok(nothing());
    }
    Ok(found)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Fills all of `buffer`; `false` when the file ends before.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

struct Reading {
    digests: BufReader<File>,
    found: Proven,
    /// Bytes of the disk that were named, each as often as it was.
    named: u64,
}

impl Reading {
    /// Takes the stretch an entry covers; `false` when it is not what the entry was made of.
    fn take(&mut self, entry: &Entry) -> io::Result<bool> {
        let Some(length) = entry.end.checked_sub(self.found.bytes).filter(|&length| length > 0) else {
            return Ok(false);
        };
        if length % DIGEST_RECORD_BYTES as u64 != 0 {
            return Ok(false);
        }
        let (mut hasher, mut loose, mut named) = (blake3::Hasher::new(), Vec::new(), 0);
        let mut left = length;
        let mut batch = vec![0; BATCH_RECORDS * DIGEST_RECORD_BYTES];
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(batch.len());
            if !fill(&mut self.digests, &mut batch[..now])? {
                return Ok(false);
            }
            hasher.update(&batch[..now]);
            for record in batch[..now].as_chunks::<DIGEST_RECORD_BYTES>().0 {
                let Some(extent) = extent_of(record, self.found.capacity_bytes) else { return Ok(false) };
                named += extent.length;
                push(&mut loose, extent);
            }
            left -= now as u64;
        }
        if !entry.covers(&hasher) {
            return Ok(false);
        }
        self.found.extents.append(&mut loose);
        self.found.bytes = entry.end;
        self.found.moved = entry.moved;
        self.named += named;
        Ok(true)
    }
}

/// What a record names of the disk; `None` when it reaches past its end.
fn extent_of(record: &[u8; DIGEST_RECORD_BYTES], capacity_bytes: u64) -> Option<Extent> {
    let record = DigestRecord::decode(record).ok()?;
    let offset = record.first_leaf.checked_mul(LEAF_SIZE_BYTES)?;
    let length = u64::from(record.leaf_count) * LEAF_SIZE_BYTES;
    let end = offset.checked_add(length)?;
    if end >= capacity_bytes.checked_add(LEAF_SIZE_BYTES)? {
        return None;
    }
    Extent::new(offset, length).clamp_to(capacity_bytes)
}

/// Memory is that of the gaps between what is named, not of the leaves.
fn push(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.end() == extent.offset => last.length += extent.length,
        _ => extents.push(extent),
    }
    if extents.len() >= MAX_LOOSE_EXTENTS && extents.len().is_power_of_two() {
        // What overlaps is lost here, and told by the sum.
        *extents = normalise(std::mem::take(extents));
    }
}

impl Proven {
    /// The file that goes on with the digests of `kept` alone (normalised, whole leaves of [`Proven::extents`]).
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn keep(self, kept: &[Extent]) -> Result<DigestFile, MoverError> {
        let path = self.path.clone();
        let (file, mirror) = self.write_kept(kept).map_err(|source| MoverError::digests(&path, source))?;
        DigestFile::over(&path, file, mirror)
    }

    fn write_kept(&self, kept: &[Extent]) -> io::Result<(File, Mirror)> {
        let (next, next_mirror) = (next_of(&self.path), next_of(&path_of(&self.path)));
        let mut writer = io::BufWriter::with_capacity(BUFFER_BYTES, File::create(&next)?);
        let (mut hasher, mut end) = (blake3::Hasher::new(), 0);
        if let Some(digests) = open(&self.path)? {
            let mut digests = BufReader::with_capacity(BUFFER_BYTES, digests.take(self.bytes));
            let mut record = [0; DIGEST_RECORD_BYTES];
            while fill(&mut digests, &mut record)? {
                let wire = narrowed(&record, kept, self.capacity_bytes);
                hasher.update(&wire);
                end += wire.len() as u64;
                writer.write_all(&wire)?;
            }
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let mut mirror = Mirror::new(File::create(&next_mirror)?, 0);
        if end > 0 {
            mirror.append(&Entry::new(end, &hasher, self.moved))?;
        }
        mirror.sync()?;
        sync_folder(&self.path)?;
        std::fs::rename(&next, &self.path)?;
        sync_folder(&self.path)?;
        std::fs::rename(&next_mirror, path_of(&self.path))?;
        sync_folder(&self.path)?;
        Ok((file, mirror))
    }
}

/// The records of what is kept of a record's leaves.
fn narrowed(record: &[u8; DIGEST_RECORD_BYTES], kept: &[Extent], capacity_bytes: u64) -> Vec<u8> {
    let mut wire = Vec::new();
    let (Some(named), Ok(record)) = (extent_of(record, capacity_bytes), DigestRecord::decode(record)) else {
        return wire;
    };
    let first = kept.partition_point(|extent| extent.end() <= named.offset);
    for extent in kept[first..].iter().take_while(|extent| extent.offset < named.end()) {
        let (start, end) = (extent.offset.max(named.offset), extent.end().min(named.end()));
        let leaf_count = u32::try_from((end - start).div_ceil(LEAF_SIZE_BYTES)).unwrap_or(u32::MAX);
        DigestRecord { first_leaf: start / LEAF_SIZE_BYTES, leaf_count, ..record }.encode(&mut wire);
    }
    wire
}

fn next_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Ends a replacement that a crash cut off. The new digests are named first, so a new mirror without them beside it means
/// that they are in place.
fn settle(path: &Path) -> io::Result<()> {
    let (next, next_mirror) = (next_of(path), next_of(&path_of(path)));
    if !next_mirror.try_exists()? {
        return remove(&next);
    }
    if next.try_exists()? {
        // The mirror first: alone it would mean the opposite.
        remove(&next_mirror)?;
        sync_folder(path)?;
        return remove(&next);
    }
    std::fs::rename(&next_mirror, path_of(path))?;
    sync_folder(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
