//! Recovery points of the demonstration: an increment stays beside the volumes, is listed and read, and is merged by the
//! next one.

use serde_json::Value;

use super::report::{self, Checks, say};
use super::{Sync, VM, replicate_with};
use crate::world::proof::first_difference;
use crate::world::{World, WorldError};

/// Copies what changed and keeps it; shows what there is to go back to.
pub(super) async fn kept_increment(world: &World, checks: &mut Checks) -> Result<Sync, WorldError> {
    let sync = replicate_with(world, "incremental, kept", &["--keep-points", "1"]).await?;
    let list = world.operator().run(&["point", "list", VM]).await?.json()?;
    report::print_points(&list);
    let points = list["points"].as_array().map(Vec::as_slice).unwrap_or_default();
    let newest = points.first().filter(|point| point["in_volume"] == false);
    let seen = format!("{} points", points.len());
    checks.that("the increment is a recovery point beside the volumes", points.len() == 2 && newest.is_some(), &seen);
    for disk in newest.and_then(|point| point["disks"].as_array()).into_iter().flatten() {
        check_export(world, &sync.progress, disk, checks).await?;
    }
    Ok(sync)
}

/// Reads a point over the hub's local port and compares it with what the source was then.
async fn check_export(world: &World, progress: &Value, disk: &Value, checks: &mut Checks) -> Result<(), WorldError> {
    let (disk_id, name) = (disk["disk_id"].as_str().unwrap_or("-"), disk["export_name"].as_str().unwrap_or("-"));
    let Some(known) = world.disks().iter().find(|known| known.disk_id == disk_id) else { return Ok(()) };
    let (uri, file) = (format!("nbd://{}/{name}", world.local_nbd_address()), world.dir().join(name));
    let copied = world.operator().run(&["nbd", "copy", &uri, &file.to_string_lossy()]).await?;
    let frozen = world.retained(progress["run"]["vm_snapshot"].as_str().unwrap_or_default(), known.key);
    let differs = match copied.code {
        0 => first_difference(&frozen, &file, known.capacity_bytes)?,
        _ => Some(0),
    };
    let seen = differs.map_or_else(|| "equal".to_owned(), |offset| format!("differs at byte {offset}"));
    checks.that(
        &format!("{disk_id}: the recovery point, read over NBD, is the frozen source"),
        differs.is_none(),
        &seen,
    );
    std::fs::remove_file(&file).map_err(WorldError::file("remove", &file))
}

/// Merges what was kept into the volumes, with an increment that keeps nothing.
pub(super) async fn merged(world: &World, checks: &mut Checks) -> Result<Sync, WorldError> {
    say("nothing is to be kept any more: the next increment merges the point into the volumes");
    let sync = replicate_with(world, "incremental, merged", &["--keep-points", "0"]).await?;
    let list = world.operator().run(&["point", "list", VM]).await?.json()?;
    let left = list["points"].as_array().map_or(0, Vec::len);
    checks.that("one point is left: what the volumes hold", left == 1, &format!("{left} points"));
    Ok(sync)
}
