//! The demonstration's last checks: it asks the world's proof about every disk and notes what it says.

use serde_json::Value;

use super::report::Checks;
use crate::world::proof::{file_system_is_clean, first_difference, replica_of};
use crate::world::{World, WorldError};

/// Checks every disk of a finished replication.
pub(super) async fn check(world: &World, progress: &Value, checks: &mut Checks) -> Result<(), WorldError> {
    let vm_snapshot = progress["run"]["vm_snapshot"].as_str().unwrap_or_default();
    let left = world.source_vm().await?["vm_snapshots"].as_array().map_or(0, Vec::len);
    checks.that("no vm_snapshot is left on the source", left == 0, &format!("{left} left"));
    let verification = progress["verification"].as_array().map(Vec::as_slice).unwrap_or_default();
    let equal = verification.len() == world.disks().len()
        && verification.iter().all(|disk| disk["report"]["mismatch_count"] == 0);
    let seen = format!("{} disks", verification.len());
    checks.that("the product's digests of source and replica are equal", equal, &seen);
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
