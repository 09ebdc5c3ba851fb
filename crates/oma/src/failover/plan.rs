//! The dry run: the VM that would be made, every call that would be sent, and how long each step took in the past.

use std::collections::{BTreeMap, HashMap};

use api::oma::failovers::{DestinationVm, FailoverPlan, PlannedCall, PlannedStep, PowerOff};
use cloudstack::calls::{self, ApiCall};
use cloudstack::{NewVolumeSnapshot, TaggedKind};
use joblog::{JobFilter, JobRecord, JobStore};
use model::ownership::OwnedAs;
use model::status::{JobStatus, StepStatus};

use super::decide::Decision;
use super::facts::Facts;
use super::params::Params;
use super::spec::order;
use super::start::saga_of;
use crate::error::OmaError;
use crate::state::OmaState;

/// How many past runs the expectation is made from.
const PAST_RUNS: u32 = 10;
/// Stands for what only CloudStack decides.
const VM_ID: &str = "<id of the VM>";
/// See [`VM_ID`].
const ROOT_ID: &str = "<id of the template's root volume>";

/// Plans a failover.
///
/// # Errors
/// The database fails.
pub(super) async fn plan(
    state: &OmaState,
    facts: &Facts,
    params: &Params,
    decision: Decision,
) -> Result<FailoverPlan, OmaError> {
    let saga = saga_of(params.request.failover_type);
    let past = past_seconds(state, saga.job_type).await?;
    let steps = saga.steps.iter().map(|step| {
        let seconds = past.get(step.name).map(Vec::as_slice).unwrap_or_default();
        let calls = decision.vm.as_ref().map(|vm| calls_of(step.name, facts, params, &decision, vm));
        PlannedStep {
            name: step.name.to_owned(),
            kind: step.kind.to_string(),
            calls: calls.unwrap_or_default(),
            expected_seconds: median(seconds),
            past_runs: u32::try_from(seconds.len()).unwrap_or(u32::MAX),
        }
    });
    let steps = steps.collect();
    let verb = if decision.conversion.converts { "the guest is converted" } else { "the guest is not converted" };
    Ok(FailoverPlan {
        failover_type: params.request.failover_type,
        vm_name: facts.vm.name.clone(),
        conversion: format!("{verb}: {}", decision.conversion.reason),
        steps,
        vm: decision.vm,
        blockers: decision.blockers,
        warnings: decision.warnings,
    })
}

/// What a step would change, in the order it is sent.
fn calls_of(step: &str, facts: &Facts, params: &Params, decision: &Decision, vm: &DestinationVm) -> Vec<PlannedCall> {
    let vm_id = vm.custom_id.as_deref().unwrap_or(VM_ID);
    let of_disks = |call: &dyn Fn(&api::oma::failovers::DestinationDisk) -> ApiCall| -> Vec<PlannedCall> {
        vm.disks.iter().map(|disk| to_cloudstack(call(disk))).collect()
    };
    match step {
        "power_off_source" => source_calls(params, facts),
        "final_sync" if params.request.final_sync => {
            vec![elsewhere("hub", "POST /api/v1/replications", [("vm_context_id", facts.vm.context_id.as_str())])]
        }
        "snapshot" => of_disks(&|disk| {
            calls::create_volume_snapshot(&NewVolumeSnapshot {
                volume_id: disk.volume_uuid.clone(),
                name: format!("{}-{}", params.job_id, disk.disk_id),
                tags: tags(OwnedAs::SafetySnapshot, params),
            })
        }),
        "convert" if decision.conversion.converts => {
            vec![elsewhere("hub", "virt-v2v-in-place", [("guest", facts.vm.name.as_str())])]
        }
        "create_vm" => {
            let deploy = to_cloudstack(calls::deploy(&order(vm)));
            let kind = TaggedKind::VirtualMachine;
            let tag = to_cloudstack(calls::create_tags(kind, vm_id, &tags(OwnedAs::FailoverVm, params)));
            vec![deploy, tag]
        }
        "discard_root" => {
            // Tagged first, so that a root left between the two is found again.
            let tag = calls::create_tags(TaggedKind::Volume, ROOT_ID, &tags(OwnedAs::FailoverVm, params));
            [tag, calls::detach_volume(ROOT_ID), calls::delete_volume(ROOT_ID)].map(to_cloudstack).into()
        }
        "detach" => of_disks(&|disk| calls::detach_volume(&disk.volume_uuid)),
        "attach" => of_disks(&|disk| calls::attach_volume(&disk.volume_uuid, vm_id, Some(disk.device_id))),
        "power_on" => vec![to_cloudstack(calls::start(vm_id))],
        _ => Vec::new(),
    }
}

fn source_calls(params: &Params, facts: &Facts) -> Vec<PlannedCall> {
    let ask = elsewhere("vcenter", "ShutdownGuest", [("vm", facts.vm.name.as_str())]);
    let cut = elsewhere("vcenter", "PowerOffVM_Task", [("vm", facts.vm.name.as_str())]);
    match params.request.power_off_source {
        PowerOff::No => Vec::new(),
        PowerOff::Graceful => vec![ask],
        PowerOff::Forced => vec![ask, cut],
    }
}

fn tags(owned_as: OwnedAs, params: &Params) -> BTreeMap<String, String> {
    let pairs = owned_as.tags(&params.vm_context_id, &params.job_id);
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn to_cloudstack(call: ApiCall) -> PlannedCall {
    let (command, params) = (call.command.to_owned(), call.params.into_iter().collect());
    PlannedCall { to: "cloudstack".to_owned(), command, params }
}

fn elsewhere<const N: usize>(to: &str, command: &str, params: [(&str, &str); N]) -> PlannedCall {
    let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    PlannedCall { to: to.to_owned(), command: command.to_owned(), params }
}

/// How long each step took in past runs that completed, in seconds.
async fn past_seconds(state: &OmaState, job_type: &str) -> Result<HashMap<String, Vec<f64>>, OmaError> {
    let filter = JobFilter {
        job_type: Some(job_type.to_owned()),
        status: Some(JobStatus::Completed),
        limit: PAST_RUNS,
        ..JobFilter::default()
    };
    let mut seconds: HashMap<String, Vec<f64>> = HashMap::new();
    for job in state.store().list_jobs(&filter).await?.jobs {
        let Some(JobRecord { steps, .. }) = state.store().load(&job.id).await? else { continue };
        for step in steps.into_iter().filter(|step| step.status == StepStatus::Completed) {
            if let (Some(begun), Some(ended)) = (step.started_at, step.completed_at) {
                seconds.entry(step.name).or_default().push((ended - begun).as_seconds_f64());
            }
        }
    }
    Ok(seconds)
}

fn median(seconds: &[f64]) -> Option<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_is_the_median_of_what_was() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 100.0, 1.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
