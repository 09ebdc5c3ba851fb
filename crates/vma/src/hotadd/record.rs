//! What was added, written down before it is: a killed agent finds it again and removes nothing else.

use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use runtime::private_file;
use serde::{Deserialize, Serialize};

use super::HotAddError;

/// A disk that was added to the agent's VM, or was about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// The run it was added for.
    pub job_id: String,
    /// The vCenter's own id.
    pub vcenter: String,
    /// Managed object id of the VM whose disk it is.
    pub source: String,
    /// `[datastore] folder/file.vmdk` of the frozen link.
    pub vmdk_path: String,
    /// The disk's uuid.
    pub disk_uuid: String,
}

/// All of them; the file always has what the memory has.
pub(super) struct Records {
    path: PathBuf,
    /// Each with whether nobody looks after it any more.
    list: Mutex<Vec<(Added, bool)>>,
}

impl Records {
    /// Reads what an earlier process wrote: all of it was left.
    pub(super) fn open(path: &Path) -> Result<Self, HotAddError> {
        let failed = |source| HotAddError::Record { path: path.to_owned(), source };
        let list: Vec<Added> = match private_file::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(io::Error::other(error)))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let list = list.into_iter().map(|added| (added, true)).collect();
        Ok(Self { path: path.to_owned(), list: Mutex::new(list) })
    }

    /// Writes one down.
    pub(super) fn add(&self, added: Added) -> Result<(), HotAddError> {
        self.change(|list| list.push((added, false)))
    }

    /// Crosses one out.
    pub(super) fn forget(&self, added: &Added) -> Result<(), HotAddError> {
        self.change(|list| list.retain(|(other, _)| other != added))
    }

    /// Whether it is still written down.
    pub(super) fn has(&self, added: &Added) -> bool {
        self.list.lock().iter().any(|(other, _)| other == added)
    }

    pub(super) fn of_run(&self, job_id: &str) -> Vec<Added> {
        let list = self.list.lock();
        list.iter().filter(|(added, _)| added.job_id == job_id).map(|(added, _)| added.clone()).collect()
    }

    /// Those of a vCenter that nobody looks after.
    pub(super) fn left(&self, vcenter: &str) -> Vec<Added> {
        let list = self.list.lock();
        let left = list.iter().filter(|(added, is_left)| *is_left && added.vcenter == vcenter);
        left.map(|(added, _)| added.clone()).collect()
    }

    /// Nobody looks after those of a run any more.
    pub(super) fn leave(&self, job_id: &str) {
        for (added, is_left) in self.list.lock().iter_mut() {
            *is_left |= added.job_id == job_id;
        }
    }

    /// The memory changes only when the file has.
    fn change(&self, change: impl FnOnce(&mut Vec<(Added, bool)>)) -> Result<(), HotAddError> {
        let failed = |source| HotAddError::Record { path: self.path.clone(), source };
        let mut list = self.list.lock();
        let mut changed = list.clone();
        change(&mut changed);
        let plain: Vec<&Added> = changed.iter().map(|(added, _)| added).collect();
        let text = serde_json::to_vec_pretty(&plain).map_err(|error| failed(io::Error::other(error)))?;
        private_file::write(&self.path, &text).map_err(failed)?;
        *list = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(job_id: &str) -> Added {
        Added {
            job_id: job_id.to_owned(),
            vcenter: "vc-1".to_owned(),
            source: "vm-7".to_owned(),
            vmdk_path: "[ds] web/web.vmdk".to_owned(),
            disk_uuid: "6000C298-1f40-0d3a-8f4b-2b8c43b9d7f0".to_owned(),
        }
    }

    #[test]
    fn a_new_process_knows_what_the_last_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotadd.json");
        let records = Records::open(&path).unwrap();
        records.add(added("job-1")).unwrap();
        records.add(added("job-2")).unwrap();
        assert!(records.left("vc-1").is_empty(), "their runs go on");
        records.leave("job-2");
        assert_eq!(records.left("vc-1"), [added("job-2")]);

        let next = Records::open(&path).unwrap();
        assert_eq!(next.left("vc-1"), [added("job-1"), added("job-2")]);
        assert!(next.left("vc-2").is_empty());
        next.forget(&added("job-1")).unwrap();
        assert_eq!(Records::open(&path).unwrap().of_run("job-1"), []);
        assert_eq!(Records::open(&path).unwrap().of_run("job-2"), [added("job-2")]);
    }

    #[test]
    fn a_damaged_record_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotadd.json");
        private_file::write(&path, b"[{").unwrap();
        assert!(matches!(Records::open(&path), Err(HotAddError::Record { .. })));
    }
}
