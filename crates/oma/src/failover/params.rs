//! What the jobs of a failover remember.

use api::oma::failovers::{
    ConversionPolicy, DEFAULT_PROBE_SECONDS, DEFAULT_SHUTDOWN_SECONDS, DestinationVm, PowerOff, StartFailover,
    StartRollback,
};
use api::oma::probes::ProbeSpec;
use api::oma::replications::ScrubRequest;
use model::status::FailoverType;
use serde::{Deserialize, Serialize};

use super::spec::Identity;

/// The parameters of a test or live failover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Params {
    /// `failover-…`.
    pub(crate) job_id: String,
    /// The id the VM gets where it may be chosen.
    pub(crate) custom_id: String,
    /// The VM.
    pub(crate) vm_context_id: String,
    /// What was asked for.
    pub(crate) request: StartFailover,
}

impl Params {
    /// What tells this failover's VM from others.
    pub(crate) fn identity(&self) -> Identity {
        Identity { job_id: self.job_id.clone(), custom_id: self.custom_id.clone() }
    }

    /// Seconds a guest may take to shut down.
    pub(crate) fn shutdown_seconds(&self) -> u32 {
        self.request.shutdown_seconds.unwrap_or(DEFAULT_SHUTDOWN_SECONDS)
    }

    /// Seconds the probes are repeated.
    pub(crate) fn probe_seconds(&self) -> u32 {
        self.request.probe_seconds.unwrap_or(DEFAULT_PROBE_SECONDS)
    }
}

/// A request about one VM, without the parts that are for groups.
pub(crate) fn plain_request(failover_type: FailoverType, vm_context_id: &str) -> StartFailover {
    StartFailover {
        vm_context_id: Some(vm_context_id.to_owned()),
        group: None,
        failover_type,
        power_off_source: PowerOff::No,
        shutdown_seconds: None,
        final_sync: false,
        scrub: ScrubRequest::Auto,
        point: None,
        guest_conversion: ConversionPolicy::Auto,
        test_duration_seconds: None,
        destination_name: None,
        probes: Vec::<ProbeSpec>::new(),
        probe_seconds: None,
        go_on_after_failure: false,
    }
}

/// What the first step decides; the others do it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Decided {
    /// The VM to be made.
    pub(crate) vm: DestinationVm,
    /// Whether the guest is converted.
    pub(crate) converts: bool,
    /// Why, or why not.
    pub(crate) conversion_reason: String,
}

/// The parameters of a job that ends a failover: cleanup, rollback, commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndParams {
    /// `failover-…`.
    pub(crate) job_id: String,
    /// The VM.
    pub(crate) vm_context_id: String,
    /// What was asked for, in a rollback.
    #[serde(default)]
    pub(crate) rollback: StartRollback,
}
