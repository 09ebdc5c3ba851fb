//! Files only their owner may read: keys, tokens, passwords for child programs. Written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Mode of the files: read and written by the owner alone.
pub const PRIVATE_MODE: u32 = 0o600;
/// Largest private file read, in bytes: a chain of certificates and a key is a hundredth of it.
pub const MAX_READ_BYTES: u64 = 1024 * 1024;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

/// Writes a file of mode 0600 in place of whatever was there: after a crash it has the old content or the new one.
///
/// # Errors
/// What the system says. Nothing is left behind then.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = Temporary::create(path, content)?;
    std::fs::rename(&temporary.path, path)?;
    temporary.forget();
    sync_folder(path)
}

/// Creates a file of mode 0600 with its content, unless there is one; false when there is.
///
/// # Errors
/// What the system says. Nothing is left behind then.
pub fn create(path: &Path, content: &[u8]) -> Result<bool> {
    let temporary = Temporary::create(path, content)?;
    match std::fs::hard_link(&temporary.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    drop(temporary);
    sync_folder(path)?;
    Ok(true)
}

/// Reads a private file of at most [`MAX_READ_BYTES`].
///
/// # Errors
/// What the system says; `PermissionDenied` when its mode lets others at it; `FileTooLarge`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    if mode & OTHERS != 0 {
        let text = format!("{} is open to others (mode {:03o}): chmod 600 it", path.display(), mode & 0o777);
        return Err(Error::new(ErrorKind::PermissionDenied, text));
    }
    let mut content = Vec::new();
    file.take(MAX_READ_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_READ_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, "a private file is a key or a password, not this"));
    }
    Ok(content)
}

/// A file under another name in the same folder; removed when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create(target: &Path, content: &[u8]) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the path names no file"))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{}.{}-{number}.new", name.to_string_lossy(), std::process::id());
        let path = target.with_file_name(name);
        let mut file = match open_new(&path) {
            // Left behind by a dead process that had this one's number.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                std::fs::remove_file(&path)?;
                open_new(&path)?
            }
            opened => opened?,
        };
        let temporary = Self { path };
        file.write_all(content)?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn open_new(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(path)
}

/// Makes a change of names durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_file_is_private_and_replaces_a_public_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "old and much longer").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = read(&path).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::PermissionDenied);
        assert!(refusal.to_string().contains("mode 644"), "{refusal}");
        write(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE_MODE);
        assert_eq!(names(folder.path()), ["token"], "nothing else is left");
    }

    #[test]
    fn only_the_first_creates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let created: Vec<bool> = std::thread::scope(|scope| {
            let create = |number: u8| {
                scope.spawn({
                    let path = &path;
                    move || create(path, &[number]).unwrap()
                })
            };
            let threads: Vec<_> = (0..8).map(create).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = created.iter().position(|&created| created).unwrap();
        assert_eq!(created.iter().filter(|&&created| created).count(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), [winner as u8]);
        assert_eq!(names(folder.path()), ["key"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(write(&path, b"x").is_err());
        assert_eq!(names(folder.path()), ["taken"]);
        assert_eq!(write(Path::new("/"), b"x").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
