//! The digests of all leaves of a disk: a flat sparse file, 32 bytes a leaf, holes for what has no entry.
//!
//! Reads and writes are positioned and bounded; what the entries mean together is in `staged` and `folder`.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use block::digest::{LeafDigest, RootHasher, leaf_count, leaf_extent, zero_leaf_digest};
use block::zero::is_zero;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::error::ProofError;
use crate::header::{Coverage, DiskName, ENTRY_BYTES, HEADER_BYTES, Header};

/// Entries looked at together: 128 KiB of the file.
pub(crate) const CHUNK_LEAVES: u64 = 4096;
/// No entry.
const NO_ENTRY: LeafDigest = [0; 32];

/// The root before and after something that is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// Over the committed entries alone.
    pub before: LeafDigest,
    /// Over the committed entries with the staged ones in their place.
    pub after: LeafDigest,
}

/// Leaves that have an entry, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLeaves {
    /// Index and digest of each, in order; bounded.
    pub digests: Vec<(u64, LeafDigest)>,
    /// The first leaf not looked at.
    pub next_leaf: u64,
}

/// A digest file that is open.
#[derive(Debug)]
pub struct LeafFile {
    file: File,
    path: PathBuf,
    header: Header,
}

impl LeafFile {
    /// Begins a file without entries in place of whatever was there.
    pub(crate) fn create(path: &Path, header: Header) -> Result<Self, ProofError> {
        let begin = ProofError::file("begin the digest file", path);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(runtime::private_file::PRIVATE_MODE).open(path).map_err(&begin)?;
        let block = header.encode().map_err(|reason| ProofError::Damaged { path: path.to_owned(), reason })?;
        file.write_all_at(&block, 0).map_err(&begin)?;
        file.set_len(header.file_bytes()).map_err(&begin)?;
        Ok(Self { file, path: path.to_owned(), header })
    }

    /// Opens a file; `None` when there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, ProofError> {
        let read = ProofError::file("read the digest file", path);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(&read)?,
        };
        let damaged = |reason| ProofError::Damaged { path: path.to_owned(), reason };
        let length = file.metadata().map_err(&read)?.len();
        let mut block = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(damaged(format!("it has only {length} bytes")));
        }
        file.read_exact_at(&mut block, 0).map_err(&read)?;
        let header = Header::decode(&block).map_err(damaged)?;
        if length != header.file_bytes() {
            return Err(damaged(format!("it has {length} bytes, it should have {}", header.file_bytes())));
        }
        Ok(Some(Self { file, path: path.to_owned(), header }))
    }

    /// Whether the file is of this disk.
    pub(crate) fn check_disk(&self, disk: &DiskName) -> Result<(), ProofError> {
        let own = &self.header;
        let reason = if own.vm_disk_id != disk.vm_disk_id {
            format!("it is of the disk {}", own.vm_disk_id)
        } else if own.disk_uuid != disk.disk_uuid {
            format!("it is of the VMDK {}, this is {}", own.disk_uuid, disk.disk_uuid)
        } else if own.capacity_bytes != disk.capacity_bytes {
            format!("it is of a disk of {} bytes, this one has {}", own.capacity_bytes, disk.capacity_bytes)
        } else {
            return Ok(());
        };
        Err(ProofError::OtherDisk { path: self.path.clone(), reason })
    }

    /// What the absence of an entry means.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.header.coverage
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves of the disk.
    #[must_use]
    pub fn leaves_total(&self) -> u64 {
        leaf_count(self.header.capacity_bytes)
    }

    /// The digest of a leaf of zeroes at this index: the last leaf may be shorter.
    pub(crate) fn zero_digest(&self, leaf: u64) -> LeafDigest {
        zero_leaf_digest(leaf_extent(leaf, self.header.capacity_bytes).map_or(0, |extent| extent.length))
    }

    /// Writes entries from a leaf on.
    pub(crate) fn write(&self, first_leaf: u64, entries: &[u8]) -> Result<(), ProofError> {
        let written = self.file.write_all_at(entries, position(first_leaf));
        written.map_err(ProofError::file("write the digest file", &self.path))
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&self) -> Result<(), ProofError> {
        self.file.sync_all().map_err(ProofError::file("make durable the digest file", &self.path))
    }

    /// The entries of `leaves` leaves from one on.
    pub(crate) fn read(&self, first_leaf: u64, leaves: u64) -> Result<Vec<u8>, ProofError> {
        let mut entries = vec![0; usize::try_from(leaves * ENTRY_BYTES).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut entries, position(first_leaf));
        read.map_err(ProofError::file("read the digest file", &self.path))?;
        Ok(entries)
    }

    /// The digest of one leaf, for a file that knows every leaf.
    ///
    /// # Errors
    /// The file cannot be read, or there is no such leaf.
    pub fn digest(&self, leaf: u64) -> Result<LeafDigest, ProofError> {
        let mut entry = NO_ENTRY;
        entry.copy_from_slice(&self.read(leaf, 1)?);
        Ok(if entry == NO_ENTRY { self.zero_digest(leaf) } else { entry })
    }

    /// The first leaf from `leaf` on that may have an entry; what is passed over are holes.
    pub(crate) fn next_leaf(&self, leaf: u64) -> Result<Option<u64>, ProofError> {
        if leaf >= self.leaves_total() {
            return Ok(None);
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(position(leaf))) {
            Ok(found) => Ok(Some((found.saturating_sub(HEADER_BYTES as u64) / ENTRY_BYTES).max(leaf))),
            Err(Errno::NXIO) => Ok(None),
            // A file system that cannot tell: everything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(leaf)),
            Err(errno) => Err(ProofError::file("find the data of the digest file", &self.path)(errno.into())),
        }
    }

    /// The next leaves from `leaf` on that have an entry: all others are zero. `None` after the last.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn named_from(&self, leaf: u64) -> Result<Option<NamedLeaves>, ProofError> {
        let Some(first_leaf) = self.next_leaf(leaf)? else { return Ok(None) };
        let count = CHUNK_LEAVES.min(self.leaves_total() - first_leaf);
        let entries = self.read(first_leaf, count)?;
        let digests = (first_leaf..).zip(entries.chunks_exact(32)).filter(|(_, entry)| !is_zero(entry));
        let digests = digests.map(|(leaf, entry)| {
            let mut digest = NO_ENTRY;
            digest.copy_from_slice(entry);
            (leaf, digest)
        });
        Ok(Some(NamedLeaves { digests: digests.collect(), next_leaf: first_leaf + count }))
    }

    /// The root over all leaves; those without an entry count as zero.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn root(&self) -> Result<LeafDigest, ProofError> {
        let mut root = self.hasher();
        each_chunk(&[self], &[self], |first_leaf, entries| push(self, &mut root, first_leaf, &entries[0]))?;
        Ok(root.finish())
    }

    /// The roots without and with what `staged` holds; neither file is changed.
    ///
    /// # Errors
    /// A file cannot be read, or they are of disks of different size.
    pub fn roots_with(&self, staged: &Self) -> Result<Roots, ProofError> {
        self.check_size(staged)?;
        let (mut before, mut after) = (self.hasher(), self.hasher());
        each_chunk(&[self, staged], &[self, staged], |first_leaf, entries| {
            let [own, over] = entries else { return Ok(()) };
            push(self, &mut before, first_leaf, own)?;
            for (own, over) in own.chunks_exact_mut(32).zip(over.chunks_exact(32)) {
                if !is_zero(over) {
                    own.copy_from_slice(over);
                }
            }
            push(self, &mut after, first_leaf, own)
        })?;
        Ok(Roots { before: before.finish(), after: after.finish() })
    }

    /// Takes over what `staged` holds and makes it durable. May be repeated, also after a crash half way.
    pub(crate) fn take_over(&self, staged: &Self) -> Result<(), ProofError> {
        self.check_size(staged)?;
        each_chunk(&[staged], &[staged, self], |first_leaf, entries| {
            let [over, own] = entries else { return Ok(()) };
            for (index, (over, own)) in over.chunks_exact(32).zip(own.chunks_exact_mut(32)).enumerate() {
                if is_zero(over) {
                    continue;
                }
                let zero = self.zero_digest(first_leaf + index as u64);
                own.copy_from_slice(if over == zero { &NO_ENTRY } else { over });
            }
            self.write(first_leaf, own)
        })?;
        self.sync()
    }

    fn hasher(&self) -> RootHasher {
        RootHasher::new(self.header.capacity_bytes)
    }

    fn check_size(&self, other: &Self) -> Result<(), ProofError> {
        let (own, theirs) = (self.header.capacity_bytes, other.header.capacity_bytes);
        if own == theirs {
            return Ok(());
        }
        let reason = format!("it is of a disk of {theirs} bytes, this one has {own}");
        Err(ProofError::OtherDisk { path: other.path.clone(), reason })
    }
}

/// Where the entry of a leaf is in the file.
fn position(leaf: u64) -> u64 {
    HEADER_BYTES as u64 + leaf.saturating_mul(ENTRY_BYTES)
}

/// Goes over the entries of files of one size, chunk by chunk; chunks that are holes in all of `driving` are passed over.
fn each_chunk(
    driving: &[&LeafFile],
    files: &[&LeafFile],
    mut visit: impl FnMut(u64, &mut [Vec<u8>]) -> Result<(), ProofError>,
) -> Result<(), ProofError> {
    let leaves_total = files.first().map_or(0, |file| file.leaves_total());
    let mut leaf = 0;
    loop {
        let mut next = None;
        for file in driving {
            let found = file.next_leaf(leaf)?;
            next = [next, found].into_iter().flatten().min();
        }
        let Some(found) = next else { return Ok(()) };
        let first_leaf = found - found % CHUNK_LEAVES;
        let count = CHUNK_LEAVES.min(leaves_total - first_leaf);
        let mut entries = files.iter().map(|file| file.read(first_leaf, count)).collect::<Result<Vec<_>, _>>()?;
        visit(first_leaf, &mut entries)?;
        leaf = first_leaf + count;
    }
}

/// Adds the entries of a chunk to a root; leaves without one are zero.
fn push(file: &LeafFile, root: &mut RootHasher, first_leaf: u64, entries: &[u8]) -> Result<(), ProofError> {
    if is_zero(entries) {
        return Ok(());
    }
    for (index, entry) in entries.chunks_exact(32).enumerate() {
        let mut digest = NO_ENTRY;
        digest.copy_from_slice(entry);
        if digest != NO_ENTRY {
            let added = root.push(first_leaf + index as u64, 1, &digest);
            added.map_err(|source| ProofError::Root { path: file.path.clone(), source })?;
        }
    }
    Ok(())
}
