//! What the demonstration tells the person who watches it.

use std::time::Duration;

use comfy_table::{LineStyle, Table, TableStyle};
use model::size::human_bytes;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Sync;
use crate::world::{World, WorldError};

/// Checks that were made, and whether they held.
#[derive(Debug, Default)]
pub(super) struct Checks {
    rows: Vec<(bool, String, String)>,
}

impl Checks {
    /// Notes a check with what was seen.
    pub(super) fn that(&mut self, what: &str, held: bool, seen: &str) {
        self.rows.push((held, what.to_owned(), seen.lines().next().unwrap_or_default().to_owned()));
    }

    /// Prints all of them; whether every one held.
    pub(super) fn print(&self) -> bool {
        let mut table = new_table(&["", "CHECK", "SEEN"]);
        for (held, what, seen) in &self.rows {
            let mark = if *held { "held" } else { "FAILED" };
            table.add_row([mark, what.as_str(), seen.as_str()]);
        }
        print(&table.trim_fmt());
        let failed = self.rows.iter().filter(|(held, _, _)| !held).count();
        print(&format!("{} checks held, {failed} failed", self.rows.len() - failed));
        failed == 0
    }
}

/// A line for the person who watches.
pub(super) fn say(text: &str) {
    print(&format!("-- {text}"));
}

#[allow(clippy::print_stdout, reason = "a demonstration speaks to its audience")]
fn print(text: &str) {
    println!("{text}");
}

/// A table with a line under its head and nothing else.
fn new_table(head: &[&str]) -> Table {
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─'));
    let mut table = Table::new();
    table.load_style(style).set_header(head);
    table
}

fn bytes(value: &Value) -> String {
    human_bytes(value.as_u64().unwrap_or(0))
}

/// A counter summed over the disks of a replication.
pub(super) fn sum(progress: &Value, counter: &str) -> u64 {
    let disks = progress["run"]["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
    disks.iter().filter_map(|disk| disk[counter].as_u64()).sum()
}

/// One row a disk and replication.
pub(super) fn print_syncs(world: &World, syncs: &[&Sync]) {
    let mut table =
        new_table(&["RUN", "DISK", "SIZE", "READ", "SENT", "ZERO", "SECONDS", "MiB/s", "CHANGE ID", "DIGESTS"]);
    for sync in syncs {
        let disks = sync.progress["run"]["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
        for disk in disks {
            let size = world.disks().iter().find(|known| disk["disk_id"] == known.disk_id.as_str());
            table.add_row([
                sync.title.to_owned(),
                disk["disk_id"].as_str().unwrap_or_default().to_owned(),
                human_bytes(size.map_or(0, |disk| disk.capacity_bytes)),
                bytes(&disk["bytes_read"]),
                bytes(&disk["bytes_sent"]),
                bytes(&disk["bytes_zero"]),
                format!("{:.1}", sync.seconds),
                speed(&disk["bytes_done"], sync.seconds),
                disk["change_id"].as_str().unwrap_or("-").to_owned(),
                verdict(&sync.progress, &disk["disk_id"]),
            ]);
        }
    }
    print(&table.trim_fmt());
}

#[allow(clippy::cast_precision_loss, reason = "a speed for people")]
fn speed(bytes: &Value, seconds: f64) -> String {
    format!("{:.0}", bytes.as_u64().unwrap_or(0) as f64 / seconds / 1_048_576.0)
}

fn verdict(progress: &Value, disk_id: &Value) -> String {
    let found = progress["verification"].as_array().and_then(|all| all.iter().find(|one| &one["disk_id"] == disk_id));
    let Some(found) = found else { return "not verified".to_owned() };
    let report = &found["report"];
    match report["mismatch_count"].as_u64() {
        Some(0) => format!("equal ({} leaves)", report["leaves_verified"]),
        other => format!("{} DIFFER", other.unwrap_or_default()),
    }
}

/// The recovery points of a VM, newest first.
pub(super) fn print_points(list: &Value) {
    let mut table = new_table(&["RECOVERY POINT", "COMMITTED", "KEPT BESIDE THE VOLUMES"]);
    for point in list["points"].as_array().into_iter().flatten() {
        let disks = point["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kept: u64 = disks.iter().filter_map(|disk| disk["journal_bytes"].as_u64()).sum();
        let in_volume = point["in_volume"] == true;
        table.add_row([
            point["id"].as_str().unwrap_or("-").to_owned(),
            point["committed_at"].as_str().unwrap_or("-").to_owned(),
            if in_volume { "in the volumes".to_owned() } else { human_bytes(kept) },
        ]);
    }
    print(&table.trim_fmt());
}

/// How long each phase of the failovers took.
#[derive(Debug, Default)]
pub(super) struct Phases {
    rows: Vec<[String; 3]>,
}

impl Phases {
    /// Adds the steps of the newest job of a failover.
    pub(super) async fn add(&mut self, world: &World, title: &str, failover: &Value) -> Result<(), WorldError> {
        let job = failover["jobs"][0]["id"].as_str().unwrap_or_default();
        let detail = world.api(&format!("/api/v1/jobs/{job}")).await?;
        for step in detail["steps"].as_array().into_iter().flatten() {
            let name = step["name"].as_str().unwrap_or_default();
            self.rows.push([title.to_owned(), name.to_owned(), format!("{:.1}", seconds(step))]);
        }
        self.rows.push([title.to_owned(), "in all".to_owned(), format!("{:.1}", seconds(&detail["job"]))]);
        Ok(())
    }

    /// Adds a span measured from outside.
    pub(super) fn total(&mut self, title: &str, took: Duration) {
        self.rows.push([title.to_owned(), String::new(), format!("{:.1}", took.as_secs_f64())]);
    }

    /// Prints them.
    pub(super) fn print(&self) {
        let mut table = new_table(&["FAILOVER", "PHASE", "SECONDS"]);
        for row in &self.rows {
            table.add_row(row.clone());
        }
        print(&table.trim_fmt());
    }
}

/// From `started_at` to `completed_at`.
fn seconds(of: &Value) -> f64 {
    let time = |name: &str| of[name].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    match (time("started_at"), time("completed_at")) {
        (Some(begun), Some(ended)) => (ended - begun).as_seconds_f64(),
        _ => 0.0,
    }
}

/// What to try in a world that is left running.
pub(super) fn print_next_steps(world: &World) {
    let command = world.operator().command_line();
    say("left running; try:");
    for arguments in ["vm show demo-web01", "job list", "replicate demo-web01 --watch", "agent audit"] {
        print(&format!("  {command} {arguments}"));
    }
    let pids: Vec<String> =
        world.hub.iter().chain(&world.agent).chain([&world.lab]).map(|p| p.pid().to_string()).collect();
    print(&format!("  stop it: kill {}", pids.join(" ")));
}
