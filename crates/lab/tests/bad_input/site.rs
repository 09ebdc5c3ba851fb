//! Worlds for these tests: small disks, an agent that is connected, waits with a deadline.

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::client::HttpTransport;
use api::gateway::GatewayClient;
use lab::vcenter::{DiskSpec, VmSpec};
use lab::world::{CommandOutput, Roles, World, WorldPlan};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// The VM with real disks.
pub const VM: &str = "web01";
/// Size of each of its two disks.
pub const DISK_BYTES: u64 = 96 << 20;
/// How long anything may take that is waited for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A world and the folder it lives in.
pub struct Site {
    pub world: World,
    dir: TempDir,
}

impl Site {
    /// With hub, agent, vCenter and CloudStack known to each other.
    pub async fn start(plan: WorldPlan) -> Self {
        let dir = tempfile::Builder::new().prefix("migratekit-bad-input-").tempdir().unwrap();
        let mut world = World::start(dir.path(), plan).await.unwrap();
        world.enrol_agent().await.unwrap();
        world.connect_sites().await.unwrap();
        Self { world, dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file only its owner may read.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        runtime::private_file::write(&path, text.as_bytes()).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// Runs a command; how it ends is for the caller.
    pub async fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.world.operator().run(arguments).await.unwrap()
    }

    /// Runs a command that must succeed.
    pub async fn done(&self, arguments: &[&str]) -> Value {
        self.run(arguments).await.json().unwrap()
    }

    /// Starts a replication and gives its job id.
    pub async fn start_sync(&self, vm: &str) -> String {
        let accepted = self.done(&["replicate", vm]).await;
        accepted["job_id"].as_str().unwrap().to_owned()
    }

    /// Waits until a replication and everything that is tidied up after it ended, and gives its progress.
    pub async fn until_ended(&self, job_id: &str) -> Value {
        let ended = ["completed", "failed", "cancelled"];
        self.until(&format!("the end of {job_id}"), async || {
            let job = self.done(&["job", "show", job_id]).await;
            ended.contains(&job["job"]["status"].as_str()?).then_some(())
        })
        .await;
        self.world.api(&format!("/api/v1/replications/{job_id}/progress")).await.unwrap()
    }

    /// Asks again and again until there is an answer.
    pub async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "in vain waited for {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("hub/operator.token")).unwrap().trim().to_owned()
    }

    /// The gateway's control API.
    pub fn gateway(&self) -> GatewayClient {
        GatewayClient::new(HttpTransport::unix(self.world.gateway_socket()).unwrap())
    }

    /// Starts a replication of the VM with real disks that is held at its first reads, once the disks are opened; its job id
    /// and an open export.
    pub async fn held_sync(&self) -> (String, String) {
        self.world.hold_reads_after(4).await.unwrap();
        let job_id = self.start_sync(VM).await;
        let open = async || {
            let connections = self.gateway().connections().await.unwrap();
            connections.into_iter().find_map(|connection| connection.export_name)
        };
        (job_id, self.until("an open NBD connection", open).await)
    }

    /// What `vm show` says of the disks.
    pub async fn disks(&self, vm: &str) -> Vec<Value> {
        self.done(&["vm", "show", vm]).await["disks"].as_array().unwrap().clone()
    }

    /// The files behind the volumes of a VM, in the order of its disks.
    pub async fn volume_files(&self, vm: &str) -> Vec<PathBuf> {
        let prefix = format!("migration-{vm}-{vm}-disk-");
        let volumes = self.world.volumes().await.unwrap();
        let of_vm = |volume: &&Value| volume["name"].as_str().is_some_and(|name| name.starts_with(&prefix));
        let mut named: Vec<&Value> = volumes.iter().filter(of_vm).collect();
        named.sort_by_key(|volume| volume["name"].as_str().unwrap().to_owned());
        named.iter().map(|volume| PathBuf::from(volume["file"].as_str().unwrap())).collect()
    }

    /// No vm_snapshot is left on a VM of the source.
    pub async fn assert_no_vm_snapshot(&self, vm: &str) {
        let url = format!("{}/lab/vms/{vm}", self.world.addresses().vcenter_admin);
        let seen: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(seen["vm_snapshots"], Value::Array(Vec::new()), "{seen:#}");
    }
}

/// One VM with two disks that hold file systems.
pub fn two_disks() -> WorldPlan {
    WorldPlan::two_disks(VM, Roles::Together, DISK_BYTES, DISK_BYTES)
}

/// A further VM with one empty disk.
pub fn empty_vm(name: &str, capacity_bytes: u64) -> VmSpec {
    VmSpec::named(name).with_disk(DiskSpec::empty(capacity_bytes))
}
