//! A simulated vCenter: real SOAP over TLS, disks that are sparse files, VM snapshots that freeze, tracking that can lie.
//!
//! Written from the protocol's description alone, without the product's own client, so that each checks the other.

mod admin;
mod block_set;
mod change_tracking;
mod delta_file;
pub(crate) mod devices;
pub(crate) mod disk;
mod disk_chain;
mod error;
mod fault;
mod folder;
mod hot_add;
mod http;
mod injection;
mod inventory;
mod inventory_build;
mod methods;
mod properties;
mod schema;
mod service_content;
mod sessions;
mod soap;
mod spec;
pub(crate) mod state;
mod tasks;
mod tls;
mod updates;
mod value;
pub(crate) mod vm;
mod vm_view;
mod xml;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use block_set::Area;
pub use delta_file::DeltaFormat;
pub use error::VcenterError;
pub use hot_add::device_dir;
pub use injection::{Effect, FaultRule};
pub use spec::{
    ControllerKind, DatastoreSpec, DiskSpec, Firmware, NetworkKind, NetworkSpec, NicKind, NicSpec, Tools,
    VcenterConfig, VmSpec,
};

use crate::guest::Guest;
use injection::Injections;
use sessions::Sessions;
use state::{Counters, Lab};
use tasks::Tasks;
use vm::Vm;

/// Longest the server waits for open connections when it stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// First number of VM snapshot ids made by clients; lower ones exist from the start.
const FIRST_VM_SNAPSHOT: u64 = 10_001;

/// A VM snapshot as the laboratory tells of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VmSnapshotInfo {
    /// Managed object id.
    pub moref: String,
    /// Name given by its maker.
    pub name: String,
    /// Description given by its maker.
    pub description: String,
    /// Whether the guest was quiesced.
    pub quiesced: bool,
    /// Change id of each disk by device key; absent for untracked disks.
    pub change_ids: HashMap<i32, String>,
}

/// A running simulated vCenter.
#[derive(Debug)]
pub struct VcenterSim {
    lab: Arc<Lab>,
    admin_address: SocketAddr,
    identity: tls::ServerIdentity,
    tracker: TaskTracker,
}

impl VcenterSim {
    /// Builds the inventory, opens both ports and serves until `shutdown`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, a disk file cannot be opened or a port cannot be had.
    pub async fn start(config: VcenterConfig) -> Result<Self, VcenterError> {
        std::fs::create_dir_all(&config.state_dir).map_err(VcenterError::file("make the folder", &config.state_dir))?;
        let identity = tls::make_identity(&config.state_dir)?;
        let inventory = inventory_build::build(&config, &identity.sha1_thumbprint, OffsetDateTime::now_utc())?;
        let (listener, address) = listen(config.listen).await?;
        let (admin_listener, admin_address) = listen(config.admin_listen).await?;
        let lab = Arc::new(Lab {
            address,
            instance_uuid: uuid::Uuid::new_v4().to_string(),
            sha1_thumbprint: identity.sha1_thumbprint.clone(),
            inventory,
            sessions: Sessions::new(Duration::from_secs(config.session_idle_seconds)),
            tasks: Tasks::default(),
            injections: Injections::default(),
            counters: Counters::default(),
            shutdown: CancellationToken::new(),
            changes: watch::Sender::new(0),
            next_vm_snapshot: AtomicU64::new(FIRST_VM_SNAPSHOT),
            config,
        });
        let tracker = TaskTracker::new();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&identity.config));
        tracker.spawn(http::serve(listener, acceptor, Arc::clone(&lab), tracker.clone()));
        let about = admin::About::new(&lab, &identity, admin_address);
        tracker.spawn(admin::serve(admin_listener, Arc::clone(&lab), about));
        tracing::info!(%address, admin = %admin_address, "simulated vCenter is up");
        Ok(Self { lab, admin_address, identity, tracker })
    }

    /// Where the HTTPS port listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.lab.address
    }

    /// `https://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.lab.address)
    }

    /// `http://127.0.0.1:port` of the laboratory endpoint.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address)
    }

    /// SHA-1 of the server certificate as `AA:BB:…`.
    #[must_use]
    pub fn sha1_thumbprint(&self) -> &str {
        &self.identity.sha1_thumbprint
    }

    /// SHA-256 of the server certificate as `AA:BB:…`.
    #[must_use]
    pub fn sha256_thumbprint(&self) -> &str {
        &self.identity.sha256_thumbprint
    }

    /// The certificate of the authority clients may trust, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.identity.ca_pem
    }

    /// The file with the same certificate.
    #[must_use]
    pub fn ca_pem_path(&self) -> &Path {
        &self.identity.ca_path
    }

    /// The guest of a VM.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn guest(&self, vm: &str) -> Result<Guest, VcenterError> {
        Ok(Guest::new(Arc::clone(&self.lab), self.vm(vm)?))
    }

    fn vm(&self, name: &str) -> Result<Arc<Vm>, VcenterError> {
        find_vm(&self.lab, name)
    }

    /// Managed object id of a VM.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn moref(&self, vm: &str) -> Result<String, VcenterError> {
        Ok(self.vm(vm)?.moref.id.clone())
    }

    /// BIOS uuid of a VM, as its guest's firmware tells it.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn bios_uuid(&self, vm: &str) -> Result<String, VcenterError> {
        Ok(self.vm(vm)?.uuid.clone())
    }

    /// The folder of the devices a VM's guest sees of other VMs' disks that are attached to it.
    #[must_use]
    pub fn device_dir(&self, vm: &str) -> PathBuf {
        hot_add::device_dir(&self.lab.config.state_dir, vm)
    }

    /// Datastore paths of the other VMs' disks that are attached to a VM.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn foreign_disks(&self, vm: &str) -> Result<Vec<String>, VcenterError> {
        let vm = self.vm(vm)?;
        let state = vm.state.lock();
        let path = |disk: &devices::AttachedDisk| match &disk.file {
            devices::DiskFile::Foreign { path, .. } => Some(path.clone()),
            devices::DiskFile::Own(_) => None,
        };
        Ok(state.disks.iter().filter_map(path).collect())
    }

    /// Inventory path of a VM, for example `DC0/vm/prod/web01`.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn inventory_path(&self, vm: &str) -> Result<String, VcenterError> {
        Ok(inventory_path(&self.lab, &*self.vm(vm)?))
    }

    /// The VM snapshots of a VM, oldest first.
    ///
    /// # Errors
    /// When there is no VM of that name.
    pub fn vm_snapshots(&self, vm: &str) -> Result<Vec<VmSnapshotInfo>, VcenterError> {
        Ok(vm_snapshots(&*self.vm(vm)?))
    }

    /// Makes calls fail, hang or break off.
    pub fn inject(&self, rule: FaultRule) {
        self.lab.injections.add(rule);
    }

    /// Forgets injected rules and delays; hanging requests are answered with 503.
    pub fn clear_injections(&self) {
        self.lab.injections.clear();
    }

    /// Makes every task last at least that long.
    pub fn set_task_delay(&self, delay: Duration) {
        self.lab.injections.set_task_delay(delay);
    }

    /// Ends all sessions now; gives how many there were.
    pub fn expire_sessions(&self) -> usize {
        self.lab.sessions.expire_all()
    }

    /// Sessions that were opened and not ended.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.lab.sessions.count()
    }

    /// How often each method (and `/folder`) was called.
    #[must_use]
    pub fn calls(&self) -> HashMap<String, u64> {
        self.lab.injections.calls()
    }

    /// Bytes of flat files sent so far.
    #[must_use]
    pub fn folder_bytes(&self) -> u64 {
        self.lab.counters.folder_bytes.load(Ordering::Relaxed)
    }

    /// Starts a new tracking epoch on one disk, or on all of a VM; gives how many disks were tracked.
    ///
    /// # Errors
    /// When there is no such VM or disk.
    pub fn reset_change_tracking(&self, vm: &str, disk_key: Option<i32>) -> Result<usize, VcenterError> {
        reset_change_tracking(&*self.vm(vm)?, disk_key)
    }

    /// Leaves the `nth` dirty grain of a disk out of every later answer; `None` tells the truth again.
    ///
    /// # Errors
    /// When there is no such VM or disk.
    pub fn omit_changed_grain(&self, vm: &str, disk_key: i32, nth: Option<u64>) -> Result<(), VcenterError> {
        own_disk(&*self.vm(vm)?, disk_key)?.omit_grain(nth);
        Ok(())
    }

    /// Removes every VM snapshot of a VM, as another product or an operator at the console would.
    ///
    /// # Errors
    /// When there is no such VM, or its disks cannot be merged.
    pub fn remove_vm_snapshots(&self, vm: &str) -> Result<(), VcenterError> {
        remove_all_vm_snapshots(&*self.vm(vm)?)
    }

    /// Turns a VM on or off, as an operator at the console would.
    ///
    /// # Errors
    /// When there is no such VM. A VM that is already so is left alone.
    pub fn set_power(&self, vm: &str, on: bool) -> Result<(), VcenterError> {
        set_power(&self.lab, &*self.vm(vm)?, on);
        Ok(())
    }

    /// Stops serving: connections are closed, ports are free afterwards.
    pub async fn shutdown(self) {
        self.lab.shutdown.cancel();
        self.tracker.close();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.tracker.wait()).await.is_err() {
            tracing::warn!("connections of the simulated vCenter did not end in time");
        }
    }
}

impl Drop for VcenterSim {
    fn drop(&mut self) {
        self.lab.shutdown.cancel();
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), VcenterError> {
    let wrap = |source| VcenterError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(wrap)?;
    let bound = listener.local_addr().map_err(wrap)?;
    Ok((listener, bound))
}

fn find_vm(lab: &Lab, name: &str) -> Result<Arc<Vm>, VcenterError> {
    let unknown = || VcenterError::Unknown { what: "VM", name: name.to_owned() };
    lab.inventory.vm_named(name).map(Arc::clone).ok_or_else(unknown)
}

/// The disk with that device key, if the VM has it and it is its own.
pub(crate) fn own_disk(vm: &Vm, key: i32) -> Result<Arc<disk::Disk>, VcenterError> {
    let device = vm.disk(key);
    let own = device.as_ref().and_then(devices::AttachedDisk::own).map(Arc::clone);
    own.ok_or_else(|| VcenterError::Unknown { what: "disk", name: format!("{} of VM {}", key, vm.spec.name) })
}

fn inventory_path(lab: &Lab, vm: &Vm) -> String {
    let mut parts = vec![inventory::encoded_name(&vm.spec.name)];
    let mut above = Some(vm.parent.clone());
    while let Some(moref) = above.filter(|moref| *moref != lab.inventory.root()) {
        let Some(entity) = lab.inventory.entities.get(&moref) else { break };
        parts.push(entity.name.clone());
        above = entity.parent.clone();
    }
    parts.reverse();
    parts.join("/")
}

fn vm_snapshots(vm: &Vm) -> Vec<VmSnapshotInfo> {
    let state = vm.state.lock();
    let info = |snapshot: &vm::VmSnapshot| VmSnapshotInfo {
        moref: snapshot.moref.id.clone(),
        name: snapshot.name.clone(),
        description: snapshot.description.clone(),
        quiesced: snapshot.quiesced,
        change_ids: snapshot
            .disks
            .iter()
            .filter_map(|recorded| Some((recorded.device.key, recorded.point?.to_string())))
            .collect(),
    };
    state.vm_snapshots.iter().map(info).collect()
}

fn reset_change_tracking(vm: &Vm, disk_key: Option<i32>) -> Result<usize, VcenterError> {
    if let Some(key) = disk_key {
        return Ok(usize::from(own_disk(vm, key)?.reset_tracking()));
    }
    let state = vm.state.lock();
    Ok(state.disks.iter().filter_map(devices::AttachedDisk::own).filter(|disk| disk.reset_tracking()).count())
}

fn remove_all_vm_snapshots(vm: &Vm) -> Result<(), VcenterError> {
    let failed = |_| std::io::Error::other("the VM snapshots cannot be merged");
    vm.remove_all_vm_snapshots().map_err(failed).map_err(|source| VcenterError::Disk { doing: "merge", source })
}

fn set_power(lab: &Lab, vm: &Vm, on: bool) {
    if let Err(fault) = vm.set_power(on, lab.now()) {
        tracing::debug!(vm = vm.spec.name, fault = %fault.type_name, "power was left alone");
    }
    lab.touch();
}

/// BIOS uuid of the VM with that name, in every laboratory.
#[must_use]
pub fn bios_uuid(vm: &str) -> String {
    inventory_build::stable_uuid("bios", vm)
}

#[cfg(test)]
mod tests;
