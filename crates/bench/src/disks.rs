//! What is done with whole disks around a measurement: a fresh target, a dirty one, a clone, the comparison.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use block::{BlockDevice, FileDevice, RegionState};
use model::Extent;
use model::extent::normalise;

use crate::error::BenchError;

/// Bytes read or written at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// Longest stretch whose map is asked for at a time.
const MAP_BYTES: u64 = 1 << 30;

/// Makes an empty sparse target; what was there is gone.
///
/// # Errors
/// When it cannot be made.
pub fn fresh(path: &Path, size_bytes: u64) -> Result<(), BenchError> {
    let failed = |source| BenchError::Io { doing: format!("making the target {}", path.display()), source };
    remove(path)?;
    File::create_new(path).and_then(|file| file.set_len(size_bytes)).map_err(failed)
}

/// Makes a target in which every byte is 0xFF: whatever must be zero has to be made zero.
///
/// # Errors
/// When it cannot be made.
pub fn dirty(path: &Path, size_bytes: u64) -> Result<(), BenchError> {
    let failed = |source| BenchError::Io { doing: format!("filling the target {}", path.display()), source };
    fresh(path, size_bytes)?;
    let file = File::options().write(true).open(path).map_err(failed)?;
    let ones = vec![0xFF; CHUNK_BYTES as usize];
    for chunk in chunks(Extent::new(0, size_bytes)) {
        file.write_all_at(&ones[..length(chunk)], chunk.offset).map_err(failed)?;
    }
    Ok(())
}

/// Removes a file if it is there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(path: &Path) -> Result<(), BenchError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(BenchError::Io { doing: format!("removing {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

/// Makes `to` a sparse copy of `from`.
///
/// # Errors
/// When one cannot be read or the other not be written.
pub fn clone(from: &Path, to: &Path) -> Result<(), BenchError> {
    let source = open(from)?;
    fresh(to, source.size_bytes())?;
    let target = FileDevice::open(to, false).map_err(BenchError::product("opening the target"))?;
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    for extent in allocated(&source)? {
        for chunk in chunks(extent) {
            let bytes = &mut buffer[..length(chunk)];
            source.read_at(bytes, chunk.offset).map_err(BenchError::product("reading the source"))?;
            target.write_at(bytes, chunk.offset).map_err(BenchError::product("writing the target"))?;
        }
    }
    Ok(())
}

/// The first byte in which two disks differ; every byte that one of them holds is looked at.
///
/// # Errors
/// When one cannot be read.
pub fn first_difference(source: &Path, target: &Path) -> Result<Option<u64>, BenchError> {
    let (source, target) = (open(source)?, open(target)?);
    if source.size_bytes() != target.size_bytes() {
        return Ok(Some(source.size_bytes().min(target.size_bytes())));
    }
    let mut held = allocated(&source)?;
    held.extend(allocated(&target)?);
    let (mut one, mut other) = (vec![0; CHUNK_BYTES as usize], vec![0; CHUNK_BYTES as usize]);
    for chunk in normalise(held).into_iter().flat_map(chunks) {
        let (ours, theirs) = (&mut one[..length(chunk)], &mut other[..length(chunk)]);
        source.read_at(ours, chunk.offset).map_err(BenchError::product("reading the source"))?;
        target.read_at(theirs, chunk.offset).map_err(BenchError::product("reading the target"))?;
        if ours != theirs {
            let at = ours.iter().zip(theirs.iter()).position(|(a, b)| a != b).unwrap_or_default();
            return Ok(Some(chunk.offset + at as u64));
        }
    }
    Ok(None)
}

/// Where a disk holds data, in order.
///
/// # Errors
/// When its map cannot be read.
pub fn allocated(device: &FileDevice) -> Result<Vec<Extent>, BenchError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(stretch) = Extent::new(at, MAP_BYTES).clamp_to(device.size_bytes()) {
        let regions = device.map(stretch).map_err(BenchError::product("asking where the disk holds data"))?;
        found.extend(regions.iter().filter(|region| region.state == RegionState::Data).map(|region| region.extent));
        at = stretch.end();
    }
    Ok(normalise(found))
}

/// Opens a disk for reading.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> Result<FileDevice, BenchError> {
    FileDevice::open(path, true).map_err(BenchError::product("opening a disk"))
}

fn chunks(extent: Extent) -> impl Iterator<Item = Extent> {
    let starts = (extent.offset..extent.end()).step_by(CHUNK_BYTES as usize);
    starts.map(move |at| Extent::new(at, CHUNK_BYTES.min(extent.end() - at)))
}

fn length(chunk: Extent) -> usize {
    usize::try_from(chunk.length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_BYTES: u64 = 5 << 20;

    #[test]
    fn a_clone_is_equal_and_one_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fresh(&source, SIZE_BYTES).unwrap();
        File::options().write(true).open(&source).unwrap().write_all_at(&[9; 70_000], 3 << 20).unwrap();
        clone(&source, &target).unwrap();
        assert_eq!(first_difference(&source, &target).unwrap(), None);
        // A byte where the source has a hole.
        File::options().write(true).open(&target).unwrap().write_all_at(&[1], 4_999_999).unwrap();
        assert_eq!(first_difference(&source, &target).unwrap(), Some(4_999_999));
    }

    #[test]
    fn a_dirty_target_differs_from_the_first_byte_on() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fresh(&source, SIZE_BYTES).unwrap();
        dirty(&target, SIZE_BYTES).unwrap();
        assert_eq!(first_difference(&source, &target).unwrap(), Some(0));
        fresh(&target, SIZE_BYTES - 1).unwrap();
        assert_eq!(first_difference(&source, &target).unwrap(), Some(SIZE_BYTES - 1));
    }
}
