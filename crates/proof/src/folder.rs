//! Where the digest files are: `<disk>.leaves` what is committed, `<disk>.<job>.staged` what a replication has proven.
//!
//! A staged file is applied after its replication was committed and dropped otherwise; which of both is the caller's
//! decision, who knows the commits. Applying may be repeated: a crash leaves the staged file until it is done.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::ProofError;
use crate::header::{Coverage, DiskName, Header};
use crate::leaves::LeafFile;
use crate::staged::StagedWriter;

/// The folder's name within the state folder.
const FOLDER: &str = "digests";
/// Mode of the folder: digests tell whether a disk holds known content.
const FOLDER_MODE: u32 = 0o700;
/// End of the name of a committed file.
const COMMITTED: &str = ".leaves";
/// End of the name of a staged file.
const STAGED: &str = ".staged";
/// End of the name of a file that turned out to be damaged and is kept to be looked at.
const DAMAGED: &str = ".damaged";
/// Longest id in a file's name, in characters.
const MAX_ID_CHARS: usize = 64;

/// A staged file by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedName {
    /// The hub's row of the disk.
    pub vm_disk_id: String,
    /// The replication.
    pub job_id: String,
}

/// What the folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Disks with a committed file.
    pub committed: Vec<String>,
    /// The staged files.
    pub staged: Vec<StagedName>,
}

/// The folder of the digest files.
#[derive(Debug, Clone)]
pub struct DigestFolder {
    path: PathBuf,
}

impl DigestFolder {
    /// The folder within a state folder, made when it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(state_dir: &Path) -> Result<Self, ProofError> {
        let path = state_dir.join(FOLDER);
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&path);
        made.map_err(ProofError::file("make the folder", &path))?;
        Ok(Self { path })
    }

    /// What is there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Listing, ProofError> {
        let read = ProofError::file("list", &self.path);
        let mut listing = Listing::default();
        for entry in fs::read_dir(&self.path).map_err(&read)? {
            let name = entry.map_err(&read)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(vm_disk_id) = name.strip_suffix(COMMITTED) {
                listing.committed.push(vm_disk_id.to_owned());
            } else if let Some((vm_disk_id, job_id)) = name.strip_suffix(STAGED).and_then(|name| name.split_once('.')) {
                let (vm_disk_id, job_id) = (vm_disk_id.to_owned(), job_id.to_owned());
                listing.staged.push(StagedName { vm_disk_id, job_id });
            }
        }
        listing.committed.sort();
        listing.staged.sort();
        Ok(listing)
    }

    /// The committed digests of a disk; `None` when there are none.
    ///
    /// # Errors
    /// The file is damaged, of another disk, or does not know every leaf; it cannot be read.
    pub fn committed(&self, disk: &DiskName) -> Result<Option<LeafFile>, ProofError> {
        let Some(file) = LeafFile::open(&self.committed_path(&disk.vm_disk_id)?)? else { return Ok(None) };
        file.check_disk(disk)?;
        if file.coverage() != Coverage::Full {
            let reason = "it does not know every leaf".to_owned();
            return Err(ProofError::Damaged { path: file.path().to_owned(), reason });
        }
        Ok(Some(file))
    }

    /// Begins the staged file of a replication, in place of what an earlier attempt of it left.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn stage(&self, disk: &DiskName, job_id: &str, coverage: Coverage) -> Result<StagedWriter, ProofError> {
        let path = self.staged_path(&disk.vm_disk_id, job_id)?;
        let file = LeafFile::create(&path, Header::new(disk, job_id, coverage))?;
        self.sync()?;
        Ok(StagedWriter::new(file))
    }

    /// What a replication has staged; `None` when there is nothing (any more).
    ///
    /// # Errors
    /// The file is damaged or of another disk; it cannot be read.
    pub fn staged(&self, disk: &DiskName, job_id: &str) -> Result<Option<LeafFile>, ProofError> {
        let file = LeafFile::open(&self.staged_path(&disk.vm_disk_id, job_id)?)?;
        file.as_ref().map_or(Ok(()), |file| file.check_disk(disk))?;
        Ok(file)
    }

    /// Makes what a committed replication has staged the committed digests of the disk. Does nothing when that is done.
    ///
    /// # Errors
    /// A file is damaged, of another disk, or cannot be written; the staged file is left then. A replication that named
    /// only some leaves needs the committed file it began from: without one the digests are lost
    /// ([`ProofError::is_lost`]).
    pub fn apply(&self, disk: &DiskName, job_id: &str) -> Result<(), ProofError> {
        let Some(staged) = self.staged(disk, job_id)? else { return Ok(()) };
        match staged.coverage() {
            Coverage::Full => {
                let path = self.committed_path(&disk.vm_disk_id)?;
                fs::rename(staged.path(), &path).map_err(ProofError::file("put in place", &path))?;
                self.sync()
            }
            Coverage::Named => {
                let committed = self.committed(disk)?.ok_or_else(|| ProofError::Damaged {
                    path: staged.path().to_owned(),
                    reason: "the committed digests it belongs to are gone".to_owned(),
                })?;
                committed.take_over(&staged)?;
                self.drop_staged(&disk.vm_disk_id, job_id)
            }
        }
    }

    /// Forgets what a replication has staged.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn drop_staged(&self, vm_disk_id: &str, job_id: &str) -> Result<(), ProofError> {
        self.remove(&self.staged_path(vm_disk_id, job_id)?)
    }

    /// Forgets the digests of a disk that is not there any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(&self, vm_disk_id: &str) -> Result<(), ProofError> {
        self.remove(&self.path.join(format!("{}{DAMAGED}", checked(vm_disk_id)?)))?;
        self.remove(&self.committed_path(vm_disk_id)?)
    }

    /// Puts a committed file that turned out to be wrong out of the way, under another name.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self, vm_disk_id: &str) -> Result<(), ProofError> {
        let path = self.committed_path(vm_disk_id)?;
        match fs::rename(&path, self.path.join(format!("{vm_disk_id}{DAMAGED}"))) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(ProofError::file("set aside", &path)).and_then(|()| self.sync()),
        }
    }

    fn remove(&self, path: &Path) -> Result<(), ProofError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(ProofError::file("remove", path)).and_then(|()| self.sync()),
        }
    }

    /// Makes a change of names durable.
    fn sync(&self) -> Result<(), ProofError> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(ProofError::file("make durable", &self.path))
    }

    fn committed_path(&self, vm_disk_id: &str) -> Result<PathBuf, ProofError> {
        Ok(self.path.join(format!("{}{COMMITTED}", checked(vm_disk_id)?)))
    }

    fn staged_path(&self, vm_disk_id: &str, job_id: &str) -> Result<PathBuf, ProofError> {
        Ok(self.path.join(format!("{}.{}{STAGED}", checked(vm_disk_id)?, checked(job_id)?)))
    }
}

/// An id that is safe in a file's name.
fn checked(id: &str) -> Result<&str, ProofError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > MAX_ID_CHARS || !id.chars().all(safe) {
        return Err(ProofError::Name { id: id.to_owned() });
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
