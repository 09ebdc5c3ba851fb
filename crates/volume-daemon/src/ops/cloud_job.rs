//! Pursues a change of CloudStack within a step: its trace is the step's output from the moment it is asked for, and its
//! job's id is in the operation's row.

use cloudstack::{Change, CloudstackError, PursuitError, Trace, WaitPolicy};
use joblog::{StepContext, StepError};
use store::volume_operations::{self, Learnt, OperationLease};

use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// Makes the change unless it has happened, and answers with what can be seen of it.
pub(super) async fn pursue<C: Change<Error = VolumeDaemonError>>(
    daemon: &Daemon,
    cloud: &Cloud,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
) -> Result<(C::Found, Trace), StepError> {
    let trace: Trace = context.own_output()?.unwrap_or_default();
    let keep = |trace: Trace| async move {
        context.checkpoint(&trace).await?;
        if trace.job_id.is_none() {
            return Ok(());
        }
        let learnt = Learnt { cloudstack_job_id: trace.job_id, ..Learnt::default() };
        volume_operations::record(&daemon.store, lease, &learnt).await.map_err(step)
    };
    cloudstack::pursue(cloud.client(), patience(daemon), trace, change, keep).await.map_err(|error| match error {
        PursuitError::Change(error) => step(error),
        PursuitError::Keep(error) => error,
    })
}

/// Waits until a job has ended well.
pub(super) async fn ended(daemon: &Daemon, cloud: &Cloud, job_id: &str) -> Result<(), CloudstackError> {
    cloud.client().wait(job_id, patience(daemon)).await.map(|_| ())
}

fn patience(daemon: &Daemon) -> WaitPolicy {
    WaitPolicy::with_deadline(daemon.config.job_deadline())
}
