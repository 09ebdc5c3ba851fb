//! A world with a replicated VM whose cards are mapped, and what tests ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::world::proof::{first_difference, replica_of};
use lab::world::{Roles, World, WorldPlan};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// Name of the VM.
pub(crate) const VM: &str = "web01";
/// Size of each of its two disks.
const DISK_BYTES: u64 = 64 << 20;
/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at while it is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) struct Stage {
    pub(crate) world: World,
    _dir: TempDir,
}

/// The usual world; guests write to their disks as soon as they run.
pub(crate) fn plan() -> WorldPlan {
    let mut plan = WorldPlan::two_disks(VM, Roles::Together, DISK_BYTES, DISK_BYTES);
    plan.guests_scribble = true;
    plan.more_networks = vec![
        serde_json::json!({ "name": "bubble", "kind": "Isolated" }),
        serde_json::json!({ "name": "bubble-2", "kind": "Isolated" }),
        serde_json::json!({ "name": "far", "kind": "Isolated", "other_zone": true }),
    ];
    plan
}

impl Stage {
    /// The VM is added; nothing is replicated or mapped.
    pub(crate) async fn bare(plan: WorldPlan) -> Self {
        let dir = TempDir::with_prefix("life-of-a-failover-").unwrap();
        let world = World::start(dir.path(), plan).await.unwrap();
        let mut stage = Self { world, _dir: dir };
        stage.world.enrol_agent().await.unwrap();
        stage.world.connect_sites().await.unwrap();
        stage.command(&["vm", "add", VM]).await;
        stage
    }

    /// The VM is replicated and its cards are mapped.
    pub(crate) async fn ready() -> Self {
        let stage = Self::bare(plan()).await;
        stage.map(VM).await;
        stage.command(&["replicate", VM, "--watch"]).await;
        stage
    }

    pub(crate) async fn map(&self, vm: &str) {
        let cards = [("VM Network", "bubble", "lab-isolated"), ("dv-production", "bubble-2", "lab-l2")];
        for (from, test, live) in cards {
            self.command(&["network", "map", vm, "--source-network", from, "--to", test, "--for", "test"]).await;
            self.command(&["network", "map", vm, "--source-network", from, "--to", live, "--for", "live"]).await;
        }
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Value {
        self.world.operator().run(arguments).await.unwrap().json().unwrap()
    }

    /// Runs a command that has to be refused with this exit code; answers with the problem.
    pub(crate) async fn refused(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.world.operator().run(arguments).await.unwrap();
        assert_eq!(output.code, code, "{arguments:?}: {}{}", output.stdout, output.stderr);
        let problem = output.problem();
        assert!(problem["remedy"].is_string(), "{arguments:?}: {problem:#}");
        problem
    }

    pub(crate) async fn status(&self) -> String {
        let shown = self.command(&["vm", "show", VM]).await;
        shown["context"]["current_status"].as_str().unwrap().to_owned()
    }

    /// How often each command that changes something was sent to CloudStack, names in lower case.
    pub(crate) async fn changes_sent(&self) -> BTreeMap<String, u64> {
        let state = self.world.cloudstack_state().await.unwrap();
        let requests = state["requests"].as_object().unwrap().clone();
        let named = requests.into_iter().map(|(command, count)| (command.to_lowercase(), count.as_u64().unwrap()));
        named.filter(|(command, _)| !command.starts_with("list") && !command.starts_with("query")).collect()
    }

    /// The VMs of the cloud beside the hub's.
    pub(crate) async fn vms_made(&self) -> Vec<Value> {
        let hub = self.world.addresses().oma_vm_id.clone();
        self.world.vms().await.unwrap().into_iter().filter(|vm| vm["id"] != hub.as_str()).collect()
    }

    /// The volumes a VM holds, by device id.
    pub(crate) async fn volumes_of(&self, vm_id: &str) -> Vec<Value> {
        let volumes = self.world.volumes().await.unwrap();
        let mut held: Vec<Value> = volumes.into_iter().filter(|volume| volume["vm_id"] == vm_id).collect();
        held.sort_by_key(|volume| volume["device_id"].as_u64());
        held
    }

    /// Every replica is what `progress` committed; `None` is the first disk that is not.
    pub(crate) async fn is_equal_to(&self, progress: &Value) -> bool {
        let vm_snapshot = progress["run"]["vm_snapshot"].as_str().unwrap();
        let mut equal = true;
        for disk in self.world.disks() {
            let replica = replica_of(&self.world, disk).await.unwrap();
            let frozen = self.world.retained(vm_snapshot, disk.key);
            equal &= first_difference(&frozen, &replica, disk.capacity_bytes).unwrap().is_none();
        }
        equal
    }

    /// Waits until what the hub says of a path is as wanted.
    pub(crate) async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.world.api(path).await;
            if let Ok(seen) = &seen
                && wanted(seen)
            {
                return seen.clone();
            }
            assert!(Instant::now() < deadline, "in vain waited until {what}: {seen:#?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
