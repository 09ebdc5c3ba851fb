//! The demonstration's last checks: it asks the world's proof about every disk and notes what it says, and verifies the
//! certificates the way somebody without a hub would.

use serde_json::Value;

use super::report::Checks;
use crate::world::proof::{file_system_is_clean, first_difference, replica_of, root_of};
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
        check_certificate(world, progress, &disk.disk_id, &root_of(&replica, disk.capacity_bytes)?, checks).await?;
        checks.that(&format!("{}: e2fsck finds the replica's file system clean", disk.disk_id), clean, &said);
    }
    Ok(())
}

/// The certificate of a disk is fetched (once: the file of it is never written over), verified offline, and a copy of it
/// with one bit flipped is refused.
async fn check_certificate(
    world: &World,
    progress: &Value,
    disk_id: &str,
    root: &str,
    checks: &mut Checks,
) -> Result<(), WorldError> {
    let certificates = progress["certificates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let certificate = certificates.iter().find(|certificate| certificate["disk_id"] == disk_id);
    let id = certificate.and_then(|certificate| certificate["id"].as_str()).unwrap_or_default();
    let file = world.dir().join(format!("{id}.certificate"));
    let path = file.to_string_lossy();
    let operator = world.operator();
    operator.run(&["certificate", "get", id, "--output-file", &path]).await?;
    let verified = operator.run(&["verify", "cert", &path]).await?;
    let documents: Value = serde_json::from_str(&verified.stdout).unwrap_or_default();
    let held = verified.code == 0 && documents[0]["root"] == root;
    let seen = format!("root {}", documents[0]["root"].as_str().unwrap_or("none"));
    checks.that(&format!("{disk_id}: its certificate verifies offline and is of the replica's bytes"), held, &seen);
    let changed = file.with_extension("changed");
    let mut content = std::fs::read(&file).map_err(WorldError::file("read", &file))?;
    let middle = content.len() / 2;
    if let Some(byte) = content.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(&changed, content).map_err(WorldError::file("write", &changed))?;
    let refused = operator.run(&["verify", "cert", &changed.to_string_lossy()]).await?;
    let what = format!("{disk_id}: a copy of its certificate with one bit flipped is refused");
    checks.that(&what, refused.code != 0, &format!("exit code {}", refused.code));
    Ok(())
}
