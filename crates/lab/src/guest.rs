//! The operating system inside a simulated VM, as far as its disks are concerned: it writes, discards and is read.
//!
//! Every write goes through the disk's change tracking. Calls block; use a blocking thread from async code.

pub mod boot_image;
mod cpio;
mod debian;
pub mod disk_image;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::vcenter::disk::Disk;
use crate::vcenter::state::Lab;
use crate::vcenter::vm::{Vm, retained_path};
use crate::vcenter::{VcenterError, own_disk};

/// Size of one scattered write, and its alignment.
pub const SCATTER_BLOCK_BYTES: u64 = 64 << 10;

/// A disk as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct GuestDisk {
    /// Device key.
    pub key: i32,
    /// Label in vCenter.
    pub label: String,
    /// Size.
    pub capacity_bytes: u64,
}

/// Random writes to distinct aligned blocks.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Scatter {
    /// Number of blocks.
    pub count: u64,
    /// Seed of both places and content: the same seed writes the same bytes.
    pub seed: u64,
    /// First byte of the range to write in.
    pub range_start_bytes: u64,
    /// Length of the range to write in.
    pub range_length_bytes: u64,
}

/// The guest of one VM.
#[derive(Debug, Clone)]
pub struct Guest {
    lab: Arc<Lab>,
    vm: Arc<Vm>,
}

impl Guest {
    pub(crate) fn new(lab: Arc<Lab>, vm: Arc<Vm>) -> Self {
        Self { lab, vm }
    }

    /// The guest's disks.
    #[must_use]
    pub fn disks(&self) -> Vec<GuestDisk> {
        let state = self.vm.state.lock();
        let own = state.disks.iter().filter_map(|device| Some((device, device.own()?)));
        own.map(|(device, disk)| GuestDisk {
            key: device.key,
            label: device.label.clone(),
            capacity_bytes: disk.capacity,
        })
        .collect()
    }

    fn running_disk(&self, key: i32) -> Result<Arc<Disk>, VcenterError> {
        if !self.vm.state.lock().powered_on {
            return Err(VcenterError::GuestOff(self.vm.spec.name.clone()));
        }
        own_disk(&self.vm, key)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When the guest does not run, has no such disk, or the range does not fit.
    pub fn write(&self, disk_key: i32, offset_bytes: u64, data: &[u8]) -> Result<(), VcenterError> {
        let disk = self.running_disk(disk_key)?;
        check_range(&disk, offset_bytes, data.len() as u64)?;
        disk.write(data, offset_bytes).map_err(VcenterError::disk("write to"))
    }

    /// Replaces the text of the guest's marker file, in place: on the disk with that key, or on the first that has one.
    ///
    /// # Errors
    /// When the guest does not run, no disk has a marker, or the text does not fit its block.
    pub fn write_marker(&self, disk_key: Option<i32>, text: &str) -> Result<(), VcenterError> {
        if text.len() as u64 >= disk_image::MARKER_BYTES || text.contains('\n') {
            let most = disk_image::MARKER_BYTES - 1;
            return Err(VcenterError::OutOfRange(format!("a marker is one line of {most} bytes at most")));
        }
        let found = {
            let state = self.vm.state.lock();
            let mut own = state.disks.iter().filter(|device| disk_key.is_none_or(|key| key == device.key));
            own.find_map(|device| Some((device.key, device.own()?.marker_start?)))
        };
        let none = || VcenterError::Unknown { what: "marker on a disk of VM", name: self.vm.spec.name.clone() };
        let (key, start) = found.ok_or_else(none)?;
        self.write(key, start, &disk_image::marker_block(text))
    }

    /// Makes a range read as zeros, as TRIM on a thin disk does.
    ///
    /// # Errors
    /// When the guest does not run, has no such disk, or the range does not fit.
    pub fn zero(&self, disk_key: i32, offset_bytes: u64, length_bytes: u64) -> Result<(), VcenterError> {
        let disk = self.running_disk(disk_key)?;
        check_range(&disk, offset_bytes, length_bytes)?;
        disk.zero(offset_bytes, length_bytes).map_err(VcenterError::disk("zero a range of"))
    }

    /// Writes incompressible blocks at random places; gives their offsets in ascending order.
    ///
    /// # Errors
    /// When the guest does not run, has no such disk, or the range holds fewer aligned blocks than asked for.
    pub fn scatter(&self, disk_key: i32, scatter: Scatter) -> Result<Vec<u64>, VcenterError> {
        let disk = self.running_disk(disk_key)?;
        check_range(&disk, scatter.range_start_bytes, scatter.range_length_bytes)?;
        let first = scatter.range_start_bytes.div_ceil(SCATTER_BLOCK_BYTES);
        let end = (scatter.range_start_bytes + scatter.range_length_bytes) / SCATTER_BLOCK_BYTES;
        let blocks = end.saturating_sub(first);
        if scatter.count > blocks {
            return Err(VcenterError::OutOfRange(format!("{} distinct blocks of {blocks}", scatter.count)));
        }
        let as_index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut random = StdRng::seed_from_u64(scatter.seed);
        let mut chosen = rand::seq::index::sample(&mut random, as_index(blocks), as_index(scatter.count)).into_vec();
        chosen.sort_unstable();
        let mut block = vec![0_u8; as_index(SCATTER_BLOCK_BYTES)];
        let mut offsets = Vec::with_capacity(chosen.len());
        for index in chosen {
            let offset = (first + index as u64) * SCATTER_BLOCK_BYTES;
            fill_random(&mut block, scatter.seed, offset);
            disk.write(&block, offset).map_err(VcenterError::disk("write to"))?;
            offsets.push(offset);
        }
        Ok(offsets)
    }

    /// Reads what the disk holds, or held when a VM snapshot (id or name) froze it.
    ///
    /// # Errors
    /// When there is no such disk or VM snapshot, or the range does not fit.
    pub fn read(
        &self,
        disk_key: i32,
        offset_bytes: u64,
        buffer: &mut [u8],
        vm_snapshot: Option<&str>,
    ) -> Result<(), VcenterError> {
        let disk = own_disk(&self.vm, disk_key)?;
        check_range(&disk, offset_bytes, buffer.len() as u64)?;
        let id = self.vm_snapshot_id(vm_snapshot)?;
        disk.read(buffer, offset_bytes, id.as_deref()).map_err(VcenterError::disk("read from"))
    }

    /// Writes the content now, or as of a VM snapshot (id or name), to a sparse raw file.
    ///
    /// # Errors
    /// When there is no such disk or VM snapshot, or the file cannot be written.
    pub fn materialise(&self, disk_key: i32, vm_snapshot: Option<&str>, path: &Path) -> Result<(), VcenterError> {
        let disk = own_disk(&self.vm, disk_key)?;
        let id = self.vm_snapshot_id(vm_snapshot)?;
        disk.copy_to(path, id.as_deref()).map_err(VcenterError::file("copy a disk to", path))
    }

    /// The kept copy of what a removed VM snapshot had frozen, when the configuration keeps them.
    #[must_use]
    pub fn retained(&self, vm_snapshot_id: &str, disk_key: i32) -> Option<PathBuf> {
        let directory = self.lab.config.state_dir.join("retained");
        Some(retained_path(&directory, vm_snapshot_id, disk_key)).filter(|path| path.exists())
    }

    fn vm_snapshot_id(&self, wanted: Option<&str>) -> Result<Option<String>, VcenterError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let state = self.vm.state.lock();
        let found = state.vm_snapshots.iter().rev().find(|known| known.moref.id == wanted || known.name == wanted);
        let unknown = || VcenterError::Unknown { what: "VM snapshot", name: wanted.to_owned() };
        found.map(|snapshot| Some(snapshot.moref.id.clone())).ok_or_else(unknown)
    }
}

/// Fills a buffer with incompressible bytes that depend only on the seed and the place.
pub(crate) fn fill_random(buffer: &mut [u8], seed: u64, place: u64) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&place.to_le_bytes());
    hasher.finalize_xof().fill(buffer);
}

fn check_range(disk: &Disk, offset: u64, length: u64) -> Result<(), VcenterError> {
    match offset.checked_add(length) {
        Some(end) if end <= disk.capacity => Ok(()),
        _ => Err(VcenterError::OutOfRange(format!("{length} bytes at {offset} of {}", disk.capacity))),
    }
}
