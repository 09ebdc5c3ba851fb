//! The server's whole state behind one lock: inventory, jobs, files, armed faults; who may see what.
//!
//! Commands work on it; it knows neither HTTP nor the order of jobs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use time::OffsetDateTime;

use super::catalogue::{Account, Catalogue, random_id};
use super::config::CloudstackConfig;
use super::entities::{AsyncJob, Inventory, JobStatus, VmState, Volume, VolumeType};
use super::error::CloudstackSimError;
use super::faults::Faults;
use super::params::Params;
use super::persist::{self, Overrides, StateFile};
use super::refusal::Refusal;
use super::seed;
use super::storage::Storage;

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) account_id: String,
    pub(crate) root_admin: bool,
}

/// The state of one simulated server.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: CloudstackConfig,
    pub(crate) catalogue: Catalogue,
    pub(crate) inventory: Inventory,
    pub(crate) jobs: Vec<AsyncJob>,
    pub(crate) storage: Storage,
    pub(crate) overrides: Overrides,
    pub(crate) faults: Faults,
    /// Requests seen, by command.
    pub(crate) requests: BTreeMap<String, u64>,
    /// Volumes whose device appears only after the configured delay.
    pub(crate) late_devices: Vec<String>,
    /// The id of the worker VM.
    pub(crate) oma_vm_id: String,
    state_path: PathBuf,
    saved: Inventory,
    /// The inventory before its latest change, for stale lists.
    previous: Inventory,
    jobs_changed: bool,
}

/// The time, in whole seconds since the epoch.
pub(crate) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

impl World {
    /// Opens the state folder, or begins a new cloud in it.
    pub(crate) fn open(config: CloudstackConfig) -> Result<Self, CloudstackSimError> {
        let catalogue = Catalogue::new(&config)?;
        let storage = Storage::open(&config.state_dir, &config.by_id_dir, config.loop_devices)?;
        let state_path = config.state_dir.join("state.json");
        let StateFile { mut inventory, jobs, overrides } = persist::load(&state_path)?;
        let oma_vm_id = seed::ensure_oma_vm(&config, &catalogue, &mut inventory);
        let mut world = Self {
            config,
            catalogue,
            previous: inventory.clone(),
            saved: Inventory::default(),
            inventory,
            jobs,
            storage,
            overrides,
            faults: Faults::default(),
            requests: BTreeMap::new(),
            late_devices: Vec::new(),
            oma_vm_id,
            state_path,
            jobs_changed: true,
        };
        world.power_lost_machines_off();
        world.replug_all()?;
        world.commit();
        Ok(world)
    }

    /// Machines end with the server that ran them; power reports of the hosts then say so.
    fn power_lost_machines_off(&mut self) {
        if !self.config.boots {
            return;
        }
        let worker = self.oma_vm_id.clone();
        for vm in self.inventory.vms.iter_mut().filter(|vm| vm.id != worker && vm.state == VmState::Running) {
            vm.state = VmState::Stopped;
        }
    }

    /// Saves the state when it changed. Returns whether it did.
    pub(crate) fn commit(&mut self) -> bool {
        let changed = self.inventory != self.saved;
        if !changed && !self.jobs_changed {
            return false;
        }
        if changed {
            self.previous = std::mem::replace(&mut self.saved, self.inventory.clone());
        }
        self.jobs_changed = false;
        if let Err(error) = persist::save(&self.state_path, &self.inventory, &self.jobs, &self.overrides) {
            tracing::error!(%error, "the simulator's state could not be saved");
        }
        true
    }

    /// Asks the next commit to save although the inventory is the same.
    pub(crate) fn touch(&mut self) {
        self.jobs_changed = true;
    }

    /// Runs a list over the state before the latest change.
    pub(crate) fn in_the_past<T>(&mut self, list: impl FnOnce(&mut Self) -> T) -> T {
        std::mem::swap(&mut self.inventory, &mut self.previous);
        let answer = list(self);
        std::mem::swap(&mut self.inventory, &mut self.previous);
        answer
    }

    /// The newest job still working on an entity.
    pub(crate) fn pending_job_of(&self, instance_id: &str) -> Option<&AsyncJob> {
        self.jobs
            .iter()
            .rev()
            .find(|job| job.status == JobStatus::Pending && job.instance_id.as_deref() == Some(instance_id))
    }

    /// Whether the caller may act on something of the given owner.
    pub(crate) fn may_use(&self, caller: &Caller, owner_id: &str, what: &str) -> Result<(), Refusal> {
        if caller.root_admin || caller.account_id == owner_id {
            return Ok(());
        }
        let name = self.catalogue.account(&caller.account_id).map_or("", |account| account.name.as_str());
        Err(Refusal::denied(format!(
            "Acct[{}-{name}] does not have permission to operate with resource {what}",
            caller.account_id
        )))
    }

    /// Whether a list shows something of the given owner.
    pub(crate) fn lists(&self, caller: &Caller, params: &Params, owner_id: &str) -> bool {
        if !caller.root_admin {
            return caller.account_id == owner_id;
        }
        if let Some(name) = params.text("account") {
            return self.catalogue.account_named(name).is_some_and(|account| account.id == owner_id);
        }
        params.flag("listall") == Some(true) || params.text("id").is_some() || caller.account_id == owner_id
    }

    /// The account a new entity belongs to: the caller's, or for administrators the one named.
    pub(crate) fn owner_of_new(&self, caller: &Caller, params: &Params) -> Result<String, Refusal> {
        let Some(name) = params.text("account") else { return Ok(caller.account_id.clone()) };
        let domain_id = params
            .text("domainid")
            .ok_or_else(|| Refusal::invalid("domainId and accountName must be specified together"))?;
        if domain_id != self.catalogue.domain_id {
            return Err(params.no_such("domainid"));
        }
        let account = self
            .catalogue
            .account_named(name)
            .ok_or_else(|| Refusal::invalid(format!("Unable to find account {name} in domain {domain_id}")))?;
        self.may_use(caller, &account.id, "account")?;
        Ok(account.id.clone())
    }

    /// The id of a new entity: chosen by a root administrator with `customid`, else random.
    pub(crate) fn id_of_new(&self, caller: &Caller, params: &Params) -> Result<String, Refusal> {
        let Some(id) = params.text("customid") else { return Ok(random_id()) };
        if !caller.root_admin {
            return Err(Refusal::denied(
                "Please check your permissions, you are not allowed to create/update custom id",
            ));
        }
        if uuid::Uuid::try_parse(id).is_err() {
            return Err(Refusal::invalid(format!("UUID: {id} is not a valid UUID")));
        }
        let exists = self.inventory.volume(id).is_some() || self.inventory.vm(id).is_some();
        let taken = exists || self.inventory.used_ids.contains(id);
        if taken {
            return Err(Refusal::invalid(format!("UUID: {id} already exists so can't create/update with custom id")));
        }
        Ok(id.to_owned())
    }

    /// The account an id parameter names.
    pub(crate) fn account(&self, id: &str) -> Option<&Account> {
        self.catalogue.account(id)
    }

    /// Gives an Allocated volume its file; a Ready one keeps its own.
    pub(crate) fn materialise(&mut self, volume_id: &str) -> Result<(), CloudstackSimError> {
        let Some(volume) = self.inventory.volume_mut(volume_id) else { return Ok(()) };
        if volume.path.is_some() {
            return Ok(());
        }
        let mut made = volume.clone();
        made.path = Some(made.id.clone());
        made.placed_in = self.overrides.folder_for(&made);
        made.device_size_bytes = self.overrides.device_size_for(&made);
        made.state = super::entities::VolumeState::Ready;
        self.storage.size_file(&made)?;
        *volume = made;
        Ok(())
    }

    /// Makes a volume's device appear if it is a data disk of the running worker VM, at once or after the delay.
    pub(crate) fn plug(&mut self, volume_id: &str) -> Result<(), CloudstackSimError> {
        if self.config.device_delay_ms > 0 {
            self.late_devices.push(volume_id.to_owned());
            return Ok(());
        }
        self.plug_now(volume_id)
    }

    /// Like `plug`, without the delay.
    pub(crate) fn plug_now(&mut self, volume_id: &str) -> Result<(), CloudstackSimError> {
        match self.inventory.volume(volume_id) {
            Some(volume) if self.is_in_worker(volume) => self.storage.expose(volume),
            _ => Ok(()),
        }
    }

    /// Makes a volume's device disappear.
    pub(crate) fn unplug(&mut self, volume: &Volume) -> Result<(), CloudstackSimError> {
        self.storage.conceal(volume)
    }

    /// Whether this VM runs in a real machine when it runs.
    pub(crate) fn boots_machine(&self, vm_id: &str) -> bool {
        self.config.boots && vm_id != self.oma_vm_id
    }

    /// Whether the volume is a data disk of the worker VM while that runs.
    pub(crate) fn is_in_worker(&self, volume: &Volume) -> bool {
        let attached = volume.attachment.as_ref().is_some_and(|attachment| attachment.vm_id == self.oma_vm_id);
        let running = self.inventory.vm(&self.oma_vm_id).is_some_and(|vm| vm.state == VmState::Running);
        attached && running && volume.volume_type == VolumeType::Datadisk
    }

    /// Brings the devices of a VM's volumes in line with its power state.
    pub(crate) fn replug(&mut self, vm_id: &str) -> Result<(), CloudstackSimError> {
        if vm_id != self.oma_vm_id {
            return Ok(());
        }
        self.replug_all()
    }

    fn replug_all(&mut self) -> Result<(), CloudstackSimError> {
        let volumes: Vec<Volume> = self.inventory.volumes_of(&self.oma_vm_id).into_iter().cloned().collect();
        for volume in volumes {
            if self.is_in_worker(&volume) {
                self.storage.expose(&volume)?;
            } else {
                self.storage.conceal(&volume)?;
            }
        }
        Ok(())
    }
}
