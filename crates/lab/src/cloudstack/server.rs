//! Starting and stopping a simulated CloudStack, and the typed handle tests hold.
//!
//! The handle reaches into the state; everything a client may do goes over HTTP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::admin;
use super::catalogue::{CUSTOM_DISK_OFFERING, SMALL_OFFERING, fixed_id};
use super::commands::power::set_state;
use super::config::{CloudstackConfig, JobTiming};
use super::connections;
use super::entities::VmState;
use super::error::CloudstackSimError;
use super::faults::{Fault, FaultKind, FaultView};
use super::http;
use super::hypervisor::Hypervisor;
use super::inspection::{self, Counts, SnapshotView, TaggedView, VmSnapshotView, VmView, VolumeView};
use super::jobs::Engine;
use super::persist::VolumeSelector;
use super::world::World;

/// How often hosts tell which machines ended.
const POWER_REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// How often an awaited console is read.
const CONSOLE_INTERVAL: Duration = Duration::from_millis(50);

/// The simulated CloudStack; `start` is all there is.
#[derive(Debug)]
pub struct CloudstackSim;

impl CloudstackSim {
    /// Opens the state folder and listens.
    ///
    /// # Errors
    /// When the folders, the state file, the loop devices or the addresses cannot be used.
    pub async fn start(config: CloudstackConfig) -> Result<CloudstackHandle, CloudstackSimError> {
        let (listen, admin_listen) = (config.listen, config.admin_listen);
        let world = World::open(config)?;
        let hypervisor = world.config.boots.then(|| Hypervisor::new(&world.config)).transpose()?;
        let engine = Engine::new(world, hypervisor);
        let router = http::router(Arc::clone(&engine));
        let (api_address, api) = connections::serve(listen, router, engine.cancel.clone()).await?;
        let (admin_address, lab) = serve(&engine, admin_listen, admin::router(Arc::clone(&engine))).await?;
        if engine.hypervisor.is_some() {
            tokio::spawn(power_reports(Arc::clone(&engine)));
        }
        Ok(CloudstackHandle {
            url: format!("http://{api_address}/client/api"),
            admin_url: format!("http://{admin_address}"),
            engine,
            servers: vec![api, lab],
            keep_devices: false,
        })
    }
}

/// A running simulated CloudStack. Dropping it stops it and detaches its loop devices.
pub struct CloudstackHandle {
    /// The API endpoint, `http://host:port/client/api`.
    pub url: String,
    /// Base of the lab endpoint, `http://host:port`.
    pub admin_url: String,
    engine: Arc<Engine>,
    servers: Vec<JoinHandle<()>>,
    keep_devices: bool,
}

impl CloudstackHandle {
    /// Stops the server as a management-server restart would: devices and links in the worker VM stay. Booted machines
    /// end: nobody would look after them.
    pub async fn shutdown(mut self) {
        self.keep_devices = true;
        self.stop_listening().await;
    }

    /// Stops the server and takes its links and loop devices away; the state folder stays.
    pub async fn release(mut self) {
        self.stop_listening().await;
        let volumes = self.volumes();
        let mut world = self.engine.world.lock();
        world.storage.detach_loops();
        for link in volumes.into_iter().filter_map(|volume| volume.link) {
            if let Err(error) = world.storage.remove_file(&link) {
                tracing::warn!(%error, "a link stays behind");
            }
        }
    }

    async fn stop_listening(&mut self) {
        self.engine.cancel.cancel();
        for server in self.servers.drain(..) {
            if let Err(error) = server.await {
                tracing::debug!(%error, "a listener ended badly");
            }
        }
        self.end_machines();
    }

    fn end_machines(&self) {
        if let Some(hypervisor) = &self.engine.hypervisor {
            hypervisor.close();
        }
    }

    /// Numbers of everything.
    #[must_use]
    pub fn counts(&self) -> Counts {
        inspection::counts(&self.engine.world.lock())
    }

    /// All volumes with their files and links.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeView> {
        inspection::volumes(&self.engine.world.lock())
    }

    /// The volume with this id.
    #[must_use]
    pub fn volume(&self, id: &str) -> Option<VolumeView> {
        self.volumes().into_iter().find(|volume| volume.id == id)
    }

    /// All VMs.
    #[must_use]
    pub fn vms(&self) -> Vec<VmView> {
        inspection::vms(&self.engine.world.lock(), self.engine.hypervisor.as_ref())
    }

    /// The VM with this id.
    #[must_use]
    pub fn vm(&self, id: &str) -> Option<VmView> {
        self.vms().into_iter().find(|vm| vm.id == id)
    }

    /// All snapshots of volumes.
    #[must_use]
    pub fn snapshots(&self) -> Vec<SnapshotView> {
        inspection::snapshots(&self.engine.world.lock())
    }

    /// All snapshots of VMs.
    #[must_use]
    pub fn vm_snapshots(&self) -> Vec<VmSnapshotView> {
        inspection::vm_snapshots(&self.engine.world.lock())
    }

    /// Everything that carries a tag, with that value if one is given.
    #[must_use]
    pub fn tagged(&self, key: &str, value: Option<&str>) -> Vec<TaggedView> {
        inspection::tagged(&self.engine.world.lock(), key, value)
    }

    /// What a VM's serial port said: all of it, or since its latest start.
    ///
    /// # Errors
    /// VMs are not booted here, or the log cannot be read.
    pub fn console(&self, vm_id: &str, since_start: bool) -> Result<String, CloudstackSimError> {
        hypervisor_of(&self.engine)?.console(vm_id, since_start).map_err(CloudstackSimError::machine)
    }

    /// Waits until a VM's serial port says something since its latest start; gives everything said since then.
    ///
    /// # Errors
    /// VMs are not booted here, or it is not said in time; the error has what was.
    pub async fn until_console(
        &self,
        vm_id: &str,
        needle: &str,
        limit: Duration,
    ) -> Result<String, CloudstackSimError> {
        let deadline = Instant::now() + limit;
        loop {
            let said = self.console(vm_id, true)?;
            if said.contains(needle) {
                return Ok(said);
            }
            if Instant::now() > deadline {
                return Err(CloudstackSimError::Unsaid { needle: needle.to_owned(), said });
            }
            tokio::time::sleep(CONSOLE_INTERVAL).await;
        }
    }

    /// Saves what a VM's screen shows as PNG in the state folder; gives the file.
    ///
    /// # Errors
    /// Nothing runs for this VM, or its machine refuses.
    pub async fn screenshot(&self, vm_id: &str) -> Result<PathBuf, CloudstackSimError> {
        admin::screenshot_of(&self.engine, vm_id).await
    }

    /// Requests of a command that passed authentication so far.
    #[must_use]
    pub fn requests(&self, command: &str) -> u64 {
        self.engine.world.lock().requests.get(command).copied().unwrap_or(0)
    }

    /// The worker VM's id.
    #[must_use]
    pub fn oma_vm_id(&self) -> String {
        self.engine.world.lock().oma_vm_id.clone()
    }

    /// The zone's id.
    #[must_use]
    pub fn zone_id(&self) -> String {
        self.engine.world.lock().catalogue.zone_id.clone()
    }

    /// The id of the disk offering with free size.
    #[must_use]
    pub fn custom_disk_offering_id(&self) -> String {
        fixed_id("diskoffering", CUSTOM_DISK_OFFERING)
    }

    /// The id of the smallest compute offering.
    #[must_use]
    pub fn service_offering_id(&self) -> String {
        fixed_id("serviceoffering", SMALL_OFFERING)
    }

    /// Arms a failure for the next `count` requests (or jobs) of a command; `*` means any.
    ///
    /// Kinds that kill need a process: [`Self::arm_fault`].
    pub fn arm(&self, command: &str, kind: FaultKind, count: u32) {
        if let Err(reason) = self.arm_fault(Fault { count, ..Fault::once(command, kind) }) {
            tracing::error!(%reason, ?kind, "a fault could not be armed");
        }
    }

    /// Arms a failure with everything it can have; gives its number.
    ///
    /// # Errors
    /// The process named cannot be killed, or is named by a failure that kills nothing.
    pub fn arm_fault(&self, fault: Fault) -> Result<u64, CloudstackSimError> {
        self.engine.world.lock().faults.arm(fault).map_err(CloudstackSimError::Fault)
    }

    /// Everything armed since the last `clear_faults`, used up or not.
    #[must_use]
    pub fn fault_views(&self) -> Vec<FaultView> {
        self.engine.world.lock().faults.views()
    }

    /// Makes the next `count` answers of a command come late.
    pub fn arm_slow(&self, command: &str, delay: Duration, count: u32) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let fault = Fault { count, delay_ms, ..Fault::once(command, FaultKind::Slow) };
        if let Err(reason) = self.arm_fault(fault) {
            tracing::error!(%reason, "a fault could not be armed");
        }
    }

    /// Failures not used up yet.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.engine.world.lock().faults.armed()
    }

    /// Disarms all failures.
    pub fn clear_faults(&self) {
        self.engine.world.lock().faults.clear();
    }

    /// Makes the files of matching volumes, from now on, in another folder (a small file system, say).
    pub fn place_volumes(&self, selector: VolumeSelector, directory: impl Into<PathBuf>) {
        admin::place_volumes(&self.engine, selector, directory.into());
    }

    /// Gives matching volumes, when next attached, a device of another size than the API tells.
    pub fn set_device_size(&self, selector: VolumeSelector, size_bytes: u64) {
        admin::set_device_size(&self.engine, selector, size_bytes);
    }

    /// Changes the speed of jobs submitted from now on.
    pub fn set_job_timing(&self, timing: JobTiming) {
        self.engine.world.lock().config.jobs = timing;
    }

    /// Waits until the counts satisfy a condition; looks again at every change. Bound it with a timeout.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Counts) -> bool) -> Counts {
        let mut changes = self.engine.subscribe();
        loop {
            let counts = self.counts();
            if condition(&counts) || changes.changed().await.is_err() {
                return counts;
            }
        }
    }
}

impl Drop for CloudstackHandle {
    fn drop(&mut self) {
        self.engine.cancel.cancel();
        self.end_machines();
        if !self.keep_devices {
            self.engine.world.lock().storage.detach_loops();
        }
    }
}

/// The machines of a cloud that boots its VMs.
pub(crate) fn hypervisor_of(engine: &Engine) -> Result<&Hypervisor, CloudstackSimError> {
    let none = || CloudstackSimError::Config("VMs are not booted here: set `boots`".to_owned());
    engine.hypervisor.as_ref().ok_or_else(none)
}

/// Machines that end by themselves (a guest shut down, QEMU died) are stopped VMs, as the host's power reports tell.
async fn power_reports(engine: Arc<Engine>) {
    let mut ended: BTreeSet<String> = BTreeSet::new();
    loop {
        tokio::select! {
            () = engine.cancel.cancelled() => return,
            () = tokio::time::sleep(POWER_REPORT_INTERVAL) => {}
        }
        let Some(hypervisor) = &engine.hypervisor else { return };
        ended.extend(hypervisor.take_ended());
        if ended.is_empty() {
            continue;
        }
        let mut world = engine.world.lock();
        ended.retain(|vm_id| {
            match world.inventory.vm(vm_id).map(|vm| vm.state) {
                // Its start job is about to say that it runs.
                Some(VmState::Starting) => return !hypervisor.runs(vm_id),
                Some(VmState::Running) if !hypervisor.runs(vm_id) => {
                    if let Err(refusal) = set_state(&mut world, vm_id, VmState::Stopped) {
                        tracing::warn!(vm_id, reason = refusal.text, "an ended machine's VM could not be stopped");
                    }
                }
                _ => {}
            }
            false
        });
        engine.commit(&mut world);
    }
}

async fn serve(
    engine: &Engine,
    address: SocketAddr,
    router: Router,
) -> Result<(SocketAddr, JoinHandle<()>), CloudstackSimError> {
    let listener = TcpListener::bind(address).await.map_err(|source| CloudstackSimError::Listen { address, source })?;
    let bound = listener.local_addr().map_err(|source| CloudstackSimError::Listen { address, source })?;
    let cancelled = engine.cancel.clone().cancelled_owned();
    let task = tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(cancelled);
        if let Err(error) = server.await {
            tracing::error!(%error, "a simulated endpoint ended");
        }
    });
    Ok((bound, task))
}
