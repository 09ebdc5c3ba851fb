//! A world with a replicated VM, and somebody who leaves things behind in CloudStack and vCenter.

use lab::world::{Roles, World, WorldPlan};
use model::Secret;
use model::ownership::OwnedAs;
use serde_json::Value;
use tempfile::TempDir;
use vsphere::{ConnectionSpec, MoRef, Trust, VimSession, VmSnapshotSpec};

use super::signed_client::SignedClient;

/// Name of the VM.
pub(crate) const VM: &str = "web01";
/// Size of both disks, in bytes.
const DISK_BYTES: u64 = 128 << 20;
/// A failover nobody knows.
pub(crate) const UNKNOWN_JOB: &str = "failover-20260101-000000-abcdef";
/// A VM context nobody knows.
pub(crate) const UNKNOWN_CONTEXT: &str = "01900000-0000-7000-8000-000000000000";

/// The world.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) cloud: SignedClient,
    _dir: TempDir,
}

impl Stage {
    /// The VM is replicated.
    pub(crate) async fn replicated() -> Self {
        let dir = TempDir::with_prefix("ghosts-").unwrap();
        let plan = WorldPlan::two_disks(VM, Roles::Together, DISK_BYTES, DISK_BYTES);
        let mut world = World::start(dir.path(), plan).await.unwrap();
        world.enrol_agent().await.unwrap();
        world.connect_sites().await.unwrap();
        let cloud = SignedClient::new(&world.addresses().cloudstack_url, "lab-api-key", "lab-secret-key");
        let stage = Self { world, cloud, _dir: dir };
        stage.command(&["vm", "add", VM]).await;
        stage.command(&["replicate", VM, "--watch"]).await;
        stage
    }

    /// Runs a command that has to succeed.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Value {
        self.world.operator().run(arguments).await.unwrap().json().unwrap()
    }

    /// The ghosts there are now; everything must have been looked at.
    pub(crate) async fn ghosts(&self) -> Vec<Value> {
        let list = self.command(&["ghost", "list", "--refresh"]).await;
        assert_eq!(list["notes"], Value::Array(Vec::new()), "{list:#}");
        list["items"].as_array().unwrap().clone()
    }

    /// The ghost with this id.
    pub(crate) async fn ghost(&self, id: &str) -> Value {
        let ghosts = self.ghosts().await;
        let found = ghosts.iter().find(|ghost| ghost["id"] == id).cloned();
        found.unwrap_or_else(|| panic!("no {id} in {ghosts:#?}"))
    }

    /// What a removal is refused with: exit code and detail.
    pub(crate) async fn refused(&self, id: &str) -> (i32, String) {
        let output = self.world.operator().run(&["ghost", "remove", id]).await.unwrap();
        (output.code, output.problem()["detail"].as_str().unwrap_or_default().to_owned())
    }

    /// The replica volumes.
    pub(crate) async fn replicas(&self) -> Vec<String> {
        let shown = self.command(&["vm", "show", VM]).await;
        let disks = shown["disks"].as_array().unwrap();
        disks.iter().map(|disk| disk["volume_uuid"].as_str().unwrap().to_owned()).collect()
    }

    /// The VM's context id.
    pub(crate) async fn context_id(&self) -> String {
        let shown = self.command(&["vm", "show", VM]).await;
        shown["context"]["context_id"].as_str().unwrap().to_owned()
    }

    /// A VM as a failover leaves it: not started, with the tags of a job.
    pub(crate) async fn left_vm(&self, name: &str, job_id: &str) -> String {
        let templates = self.cloud.ok("listTemplates", &[("templatefilter", "executable")]).await;
        let offerings = self.cloud.ok("listServiceOfferings", &[]).await;
        let fixed = offerings["serviceoffering"].as_array().unwrap().iter().find(|one| one["iscustomized"] != true);
        let parameters = [
            ("zoneid", self.world.addresses().zone_id.as_str()),
            ("serviceofferingid", fixed.unwrap()["id"].as_str().unwrap()),
            ("templateid", templates["template"][0]["id"].as_str().unwrap()),
            ("name", name),
            ("startvm", "false"),
        ];
        let deployed = self.cloud.done("deployVirtualMachine", &parameters).await;
        let id = deployed["virtualmachine"]["id"].as_str().unwrap().to_owned();
        self.tag("UserVm", &id, OwnedAs::FailoverVm.tags(UNKNOWN_CONTEXT, job_id)).await;
        id
    }

    /// A volume no row knows, of this VM context.
    pub(crate) async fn left_volume(&self, name: &str, context_id: &str) -> String {
        let offerings = self.cloud.ok("listDiskOfferings", &[]).await;
        let custom = offerings["diskoffering"].as_array().unwrap().iter().find(|one| one["iscustomized"] == true);
        let parameters = [
            ("name", name),
            ("zoneid", self.world.addresses().zone_id.as_str()),
            ("diskofferingid", custom.unwrap()["id"].as_str().unwrap()),
            ("size", "1"),
        ];
        let made = self.cloud.done("createVolume", &parameters).await;
        let id = made["volume"]["id"].as_str().unwrap().to_owned();
        self.tag("Volume", &id, OwnedAs::Replica.tags(context_id, UNKNOWN_JOB)).await;
        id
    }

    /// A volume_snapshot no row names.
    pub(crate) async fn left_snapshot(&self, volume_uuid: &str, name: &str) -> String {
        let taken = self.cloud.done("createSnapshot", &[("volumeid", volume_uuid), ("name", name)]).await;
        let id = taken["snapshot"]["id"].as_str().unwrap().to_owned();
        self.tag("Snapshot", &id, OwnedAs::SafetySnapshot.tags(UNKNOWN_CONTEXT, UNKNOWN_JOB)).await;
        id
    }

    async fn tag(&self, kind: &str, id: &str, tags: [(&str, &str); 3]) {
        let names = (0..tags.len()).map(|index| (format!("tags[{index}].key"), format!("tags[{index}].value")));
        let names: Vec<(String, String)> = names.collect();
        let mut parameters = vec![("resourceids", id), ("resourcetype", kind)];
        for ((key_name, value_name), (key, value)) in names.iter().zip(tags) {
            parameters.extend([(key_name.as_str(), key), (value_name.as_str(), value)]);
        }
        self.cloud.done("createTags", &parameters).await;
    }

    /// Takes a vm_snapshot of the source.
    pub(crate) async fn left_vm_snapshot(&self, name: &str) {
        let addresses = self.world.addresses();
        let spec = ConnectionSpec {
            url: addresses.vcenter_url.clone(),
            username: "administrator@vsphere.local".to_owned(),
            password: Secret::new("VMware1!"),
            trust: Trust::Thumbprint(addresses.vcenter_thumbprint.clone()),
        };
        let session = VimSession::connect(spec).await.unwrap();
        let moref = self.world.source_vm().await.unwrap()["moref"].as_str().unwrap().to_owned();
        let wanted = VmSnapshotSpec { name: name.to_owned(), description: "by a test".to_owned(), quiesce: false };
        session.create_vm_snapshot(&MoRef::vm(moref), &wanted).await.unwrap();
        session.log_out().await.unwrap();
    }

    /// The source's vm_snapshots.
    pub(crate) async fn vm_snapshots(&self) -> Vec<Value> {
        self.world.source_vm().await.unwrap()["vm_snapshots"].as_array().unwrap().clone()
    }

    /// Whether CloudStack has a VM that is not on its way out.
    pub(crate) async fn has_vm(&self, id: &str) -> bool {
        let listed = self.cloud.ok("listVirtualMachines", &[("listall", "true")]).await;
        let vms = listed["virtualmachine"].as_array().cloned().unwrap_or_default();
        let is_there = |vm: &Value| vm["id"] == id && vm["state"] != "Destroyed" && vm["state"] != "Expunging";
        vms.iter().any(is_there)
    }

    /// Whether CloudStack has a volume.
    pub(crate) async fn has_volume(&self, id: &str) -> bool {
        self.world.volumes().await.unwrap().iter().any(|volume| volume["id"] == id)
    }

    /// The volume_snapshots in CloudStack.
    pub(crate) async fn volume_snapshots(&self) -> u64 {
        self.world.cloudstack_state().await.unwrap()["volume_snapshots"].as_u64().unwrap()
    }
}
