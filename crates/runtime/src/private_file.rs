//! Files only their owner may read: written whole or not at all, durable when the call returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Permission bits of a private file.
const MODE: u32 = 0o600;
/// Bits that let others in.
const OTHERS: u32 = 0o077;

/// Writes `bytes` to `path` (mode 0600), replacing what was there at once.
///
/// # Errors
/// What the system says; the old file is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = sibling(path);
    let result = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // It may not exist; the first error is the one that matters.
        let _ = std::fs::remove_file(&temporary);
    }
    result?;
    sync_folder(path)
}

/// Writes `bytes` to `path` unless it exists: then `false`, and nothing is changed.
///
/// # Errors
/// What the system says.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let temporary = sibling(path);
    write_new(&temporary, bytes)?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => sync_folder(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a private file.
///
/// # Errors
/// What the system says, or `PermissionDenied` when others may read it too.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mode = std::fs::metadata(path)?.mode();
    if mode & OTHERS != 0 {
        let text = format!("{} is readable by others (mode {:o}); chmod 600 it", path.display(), mode & 0o777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    std::fs::read(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name beside `path` that no other process or thread uses.
fn sibling(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:016x}.new", std::process::id(), rand::random::<u64>()));
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_private_whole_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert_eq!(read(&path).unwrap(), b"two");
        assert!(!create(&path, b"three").unwrap());
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
