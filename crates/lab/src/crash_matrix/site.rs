//! The world the matrix runs in, and what must be true of it between two cases, whatever went wrong in the first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::world::proof::{first_difference, replica_of};
use crate::world::{Roles, World, WorldError, WorldPlan};

/// Name of the VM.
pub(super) const VM: &str = "web01";
/// Size of each of its two disks.
const DISK_BYTES: u64 = 64 << 20;
/// How long the hub lets a call of CloudStack take: short, because some calls are never answered.
const CALL_TIMEOUT_SECONDS: u32 = 2;
/// How long any job may take, a restart of the hub included.
const JOB_DEADLINE: Duration = Duration::from_secs(150);
/// How often a condition is looked at while it is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The source's networks and where they go.
const NETWORKS: [(&str, &str); 2] = [("VM Network", "lab-isolated"), ("dv-production", "lab-l2")];

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    Completed,
    /// Failed, or cancelled; undone.
    Undone(String),
    /// It waits for an operator: in the matrix, nobody comes.
    Stuck(String),
}

/// The world with a committed replica.
pub(super) struct Site {
    pub(super) world: World,
    /// What each disk's replica must hold, and the change id that says so.
    expected: BTreeMap<String, (PathBuf, String)>,
    dir: TempDir,
}

impl Site {
    /// Everything runs, the VM has been replicated once and its cards are mapped.
    pub(super) async fn ready() -> Result<Self, WorldError> {
        let dir = TempDir::with_prefix("crash-matrix-");
        let dir = dir.map_err(WorldError::simulator("temporary folder"))?;
        let mut plan = WorldPlan::two_disks(VM, Roles::TogetherOnMariaDb, DISK_BYTES, DISK_BYTES);
        plan.disk_plans.iter_mut().for_each(|disk| disk.payload_bytes = 1 << 20);
        plan.guests_scribble = true;
        plan.call_timeout_seconds = Some(CALL_TIMEOUT_SECONDS);
        let world = World::start(dir.path(), plan).await?;
        let mut site = Self { world, expected: BTreeMap::new(), dir };
        site.world.enrol_agent().await?;
        site.world.connect_sites().await?;
        site.command(&["vm", "add", VM]).await?;
        site.map_cards().await?;
        site.replicate().await?;
        Ok(site)
    }

    /// Ends every process. After a failed case the folder stays, for its logs; answers with where it is.
    pub(super) async fn give_up(self, keep: bool) -> Option<PathBuf> {
        self.world.stop().await;
        keep.then(|| self.dir.keep())
    }

    async fn map_cards(&self) -> Result<(), WorldError> {
        for (from, to) in NETWORKS {
            self.command(&["network", "map", VM, "--source-network", from, "--to", to, "--for", "both"]).await?;
        }
        Ok(())
    }

    /// Runs a command that has to succeed.
    pub(super) async fn command(&self, arguments: &[&str]) -> Result<Value, WorldError> {
        self.world.operator().run(arguments).await?.json()
    }

    /// Replicates to the end and remembers what the replica must hold from now on.
    pub(super) async fn replicate(&mut self) -> Result<(), WorldError> {
        let progress = self.command(&["replicate", VM, "--watch"]).await?;
        self.remember(&progress)
    }

    /// Remembers what a completed replication committed.
    pub(super) fn remember(&mut self, progress: &Value) -> Result<(), WorldError> {
        let unclear = |reason: &str| WorldError::Answer { what: format!("{progress}"), reason: reason.to_owned() };
        let vm_snapshot = progress["run"]["vm_snapshot"].as_str().ok_or_else(|| unclear("no vm_snapshot"))?;
        for disk in self.world.disks().to_vec() {
            let rows = progress["run"]["disks"].as_array().cloned().unwrap_or_default();
            let row = rows.into_iter().find(|row| row["disk_id"] == disk.disk_id.as_str());
            let change_id = row.and_then(|row| row["change_id"].as_str().map(str::to_owned));
            let change_id = change_id.ok_or_else(|| unclear("no change id"))?;
            let frozen = self.world.retained(vm_snapshot, disk.key);
            self.expected.insert(disk.disk_id.clone(), (frozen, change_id));
        }
        Ok(())
    }

    /// The final replication of a live failover changed what the replica must hold.
    pub(super) async fn remember_newest(&mut self) -> Result<(), WorldError> {
        let page = self.world.api("/api/v1/replications?limit=1").await?;
        let id = page["items"][0]["id"].as_str().unwrap_or_default().to_owned();
        let progress = self.world.api(&format!("/api/v1/replications/{id}/progress")).await?;
        if progress["replication"]["status"] == "completed" { self.remember(&progress) } else { Ok(()) }
    }

    /// Waits until a job has ended, restarting the hub whenever it was killed.
    pub(super) async fn until_ended(&mut self, tracking_id: &str) -> Result<Ended, WorldError> {
        let deadline = Instant::now() + JOB_DEADLINE;
        let path = format!("/api/v1/jobs/{tracking_id}");
        loop {
            self.revive().await?;
            if let Ok(detail) = self.world.api(&path).await
                && let Some(ended) = ended(&detail)
            {
                return Ok(ended);
            }
            if Instant::now() > deadline {
                let said = self.world.api(&path).await.map(|detail| detail.to_string()).unwrap_or_default();
                return Ok(Ended::Stuck(format!("not ended after {} s: {said}", JOB_DEADLINE.as_secs())));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Starts the hub again if it was killed.
    pub(super) async fn revive(&mut self) -> Result<bool, WorldError> {
        let is_dead = self.world.hub.first_mut().is_some_and(|hub| hub.has_ended());
        if is_dead {
            self.world.restart_role("hub").await?;
        }
        Ok(is_dead)
    }

    /// The hub's process id.
    pub(super) fn hub_pid(&self) -> u32 {
        self.world.hub.first().map_or(0, |hub| hub.pid())
    }

    /// Waits until everything is as it was before the case: one committed replica on the hub's VM and nothing else of
    /// ours anywhere. Answers with what is not, when it does not come about.
    pub(super) async fn at_rest(&self) -> Result<(), String> {
        // The vm_snapshot of a replication goes after its commit, devices take a moment.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.look().await {
                Ok(()) => break,
                Err(wrong) if Instant::now() > deadline => return Err(wrong),
                Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
        self.compare().await
    }

    async fn look(&self) -> Result<(), String> {
        let said = |error: WorldError| error.to_string();
        let shown = self.world.api(&format!("/api/v1/vm-contexts/{VM}")).await.map_err(said)?;
        let status = &shown["context"]["current_status"];
        expect(status == "ready_for_failover", || format!("the VM is {status}"))?;
        for disk in shown["disks"].as_array().into_iter().flatten() {
            let id = disk["disk_id"].as_str().unwrap_or_default();
            let change_id = self.expected.get(id).map(|(_, change_id)| change_id.as_str());
            expect(disk["sync_status"] == "completed", || format!("{id} is {}", disk["sync_status"]))?;
            expect(disk["disk_change_id"].as_str() == change_id, || {
                format!("{id} is said to be at {}, not at {change_id:?}", disk["disk_change_id"])
            })?;
        }
        for status in ["pending", "running", "unwinding", "needs_operator"] {
            let jobs = self.world.api(&format!("/api/v1/jobs?status={status}")).await.map_err(said)?;
            let left = jobs["items"].as_array().map_or(0, Vec::len);
            expect(left == 0, || format!("{left} jobs are {status}: {}", jobs["items"][0]))?;
        }
        let vms = self.world.vms().await.map_err(said)?;
        expect(vms.len() == 1, || format!("{} VMs, not only the hub's: {vms:?}", vms.len()))?;
        let snapshots = self.world.snapshots().await.map_err(said)?;
        expect(snapshots.is_empty(), || format!("snapshots are left: {snapshots:?}"))?;
        let hub_vm = &self.world.addresses().oma_vm_id;
        let volumes = self.world.volumes().await.map_err(said)?;
        let data: Vec<&Value> = volumes.iter().filter(|volume| volume["type"] == "DATADISK").collect();
        let here = |volume: &&&Value| volume["vm_id"].as_str() == Some(hub_vm) && volume["link"].is_string();
        expect(volumes.len() == data.len() + 1, || format!("root disks are left: {volumes:?}"))?;
        expect(data.len() == self.expected.len() && data.iter().filter(here).count() == data.len(), || {
            format!("the replica volumes are not all on the hub's VM: {data:?}")
        })?;
        let source = self.world.source_vm().await.map_err(said)?;
        expect(source["vm_snapshots"].as_array().is_none_or(Vec::is_empty), || {
            format!("vm_snapshots are left on the source: {}", source["vm_snapshots"])
        })?;
        expect(source["powered_on"] == true, || "the source is not on".to_owned())
    }

    /// Every byte of every replica against what the last commit had frozen.
    async fn compare(&self) -> Result<(), String> {
        for disk in self.world.disks() {
            let Some((frozen, _)) = self.expected.get(&disk.disk_id) else { continue };
            let replica = replica_of(&self.world, disk).await.map_err(|error| error.to_string())?;
            let differs = first_difference(frozen, &replica, disk.capacity_bytes).map_err(|error| error.to_string())?;
            if let Some(at) = differs {
                return Err(format!("the replica of {} differs from its commit at byte {at}", disk.disk_id));
            }
        }
        Ok(())
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn ended(detail: &Value) -> Option<Ended> {
    let why = || detail["job"]["error"]["detail"].as_str().unwrap_or("no reason").to_owned();
    match detail["job"]["status"].as_str()? {
        "completed" => Some(Ended::Completed),
        "failed" | "cancelled" => Some(Ended::Undone(why())),
        "needs_operator" => Some(Ended::Stuck(format!("needs_operator: {}", why()))),
        _ => None,
    }
}
