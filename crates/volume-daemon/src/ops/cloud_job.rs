//! A change made by an asynchronous CloudStack job, so that it happens once however often its step is repeated.
//!
//! Look first; if it has not happened, submit and store the job's id before anything else; wait; look again. What the
//! job says matters only when the change cannot be seen: a failed or lost job may have done it.

use async_trait::async_trait;
use cloudstack::{CloudstackError, JobHandle, WaitPolicy};
use joblog::{StepContext, StepError};
use serde::{Deserialize, Serialize};
use store::volume_operations::{self, Learnt, OperationLease};

use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// How often a change is submitted anew within one attempt because CloudStack lost its job.
const MAX_SUBMISSIONS: u32 = 3;

/// What is known of a change, kept as the output of its step from the moment it is submitted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Trace {
    /// The job to wait for.
    pub(super) cloudstack_job_id: Option<String>,
    /// What it makes, as told when it was accepted.
    pub(super) entity_id: Option<String>,
    /// Whether we ever asked for the change: if not, somebody else had made it.
    pub(super) submitted: bool,
}

/// A change of CloudStack.
#[async_trait]
pub(super) trait Change: Send + Sync {
    /// What can be seen once it has happened.
    type Found: Send;

    /// The change, if it has happened. An error when it cannot happen any more.
    async fn look(&self, trace: &Trace) -> Result<Option<Self::Found>, VolumeDaemonError>;

    /// Asks for it; no job when it turns out to have happened already.
    async fn submit(&self) -> Result<Option<JobHandle>, VolumeDaemonError>;
}

/// Makes the change unless it has happened, and answers with what can be seen of it.
pub(super) async fn pursue<C: Change>(
    daemon: &Daemon,
    cloud: &Cloud,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
) -> Result<(C::Found, Trace), StepError> {
    let mut trace: Trace = context.own_output()?.unwrap_or_default();
    for submissions in 0..=MAX_SUBMISSIONS {
        let trouble = match &trace.cloudstack_job_id {
            Some(job_id) => ended(daemon, cloud, job_id).await.err(),
            None => None,
        };
        if let Some(found) = change.look(&trace).await.map_err(step)? {
            return Ok((found, trace));
        }
        match (trouble, trace.cloudstack_job_id.take()) {
            (None, None) | (Some(CloudstackError::JobLost { .. } | CloudstackError::JobForgotten { .. }), _) => {}
            (None, Some(job_id)) => return Err(step(VolumeDaemonError::NotVisibleYet { job_id })),
            (Some(error @ CloudstackError::JobFailed { .. }), _) => {
                // A repeated attempt submits anew instead of reading the same failure.
                context.checkpoint(&trace).await?;
                return Err(step(error));
            }
            (Some(error), _) => return Err(step(error)),
        }
        if submissions < MAX_SUBMISSIONS {
            submitted(daemon, context, lease, change, &mut trace).await?;
        }
    }
    Err(step(VolumeDaemonError::JobsLost { submissions: MAX_SUBMISSIONS }))
}

/// Asks for the change and keeps what is needed to wait for it.
async fn submitted<C: Change>(
    daemon: &Daemon,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
    trace: &mut Trace,
) -> Result<(), StepError> {
    trace.submitted = true;
    context.checkpoint(trace).await?;
    let Some(handle) = change.submit().await.map_err(step)? else { return Ok(()) };
    let learnt = Learnt { cloudstack_job_id: Some(handle.job_id.clone()), ..Learnt::default() };
    trace.entity_id = handle.entity_id.or_else(|| trace.entity_id.take());
    trace.cloudstack_job_id = Some(handle.job_id);
    context.checkpoint(trace).await?;
    volume_operations::record(&daemon.store, lease, &learnt).await.map_err(step)
}

/// Waits until a job has ended well.
pub(super) async fn ended(daemon: &Daemon, cloud: &Cloud, job_id: &str) -> Result<(), CloudstackError> {
    cloud.client().wait(job_id, WaitPolicy::with_deadline(daemon.config.job_deadline())).await.map(|_| ())
}
