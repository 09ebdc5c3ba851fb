//! What a job does outside the server's lock: copy files, power machines on and off.
//!
//! The order is fixed here; what is to be done comes from the commands.

use super::hypervisor::{End, Hypervisor, MachinePlan};
use super::refusal::Refusal;
use super::storage::{CopyPlan, copy_sparse};

/// Power of one VM.
#[derive(Debug)]
pub(crate) enum Power {
    /// On, as planned.
    On(Box<MachinePlan>),
    /// Off.
    Off(String, End),
}

/// The slow work of one job.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// Files to copy.
    pub(crate) copies: Vec<CopyPlan>,
    /// The VM whose machine is held still meanwhile, so that the copies are of one moment.
    pub(crate) held_vm: Option<String>,
    /// Then power, one after the other.
    pub(crate) power: Vec<Power>,
}

impl Errands {
    /// Only copies.
    pub(crate) fn copies(copies: Vec<CopyPlan>) -> Self {
        Self { copies, ..Self::default() }
    }

    /// Only power.
    pub(crate) fn power(power: Vec<Power>) -> Self {
        Self { power, ..Self::default() }
    }

    /// The same, with a VM's machine held still while files are copied.
    #[must_use]
    pub(crate) fn holding(mut self, vm_id: Option<String>) -> Self {
        self.held_vm = vm_id;
        self
    }

    /// Does everything; gives the bytes copied that are no hole.
    pub(crate) fn run(self, hypervisor: Option<&Hypervisor>) -> Result<u64, Refusal> {
        let held = hypervisor.zip(self.held_vm.as_deref());
        let hold = |still| held.map_or(Ok(()), |(hypervisor, vm_id)| hypervisor.pause(vm_id, still));
        let refused = |error: super::hypervisor::HypervisorError| Refusal::runtime(error.to_string());
        hold(true).map_err(refused)?;
        let copied = copy_all(&self.copies);
        hold(false).map_err(refused)?;
        let copied = copied?;
        for power in self.power {
            let Some(hypervisor) = hypervisor else { continue };
            match power {
                Power::On(plan) => hypervisor.power_on(&plan).map_err(|error| no_deployment(&plan, &error))?,
                Power::Off(vm_id, how) => hypervisor.power_off(&vm_id, how).map_err(refused)?,
            }
        }
        Ok(copied)
    }
}

/// A start that no host can carry out, as the orchestrator words it.
fn no_deployment(plan: &MachinePlan, error: &dyn std::error::Error) -> Refusal {
    Refusal::runtime(format!(
        "Unable to orchestrate start VM instance {} ({}) due to [Unable to create a deployment for VM instance: {error}]",
        plan.name, plan.vm_id
    ))
}

fn copy_all(plans: &[CopyPlan]) -> Result<u64, Refusal> {
    let mut bytes = 0;
    for plan in plans {
        bytes += copy_sparse(plan).map_err(|error| Refusal::runtime(error.to_string()))?;
    }
    Ok(bytes)
}
