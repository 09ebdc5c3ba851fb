//! Pursues a change of CloudStack within a step: its trace is the step's output from the moment it is asked for, and its
//! job's id is in the operation's row.

use std::time::Duration;

use cloudstack::{Change, CloudstackError, PursuitError, RefusalClass, Trace, WaitPolicy};
use joblog::{StepContext, StepError};
use store::volume_operations::{self, Learnt, OperationLease};
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::{VolumeDaemonError, step};

/// Pause before something that forbids an operation is looked at again: lists may lag behind for a moment.
pub(super) const SECOND_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a change that has to wait for its turn is asked for again the first time; it doubles.
const FIRST_TURN_PAUSE: Duration = Duration::from_millis(250);
/// The longest of these pauses.
const LONGEST_TURN_PAUSE: Duration = Duration::from_secs(15);
/// How long a turn, and then a slow job, is waited for: volume_snapshots of large volumes are copied for hours, one after
/// another. CloudStack itself gives each as long (`backup.snapshot.wait`).
const TURN_PATIENCE: Duration = Duration::from_secs(6 * 60 * 60);

/// A change whose errors are ours.
pub(super) trait OurChange: Change<Error = VolumeDaemonError> {}

impl<C: Change<Error = VolumeDaemonError>> OurChange for C {}

type Failure = PursuitError<VolumeDaemonError, StepError>;

/// Makes the change unless it has happened, and answers with what can be seen of it.
pub(super) async fn pursue<C: OurChange>(
    daemon: &Daemon,
    cloud: &Cloud,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
) -> Result<(C::Found, Trace), StepError> {
    pursued(daemon, cloud, context, lease, change).await.map_err(told)
}

/// As [`pursue`], for changes CloudStack makes one at a time, slowly, and whose jobs fail without saying why: waits for
/// its turn and for its job, and lets the step's retries ask anew after a failure that may pass.
pub(super) async fn pursue_in_turn<C: OurChange>(
    daemon: &Daemon,
    cloud: &Cloud,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
) -> Result<(C::Found, Trace), StepError> {
    let began = Instant::now();
    let mut pause = FIRST_TURN_PAUSE;
    loop {
        let failure = match pursued(daemon, cloud, context, lease, change).await {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        let longest = turn_patience(daemon, &failure);
        if longest.is_none_or(|longest| began.elapsed() + pause > longest) {
            return Err(told(may_pass(failure)));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.cancellation().cancelled() => return Err(StepError::cancelled()),
        }
        pause = (pause * 2).min(LONGEST_TURN_PAUSE);
    }
}

/// How long a failure that only means to wait is waited out; none for any other.
fn turn_patience(daemon: &Daemon, failure: &Failure) -> Option<Duration> {
    match failure {
        PursuitError::Change(VolumeDaemonError::Cloudstack(error)) => {
            let busy = error.refusal_class() == Some(RefusalClass::Busy);
            (busy || matches!(error, CloudstackError::JobPending { .. })).then_some(TURN_PATIENCE)
        }
        // Its job is not known, so it is given the time a job would be given.
        PursuitError::Change(VolumeDaemonError::Refused(Refusal::SnapshotUnderWay { .. })) => {
            Some(daemon.config.job_deadline())
        }
        _ => None,
    }
}

/// A failed job whose reason says nothing definite becomes a failure that the step's retries repeat.
fn may_pass(failure: Failure) -> Failure {
    let PursuitError::Change(VolumeDaemonError::Cloudstack(error)) = failure else { return failure };
    let failed = matches!(error, CloudstackError::JobFailed { .. });
    let vague = matches!(error.refusal_class(), Some(RefusalClass::Internal | RefusalClass::InvalidParameter));
    PursuitError::Change(if failed && vague { Refusal::AttemptFailed(error).into() } else { error.into() })
}

fn told(failure: Failure) -> StepError {
    match failure {
        PursuitError::Change(error) => step(error),
        PursuitError::Keep(error) => error,
    }
}

async fn pursued<C: OurChange>(
    daemon: &Daemon,
    cloud: &Cloud,
    context: &StepContext,
    lease: &OperationLease,
    change: &C,
) -> Result<(C::Found, Trace), Failure> {
    let trace: Trace = context.own_output().map_err(PursuitError::Keep)?.unwrap_or_default();
    let keep = |trace: Trace| async move {
        context.checkpoint(&trace).await?;
        if trace.job_id.is_none() {
            return Ok(());
        }
        let learnt = Learnt { cloudstack_job_id: trace.job_id, ..Learnt::default() };
        volume_operations::record(&daemon.store, lease, &learnt).await.map_err(step)
    };
    cloudstack::pursue(cloud.client(), patience(daemon), trace, change, keep).await
}

/// Waits until a job has ended well.
pub(super) async fn ended(daemon: &Daemon, cloud: &Cloud, job_id: &str) -> Result<(), CloudstackError> {
    cloud.client().wait(job_id, patience(daemon)).await.map(|_| ())
}

/// Waits until the job of a trace has ended, however it did; for whoever takes back what it may have made.
pub(super) async fn settled(daemon: &Daemon, cloud: &Cloud, trace: &Trace) -> Result<(), CloudstackError> {
    let Some(job_id) = &trace.job_id else { return Ok(()) };
    match ended(daemon, cloud, job_id).await {
        // It may still happen.
        Err(error @ CloudstackError::JobPending { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn patience(daemon: &Daemon) -> WaitPolicy {
    WaitPolicy::with_deadline(daemon.config.job_deadline())
}

/// What a look at CloudStack finds; what would refuse an operation is believed only when it is seen twice.
pub(super) async fn confirmed<T, F>(look: impl Fn() -> F + Send) -> Result<T, VolumeDaemonError>
where
    F: Future<Output = Result<T, VolumeDaemonError>> + Send,
{
    match look().await {
        Err(error) if !error.kind().is_transient() => {
            tracing::debug!(error = &error as &dyn std::error::Error, "looking again before it is refused");
            tokio::time::sleep(SECOND_LOOK_PAUSE).await;
            look().await
        }
        seen => seen,
    }
}
