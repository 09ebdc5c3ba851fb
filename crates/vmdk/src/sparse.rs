//! Where the grains of one sparse extent are: directory and tables are read as they are needed, through a cache.

use std::sync::Arc;

use crate::cache::{Cache, Recent};
use crate::error::VmdkError;
use crate::format::grain_map::{GrainMap, Slot};
use crate::source::Source;

/// Entries of a directory that are read at once: for hosted extents they stand for 64 GiB of the disk.
const DIRECTORY_CHUNK_ENTRIES: u64 = 2048;

/// Where a run of an extent's bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunPlace {
    /// Not in this extent.
    Missing,
    /// Zeroes.
    Zero,
    /// At this byte of the file and those that follow.
    Stored(u64),
    /// In the deflated grain whose marker is at this byte of the file.
    Packed(u64),
}

/// A run of an extent's bytes that are all in one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub length: u64,
    pub place: RunPlace,
}

/// A sparse extent being read. Offsets count from the extent's start, except where they are said to be the file's.
pub(crate) struct SparseExtent<'a> {
    pub map: &'a GrainMap,
    pub source: &'a Source,
    /// The file's number, for the cache.
    pub file: usize,
    /// Where the extent begins in the disk; told in errors.
    pub disk_start: u64,
    pub tables: &'a Cache,
}

impl SparseExtent<'_> {
    /// The run that begins at `offset`, at most `limit` long (more than 0, and inside the extent).
    pub fn run(&self, offset: u64, limit: u64, recent: &mut Recent) -> Result<Run, VmdkError> {
        let coverage = self.map.table_coverage_bytes();
        let number = offset / coverage;
        let mut end = (number + 1).saturating_mul(coverage);
        let chunk = self.directory_chunk(number, offset, recent)?;
        let Some(table) = self.table(&chunk, number, offset, recent)? else {
            // Whole tables are missing as far as this chunk shows.
            let last = (number / DIRECTORY_CHUNK_ENTRIES + 1) * DIRECTORY_CHUNK_ENTRIES;
            let mut next = number + 1;
            while next < last.min(self.map.directory_entries()) && self.directory_entry(&chunk, next) == 0 {
                end = end.saturating_add(coverage);
                next += 1;
            }
            return Ok(Run { length: limit.min(end - offset), place: RunPlace::Missing });
        };
        self.run_in_table(&table, offset, limit.min(end - offset))
    }

    fn run_in_table(&self, table: &[u8], offset: u64, limit: u64) -> Result<Run, VmdkError> {
        let grain_bytes = self.map.grain_bytes();
        let within = offset % grain_bytes;
        let first = self.slot(table, offset - within)?;
        let place = match first {
            Slot::Missing => RunPlace::Missing,
            Slot::Zero => RunPlace::Zero,
            Slot::At(at) if self.map.is_packed() => RunPlace::Packed(at),
            Slot::At(at) => RunPlace::Stored(at + within),
        };
        let mut length = grain_bytes - within;
        let mut grain = 1;
        while length < limit && !self.map.is_packed() {
            let next = self.slot(table, offset - within + grain * grain_bytes)?;
            let follows = match (first, next) {
                (Slot::At(first_at), Slot::At(next_at)) => first_at.checked_add(grain * grain_bytes) == Some(next_at),
                (first, next) => first == next,
            };
            if !follows {
                break;
            }
            length += grain_bytes;
            grain += 1;
        }
        // Packed grains do not run on, but missing ones between them do.
        while length < limit && self.map.is_packed() && !matches!(first, Slot::At(_)) {
            if self.slot(table, offset - within + grain * grain_bytes)? != first {
                break;
            }
            length += grain_bytes;
            grain += 1;
        }
        Ok(Run { length: length.min(limit), place })
    }

    /// The slot of the grain that begins at `grain_start`, known to be inside the file.
    fn slot(&self, table: &[u8], grain_start: u64) -> Result<Slot, VmdkError> {
        let index = grain_start / self.map.grain_bytes() % self.map.entries_per_table();
        let entry = self.map.entry(table, usize::try_from(index).unwrap_or(usize::MAX));
        let slot = self.map.slot_of(entry).map_err(|reason| self.damaged(0, grain_start, reason))?;
        if let Slot::At(at) = slot {
            // The last grain of an extent need not be whole.
            let needed = if self.map.is_packed() { 1 } else { self.grain_length(grain_start) };
            if !self.source.holds(at, needed) {
                let reason = format!("the file ends at {}, before the end of this grain", self.source.size_bytes);
                return Err(self.damaged(at, grain_start, reason));
            }
        }
        Ok(slot)
    }

    /// How many bytes of the grain that begins there are inside the extent.
    pub fn grain_length(&self, grain_start: u64) -> u64 {
        self.map.grain_bytes().min(self.map.capacity_bytes().saturating_sub(grain_start))
    }

    fn directory_chunk(&self, number: u64, offset: u64, recent: &mut Recent) -> Result<Arc<[u8]>, VmdkError> {
        let first = number - number % DIRECTORY_CHUNK_ENTRIES;
        let entries = DIRECTORY_CHUNK_ENTRIES.min(self.map.directory_entries().saturating_sub(first));
        let at = self.map.directory_at() + first * self.map.entry_bytes();
        self.load((at, entries * self.map.entry_bytes()), offset, "the grain directory", recent)
    }

    fn directory_entry(&self, chunk: &[u8], number: u64) -> u64 {
        self.map.entry(chunk, usize::try_from(number % DIRECTORY_CHUNK_ENTRIES).unwrap_or(usize::MAX))
    }

    fn table(
        &self,
        chunk: &[u8],
        number: u64,
        offset: u64,
        recent: &mut Recent,
    ) -> Result<Option<Arc<[u8]>>, VmdkError> {
        let entry = self.directory_entry(chunk, number);
        let entry_at = self.map.directory_at() + number * self.map.entry_bytes();
        let at = self.map.table_of(entry).map_err(|reason| self.damaged(entry_at, offset, reason))?;
        let Some(at) = at else { return Ok(None) };
        let length = self.map.entries_per_table() * self.map.entry_bytes();
        self.load((at, length), offset, "a grain table", recent).map(Some)
    }

    /// The bytes of a directory's part or of a table.
    fn load(
        &self,
        (at, length): (u64, u64),
        offset: u64,
        what: &str,
        recent: &mut Recent,
    ) -> Result<Arc<[u8]>, VmdkError> {
        let key = (self.file, at);
        // A damaged file can have a table where it has its directory, too: hence the lengths.
        let fits = |bytes: &Arc<[u8]>| bytes.len() as u64 == length;
        if let Some(bytes) = recent.get(key).filter(fits) {
            return Ok(bytes);
        }
        if let Some(bytes) = self.tables.get(key).filter(fits) {
            recent.put(key, &bytes);
            return Ok(bytes);
        }
        if !self.source.holds(at, length) {
            let end = self.source.size_bytes;
            let reason = format!("{what} of {length} bytes would reach past the file's end at {end}");
            return Err(self.damaged(at, offset, reason));
        }
        // At most 4096 entries of 8 bytes.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.source.read(&mut bytes, at)?;
        let bytes: Arc<[u8]> = bytes.into();
        self.tables.put(key, &bytes);
        recent.put(key, &bytes);
        Ok(bytes)
    }

    pub fn damaged(&self, file_offset: u64, offset: u64, reason: String) -> VmdkError {
        VmdkError::Damaged {
            file: self.source.name.to_string(),
            offset: file_offset,
            disk_offset: self.disk_start.saturating_add(offset),
            reason,
        }
    }
}
