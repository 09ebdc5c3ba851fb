//! The files of a world: disk images, keys, one configuration for each process, and free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;
use store::DatabaseConfig;

use super::error::WorldError;
use super::operator::Operator;
use super::process::Process;
use crate::guest::disk_image::{self, DiskLayout, DiskPlan};
use crate::mariadb::MariaDbServer;
use crate::ports::ReservedPort;
use crate::toxic::ToxicLink;
use crate::vcenter::{self, VmSpec};
use crate::wire::Wire;

/// The account at the simulated vCenter.
pub(super) const VCENTER_USER: &str = "administrator@vsphere.local";
/// Key of the first disk of a VM (VMware counts disks from 2000).
const FIRST_DISK_KEY: i32 = 2000;
/// Name of the hub's database.
const DATABASE: &str = "migratekit";

/// How the hub's processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// One process on SQLite.
    Together,
    /// Three processes on MariaDB.
    Apart,
    /// One process on a MariaDB whose wire can be cut.
    TogetherOnMariaDb,
}

impl Roles {
    /// The roles to start.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Together | Self::TogetherOnMariaDb => &["hub"],
            Self::Apart => &["volume-daemon", "oma", "gateway"],
        }
    }
}

/// What the world is to hold.
#[derive(Debug, Clone)]
pub struct WorldPlan {
    /// How the hub runs.
    pub roles: Roles,
    /// Name of the VM.
    pub vm_name: String,
    /// Its disks: the first is the system disk.
    pub disk_plans: Vec<DiskPlan>,
    /// Makes the simulated CloudStack place the replica volumes elsewhere (a small file system, for one).
    pub volume_dir: Option<PathBuf>,
    /// Further VMs of the simulated vCenter.
    pub more_vms: Vec<VmSpec>,
    /// Further accounts of the simulated CloudStack, in the form of its configuration file.
    pub more_accounts: Vec<serde_json::Value>,
    /// Makes the simulated CloudStack boot the VMs it starts.
    pub boots: bool,
    /// Makes the VMs it starts without booting them write to their disks.
    pub guests_scribble: bool,
    /// How long the hub lets one call of CloudStack take, in seconds, when not as long as usual.
    pub call_timeout_seconds: Option<u32>,
    /// A folder whose programs the hub finds before all others.
    pub programs: Option<PathBuf>,
    /// Further networks of the simulated CloudStack, in the form of its configuration file.
    pub more_networks: Vec<serde_json::Value>,
    /// Puts a link that can be made bad between the agent and the hub.
    pub toxic: bool,
    /// The VM of the simulated vCenter that the agent runs in; none: it runs elsewhere.
    pub agent_vm: Option<String>,
}

impl WorldPlan {
    /// A VM with a system disk and a data disk.
    #[must_use]
    pub fn two_disks(vm_name: &str, roles: Roles, system_bytes: u64, data_bytes: u64) -> Self {
        let disk_plans = vec![DiskPlan::system(system_bytes), DiskPlan::data(data_bytes)];
        Self {
            roles,
            vm_name: vm_name.to_owned(),
            disk_plans,
            volume_dir: None,
            more_vms: Vec::new(),
            more_accounts: Vec::new(),
            boots: false,
            guests_scribble: false,
            call_timeout_seconds: None,
            programs: None,
            more_networks: Vec::new(),
            toxic: false,
            agent_vm: None,
        }
    }

    /// The same with a system disk that boots, in a cloud that boots what it starts.
    #[must_use]
    pub fn bootable(vm_name: &str, roles: Roles, system_bytes: u64, data_bytes: u64) -> Self {
        let disk_plans = vec![DiskPlan::bootable(system_bytes), DiskPlan::data(data_bytes)];
        Self { disk_plans, boots: true, ..Self::two_disks(vm_name, roles, system_bytes, data_bytes) }
    }
}

/// A disk of the VM.
#[derive(Debug, Clone)]
pub struct Disk {
    /// VMware's device key.
    pub key: i32,
    /// `disk-<key>`.
    pub disk_id: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Where things are on it.
    pub layout: DiskLayout,
}

/// Where everything lies.
pub(super) struct Files {
    dir: PathBuf,
    binaries: PathBuf,
    programs: Option<PathBuf>,
    disks: Vec<Disk>,
    public: ReservedPort,
    local_nbd: ReservedPort,
    oma: ReservedPort,
    volume_daemon: ReservedPort,
    agent: ReservedPort,
}

impl Files {
    pub(super) fn make(dir: &Path) -> Result<Self, WorldError> {
        for folder in ["hub", "run", "agent", "vcenter", "cloudstack", "by-id", "images", "log"] {
            let path = dir.join(folder);
            std::fs::create_dir_all(&path).map_err(WorldError::file("make", &path))?;
        }
        let files = Self {
            dir: dir.to_owned(),
            binaries: binaries()?,
            programs: None,
            disks: Vec::new(),
            public: reserved_port()?,
            local_nbd: reserved_port()?,
            oma: reserved_port()?,
            volume_daemon: reserved_port()?,
            agent: reserved_port()?,
        };
        for (name, text) in
            [("vcenter.password", "VMware1!"), ("api.key", "lab-api-key"), ("secret.key", "lab-secret-key")]
        {
            files.write(name, text)?;
        }
        Ok(files)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn disks(&self) -> &[Disk] {
        &self.disks
    }

    pub(super) fn ready(&self) -> PathBuf {
        self.dir.join("lab-ready.json")
    }

    pub(super) fn agent_config(&self) -> PathBuf {
        self.dir.join("vma.toml")
    }

    pub(super) fn public_address(&self) -> SocketAddr {
        self.public.address()
    }

    pub(super) fn hub_address(&self) -> String {
        self.public.address().to_string()
    }

    pub(super) fn local_nbd_address(&self) -> SocketAddr {
        self.local_nbd.address()
    }

    pub(super) fn hub_url(&self) -> String {
        format!("http://{}", self.oma.address())
    }

    pub(super) fn password(&self) -> String {
        self.text_path("vcenter.password")
    }

    pub(super) fn api_key(&self) -> String {
        self.text_path("api.key")
    }

    pub(super) fn secret_key(&self) -> String {
        self.text_path("secret.key")
    }

    pub(super) fn retained(&self, vm_snapshot: &str, disk_key: i32) -> PathBuf {
        self.dir.join("vcenter/retained").join(format!("{vm_snapshot}-{disk_key}.raw"))
    }

    pub(super) fn operator(&self) -> Operator {
        Operator::new(self.binaries.join("migratekit"), self.hub_url(), self.dir.join("hub/operator.token"))
    }

    /// The operator's API token.
    pub(super) fn operator_token(&self) -> Result<String, WorldError> {
        let path = self.dir.join("hub/operator.token");
        let text = std::fs::read_to_string(&path).map_err(WorldError::file("read", &path))?;
        Ok(text.trim().to_owned())
    }

    /// Builds the images and writes what the simulators are to simulate.
    pub(super) fn write_lab(&mut self, plan: &super::WorldPlan) -> Result<(), WorldError> {
        self.programs.clone_from(&plan.programs);
        let mut disks = Vec::new();
        for (index, disk_plan) in plan.disk_plans.iter().enumerate() {
            let image = self.dir.join("images").join(format!("{}-{index}.raw", plan.vm_name));
            let layout = disk_image::build(&image, disk_plan).map_err(WorldError::simulator("disk image"))?;
            let key = FIRST_DISK_KEY + i32::try_from(index).unwrap_or(0);
            let capacity_bytes = disk_plan.capacity_bytes;
            let marker = layout.marker.start;
            self.disks.push(Disk { key, disk_id: format!("disk-{key}"), capacity_bytes, layout });
            disks.push(json!({ "image": image, "capacity_bytes": 0, "marker_start_bytes": marker }));
        }
        let nics = [json!({ "network": "VM Network" }), json!({ "network": "dv-production" })];
        let mut vms = vec![json!({ "name": plan.vm_name, "folder": "prod", "disks": disks, "nics": nics })];
        vms.extend(plan.more_vms.iter().map(|vm| json!(vm)));
        let config = json!({
            "vcenter": {
                "state_dir": self.dir.join("vcenter"),
                "username": VCENTER_USER,
                "password": "VMware1!",
                "retain_frozen": true,
                "vms": vms,
            },
            "cloudstack": {
                "state_dir": self.dir.join("cloudstack"),
                "by_id_dir": self.dir.join("by-id"),
                "api_key": "lab-api-key",
                "secret_key": "lab-secret-key",
                "accounts": plan.more_accounts,
                "boots": plan.boots,
                "guests_scribble": plan.guests_scribble,
                "more_networks": plan.more_networks,
            },
        });
        self.write("lab.json", &config.to_string())
    }

    /// Writes the hub's and the agent's configuration.
    pub(super) fn write_hub(
        &self,
        database: Option<&MariaDbServer>,
        wire: Option<&Wire>,
        link: Option<&ToxicLink>,
        plan: &super::WorldPlan,
    ) -> Result<(), WorldError> {
        let dir = self.dir.display();
        let database = match database {
            None => format!("[database]\nkind = \"sqlite\"\npath = \"{dir}/hub/hub.sqlite\"\n"),
            Some(server) => {
                let mut config = server.database(DATABASE).map_err(WorldError::simulator("database"))?;
                if let (DatabaseConfig::MariaDb { port, .. }, Some(wire)) = (&mut config, wire) {
                    *port = wire.address().port();
                }
                toml::to_string(&json!({ "database": config }))
                    .map_err(WorldError::simulator("database configuration"))?
            }
        };
        let seconds = plan.call_timeout_seconds;
        let patience = seconds.map(|seconds| format!("call_timeout_seconds = {seconds}\n")).unwrap_or_default();
        let deletions = seconds.map(|seconds| format!("delete_timeout_seconds = {seconds}\n")).unwrap_or_default();
        let hub = format!(
            "{database}\n\
             [gateway]\nlisten = \"{public}\"\nlocal_nbd_listen = \"{nbd}\"\nstate_dir = \"{dir}/hub\"\nrun_dir = \"{dir}/run\"\n\n\
             [volume_daemon]\nlisten = \"{volumes}\"\nstate_dir = \"{dir}/hub\"\nby_id_dir = \"{dir}/by-id\"\n{patience}{deletions}\n\
             [oma]\nlisten = \"{oma}\"\nstate_dir = \"{dir}/hub\"\nrun_dir = \"{dir}/run\"\nvolume_daemon_url = \"http://{volumes}\"\n{patience}",
            public = self.public.address(),
            nbd = self.local_nbd.address(),
            volumes = self.volume_daemon.address(),
            oma = self.oma.address(),
        );
        self.write("hub.toml", &hub)?;
        let hub = link.map_or(self.public.address(), ToxicLink::address);
        let agent = format!("hub = \"{hub}\"\nstate_dir = \"{dir}/agent\"\nlisten = \"{}\"\n", self.agent.address());
        let hotadd = plan.agent_vm.as_deref().map(|vm| self.hotadd(vm)).unwrap_or_default();
        self.write("vma.toml", &(agent + &hotadd))
    }

    /// The agent as a guest of the simulated vCenter's VM.
    fn hotadd(&self, vm: &str) -> String {
        let (uuid, devices) = (vcenter::bios_uuid(vm), self.devices(vm));
        format!("[hotadd]\nvm_uuid = \"{uuid}\"\ndevice_dir = \"{}\"\n", devices.display())
    }

    /// The folder of the devices a VM sees of other VMs' disks.
    pub(super) fn devices(&self, vm: &str) -> PathBuf {
        vcenter::device_dir(&self.dir.join("vcenter"), vm)
    }

    pub(super) fn start_lab(&self) -> Result<Process, WorldError> {
        let (config, ready) = (self.text_path("lab.json"), self.ready());
        let ready = ready.to_string_lossy();
        let arguments = ["serve", "--config", &config, "--ready", &ready];
        Process::start("lab", &self.binaries.join("lab"), &arguments, &self.dir.join("log/lab.log"))
    }

    pub(super) fn start_role(&self, role: &str) -> Result<Process, WorldError> {
        let config = self.text_path("hub.toml");
        self.start_migratekit(role, &[role, "--config", &config])
    }

    pub(super) fn start_agent(&self) -> Result<Process, WorldError> {
        let config = self.text_path("vma.toml");
        self.start_migratekit("vma", &["vma", "--config", &config])
    }

    fn start_migratekit(&self, name: &str, arguments: &[&str]) -> Result<Process, WorldError> {
        let log = self.dir.join("log").join(format!("{name}.log"));
        let program = self.binaries.join("migratekit");
        Process::start_with(name, &program, arguments, &log, self.programs.as_deref())
    }

    pub(super) fn gateway_is_up(&self) -> bool {
        self.dir.join("run/gateway.sock").exists() && std::net::TcpStream::connect(self.public.address()).is_ok()
    }

    pub(super) async fn volume_daemon_is_up(&self, http: &reqwest::Client) -> bool {
        let url = format!("http://{}/health", self.volume_daemon.address());
        http.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    fn text_path(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), WorldError> {
        let path = self.dir.join(name);
        runtime::private_file::write(&path, text.as_bytes()).map_err(WorldError::file("write", &path))
    }
}

/// The folder the product's binary is in: beside this program, or one up when this is a test.
fn binaries() -> Result<PathBuf, WorldError> {
    let own = std::env::current_exe().map_err(WorldError::file("find", Path::new("this program")))?;
    let mut folder = own.parent().unwrap_or(Path::new(".")).to_owned();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}

fn reserved_port() -> Result<ReservedPort, WorldError> {
    ReservedPort::take().map_err(WorldError::file("reserve", Path::new("a loopback port")))
}
