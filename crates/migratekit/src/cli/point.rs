//! `migratekit point`: the recovery points of a VM, and how each can be read.

use std::process::ExitCode;

use api::Client;
use api::oma::points::{PointList, PointView};
use clap::Subcommand;
use model::FailureKind;
use model::size::human_bytes;

use super::clock::stamp;
use super::failure::Failure;
use super::hub::{Context, escape, unknown};
use super::output::{OutputFormat, hint, message, show, table};

/// What can be done with recovery points.
#[derive(Subcommand)]
pub enum PointCommand {
    /// List the recovery points of a VM, newest first.
    List {
        /// Name or context id.
        vm: String,
    },
    /// Say where a point's disks can be read: NBD exports on the hub's own machine.
    Export {
        /// Name or context id.
        vm: String,
        /// `job-…`, as the list shows it.
        point: String,
    },
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: PointCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        PointCommand::List { vm } => list(context, &client, &vm).await?,
        PointCommand::Export { vm, point } => export(context, &client, &vm, &point).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn points(client: &Client, vm: &str) -> Result<PointList, Failure> {
    let found = client.get(&format!("/api/v1/points?vm={}", escape(vm))).await;
    found.map_err(|error| unknown(error, "see `migratekit vm list`"))
}

async fn list(context: &Context, client: &Client, vm: &str) -> Result<(), Failure> {
    let found = points(client, vm).await?;
    show(context.output, &found, |found| points_table(&found.points))?;
    if context.output == OutputFormat::Table {
        message(&format!("\n{} committed increments are kept beside the volumes", found.keep_points));
        if found.keep_points == 0 {
            hint(context.output, &format!("keep some from now on: migratekit replicate {vm} --keep-points 3"));
        } else if let Some(kept) = found.points.iter().find(|point| !point.in_volume) {
            hint(context.output, &format!("next: migratekit failover test {vm} --point {}", kept.id));
        }
    }
    Ok(())
}

fn points_table(points: &[PointView]) -> String {
    let rows = points.iter().map(|point| {
        let kept: u64 = point.disks.iter().filter_map(|disk| disk.journal_bytes).sum();
        [
            point.id.clone(),
            stamp(Some(point.committed_at)),
            point.disks.len().to_string(),
            if point.in_volume { "in the volumes".to_owned() } else { human_bytes(kept) },
        ]
    });
    table(["POINT", "COMMITTED", "DISKS", "KEPT"], rows)
}

async fn export(context: &Context, client: &Client, vm: &str, point: &str) -> Result<(), Failure> {
    let found = points(client, vm).await?.points.into_iter().find(|found| found.id == point);
    let found = found.ok_or_else(|| {
        Failure::new(FailureKind::NotFound, format!("{vm} has no recovery point {point}"))
            .remedy(format!("migratekit point list {vm}"))
    })?;
    if found.disks.iter().any(|disk| disk.export_name.is_none()) {
        let detail = format!("{point} is in the volumes themselves, under what was committed after it");
        let remedy = "fail over to it (--point), or keep more points";
        return Err(Failure::new(FailureKind::Conflict, detail).remedy(remedy));
    }
    show(context.output, &found, exports_table)?;
    if let Some(name) = found.disks.first().and_then(|disk| disk.export_name.as_ref()) {
        hint(context.output, &format!("on the hub: nbdcopy nbd://127.0.0.1:10809/{name} disk.raw"));
    }
    Ok(())
}

fn exports_table(point: &PointView) -> String {
    let rows = point.disks.iter().map(|disk| {
        [
            disk.disk_id.clone(),
            disk.journal_bytes.map_or_else(|| "-".to_owned(), human_bytes),
            disk.export_name.clone().unwrap_or_default(),
        ]
    });
    table(["DISK", "KEPT", "EXPORT"], rows)
}
