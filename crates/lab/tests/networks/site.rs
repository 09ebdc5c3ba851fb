//! A world with VMs that are known and never copied, and the command line to ask about them.

use lab::vcenter::{DiskSpec, NicSpec, VmSpec};
use lab::world::{CommandOutput, Roles, World, WorldPlan};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A VM with one card on each of two networks.
pub const WEB: &str = "web1";
/// Another one.
pub const DB: &str = "db1";
/// A VM with two cards on one network.
pub const TWIN: &str = "twin1";
/// Size of their disks, in bytes.
const DISK_BYTES: u64 = 96 << 20;

/// The world and its folder.
pub struct Site {
    pub world: World,
    dir: TempDir,
}

impl Site {
    /// With hub, agent, vCenter and CloudStack known to each other, and the VMs added.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("migratekit-networks-").tempdir().unwrap();
        let vm = |name: &str, networks: [&str; 2]| {
            let vm = VmSpec::named(name).with_disk(DiskSpec::empty(DISK_BYTES));
            networks.into_iter().fold(vm, |vm, network| vm.with_nic(NicSpec::on(network)))
        };
        let mut plan = WorldPlan::two_disks(WEB, Roles::Together, DISK_BYTES, DISK_BYTES);
        plan.more_vms = vec![vm(DB, ["VM Network", "dv-production"]), vm(TWIN, ["VM Network", "VM Network"])];
        plan.more_networks = vec![
            json!({"name": "lab-bubble-1", "kind": "Isolated"}),
            json!({"name": "lab-bubble-2", "kind": "Isolated"}),
            json!({"name": "lab-closed", "kind": "Isolated", "can_use_for_deploy": false}),
            json!({"name": "lab-far", "kind": "Isolated", "other_zone": true}),
        ];
        let mut world = World::start(dir.path(), plan).await.unwrap();
        world.enrol_agent().await.unwrap();
        world.connect_sites().await.unwrap();
        let site = Self { world, dir };
        // Another target that is added later becomes the active one; these stay where they are.
        site.done(&["vm", "add", WEB, DB, TWIN, "--target", "lab-cloud"]).await;
        site
    }

    /// Runs a command; how it ends is for the caller.
    pub async fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.world.operator().run(arguments).await.unwrap()
    }

    /// Runs a command that must succeed.
    pub async fn done(&self, arguments: &[&str]) -> Value {
        self.run(arguments).await.json().unwrap()
    }

    /// Runs a check that must end with this code, and gives its report.
    pub async fn check(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.run(arguments).await;
        assert_eq!(output.code, code, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Runs a command that must be refused like this, with a remedy; gives the problem.
    pub async fn refused(&self, arguments: &[&str], kind: &str, code: i32) -> Value {
        let output = self.run(arguments).await;
        let problem = output.problem();
        assert_eq!((output.code, problem["kind"].as_str()), (code, Some(kind)), "{output:?}");
        for field in ["detail", "remedy"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {problem:#}");
        }
        problem
    }

    /// What a person is shown.
    pub async fn table(&self, arguments: &[&str]) -> String {
        let operator = self.world.operator().command_line();
        let mut words = operator.split(' ');
        let mut command = Command::new(words.next().unwrap());
        let output = command.args(words).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The MAC addresses of a VM's two cards.
    pub async fn macs(&self, vm: &str) -> [String; 2] {
        let list = self.done(&["network", "list", vm]).await;
        [0, 1].map(|index| list["nics"][index]["source_mac"].as_str().unwrap().to_owned())
    }

    /// Adds a target that is not the active one's like: another zone, or another secret key.
    pub async fn add_target(&self, name: &str, zone: &str, secret: &str) {
        let file = |kind: &str, text: &str| {
            let path = self.dir.path().join(format!("{name}.{kind}"));
            runtime::private_file::write(&path, text.as_bytes()).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (key, secret) = (file("key", "lab-api-key"), file("secret", secret));
        let url = self.world.addresses().cloudstack_url.clone();
        let mut arguments = vec!["target", "add", name, "--url", &url, "--zone", zone];
        arguments.extend(["--api-key-file", &key, "--secret-key-file", &secret]);
        self.done(&arguments).await;
    }
}
