//! A world with a VM that is ready to be replicated, and what all tests ask of a finished replication.

use std::time::Duration;

use lab::vcenter::{DiskSpec, VmSpec};
use lab::world::proof::{file_system_is_clean, first_difference, replica_of, root_of};
use lab::world::{Roles, World, WorldPlan};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// Name of the VM.
pub(crate) const VM: &str = "web01";
/// Name of the VM the agent runs in, where it runs in one.
pub(crate) const AGENT_VM: &str = "agent01";
/// Size of its system disk.
const SYSTEM_BYTES: u64 = 128 << 20;
/// Size of its data disk.
const DATA_BYTES: u64 = 256 << 20;
/// How long anything may take, a restart of every process included.
const DEADLINE: Duration = Duration::from_secs(90);
/// How often a condition is looked at while it is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The world, with its folder. The folder of a failed test stays, for its logs.
pub(crate) struct Stage {
    pub(crate) world: World,
    dir: Option<TempDir>,
}

impl Stage {
    /// Simulators, hub and agent run; the VM is added and has never been replicated.
    pub(crate) async fn ready(roles: Roles) -> Self {
        Self::with(WorldPlan::two_disks(VM, roles, SYSTEM_BYTES, DATA_BYTES)).await
    }

    /// The same, with an agent that runs in a VM of the vCenter.
    pub(crate) async fn ready_with_agent_vm() -> Self {
        let plan = WorldPlan::two_disks(VM, Roles::Together, SYSTEM_BYTES, DATA_BYTES);
        let more_vms = vec![VmSpec::named(AGENT_VM).with_disk(DiskSpec::empty(1 << 20))];
        Self::with(WorldPlan { more_vms, agent_vm: Some(AGENT_VM.to_owned()), ..plan }).await
    }

    /// The same in a world of one's own.
    pub(crate) async fn with(plan: WorldPlan) -> Self {
        let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = TempDir::with_prefix("life-of-a-block-").unwrap();
        let world = World::start(dir.path(), plan).await.unwrap();
        let mut stage = Self { world, dir: Some(dir) };
        stage.world.enrol_agent().await.unwrap();
        stage.world.connect_sites().await.unwrap();
        stage.command(&["vm", "add", VM]).await;
        stage
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Value {
        self.world.operator().run(arguments).await.unwrap().json().unwrap()
    }

    /// The guest writes that many blocks of 64 KiB on each disk; answers with the bytes written.
    pub(crate) async fn guest_writes(&self, blocks: u64, seed: u64) -> u64 {
        let mut written = 0;
        for disk in self.world.disks() {
            written += self.world.guest_writes(disk, blocks, seed).await.unwrap();
        }
        written
    }

    /// Replicates to the end and proves the outcome.
    pub(crate) async fn replicated(&self) -> Value {
        let progress = self.command(&["replicate", VM, "--watch"]).await;
        self.prove(&progress).await;
        progress
    }

    /// Starts a replication; answers with its job id.
    pub(crate) async fn started(&self) -> String {
        self.started_with(&[]).await
    }

    /// The same, with further arguments.
    pub(crate) async fn started_with(&self, arguments: &[&str]) -> String {
        let accepted = self.command(&[&["replicate", VM], arguments].concat()).await;
        accepted["job_id"].as_str().unwrap().to_owned()
    }

    /// Starts a replication and waits until every disk is in the middle of its copy, where it stays until the reads
    /// are released. Answers with its job id and how far it is.
    pub(crate) async fn stuck_in_the_middle(&self, reads_let_through: u64) -> (String, Value) {
        self.world.hold_reads_after(reads_let_through).await.unwrap();
        let job_id = self.started().await;
        let progress = self.until(&job_id, "bytes are sent", |progress| sum(progress, "bytes_sent") > 0).await;
        assert_eq!(progress["run"]["phase"], "copying", "{progress:#}");
        assert!(sum(&progress, "bytes_done") < sum(&progress, "bytes_total"), "{progress:#}");
        (job_id, progress)
    }

    /// Waits until what the hub says of a replication is as wanted; while the hub is away it says nothing.
    pub(crate) async fn until(&self, job_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        let path = format!("/api/v1/replications/{job_id}/progress");
        loop {
            let seen = self.world.api(&path).await;
            match &seen {
                Ok(progress) if wanted(progress) => return progress.clone(),
                Ok(progress) if is_over(progress) => panic!("it ended before {what}: {progress:#}"),
                _ => {}
            }
            assert!(Instant::now() < deadline, "in vain waited until {what}: {seen:#?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until a replication is completed and proves its outcome.
    pub(crate) async fn completed(&self, job_id: &str) -> Value {
        let is_completed = |progress: &Value| progress["replication"]["status"] == "completed";
        self.until(job_id, "it is completed", is_completed).await;
        // The vm_snapshot is removed after the commit: the job ends later than the replication.
        self.until_job_ended(job_id).await;
        let progress = self.world.api(&format!("/api/v1/replications/{job_id}/progress")).await.unwrap();
        self.prove(&progress).await;
        progress
    }

    /// Waits until a replication and its job have ended with this status.
    pub(crate) async fn until_replication_is(&self, job_id: &str, status: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let jobs = self.jobs().await;
            let job = jobs.iter().find(|job| job["external_job_id"] == job_id).unwrap();
            let replication = self.world.api(&format!("/api/v1/replications/{job_id}")).await.unwrap();
            if job["status"] == status && replication["status"] == status {
                return;
            }
            assert!(Instant::now() < deadline, "in vain waited until it is {status}: {job:#}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn until_job_ended(&self, job_id: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let jobs = self.jobs().await;
            let job = jobs.iter().find(|job| job["external_job_id"] == job_id).unwrap();
            if job["status"] == "completed" {
                return;
            }
            assert!(Instant::now() < deadline, "in vain waited for the job's end: {job:#}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// The replications' jobs, newest first.
    pub(crate) async fn jobs(&self) -> Vec<Value> {
        let jobs = self.world.api("/api/v1/jobs").await.unwrap();
        let jobs = jobs["items"].as_array().unwrap().clone();
        jobs.into_iter().filter(|job| job["job_type"] == "replication").collect()
    }

    /// The vm_snapshots the source has now.
    pub(crate) async fn vm_snapshots(&self) -> Vec<Value> {
        self.world.source_vm().await.unwrap()["vm_snapshots"].as_array().unwrap().clone()
    }

    /// Every byte of every replica is the source's of that point in time and what is certified; nothing is left on the
    /// source; the hub's records say the same as the run.
    pub(crate) async fn prove(&self, progress: &Value) {
        let vm_snapshot = progress["run"]["vm_snapshot"].as_str().unwrap();
        assert_eq!(self.vm_snapshots().await, Vec::<Value>::new(), "left on the source");
        let verification = progress["verification"].as_array().unwrap();
        assert_eq!(verification.len(), self.world.disks().len(), "{progress:#}");
        assert!(verification.iter().all(|disk| disk["report"]["mismatch_count"] == 0), "{progress:#}");
        let shown = self.command(&["vm", "show", VM]).await;
        for disk in self.world.disks() {
            let replica = replica_of(&self.world, disk).await.unwrap();
            let frozen = self.world.retained(vm_snapshot, disk.key);
            assert_eq!(first_difference(&frozen, &replica, disk.capacity_bytes).unwrap(), None, "{}", disk.disk_id);
            let (clean, said) = file_system_is_clean(&replica, disk).await.unwrap();
            assert!(clean, "{}: {said}", disk.disk_id);
            let of_disk = |list: &Value| {
                let found = list.as_array().unwrap().iter().find(|one| one["disk_id"] == disk.disk_id.as_str());
                found.cloned().unwrap()
            };
            let change_id = &of_disk(&progress["run"]["disks"])["change_id"];
            assert!(change_id.as_str().is_some_and(|id| id.contains('/')), "{progress:#}");
            assert_eq!(&of_disk(&shown["disks"])["disk_change_id"], change_id);
            let certificate = of_disk(&progress["certificates"]);
            assert_eq!(certificate["root"], root_of(&replica, disk.capacity_bytes).unwrap(), "{certificate:#}");
            assert_eq!(&certificate["change_id"], change_id);
            assert_eq!(of_disk(&shown["disks"])["sync_status"], "completed");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            let kept = dir.keep();
            tracing::error!(dir = %kept.display(), "the world's files stay");
            #[allow(clippy::print_stderr, reason = "whoever reads a failed test looks for its logs")]
            {
                eprintln!("the world's files are in {}", kept.display());
            }
        }
    }
}

/// A counter summed over the disks of a replication.
pub(crate) fn sum(progress: &Value, counter: &str) -> u64 {
    let disks = progress["run"]["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
    disks.iter().filter_map(|disk| disk[counter].as_u64()).sum()
}

/// How each disk was copied.
pub(crate) fn modes(progress: &Value) -> Vec<&str> {
    progress["run"]["disks"].as_array().unwrap().iter().map(|disk| disk["sync_mode"].as_str().unwrap()).collect()
}

/// The change id of each disk.
pub(crate) fn change_ids(progress: &Value) -> Vec<String> {
    let disks = progress["run"]["disks"].as_array().unwrap();
    disks.iter().map(|disk| disk["change_id"].as_str().unwrap().to_owned()).collect()
}

fn is_over(progress: &Value) -> bool {
    matches!(progress["replication"]["status"].as_str(), Some("completed" | "failed" | "cancelled"))
}
