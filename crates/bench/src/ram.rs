//! A folder in RAM for the disks and everything else; it is gone at the end, however the bench ends.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs, statvfs};
use tempfile::TempDir;

use crate::error::BenchError;

/// Where RAM is a folder on every Linux.
pub const DEFAULT_BASE: &str = "/dev/shm";
/// What the folders are called.
const PREFIX: &str = "migratekit-bench-";
/// Locked for as long as a bench lives.
const LOCK_FILE: &str = "lock";
/// `TMPFS_MAGIC` (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The folder.
#[derive(Debug)]
pub struct RamFolder {
    folder: TempDir,
    _lock: File,
    is_in_ram: bool,
}

impl RamFolder {
    /// Makes one in `base` that can hold `needed_bytes`, and removes what a killed bench has left there.
    ///
    /// # Errors
    /// When there is not enough room.
    pub fn make(base: &Path, needed_bytes: u64) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Io { doing: format!("making a folder in {}", base.display()), source };
        sweep(base);
        let room = statvfs(base).map_err(|errno| failed(errno.into()))?;
        let is_in_ram = statfs(base).is_ok_and(|facts| facts.f_type == TMPFS_MAGIC);
        let on_disk = room.f_bavail.saturating_mul(room.f_frsize);
        let available_bytes = if is_in_ram { on_disk.min(free_memory().unwrap_or(u64::MAX)) } else { on_disk };
        if available_bytes < needed_bytes {
            return Err(BenchError::Room { folder: base.to_owned(), available_bytes, needed_bytes });
        }
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).map_err(failed)?;
        let lock = File::create(folder.path().join(LOCK_FILE)).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(Self { folder, _lock: lock, is_in_ram })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it is really RAM.
    #[must_use]
    pub fn is_in_ram(&self) -> bool {
        self.is_in_ram
    }

    /// A folder in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, BenchError> {
        let path = self.path().join(name);
        std::fs::create_dir_all(&path).map_err(BenchError::io(format!("making {}", path.display())))?;
        Ok(path)
    }
}

/// Removes the folders of benches that were killed: nobody holds their lock.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Ok(lock) = File::open(entry.path().join(LOCK_FILE)) else { continue };
        if is_ours && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Somebody else's folder is not ours to complain about.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// `MemAvailable`, in bytes.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_with_its_holder_and_what_a_killed_bench_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join("migratekit-bench-left");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join(LOCK_FILE), "").unwrap();
        let one = RamFolder::make(base.path(), 1 << 10).unwrap();
        let two = RamFolder::make(base.path(), 1 << 10).unwrap();
        assert!(!left.exists());
        assert!(one.path().exists() && two.path().exists(), "one that is in use stays");
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists());
    }

    #[test]
    fn too_little_room_is_said_at_once() {
        let base = tempfile::tempdir().unwrap();
        let error = RamFolder::make(base.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, BenchError::Room { .. }) && error.remedy().is_some());
    }
}
