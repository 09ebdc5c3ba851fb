//! The VM of a failover in the target cloud: made, tagged, started, stopped and destroyed, each change pursued until it
//! is seen, however often its step is begun again. Volumes are the volume daemon's.

use std::collections::BTreeMap;
use std::time::Duration;

use api::oma::failovers::DestinationVm;
use async_trait::async_trait;
use cloudstack::{
    Change, Client, CloudstackError, JobHandle, PursuitError, RefusalClass, TaggedKind, Trace, VirtualMachine,
    VmDestruction, VmQuery, VmState, VolumeQuery, WaitPolicy,
};
use joblog::{StepContext, StepError};
use model::FailureKind;
use model::ownership::{OWNER_TAG, OwnedAs};

use super::spec::order;
use crate::error::OmaError;
use crate::failure::{defect, failed};
use crate::state::OmaState;
use crate::targets;

/// How often a VM that should exist is looked for before it counts as absent: a list may be older than the change.
const ABSENCE_LOOKS: u32 = 3;
/// The pause between those looks.
const ABSENCE_PAUSE: Duration = Duration::from_millis(500);

/// The target cloud of one VM.
pub(super) struct VmCloud<'a> {
    state: &'a OmaState,
    context_id: String,
    pub(super) client: Client,
}

impl<'a> VmCloud<'a> {
    /// The target a VM goes to.
    pub(super) async fn of(state: &'a OmaState, context_id: &str) -> Result<Self, StepError> {
        let vm = store::vm_replication_contexts::by_id(state.store(), context_id).await.map_err(failed)?;
        let (_, client) = targets::client_of(state, &vm).await.map_err(failed)?;
        Ok(Self { state, context_id: context_id.to_owned(), client })
    }

    /// Makes a change unless it has happened; its trace is the step's output from the moment it is asked for.
    async fn pursue<C>(&self, context: &StepContext, trace: Trace, change: &C) -> Result<(C::Found, Trace), StepError>
    where
        C: Change<Error = OmaError>,
    {
        let policy = WaitPolicy::with_deadline(self.state.config().job_deadline());
        let keep = |trace: Trace| async move { context.checkpoint(&trace).await };
        cloudstack::pursue(&self.client, policy, trace, change, keep).await.map_err(|error| match error {
            PursuitError::Change(error) => failed(error),
            PursuitError::Keep(error) => error,
        })
    }

    /// Makes the VM, or finds the one an earlier attempt made.
    pub(super) async fn deployed(
        &self,
        context: &StepContext,
        spec: &DestinationVm,
    ) -> Result<(VirtualMachine, Trace), StepError> {
        let trace: Trace = context.own_output()?.unwrap_or_default();
        let (vm, trace) = self.pursue(context, trace, &Deployment { cloud: self, spec }).await?;
        check_made(&vm, spec)?;
        Ok((vm, trace))
    }

    /// The VM an earlier attempt made or may have made: by the id we chose or were told, else by its name.
    pub(super) async fn made(&self, spec: &DestinationVm, trace: &Trace) -> Result<Option<VirtualMachine>, OmaError> {
        if let Some(id) = spec.custom_id.as_ref().or(trace.entity_id.as_ref()) {
            return Ok(self.client.find_virtual_machine(id).await?);
        }
        let query = VmQuery {
            name: Some(spec.name.clone()),
            zone_id: Some(spec.zone_id.clone()),
            state: Some("Present".to_owned()),
            ..VmQuery::default()
        };
        let named = self.client.list_virtual_machines(&query).await?;
        // Nobody had this name when the failover began, and no two VMs have one.
        let is_ours =
            |vm: &VirtualMachine| vm.name == spec.name && vm.display_name.as_deref() == Some(&spec.display_name);
        Ok(named.into_iter().find(is_ours))
    }

    /// Like [`Self::made`], but an absence is looked at more than once where the VM may exist.
    pub(super) async fn surely_made(
        &self,
        spec: &DestinationVm,
        trace: &Trace,
    ) -> Result<Option<VirtualMachine>, OmaError> {
        for look in 1..=ABSENCE_LOOKS {
            if let Some(vm) = self.made(spec, trace).await? {
                return Ok(Some(vm));
            }
            if !trace.submitted || look == ABSENCE_LOOKS {
                break;
            }
            tokio::time::sleep(ABSENCE_PAUSE).await;
        }
        Ok(None)
    }

    /// Waits for the job that may still be making the VM; how it ends does not matter.
    pub(super) async fn settled(&self, trace: &Trace) -> Result<(), OmaError> {
        let Some(job_id) = &trace.job_id else { return Ok(()) };
        let policy = WaitPolicy::with_deadline(self.state.config().job_deadline());
        match self.client.wait(job_id, policy).await {
            Err(error @ CloudstackError::JobPending { .. }) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Puts our tags on the VM where they are missing.
    pub(super) async fn tagged(&self, vm: &VirtualMachine, job_id: &str) -> Result<(), OmaError> {
        let wanted = OwnedAs::FailoverVm.tags(&self.context_id, job_id);
        let missing: BTreeMap<String, String> = wanted
            .into_iter()
            .filter(|(key, _)| !vm.tags.iter().any(|tag| tag.key == *key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let policy = WaitPolicy::with_deadline(self.state.config().job_deadline());
        let handle = self.client.create_tags(TaggedKind::VirtualMachine, &vm.id, &missing).await?;
        match self.client.wait(&handle.job_id, policy).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // What counts is what is there.
                let now = self.client.virtual_machine(&vm.id).await?;
                let all = missing.keys().all(|key| now.tags.iter().any(|tag| tag.key == *key));
                if all { Ok(()) } else { Err(error.into()) }
            }
        }
    }

    /// Starts the VM.
    pub(super) async fn started(&self, context: &StepContext, vm_id: &str) -> Result<VirtualMachine, StepError> {
        let change = Power { cloud: self, vm_id, to: VmState::Running, forced: false };
        let trace: Trace = context.own_output()?.unwrap_or_default();
        let (vm, _) = self.pursue(context, trace, &change).await?;
        vm.ok_or_else(|| defect(format!("VM {vm_id} does not exist")))
    }

    /// Stops the VM; one that does not exist is stopped. No trace is kept: the step that undoes with it has an output that
    /// must stay.
    pub(super) async fn stopped(&self, vm_id: &str, forced: bool) -> Result<(), OmaError> {
        let policy = WaitPolicy::with_deadline(self.state.config().job_deadline());
        let change = Power { cloud: self, vm_id, to: VmState::Stopped, forced };
        pursued_without_trace(&self.client, policy, &change).await.map(|_| ())
    }

    /// See [`destroyed`].
    pub(super) async fn destroyed(&self, vm_id: &str) -> Result<(), OmaError> {
        destroyed(self.state, &self.client, vm_id).await
    }
}

/// Destroys a VM and erases it. Refused while a replica hangs on it, whoever's: its root would be erased with it.
///
/// # Errors
/// A replica hangs on it, or CloudStack's own.
pub(crate) async fn destroyed(state: &OmaState, client: &Client, vm_id: &str) -> Result<(), OmaError> {
    refuse_with_replicas(state, client, vm_id).await?;
    let policy = WaitPolicy::with_deadline(state.config().job_deadline());
    let change = Destruction { client, vm_id, expunge: true };
    match pursued_without_trace(client, policy, &change).await {
        Err(OmaError::Cloud(error)) if error.kind() == FailureKind::Forbidden => {
            tracing::warn!(vm_id, "this account may not expunge: the cloud erases the VM after its own delay");
            let change = Destruction { client, vm_id, expunge: false };
            pursued_without_trace(client, policy, &change).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

async fn refuse_with_replicas(state: &OmaState, client: &Client, vm_id: &str) -> Result<(), OmaError> {
    let query = VolumeQuery { virtual_machine_id: Some(vm_id.to_owned()), ..VolumeQuery::default() };
    for volume in client.list_volumes(&query).await? {
        let is_marked = volume.tags.iter().any(|tag| tag.key == OWNER_TAG);
        if is_marked || store::ossea_volumes::find(state.store(), &volume.id).await?.is_some() {
            let detail = format!("VM {vm_id} still holds replica volume {}", volume.id);
            let problem = api::Problem::new(FailureKind::Conflict, detail)
                .remedy("detach it first: destroying the VM would erase its root disk");
            return Err(problem.into());
        }
    }
    Ok(())
}

/// Pursues a change that can always be seen: what an earlier attempt asked for does not matter.
async fn pursued_without_trace<C: Change<Error = OmaError>>(
    client: &Client,
    policy: WaitPolicy,
    change: &C,
) -> Result<C::Found, OmaError> {
    let keep = |_: Trace| async { Ok::<(), OmaError>(()) };
    let pursued = cloudstack::pursue(client, policy, Trace::default(), change, keep).await;
    pursued.map(|(found, _)| found).map_err(|error| match error {
        PursuitError::Change(error) | PursuitError::Keep(error) => error,
    })
}

/// From nothing to a stopped VM.
struct Deployment<'a> {
    cloud: &'a VmCloud<'a>,
    spec: &'a DestinationVm,
}

#[async_trait]
impl Change for Deployment<'_> {
    type Found = VirtualMachine;
    type Error = OmaError;

    async fn look(&self, trace: &Trace) -> Result<Option<VirtualMachine>, OmaError> {
        let found = self.cloud.made(self.spec, trace).await?;
        Ok(found.filter(|vm| vm.state == VmState::Stopped))
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, OmaError> {
        match self.cloud.client.deploy_virtual_machine(&order(self.spec)).await {
            Ok(handle) => Ok(Some(handle)),
            // An earlier attempt was not answered.
            Err(error) if error.refusal_class() == Some(RefusalClass::AlreadyExists) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// From one power state to the other.
struct Power<'a> {
    cloud: &'a VmCloud<'a>,
    vm_id: &'a str,
    to: VmState,
    forced: bool,
}

#[async_trait]
impl Change for Power<'_> {
    /// None when the VM does not exist and was to be stopped.
    type Found = Option<VirtualMachine>;
    type Error = OmaError;

    async fn look(&self, _: &Trace) -> Result<Option<Self::Found>, OmaError> {
        let vm = self.cloud.client.find_virtual_machine(self.vm_id).await?;
        match vm {
            None | Some(VirtualMachine { state: VmState::Destroyed | VmState::Expunging, .. })
                if self.to == VmState::Stopped =>
            {
                Ok(Some(None))
            }
            None => Err(CloudstackError::Missing { what: "virtual machine", id: self.vm_id.to_owned() }.into()),
            // A VM that could not be made does not run.
            Some(vm) if vm.state == VmState::Error && self.to == VmState::Stopped => Ok(Some(Some(vm))),
            Some(vm) => Ok((vm.state == self.to).then_some(Some(vm))),
        }
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, OmaError> {
        let client = &self.cloud.client;
        let handle = match self.to {
            VmState::Running => client.start_virtual_machine(self.vm_id).await?,
            _ => client.stop_virtual_machine(self.vm_id, self.forced).await?,
        };
        Ok(Some(handle))
    }
}

/// From a VM to none.
struct Destruction<'a> {
    client: &'a Client,
    vm_id: &'a str,
    expunge: bool,
}

#[async_trait]
impl Change for Destruction<'_> {
    type Found = ();
    type Error = OmaError;

    async fn look(&self, trace: &Trace) -> Result<Option<()>, OmaError> {
        let vm = self.client.find_virtual_machine(self.vm_id).await?;
        Ok(match vm.map(|vm| vm.state) {
            // A list may be older than the VM: an absence counts once we asked for it, and is asked for once.
            None => trace.submitted.then_some(()),
            Some(VmState::Expunging) => Some(()),
            Some(VmState::Destroyed) => (!self.expunge).then_some(()),
            Some(_) => None,
        })
    }

    async fn submit(&self, _: &Trace) -> Result<Option<JobHandle>, OmaError> {
        let how = VmDestruction { expunge: self.expunge, volume_ids: Vec::new() };
        match self.client.destroy_virtual_machine(self.vm_id, &how).await {
            Ok(handle) => Ok(Some(handle)),
            Err(error) if error.refusal_class() == Some(RefusalClass::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether CloudStack made what was ordered: it silently replaces a MAC address it does not like, and a job that failed
/// half way may have made a VM with fewer cards.
fn check_made(vm: &VirtualMachine, spec: &DestinationVm) -> Result<(), StepError> {
    let wrong = |message: String| {
        let remedy = "look at the network in CloudStack (is the address taken?), or map the card with another strategy";
        Err(StepError::new(FailureKind::Conflict, message).remedy(remedy))
    };
    if vm.nics.len() != spec.nics.len() {
        return wrong(format!("the VM has {} network cards, {} were ordered", vm.nics.len(), spec.nics.len()));
    }
    for (made, ordered) in vm.nics.iter().zip(&spec.nics) {
        if made.network_id.as_deref() != Some(&ordered.network_id) {
            return wrong(format!("{} is not in the network {}", ordered.label, ordered.network_name));
        }
        let same = |mac: &String| made.mac_address.as_ref().is_some_and(|made| made.eq_ignore_ascii_case(mac));
        if ordered.mac_address.as_ref().is_some_and(|mac| !same(mac)) {
            let made = made.mac_address.as_deref().unwrap_or("none");
            return wrong(format!("{} was to keep {} and got {made}", ordered.label, ordered.source_mac));
        }
    }
    Ok(())
}
