//! A change made by an asynchronous job, so that it happens once however often it is begun again.
//!
//! Look first; if it has not happened, submit and keep the job's id before anything else; wait; look again. What the
//! job says matters only when the change cannot be seen: a failed or lost job may have made it. Lists may lag behind, so
//! a change that no successful job vouches for is believed only when it is seen twice. Where the trace is kept is the
//! caller's affair.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::async_job::{JobHandle, WaitPolicy};
use crate::client::Client;
use crate::error::CloudstackError;

/// How often a change is submitted anew within one pursuit because the server lost its job.
const MAX_SUBMISSIONS: u32 = 3;
/// Pause before a change that no job vouches for is looked at again.
const SECOND_LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What is known of a change. Whoever begins again after a crash passes the one that was kept last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The job to wait for.
    #[serde(default)]
    pub job_id: Option<String>,
    /// What it makes, as told when it was accepted; it may exist although the job failed.
    #[serde(default)]
    pub entity_id: Option<String>,
    /// Whether we ever asked for the change: if not, somebody else had made it.
    #[serde(default)]
    pub submitted: bool,
    /// Whether the job was seen to end well: all there is to know of a change that leaves nothing to look at.
    #[serde(default)]
    pub job_succeeded: bool,
}

/// A change of something on the server.
#[async_trait]
pub trait Change: Send + Sync {
    /// What can be seen once it has happened.
    type Found: Send;
    /// What the caller's looking and asking fail with.
    type Error: From<CloudstackError> + Send;

    /// The change, if it has happened.
    ///
    /// # Errors
    /// It cannot be seen now, or it cannot happen any more.
    async fn look(&self, trace: &Trace) -> Result<Option<Self::Found>, Self::Error>;

    /// Asks for it; no job when it turns out to have happened already. The trace is that of earlier submissions.
    ///
    /// # Errors
    /// It was refused, or nobody knows.
    async fn submit(&self, trace: &Trace) -> Result<Option<JobHandle>, Self::Error>;
}

/// Why a pursuit ended without its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PursuitError<E, K> {
    /// Looking, asking or waiting failed.
    Change(E),
    /// The trace could not be kept.
    Keep(K),
}

/// Makes the change unless it has happened; answers with what can be seen of it and with the last trace.
///
/// `keep` must have stored the trace durably before it returns: it is called before the change is asked for, as soon as
/// its job is known, and when a job has failed, so that a repeated pursuit asks anew instead of reading the same failure.
///
/// # Errors
/// Those of `change` and `keep`; [`CloudstackError::NotVisibleYet`] when the job ended well and nothing can be seen,
/// [`CloudstackError::JobsLost`] when the server lost every job, and those of [`Client::wait`] but for lost jobs.
pub async fn pursue<C, K, F>(
    client: &Client,
    policy: WaitPolicy,
    mut trace: Trace,
    change: &C,
    keep: impl Fn(Trace) -> F + Send + Sync,
) -> Result<(C::Found, Trace), PursuitError<C::Error, K>>
where
    C: Change,
    F: Future<Output = Result<(), K>> + Send,
{
    let failed = |error: CloudstackError| PursuitError::Change(error.into());
    for submissions in 0..=MAX_SUBMISSIONS {
        let trouble = match &trace.job_id {
            Some(job_id) => client.wait(job_id, policy).await.err(),
            None => None,
        };
        trace.job_succeeded |= trace.job_id.is_some() && trouble.is_none();
        if let Some(found) = seen(change, &trace).await.map_err(PursuitError::Change)? {
            return Ok((found, trace));
        }
        match (trouble, trace.job_id.take()) {
            (None, None) | (Some(CloudstackError::JobLost { .. } | CloudstackError::JobForgotten { .. }), _) => {}
            (None, Some(job_id)) => return Err(failed(CloudstackError::NotVisibleYet { job_id })),
            (Some(error @ CloudstackError::JobFailed { .. }), _) => {
                keep(trace).await.map_err(PursuitError::Keep)?;
                return Err(failed(error));
            }
            (Some(error), _) => return Err(failed(error)),
        }
        if submissions < MAX_SUBMISSIONS {
            submitted(change, &mut trace, &keep).await?;
        }
    }
    Err(failed(CloudstackError::JobsLost { submissions: MAX_SUBMISSIONS }))
}

/// What can be seen of the change.
async fn seen<C: Change>(change: &C, trace: &Trace) -> Result<Option<C::Found>, C::Error> {
    let found = change.look(trace).await?;
    if found.is_none() || trace.job_succeeded {
        return Ok(found);
    }
    tokio::time::sleep(SECOND_LOOK_PAUSE).await;
    change.look(trace).await
}

/// Asks for the change and keeps what is needed to wait for it.
async fn submitted<C, K, F>(
    change: &C,
    trace: &mut Trace,
    keep: &(impl Fn(Trace) -> F + Send + Sync),
) -> Result<(), PursuitError<C::Error, K>>
where
    C: Change,
    F: Future<Output = Result<(), K>> + Send,
{
    let before = trace.clone();
    (trace.submitted, trace.job_succeeded) = (true, false);
    keep(trace.clone()).await.map_err(PursuitError::Keep)?;
    let Some(handle) = change.submit(&before).await.map_err(PursuitError::Change)? else { return Ok(()) };
    trace.entity_id = handle.entity_id.or_else(|| trace.entity_id.take());
    trace.job_id = Some(handle.job_id);
    keep(trace.clone()).await.map_err(PursuitError::Keep)
}
