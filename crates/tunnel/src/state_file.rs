//! Reading and replacing the small files an identity consists of: whole or not at all, keys for nobody else's eyes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use model::Secret;

use crate::error::TunnelError;

/// Largest identity file read, in bytes: a key and two certificates are below 4 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Mode of files that hold a private key.
pub(crate) const MODE_PRIVATE: u32 = 0o600;
/// Mode of files anybody may read.
pub(crate) const MODE_PUBLIC: u32 = 0o644;
/// Mode of a state folder made here.
const MODE_FOLDER: u32 = 0o700;
/// Permission bits no private file may have.
const OTHERS_MASK: u32 = 0o077;
/// Serialises first starts of several processes on one state folder.
const LOCK_FILE: &str = ".identity.lock";

/// Makes the folder when it is missing and holds its lock until the returned file is dropped.
pub(crate) fn lock_folder(folder: &Path) -> Result<File, TunnelError> {
    let failed = |source| TunnelError::WriteState { path: folder.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(MODE_FOLDER).create(folder).map_err(failed)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE_PRIVATE)
        .open(folder.join(LOCK_FILE))
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// The text of a public file, or `None` when there is no such file.
pub(crate) fn read_public(path: &Path) -> Result<Option<String>, TunnelError> {
    read(path, false)
}

/// The text of a file with a private key, or `None` when there is no such file; refused when others may read it.
pub(crate) fn read_private(path: &Path) -> Result<Option<Secret>, TunnelError> {
    Ok(read(path, true)?.map(Secret::new))
}

fn read(path: &Path, private: bool) -> Result<Option<String>, TunnelError> {
    let failed = |source| TunnelError::ReadState { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if private && mode & OTHERS_MASK != 0 {
        let reason = format!("it holds a private key and its mode is {:o}; make it 600", mode & 0o777);
        return Err(TunnelError::DamagedState { path: path.to_owned(), reason });
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Replaces the file at once: a reader, or a crash at any instant, sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> Result<(), TunnelError> {
    replace_inner(path, text, mode).map_err(|source| TunnelError::WriteState { path: path.to_owned(), source })
}

fn replace_inner(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = temporary_path(path);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file that may be missing already.
pub(crate) fn remove(path: &Path) -> Result<(), TunnelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(TunnelError::WriteState { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_private_and_a_loose_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(read_private(&path).unwrap().is_none());
        replace(&path, "one", MODE_PRIVATE).unwrap();
        replace(&path, "two", MODE_PRIVATE).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().expose(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err();
        assert!(error.to_string().contains("640"), "{error}");
    }

    #[test]
    fn a_left_over_temporary_file_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(folder.path().join("ca.pem.new"), "half").unwrap();
        replace(&path, "whole", MODE_PUBLIC).unwrap();
        assert_eq!(read_public(&path).unwrap().unwrap(), "whole");
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
