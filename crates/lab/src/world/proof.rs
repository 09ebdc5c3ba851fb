//! Proof that does not believe the product: the replica's own bytes against what the vm_snapshot had frozen, and a
//! file system check of the replica. It only looks and never repairs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use block::digest::{RootHasher, leaf_digest};
use model::LEAF_SIZE_BYTES;
use tokio::process::Command;

use super::{Disk, World, WorldError};

/// Bytes compared at a time.
const COMPARE_BYTES: usize = 1 << 20;

/// The file behind the replica volume of a disk, found by the disk's place in the volume's name.
///
/// # Errors
/// There is no such volume, or the simulator does not answer.
pub async fn replica_of(world: &World, disk: &Disk) -> Result<PathBuf, WorldError> {
    let index = world.disks().iter().position(|known| known.key == disk.key).unwrap_or_default();
    let suffix = format!("-disk-{index}");
    let volumes = world.volumes().await?;
    let volume = volumes.iter().find(|volume| volume["name"].as_str().is_some_and(|name| name.ends_with(&suffix)));
    let file = volume.and_then(|volume| volume["file"].as_str());
    let missing =
        || WorldError::Answer { what: format!("the volume of {}", disk.disk_id), reason: "there is none".to_owned() };
    file.map(PathBuf::from).ok_or_else(missing)
}

/// The offset of the first byte that differs within `length` bytes, if any.
///
/// # Errors
/// A file cannot be read, or is too short.
pub fn first_difference(left: &Path, right: &Path, length: u64) -> Result<Option<u64>, WorldError> {
    let open = |path: &Path| File::open(path).map_err(WorldError::file("open", path));
    let (left_file, right_file) = (open(left)?, open(right)?);
    let (mut left_bytes, mut right_bytes) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let mut offset = 0;
    while offset < length {
        let step = usize::try_from(length - offset).unwrap_or(COMPARE_BYTES).min(COMPARE_BYTES);
        left_file.read_exact_at(&mut left_bytes[..step], offset).map_err(WorldError::file("read", left))?;
        right_file.read_exact_at(&mut right_bytes[..step], offset).map_err(WorldError::file("read", right))?;
        if left_bytes[..step] != right_bytes[..step] {
            let at = left_bytes[..step].iter().zip(&right_bytes[..step]).position(|(a, b)| a != b);
            return Ok(at.map(|at| offset + at as u64));
        }
        offset += step as u64;
    }
    Ok(None)
}

/// The root over all leaves of the first `length` bytes of a file, hex: what a certificate of it has to say.
///
/// # Errors
/// The file cannot be read, or is too short.
pub fn root_of(path: &Path, length: u64) -> Result<String, WorldError> {
    let file = File::open(path).map_err(WorldError::file("open", path))?;
    let mut root = RootHasher::new(length);
    let mut bytes = vec![0; usize::try_from(LEAF_SIZE_BYTES).unwrap_or(0)];
    for leaf in 0..length.div_ceil(LEAF_SIZE_BYTES) {
        let offset = leaf * LEAF_SIZE_BYTES;
        let step = usize::try_from(length - offset).unwrap_or(bytes.len()).min(bytes.len());
        file.read_exact_at(&mut bytes[..step], offset).map_err(WorldError::file("read", path))?;
        let order = |error: block::BlockError| WorldError::Answer {
            what: format!("the root of {}", path.display()),
            reason: error.to_string(),
        };
        root.push(leaf, 1, &leaf_digest(&bytes[..step])).map_err(order)?;
    }
    Ok(root.finish().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs `e2fsck -fn` on the file system in the replica, in place, without writing; answers with its last line, too.
///
/// # Errors
/// It cannot be started.
pub async fn file_system_is_clean(replica: &Path, disk: &Disk) -> Result<(bool, String), WorldError> {
    let place = format!("{}?offset={}", replica.display(), disk.layout.filesystem.start);
    let output = Command::new("e2fsck").args(["-f", "-n", &place]).output().await.map_err(|source| {
        WorldError::Start { program: PathBuf::from("e2fsck"), hint: "apt-get install e2fsprogs", source }
    })?;
    let said = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned();
    Ok((output.status.success(), said))
}
