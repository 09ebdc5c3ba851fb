//! A simulated disk: its chain of links, who froze which, its change tracking, and the locks a host would hold.
//!
//! Decides nothing about VMs; the VM calls this at the right moments.

use std::io;
use std::path::Path;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::block_set::{Area, BlockSet};
use super::change_tracking::{TrackedPoint, Tracker, TrackingRefusal};
use super::delta_file::DeltaFormat;
use super::disk_chain::DiskChain;

/// Why a flat file cannot be read over `/folder`.
#[derive(Debug)]
pub(crate) enum FlatReadError {
    /// The running VM writes it, or it is being consolidated.
    Locked,
    /// The file itself failed.
    Io(io::Error),
}

/// A lie the change tracking is told to tell.
#[derive(Debug, Clone, Copy)]
struct Omission {
    nth: u64,
}

#[derive(Debug)]
pub(crate) struct DiskState {
    chain: DiskChain,
    /// Id of the VM snapshot that froze link 0, 1, …; one shorter than the chain.
    frozen_by: Vec<String>,
    tracker: Option<Tracker>,
    /// Link that is being merged into, while it is.
    consolidating: Option<usize>,
    omission: Option<Omission>,
}

/// A disk of the laboratory, shared by the VM, the HTTP reader and the guest.
#[derive(Debug)]
pub(crate) struct Disk {
    /// `backing.uuid`.
    pub(crate) uuid: String,
    /// Datastore name.
    pub(crate) datastore: String,
    /// Folder on the datastore.
    pub(crate) folder: String,
    /// File name without extension.
    pub(crate) stem: String,
    /// Size in bytes.
    pub(crate) capacity: u64,
    /// Whether the datastore can tell allocated areas exactly.
    allocation_known: bool,
    /// Where the block of the guest's marker file lies.
    pub(crate) marker_start: Option<u64>,
    /// How its deltas are kept.
    pub(crate) delta_format: DeltaFormat,
    state: RwLock<DiskState>,
}

/// Where a disk lies and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct DiskPlace {
    pub(crate) uuid: String,
    pub(crate) datastore: String,
    pub(crate) folder: String,
    pub(crate) stem: String,
    pub(crate) allocation_known: bool,
    pub(crate) marker_start: Option<u64>,
    pub(crate) delta_format: DeltaFormat,
}

impl Disk {
    /// Opens the base file; deltas go to `directory`.
    pub(crate) fn open(place: DiskPlace, base: &Path, directory: &Path, capacity: u64) -> io::Result<Self> {
        let chain = DiskChain::open(base, directory, &place.stem, capacity)?;
        let state = DiskState { chain, frozen_by: Vec::new(), tracker: None, consolidating: None, omission: None };
        Ok(Self {
            uuid: place.uuid,
            datastore: place.datastore,
            folder: place.folder,
            stem: place.stem,
            capacity: state.chain.capacity(),
            allocation_known: place.allocation_known,
            marker_start: place.marker_start,
            delta_format: place.delta_format,
            state: RwLock::new(state),
        })
    }

    fn path_of(&self, name: &str) -> String {
        format!("[{}] {}/{name}", self.datastore, self.folder)
    }

    /// `[datastore] folder/name.vmdk` of every link, the base first.
    pub(crate) fn link_paths(&self) -> Vec<String> {
        let state = self.state.read();
        (0..state.chain.link_count()).map(|link| self.path_of(&state.chain.link_name(link))).collect()
    }

    /// Links a VM snapshot sees, the base first; all links for `None`.
    pub(crate) fn links_as_of(&self, vm_snapshot: Option<&str>) -> Vec<String> {
        let visible = match vm_snapshot {
            Some(id) => self.state.read().link_of(id).map_or(0, |link| link + 1),
            None => usize::MAX,
        };
        self.link_paths().into_iter().take(visible.max(1)).collect()
    }

    /// Takes the lock that stops all writes; several disks are frozen under their locks together.
    pub(crate) fn stop_writes(&self) -> RwLockWriteGuard<'_, DiskState> {
        self.state.write()
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, DiskState> {
        self.state.read()
    }

    /// A guest's write.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.write();
        state.chain.write_at(data, offset)?;
        if let Some(tracker) = state.tracker.as_mut() {
            tracker.record(offset, data.len() as u64);
        }
        Ok(())
    }

    /// A guest's discard: the range reads as zeros afterwards.
    pub(crate) fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.state.write();
        state.chain.zero(offset, length)?;
        if let Some(tracker) = state.tracker.as_mut() {
            tracker.record(offset, length);
        }
        Ok(())
    }

    /// Reads what the disk holds now, or held when the VM snapshot froze it.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64, vm_snapshot: Option<&str>) -> io::Result<()> {
        let state = self.read_lock();
        let link = state.link_for(vm_snapshot)?;
        state.chain.read_at(buffer, offset, link)
    }

    /// Reads the base link as the file `stem-flat.vmdk`, honouring the lock of a running VM.
    pub(crate) fn read_flat(&self, buffer: &mut [u8], offset: u64, powered_on: bool) -> Result<(), FlatReadError> {
        let state = self.read_lock();
        let active = powered_on && state.chain.link_count() == 1;
        if active || state.consolidating == Some(0) {
            return Err(FlatReadError::Locked);
        }
        state.chain.read_at(buffer, offset, 0).map_err(FlatReadError::Io)
    }

    /// The file of a delta by its link's name, honouring the lock of a running VM and of a merge.
    pub(crate) fn delta_file(&self, link_name: &str, powered_on: bool) -> Result<Vec<u8>, FlatReadError> {
        let state = self.read_lock();
        let links = state.chain.link_count();
        let link = (1..links).find(|link| state.chain.link_name(*link) == link_name);
        let link = link.ok_or_else(|| FlatReadError::Io(io::ErrorKind::NotFound.into()))?;
        if (powered_on && link + 1 == links) || state.consolidating.is_some() {
            return Err(FlatReadError::Locked);
        }
        let blocks = state.chain.delta_blocks(link).map_err(FlatReadError::Io)?;
        Ok(self.delta_format.file(self.capacity, &blocks))
    }

    /// Copies the content now, or as of a VM snapshot, into a sparse raw file.
    pub(crate) fn copy_to(&self, path: &Path, vm_snapshot: Option<&str>) -> io::Result<()> {
        let state = self.read_lock();
        let link = state.link_for(vm_snapshot)?;
        state.chain.copy_to(path, link)
    }

    /// Copies the content as of the link with that `[datastore] folder/name.vmdk` into a sparse raw file.
    pub(crate) fn copy_link(&self, path: &Path, link_path: &str) -> io::Result<()> {
        let link = self.link_paths().iter().position(|own| own == link_path);
        let link = link.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.read_lock().chain.copy_to(path, link)
    }

    /// Merges the link above the one `vm_snapshot` froze into it, a step at a time, letting others in between.
    pub(crate) fn consolidate(&self, vm_snapshot: &str) -> io::Result<()> {
        let Some(link) = self.state.read().link_of(vm_snapshot) else { return Ok(()) };
        self.state.write().consolidating = Some(link);
        let outcome = loop {
            let mut state = self.state.write();
            match state.chain.merge_step(link) {
                Ok(false) => {}
                Ok(true) => {
                    state.frozen_by.remove(link);
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.state.write().consolidating = None;
        outcome
    }

    /// Goes back to what the newest VM snapshot froze, and takes its tracking point as the present.
    pub(crate) fn revert(&self, vm_snapshot: &str, point: Option<&str>) -> io::Result<bool> {
        let mut state = self.state.write();
        if state.frozen_by.last().map(String::as_str) != Some(vm_snapshot) {
            return Ok(false);
        }
        state.chain.empty_active()?;
        if let (Some(tracker), Some(point)) = (state.tracker.as_mut(), point.and_then(TrackedPoint::parse)) {
            tracker.rewind(point);
        }
        Ok(true)
    }

    /// Turns tracking on or off at a stun; a tracker that already runs goes on.
    pub(crate) fn settle_tracking(&self, wanted: bool, vm_snapshots_existed: bool) {
        let mut state = self.state.write();
        if !wanted {
            state.tracker = None;
        } else if state.tracker.is_none() {
            state.tracker = Some(Tracker::new(rand::random(), self.allocation_known && !vm_snapshots_existed));
        }
    }

    /// Starts a new epoch, as after a power loss of the host; `false` when tracking is off.
    pub(crate) fn reset_tracking(&self) -> bool {
        let mut state = self.state.write();
        if state.tracker.is_none() {
            return false;
        }
        state.tracker = Some(Tracker::new(rand::random(), self.allocation_known));
        true
    }

    /// Leaves the `nth` dirty grain out of every answer from now on; `None` tells the truth again.
    pub(crate) fn omit_grain(&self, nth: Option<u64>) {
        self.state.write().omission = nth.map(|nth| Omission { nth });
    }

    /// Whether changes are being tracked.
    pub(crate) fn is_tracked(&self) -> bool {
        self.read_lock().tracker.is_some()
    }

    /// Areas changed between two points; `until` `None` means up to now.
    pub(crate) fn changed(
        &self,
        from: TrackedPoint,
        until: Option<TrackedPoint>,
    ) -> Option<Result<Vec<Area>, TrackingRefusal>> {
        let state = self.read_lock();
        let tracker = state.tracker.as_ref()?;
        let grains = tracker.changed(from, until.unwrap_or_else(|| tracker.now()));
        Some(grains.map(|grains| state.areas(grains, self.capacity)))
    }

    /// Areas in use as of a VM snapshot (the whole disk when that is not known); `None` when tracking is off.
    pub(crate) fn allocated(&self, vm_snapshot: Option<&str>) -> Option<io::Result<Vec<Area>>> {
        let state = self.read_lock();
        if !state.tracker.as_ref()?.allocation_known {
            return Some(Ok(vec![Area { start: 0, length: self.capacity }]));
        }
        Some(state.link_for(vm_snapshot).and_then(|link| state.chain.allocated(link)))
    }
}

impl DiskState {
    /// Freezes the active link for a VM snapshot and gives the tracking point it stands for.
    pub(crate) fn freeze(&mut self, vm_snapshot: &str) -> io::Result<Option<TrackedPoint>> {
        self.chain.push_delta()?;
        self.frozen_by.push(vm_snapshot.to_owned());
        Ok(self.tracker.as_mut().map(Tracker::freeze))
    }

    fn link_of(&self, vm_snapshot: &str) -> Option<usize> {
        self.frozen_by.iter().position(|id| id == vm_snapshot)
    }

    fn link_for(&self, vm_snapshot: Option<&str>) -> io::Result<usize> {
        match vm_snapshot {
            None => Ok(self.chain.link_count()),
            Some(id) => self
                .link_of(id)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no link frozen by that VM snapshot")),
        }
    }

    fn areas(&self, mut grains: BlockSet, capacity: u64) -> Vec<Area> {
        if let Some(start) = self.omission.and_then(|omission| grains.nth_start(omission.nth)) {
            grains.remove_bytes(start, super::change_tracking::GRAIN_BYTES);
        }
        grains.areas(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(directory: &Path) -> Disk {
        let place = DiskPlace {
            uuid: "6000C29a-0000-0000-0000-000000000001".to_owned(),
            datastore: "ds".to_owned(),
            folder: "vm".to_owned(),
            stem: "vm".to_owned(),
            allocation_known: true,
            marker_start: None,
            delta_format: DeltaFormat::SeSparse,
        };
        Disk::open(place, &directory.join("base.raw"), directory, 8 << 20).unwrap()
    }

    fn byte(disk: &Disk, vm_snapshot: Option<&str>) -> u8 {
        let mut byte = [0];
        disk.read(&mut byte, 0, vm_snapshot).unwrap();
        byte[0]
    }

    #[test]
    fn the_active_link_of_a_running_vm_is_locked_and_a_frozen_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(directory.path());
        disk.write(&[1], 0).unwrap();
        let mut byte = [0];
        assert!(matches!(disk.read_flat(&mut byte, 0, true), Err(FlatReadError::Locked)));
        assert!(disk.read_flat(&mut byte, 0, false).is_ok());
        disk.stop_writes().freeze("snapshot-1").unwrap();
        disk.write(&[2], 0).unwrap();
        disk.read_flat(&mut byte, 0, true).unwrap();
        assert_eq!(byte, [1]);
    }

    #[test]
    fn consolidation_keeps_the_present_and_other_frozen_states() {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(directory.path());
        for (value, id) in [(1, "a"), (2, "b"), (3, "c")] {
            disk.write(&[value], 0).unwrap();
            disk.stop_writes().freeze(id).unwrap();
        }
        disk.write(&[4], 0).unwrap();
        disk.consolidate("b").unwrap();
        assert_eq!((byte(&disk, Some("a")), byte(&disk, Some("c")), byte(&disk, None)), (1, 3, 4));
        disk.consolidate("c").unwrap();
        disk.consolidate("a").unwrap();
        assert_eq!((byte(&disk, None), disk.link_paths().len()), (4, 1));
    }

    #[test]
    fn a_revert_discards_writes_and_later_points() {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(directory.path());
        disk.settle_tracking(true, false);
        disk.write(&[1], 0).unwrap();
        let point = disk.stop_writes().freeze("a").unwrap().unwrap();
        disk.write(&[2], 0).unwrap();
        let later = disk.stop_writes().freeze("b").unwrap().unwrap();
        disk.consolidate("b").unwrap();
        assert!(disk.revert("a", Some(&point.to_string())).unwrap());
        assert_eq!(byte(&disk, None), 1);
        assert_eq!(disk.changed(later, Some(point)).unwrap(), Err(TrackingRefusal::Later));
    }

    #[test]
    fn one_grain_can_be_left_out_and_an_epoch_reset() {
        let directory = tempfile::tempdir().unwrap();
        let disk = disk(directory.path());
        disk.settle_tracking(true, false);
        let point = disk.stop_writes().freeze("a").unwrap().unwrap();
        disk.write(&vec![7; 3 << 16], 0).unwrap();
        disk.omit_grain(Some(1));
        let areas = disk.changed(point, None).unwrap().unwrap();
        assert_eq!(areas, [Area { start: 0, length: 1 << 16 }, Area { start: 2 << 16, length: 1 << 16 }]);
        assert!(disk.reset_tracking());
        assert_eq!(disk.changed(point, None).unwrap(), Err(TrackingRefusal::OtherEpoch));
    }
}
