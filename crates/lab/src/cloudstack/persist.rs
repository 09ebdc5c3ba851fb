//! The state file: written whole after every change, read at start.
//!
//! A restarted management server has lost its running jobs; reading the file plays that too.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entities::{
    AsyncJob, Inventory, JobStatus, VmSnapshotState, VmState, Volume, VolumeSnapshotState, VolumeState,
};
use super::error::CloudstackSimError;
use super::world::now;

/// Code of a job that a restart interrupted.
const INTERRUPTED_CODE: u16 = 530;

/// Which volumes a test-made exception applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSelector {
    /// The volume with this id.
    Id(String),
    /// Every volume whose name contains this text.
    NameContains(String),
}

impl VolumeSelector {
    pub(crate) fn matches(&self, volume: &Volume) -> bool {
        match self {
            Self::Id(id) => volume.id == *id,
            Self::NameContains(text) => volume.name.contains(text.as_str()),
        }
    }
}

/// Test-made exceptions: files placed elsewhere, devices of the wrong size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Overrides {
    pub(crate) folders: Vec<(VolumeSelector, PathBuf)>,
    pub(crate) device_sizes: Vec<(VolumeSelector, u64)>,
}

impl Overrides {
    /// The folder for a volume's file; the latest rule wins.
    pub(crate) fn folder_for(&self, volume: &Volume) -> Option<PathBuf> {
        let rule = self.folders.iter().rev().find(|(selector, _)| selector.matches(volume));
        rule.map(|(_, folder)| folder.clone())
    }

    /// The size of a volume's device; the latest rule wins.
    pub(crate) fn device_size_for(&self, volume: &Volume) -> Option<u64> {
        let rule = self.device_sizes.iter().rev().find(|(selector, _)| selector.matches(volume));
        rule.map(|(_, size_bytes)| *size_bytes)
    }
}

/// What persists.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct StateFile {
    pub(crate) inventory: Inventory,
    pub(crate) jobs: Vec<AsyncJob>,
    pub(crate) overrides: Overrides,
}

#[derive(Serialize)]
struct StateFileRef<'a> {
    inventory: &'a Inventory,
    jobs: &'a [AsyncJob],
    overrides: &'a Overrides,
}

/// Writes the state beside the old one and then in its place.
pub(crate) fn save(
    path: &Path,
    inventory: &Inventory,
    jobs: &[AsyncJob],
    overrides: &Overrides,
) -> Result<(), CloudstackSimError> {
    let text = serde_json::to_vec_pretty(&StateFileRef { inventory, jobs, overrides })
        .map_err(|source| CloudstackSimError::State { path: path.to_owned(), source })?;
    let fresh = path.with_extension("json.new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path)).map_err(|source| CloudstackSimError::File {
        doing: "saving",
        path: path.to_owned(),
        source,
    })
}

/// Reads the state; without a file the cloud is empty.
pub(crate) fn load(path: &Path) -> Result<StateFile, CloudstackSimError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(StateFile::default()),
        Err(source) => return Err(CloudstackSimError::File { doing: "reading", path: path.to_owned(), source }),
    };
    let mut state: StateFile =
        serde_json::from_slice(&text).map_err(|source| CloudstackSimError::State { path: path.to_owned(), source })?;
    interrupt(&mut state);
    Ok(state)
}

/// What a restart does to work in progress: jobs fail without a result, half-made things show their state.
fn interrupt(state: &mut StateFile) {
    for job in state.jobs.iter_mut().filter(|job| job.status == JobStatus::Pending) {
        job.status = JobStatus::Failed;
        job.result_code = INTERRUPTED_CODE;
        job.result = None;
        job.completed = Some(now());
        job.pending_polls_left = 0;
    }
    for volume in &mut state.inventory.volumes {
        match volume.state {
            VolumeState::Snapshotting | VolumeState::RevertSnapshotting => volume.state = VolumeState::Ready,
            VolumeState::Creating => volume.state = VolumeState::Allocated,
            VolumeState::Allocated | VolumeState::Ready | VolumeState::Destroy => {}
        }
    }
    for vm in &mut state.inventory.vms {
        match vm.state {
            VmState::Starting | VmState::Stopping => vm.state = VmState::Stopped,
            VmState::Expunging => vm.state = VmState::Destroyed,
            VmState::Running | VmState::Stopped | VmState::Destroyed | VmState::Error => {}
        }
    }
    for snapshot in &mut state.inventory.volume_snapshots {
        if matches!(snapshot.state, VolumeSnapshotState::Creating | VolumeSnapshotState::Allocated) {
            snapshot.state = VolumeSnapshotState::Error;
        }
    }
    for snapshot in &mut state.inventory.vm_snapshots {
        match snapshot.state {
            VmSnapshotState::Creating | VmSnapshotState::Allocated => snapshot.state = VmSnapshotState::Error,
            VmSnapshotState::Reverting => snapshot.state = VmSnapshotState::Ready,
            VmSnapshotState::Ready | VmSnapshotState::Error => {}
        }
    }
}
