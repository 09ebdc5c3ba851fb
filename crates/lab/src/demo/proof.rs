//! Proof that does not believe the product: the replica's own bytes against what the vm_snapshot had frozen, and a
//! file system check of the replica.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use super::report::Checks;
use crate::world::{Disk, World, WorldError};

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 1 << 20;

/// Checks every disk of a finished replication.
pub(super) async fn check(world: &World, progress: &Value, checks: &mut Checks) -> Result<(), WorldError> {
    let vm_snapshot = progress["run"]["vm_snapshot"].as_str().unwrap_or_default();
    let left = world.source_vm().await?["vm_snapshots"].as_array().map_or(0, Vec::len);
    checks.that("no vm_snapshot is left on the source", left == 0, &format!("{left} left"));
    let verification = progress["verification"].as_array().map(Vec::as_slice).unwrap_or_default();
    let equal = verification.len() == world.disks().len()
        && verification.iter().all(|disk| disk["report"]["mismatch_count"] == 0);
    checks.that("the product's digests of source and replica are equal", equal, &format!("{} disks", verification.len()));
    for disk in world.disks() {
        let replica = replica_of(world, disk).await?;
        let frozen = world.retained(vm_snapshot, disk.key);
        let differs = first_difference(&frozen, &replica, disk.capacity_bytes)?;
        let seen = differs.map_or_else(|| "equal".to_owned(), |offset| format!("differs at byte {offset}"));
        let what = format!("{}: every byte of the replica is the frozen source's", disk.disk_id);
        checks.that(&what, differs.is_none(), &seen);
        let (clean, said) = file_system_is_clean(&replica, disk).await?;
        checks.that(&format!("{}: e2fsck finds the replica's file system clean", disk.disk_id), clean, &said);
    }
    Ok(())
}

/// The file behind the replica volume of a disk, found by the disk's place in the volume's name.
pub(crate) async fn replica_of(world: &World, disk: &Disk) -> Result<PathBuf, WorldError> {
    let index = world.disks().iter().position(|known| known.key == disk.key).unwrap_or_default();
    let suffix = format!("-disk-{index}");
    let volumes = world.volumes().await?;
    let volume = volumes.iter().find(|volume| volume["name"].as_str().is_some_and(|name| name.ends_with(&suffix)));
    let file = volume.and_then(|volume| volume["file"].as_str());
    let missing = || WorldError::Answer { what: format!("the volume of {}", disk.disk_id), reason: "there is none".to_owned() };
    file.map(PathBuf::from).ok_or_else(missing)
}

/// The offset of the first byte that differs within `length` bytes, if any.
pub(crate) fn first_difference(left: &Path, right: &Path, length: u64) -> Result<Option<u64>, WorldError> {
    let open = |path: &Path| File::open(path).map_err(WorldError::file("open", path));
    let (left_file, right_file) = (open(left)?, open(right)?);
    let (mut left_bytes, mut right_bytes) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let mut offset = 0;
    while offset < length {
        let step = usize::try_from(length - offset).unwrap_or(COMPARE_BYTES).min(COMPARE_BYTES);
        left_file.read_exact_at(&mut left_bytes[..step], offset).map_err(WorldError::file("read", left))?;
        right_file.read_exact_at(&mut right_bytes[..step], offset).map_err(WorldError::file("read", right))?;
        let differs = left_bytes[..step].iter().zip(&right_bytes[..step]).position(|(a, b)| a != b);
        if let Some(at) = differs {
            return Ok(Some(offset + at as u64));
        }
        offset += step as u64;
    }
    Ok(None)
}

/// Runs `e2fsck -fn` on the file system in the replica, in place, without writing.
async fn file_system_is_clean(replica: &Path, disk: &Disk) -> Result<(bool, String), WorldError> {
    let place = format!("{}?offset={}", replica.display(), disk.layout.filesystem.start);
    let output = Command::new("e2fsck").args(["-f", "-n", &place]).output().await.map_err(|source| WorldError::Start {
        program: PathBuf::from("e2fsck"),
        hint: "apt-get install e2fsprogs",
        source,
    })?;
    let said = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    Ok((output.status.success(), said))
}
