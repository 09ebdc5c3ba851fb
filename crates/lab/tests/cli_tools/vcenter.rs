//! `migratekit probe vcenter`: odd VMs, networks of every kind, and servers that are not who they should be.

use lab::vcenter::{ControllerKind, DiskSpec, NicSpec, Tools, VcenterConfig, VcenterSim, VmSpec};
use serde_json::Value;
use tempfile::TempDir;

use super::program::{Said, migratekit, secret};

const USER: &str = "administrator@vsphere.local";
const PASSWORD: &str = "VMware1!";
const MIB: u64 = 1 << 20;

struct Site {
    folder: TempDir,
    sim: VcenterSim,
    password: String,
}

impl Site {
    async fn start(vms: Vec<VmSpec>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = VcenterConfig { state_dir: folder.path().join("state"), vms, ..VcenterConfig::default() };
        let sim = VcenterSim::start(config).await.unwrap();
        let password = secret(folder.path(), "password", PASSWORD);
        Self { folder, sim, password }
    }

    /// Probes with JSON output and the right thumbprint; `more` comes last.
    async fn probe(&self, more: &[&str]) -> Said {
        let thumbprint = ["--thumbprint", self.sim.sha256_thumbprint()];
        self.probe_trusting(&thumbprint, &[&["--output", "json"], more].concat()).await
    }

    async fn probe_trusting(&self, trust: &[&str], more: &[&str]) -> Said {
        let url = self.sim.url();
        let login = ["probe", "vcenter", "--url", &url, "--username", USER, "--password-file", &self.password];
        migratekit(&[&login, trust, more].concat()).await
    }
}

fn disk() -> DiskSpec {
    DiskSpec::empty(16 * MIB)
}

/// One VM for everything that stands in the way of a replication, and one with which all is well.
fn odd_vms() -> Vec<VmSpec> {
    let independent = DiskSpec { mode: "independent_persistent".to_owned(), ..disk() };
    let raw_device = DiskSpec { raw_device_mode: Some("physicalMode".to_owned()), ..disk() };
    let shared = DiskSpec {
        shared_bus: "physicalSharing".to_owned(),
        controller: ControllerKind::LsiLogicSas,
        bus: 1,
        ..disk()
    };
    let odd = |name: &str| VmSpec::named(name).with_disk(disk()).with_nic(NicSpec::on("VM Network"));
    vec![
        VmSpec { folder: "prod/web servers".to_owned(), change_tracking_enabled: true, ..odd("well") }
            .with_nic(NicSpec::on("dv-production"))
            .with_nic(NicSpec { mac_address: Some("00:50:56:aa:bb:cc".to_owned()), ..NicSpec::on("nsx-backend") }),
        odd("independent").with_disk(independent),
        odd("raw-device").with_disk(raw_device),
        odd("shared-bus").with_disk(shared),
        VmSpec { existing_vm_snapshots: vec!["before upgrade".to_owned()], ..odd("with-snapshot") },
        VmSpec { template: true, powered_on: false, ..odd("template") },
        VmSpec { change_tracking_supported: false, hardware_version: 4, ..odd("old-hardware") },
        VmSpec { change_tracking_supported: false, ..odd("untracked") },
        VmSpec { tools: Tools::Absent, ..odd("no-tools") },
    ]
}

fn vm<'a>(inventory: &'a Value, name: &str) -> &'a Value {
    let vms = inventory["vms"].as_array().unwrap();
    vms.iter().find(|vm| vm["name"] == name).unwrap_or_else(|| panic!("{name} is missing"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_vm_is_told_with_disks_cards_and_change_tracking() {
    let site = Site::start(odd_vms()).await;
    let said = site.probe(&[]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let inventory = said.json();
    assert!(inventory["vcenter_name"].as_str().is_some_and(|name| name.contains("vCenter")), "{inventory}");
    assert_eq!(inventory["vms"].as_array().unwrap().len(), 9);

    let well = vm(&inventory, "well");
    assert_eq!(well["path"], "/DC0/vm/prod/web servers/well");
    assert_eq!((&well["cbt_enabled"], &well["cbt_supported"]), (&true.into(), &true.into()));
    let cards: Vec<&str> =
        well["networks"].as_array().unwrap().iter().filter_map(|n| n["network_name"].as_str()).collect();
    assert_eq!(cards, ["VM Network", "dv-production", "nsx-backend"]);
    assert_eq!(well["networks"][2]["mac_address"], "00:50:56:aa:bb:cc");
    let disk = &well["disks"][0];
    assert_eq!((&disk["disk_id"], &disk["capacity_bytes"]), (&"disk-2000".into(), &(16 * MIB).into()));
    assert!(disk["vmdk_path"].as_str().is_some_and(|path| path.starts_with("[datastore1] ")), "{disk}");
    assert!(disk["disk_uuid"].as_str().is_some_and(|uuid| !uuid.is_empty()));
    assert_eq!(vm(&inventory, "independent")["cbt_enabled"], false);
    assert_eq!(vm(&inventory, "untracked")["cbt_supported"], false);
    assert_eq!(vm(&inventory, "with-snapshot")["vm_snapshots"], serde_json::json!(["before upgrade"]));
    assert!(!said.stdout.contains(PASSWORD));
    assert_eq!(site.sim.session_count(), 0, "a session is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_named_with_its_remedy() {
    let site = Site::start(odd_vms()).await;
    let inventory = site.probe(&[]).await.json();
    let expected = [
        ("independent", "disk_independent", "blocker", Some("disk-2001")),
        ("raw-device", "disk_rdm_physical", "blocker", Some("disk-2001")),
        ("shared-bus", "disk_shared", "blocker", Some("disk-2016")),
        ("with-snapshot", "vm_snapshots_exist", "warning", None),
        ("template", "vm_template", "blocker", None),
        ("old-hardware", "hardware_version_old", "warning", None),
        ("untracked", "cbt_unsupported", "warning", None),
        ("no-tools", "tools_not_running", "warning", None),
    ];
    for (name, code, severity, disk) in expected {
        let findings = vm(&inventory, name)["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["code"] == code);
        let finding = finding.unwrap_or_else(|| panic!("{name}: no {code} in {findings:?}"));
        assert_eq!(finding["severity"], severity, "{name}");
        assert_eq!(finding["disk_id"].as_str(), disk, "{name}");
    }
    for vm in inventory["vms"].as_array().unwrap() {
        for finding in vm["findings"].as_array().unwrap() {
            for field in ["message", "remedy"] {
                assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{}: {finding}", vm["name"]);
            }
        }
    }
    let blockers =
        |vm: &Value| vm["findings"].as_array().unwrap().iter().filter(|f| f["severity"] == "blocker").count();
    assert_eq!(blockers(vm(&inventory, "well")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_a_table_and_the_findings() {
    let site = Site::start(odd_vms()).await;
    let said = site.probe_trusting(&["--thumbprint", site.sim.sha1_thumbprint()], &[]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    for text in ["/DC0/vm/prod/web servers/well", "00:50:56:aa:bb:cc nsx-backend", "BLOCKER", "remedy: "] {
        assert!(said.stdout.contains(text), "{text:?} is missing:\n{}", said.stdout);
    }
    let filtered = site.probe(&["--filter", "WEB SERVERS"]).await.json();
    assert_eq!(filtered["vms"].as_array().unwrap().len(), 1);
    let ca = site.sim.ca_pem_path().to_str().unwrap();
    assert_eq!(site.probe_trusting(&["--ca", ca], &[]).await.code, 0);
    assert_eq!(site.sim.session_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_not_authenticated() {
    let mut site = Site::start(Vec::new()).await;
    site.password = secret(site.folder.path(), "wrong", "Hunter2-wrong");
    let said = site.probe(&[]).await;
    assert_eq!(said.code, 6, "{}", said.stderr);
    let problem = said.problem();
    assert_eq!(problem["kind"], "unauthenticated");
    assert!(problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("password")), "{problem}");
    assert!(!said.stderr.contains("Hunter2-wrong"));
    assert_eq!(site.sim.session_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_is_told_with_both_thumbprints() {
    let site = Site::start(Vec::new()).await;
    for (wrong, right) in
        [("AB:".repeat(32), site.sim.sha256_thumbprint()), ("cd".repeat(20), site.sim.sha1_thumbprint())]
    {
        let wrong = wrong.trim_end_matches(':');
        let said = site.probe_trusting(&["--thumbprint", wrong], &["--output", "json"]).await;
        assert_eq!(said.code, 5, "{}", said.stderr);
        let problem = said.problem();
        let bare = |text: &str| text.replace(':', "").to_lowercase();
        let told = bare(problem["detail"].as_str().unwrap());
        assert!(told.contains(&bare(wrong)) && told.contains(&bare(right)), "{problem}");
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
    }
    let untrusted = site.probe_trusting(&[], &["--output", "json"]).await;
    assert_eq!(untrusted.code, 5, "{}", untrusted.stderr);
    assert_eq!(site.sim.calls().get("Login"), None, "the password was sent to a stranger");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_or_read_is_said_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let password = secret(folder.path(), "password", PASSWORD);
    let empty = secret(folder.path(), "empty", "");
    let thumbprint = "ab".repeat(32);
    let cases: [(&[&str], i32); 5] = [
        (&["--url", "https://127.0.0.1:1", "--password-file", &password, "--thumbprint", &thumbprint], 7),
        (&["--url", "https://127.0.0.1:1", "--password-file", "/absent", "--thumbprint", &thumbprint], 5),
        (&["--url", "https://127.0.0.1:1", "--password-file", &empty, "--thumbprint", &thumbprint], 5),
        (&["--url", "https://127.0.0.1:1", "--password-file", &password, "--ca", "/absent"], 5),
        (&["--url", "https://127.0.0.1:1", "--password-file", &password, "--thumbprint", "no-thumbprint"], 5),
    ];
    for (arguments, code) in cases {
        let login = ["probe", "vcenter", "--username", USER, "--output", "json"];
        let said = migratekit(&[&login, arguments].concat()).await;
        assert_eq!(said.code, code, "{arguments:?}: {}", said.stderr);
        assert!(said.problem()["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
}
