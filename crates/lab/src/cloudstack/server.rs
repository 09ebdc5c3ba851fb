//! Starting and stopping a simulated CloudStack, and the typed handle tests hold.
//!
//! The handle reaches into the state; everything a client may do goes over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::admin;
use super::catalogue::{CUSTOM_DISK_OFFERING, SMALL_OFFERING, fixed_id};
use super::config::{CloudstackConfig, JobTiming};
use super::error::CloudstackSimError;
use super::faults::{Fault, FaultKind};
use super::http;
use super::inspection::{self, Counts, VmView, VolumeView};
use super::jobs::Engine;
use super::persist::VolumeSelector;
use super::world::World;

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
        let engine = Engine::new(World::open(config)?);
        let (api_address, api) = serve(&engine, listen, http::router(Arc::clone(&engine))).await?;
        let (admin_address, lab) = serve(&engine, admin_listen, admin::router(Arc::clone(&engine))).await?;
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
    /// Stops the server as a management-server restart would: devices and links in the worker VM stay.
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
        inspection::vms(&self.engine.world.lock())
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
    pub fn arm(&self, command: &str, kind: FaultKind, count: u32) {
        let fault = Fault { command: command.to_owned(), kind, count, delay_ms: 0 };
        self.engine.world.lock().faults.arm(fault);
    }

    /// Makes the next `count` answers of a command come late.
    pub fn arm_slow(&self, command: &str, delay: Duration, count: u32) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let fault = Fault { command: command.to_owned(), kind: FaultKind::Slow, count, delay_ms };
        self.engine.world.lock().faults.arm(fault);
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
        if !self.keep_devices {
            self.engine.world.lock().storage.detach_loops();
        }
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
