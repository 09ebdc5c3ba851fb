//! The world of a test or a demonstration: simulators, hub and agent as processes of their own, and an operator who
//! uses the real command line.

mod cloud;
mod error;
mod operator;
mod process;
pub mod proof;
mod setup;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

pub use error::WorldError;
pub use operator::{CommandOutput, Operator};
pub use process::Process;
pub use setup::{Disk, Roles, WorldPlan};

use crate::guest::Scatter;
use crate::mariadb::MariaDbServer;
use crate::serve::Addresses;
use crate::toxic::ToxicLink;
use crate::wire::Wire;
use setup::Files;

/// How long a process may take to come up.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at while it is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Everything, running.
pub struct World {
    files: Files,
    plan: WorldPlan,
    addresses: Addresses,
    http: reqwest::Client,
    /// The simulators.
    pub lab: Process,
    /// The hub's processes by role: one called `hub`, or `gateway`, `volume-daemon` and `oma`.
    pub hub: Vec<Process>,
    /// The agent, once it is enrolled.
    pub agent: Option<Process>,
    database: Option<MariaDbServer>,
    database_wire: Option<Wire>,
    link: Option<ToxicLink>,
}

impl World {
    /// Builds the disks and starts simulators and hub; there is no agent yet.
    ///
    /// # Errors
    /// A program is missing, or a process does not come up.
    pub async fn start(dir: &Path, plan: WorldPlan) -> Result<Self, WorldError> {
        // reqwest asks for a process-wide provider even where it speaks plain HTTP; one that is there is as good.
        let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut files = Files::make(dir)?;
        let database = match plan.roles {
            Roles::Together => None,
            Roles::Apart | Roles::TogetherOnMariaDb => {
                Some(MariaDbServer::start(None).map_err(WorldError::simulator("MariaDB"))?)
            }
        };
        let database_wire = match (&database, plan.roles) {
            (Some(server), Roles::TogetherOnMariaDb) => {
                let to = SocketAddr::from(([127, 0, 0, 1], server.port()));
                Some(Wire::to(to).await.map_err(WorldError::simulator("wire to the database"))?)
            }
            _ => None,
        };
        files.write_lab(&plan)?;
        let mut lab = files.start_lab()?;
        let ready = files.ready();
        until(START_DEADLINE, "the simulators are up", || ready.exists() || lab.has_ended()).await?;
        if lab.has_ended() {
            return Err(lab.ended_error());
        }
        let text = std::fs::read(&ready).map_err(WorldError::file("read", &ready))?;
        let addresses: Addresses = serde_json::from_slice(&text).map_err(|error| WorldError::Answer {
            what: "the simulators' addresses".to_owned(),
            reason: error.to_string(),
        })?;
        let link = match plan.toxic {
            true => Some(ToxicLink::to(files.public_address()).await.map_err(WorldError::simulator("link"))?),
            false => None,
        };
        files.write_hub(database.as_ref(), database_wire.as_ref(), link.as_ref(), &plan)?;
        let http = reqwest::Client::new();
        let (hub, agent) = (Vec::new(), None);
        let mut world = Self { files, plan, addresses, http, lab, hub, agent, database, database_wire, link };
        for role in world.plan.roles.names() {
            let process = world.files.start_role(role)?;
            world.hub.push(process);
        }
        world.hub_is_up().await?;
        Ok(world)
    }

    /// The operator at the hub.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.files.operator()
    }

    /// Where the simulators are.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The folder everything is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// The agent's configuration file.
    #[must_use]
    pub fn agent_config(&self) -> PathBuf {
        self.files.agent_config()
    }

    /// Address of the hub's public port.
    #[must_use]
    pub fn hub_address(&self) -> String {
        self.files.hub_address()
    }

    /// Address of the hub's API on its own machine: `http://127.0.0.1:port`.
    #[must_use]
    pub fn hub_url(&self) -> String {
        self.files.hub_url()
    }

    /// The hub's plain NBD port for tools on its own machine.
    #[must_use]
    pub fn local_nbd_address(&self) -> SocketAddr {
        self.files.local_nbd_address()
    }

    /// The socket the hub's gateway is controlled through.
    #[must_use]
    pub fn gateway_socket(&self) -> PathBuf {
        self.files.dir().join("run/gateway.sock")
    }

    /// Pairs an agent with the hub: code, enrolment, approval; then starts it and waits until it is connected.
    ///
    /// # Errors
    /// A step fails; the error has the command's own words.
    pub async fn enrol_agent(&mut self) -> Result<(), WorldError> {
        let operator = self.operator();
        let code = operator.run(&["agent", "pair"]).await?.json()?;
        let code = code["code"].as_str().unwrap_or_default().to_owned();
        let config = self.agent_config();
        let enrolling = operator.clone();
        let enrolment = tokio::spawn(async move {
            let config = config.to_string_lossy().into_owned();
            enrolling.run(&["enroll", "--config", &config, "--code", &code, "--name", "lab-agent"]).await
        });
        let waiting = self.until_agent(|agent| agent["status"] == "awaiting_approval").await?;
        let id = waiting["enrollment_id"].as_str().unwrap_or_default().to_owned();
        operator.run(&["agent", "approve", &id]).await?.json()?;
        let enrolled = enrolment
            .await
            .map_err(|error| WorldError::Answer { what: "the enrolment".to_owned(), reason: error.to_string() })?;
        enrolled?.json()?;
        self.start_agent().await
    }

    /// Starts the agent and waits until the hub sees it.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_agent(&mut self) -> Result<(), WorldError> {
        self.agent = Some(self.files.start_agent()?);
        self.agent_is_connected().await
    }

    /// Waits until the hub sees the agent, which dials again by itself after the hub was away.
    ///
    /// # Errors
    /// It does not come.
    pub async fn agent_is_connected(&self) -> Result<(), WorldError> {
        self.until_agent(|agent| agent["connected"] == true).await.map(|_| ())
    }

    /// Starts a hub role again after it was killed.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart_role(&mut self, role: &str) -> Result<(), WorldError> {
        let process = self.files.start_role(role)?;
        self.hub.retain(|known| known.name() != role);
        self.hub.push(process);
        self.hub_is_up().await
    }

    /// Kills a hub role at once, as `kill -9` does; [`Self::restart_role`] brings it back.
    ///
    /// # Errors
    /// There is no such role.
    pub fn kill_role(&mut self, role: &str) -> Result<(), WorldError> {
        let absent = || WorldError::Answer { what: role.to_owned(), reason: "no such role runs here".to_owned() };
        self.hub.iter_mut().find(|process| process.name() == role).ok_or_else(absent)?.kill();
        Ok(())
    }

    /// Kills the agent at once, as `kill -9` does; [`Self::start_agent`] brings it back.
    pub fn kill_agent(&mut self) {
        drop(self.agent.take());
    }

    /// Tells the hub about vCenter and CloudStack.
    ///
    /// # Errors
    /// The hub refuses.
    pub async fn connect_sites(&self) -> Result<(), WorldError> {
        let operator = self.operator();
        let (password, key, secret) = (self.files.password(), self.files.api_key(), self.files.secret_key());
        let addresses = &self.addresses;
        let vcenter = [
            "vcenter",
            "add",
            "lab",
            "--url",
            &addresses.vcenter_url,
            "--username",
            setup::VCENTER_USER,
            "--password-file",
            &password,
            "--thumbprint",
            &addresses.vcenter_thumbprint,
            "--default",
        ];
        operator.run(&vcenter).await?.json()?;
        let target = [
            "target",
            "add",
            "lab-cloud",
            "--url",
            &addresses.cloudstack_url,
            "--api-key-file",
            &key,
            "--secret-key-file",
            &secret,
            "--zone",
            &addresses.zone_id,
            "--hub-vm",
            &addresses.oma_vm_id,
        ];
        operator.run(&target).await?.json()?;
        Ok(())
    }

    /// Asks the guest of the VM to write `count` random blocks of 64 KiB; answers with the bytes written.
    ///
    /// # Errors
    /// The simulator refuses.
    pub async fn guest_writes(&self, disk: &Disk, count: u64, seed: u64) -> Result<u64, WorldError> {
        let scatter = Scatter {
            count,
            seed,
            range_start_bytes: disk.layout.scratch.start,
            range_length_bytes: disk.layout.scratch.length,
        };
        let mut body = serde_json::to_value(scatter).unwrap_or_default();
        body["disk_key"] = json!(disk.key);
        let path = format!("/lab/vms/{}/scatter", self.plan.vm_name);
        let answer = self.vcenter_admin(&path, &body).await?;
        Ok(answer["bytes_written"].as_u64().unwrap_or(0))
    }

    /// Has the guest of the VM replace the text of the marker file on its system disk.
    ///
    /// # Errors
    /// The guest does not run, or the simulator refuses.
    pub async fn write_marker(&self, text: &str) -> Result<(), WorldError> {
        let path = format!("/lab/vms/{}/marker", self.plan.vm_name);
        self.vcenter_admin(&path, &json!({ "text": text })).await.map(|_| ())
    }

    /// Has the guest of the VM replace the text of the marker file on one of its disks.
    ///
    /// # Errors
    /// The guest does not run, or the simulator refuses.
    pub async fn write_marker_on(&self, disk: &Disk, text: &str) -> Result<(), WorldError> {
        let path = format!("/lab/vms/{}/marker", self.plan.vm_name);
        self.vcenter_admin(&path, &json!({ "text": text, "disk_key": disk.key })).await.map(|_| ())
    }

    /// The link between the agent and the hub, in a world that has one.
    #[must_use]
    pub fn link(&self) -> Option<&ToxicLink> {
        self.link.as_ref()
    }

    /// Removes every vm_snapshot of the VM, as another product or an operator at the console would.
    ///
    /// # Errors
    /// The simulator refuses.
    pub async fn remove_vm_snapshots(&self) -> Result<(), WorldError> {
        let url = format!("{}/lab/vms/{}/vm-snapshots", self.addresses.vcenter_admin, self.plan.vm_name);
        let answer = self.http.delete(&url).send().await.map_err(WorldError::http(&url))?;
        accepted(&url, answer).await.map(|_| ())
    }

    /// The wire to the database, in a world that has one.
    #[must_use]
    pub fn database_wire(&self) -> Option<&Wire> {
        self.database_wire.as_ref()
    }

    /// The disks of the VM.
    #[must_use]
    pub fn disks(&self) -> &[Disk] {
        self.files.disks()
    }

    /// What the simulated vCenter knows of the VM.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn source_vm(&self) -> Result<Value, WorldError> {
        let url = format!("{}/lab/vms/{}", self.addresses.vcenter_admin, self.plan.vm_name);
        self.get(&url).await
    }

    /// Posts to the laboratory endpoint of the vCenter.
    ///
    /// # Errors
    /// It refuses.
    pub async fn vcenter_admin(&self, path: &str, body: &Value) -> Result<Value, WorldError> {
        self.post(&format!("{}{path}", self.addresses.vcenter_admin), body).await
    }

    /// Lets `calls` reads of datastore files through and holds every further one: a copy stops in its middle until
    /// [`Self::release_reads`].
    ///
    /// # Errors
    /// The simulator refuses.
    pub async fn hold_reads_after(&self, calls: u64) -> Result<(), WorldError> {
        let rule = json!({ "method": "/folder", "what": { "effect": "hold" }, "skip": calls });
        self.vcenter_admin("/lab/faults", &rule).await.map(|_| ())
    }

    /// Forgets every injected fault of the vCenter; held reads go on.
    ///
    /// # Errors
    /// The simulator refuses.
    pub async fn release_reads(&self) -> Result<(), WorldError> {
        let url = format!("{}/lab/faults", self.addresses.vcenter_admin);
        let answer = self.http.delete(&url).send().await.map_err(WorldError::http(&url))?;
        answer.error_for_status().map_err(WorldError::http(&url)).map(|_| ())
    }

    /// Gets a path of the hub's API (`/api/v1/…`) with the operator's token.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub async fn api(&self, path: &str) -> Result<Value, WorldError> {
        let url = format!("{}{path}", self.files.hub_url());
        let request = self.http.get(&url).bearer_auth(self.files.operator_token()?);
        let answer = request.send().await.map_err(WorldError::http(&url))?;
        answer.error_for_status().map_err(WorldError::http(&url))?.json().await.map_err(WorldError::http(&url))
    }

    /// Where the content a removed vm_snapshot had frozen is kept.
    #[must_use]
    pub fn retained(&self, vm_snapshot: &str, disk_key: i32) -> PathBuf {
        self.files.retained(vm_snapshot, disk_key)
    }

    /// The folder of the devices a VM sees of other VMs' disks that are attached to it.
    #[must_use]
    pub fn devices(&self, vm: &str) -> PathBuf {
        self.files.devices(vm)
    }

    /// Ends every process in an orderly way.
    pub async fn stop(mut self) {
        if let Some(agent) = self.agent.as_mut() {
            agent.terminate().await;
        }
        for process in &mut self.hub {
            process.terminate().await;
        }
        self.lab.terminate().await;
        drop(self.database.take());
    }

    /// Forgets the processes: they run on after this program.
    pub fn leave_running(mut self) {
        let processes = self.hub.iter_mut().chain(self.agent.as_mut());
        processes.for_each(Process::leave_running);
        self.lab.leave_running();
        std::mem::forget(self.database.take());
    }

    async fn until_agent(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value, WorldError> {
        let operator = self.operator();
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let agents = operator.run(&["agent", "list"]).await?.json()?;
            let found = agents["items"].as_array().and_then(|agents| agents.iter().find(|agent| wanted(agent)));
            if let Some(agent) = found {
                return Ok(agent.clone());
            }
            if Instant::now() > deadline {
                return Err(WorldError::TooLate { what: format!("an agent as expected; there is {agents}") });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn hub_is_up(&mut self) -> Result<(), WorldError> {
        let deadline = Instant::now() + START_DEADLINE;
        let url = format!("{}/health", self.files.hub_url());
        loop {
            let healthy = self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            if healthy && self.files.gateway_is_up() && self.files.volume_daemon_is_up(&self.http).await {
                return Ok(());
            }
            if let Some(dead) = self.hub.iter_mut().find_map(|process| process.has_ended().then_some(process)) {
                return Err(dead.ended_error());
            }
            if Instant::now() > deadline {
                return Err(WorldError::TooLate { what: "the hub's processes".to_owned() });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn get(&self, url: &str) -> Result<Value, WorldError> {
        let answer = self.http.get(url).send().await.map_err(WorldError::http(url))?;
        accepted(url, answer).await?.json().await.map_err(WorldError::http(url))
    }

    async fn post(&self, url: &str, body: &Value) -> Result<Value, WorldError> {
        let answer = self.http.post(url).json(body).send().await.map_err(WorldError::http(url))?;
        let answer = accepted(url, answer).await?;
        let bytes = answer.bytes().await.map_err(WorldError::http(url))?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

/// An answer, or what the server said against it.
async fn accepted(url: &str, answer: reqwest::Response) -> Result<reqwest::Response, WorldError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let said = answer.text().await.unwrap_or_default();
    Err(WorldError::Refused { url: url.to_owned(), status: status.as_u16(), said })
}

/// Waits until `condition` holds.
///
/// # Errors
/// [`WorldError::TooLate`].
pub async fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<(), WorldError> {
    let deadline = Instant::now() + limit;
    while !condition() {
        if Instant::now() > deadline {
            return Err(WorldError::TooLate { what: what.to_owned() });
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
