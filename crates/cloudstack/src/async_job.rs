//! Asynchronous jobs: submitted in one call, asked about in others, by an id that outlives this process.
//!
//! Submitting and waiting are separate so that callers can store the job's id in between. Dropping a wait changes
//! nothing on the server. A failed or lost job does not mean that nothing happened: read the entity again.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::client::{Client, decode_entity};
use crate::error::CloudstackError;
use crate::params::Params;
use crate::refusal::{Refusal, RefusalClass};
use crate::wire;

/// Least time one question is given, also when the deadline is nearer.
const SHORTEST_QUESTION: Duration = Duration::from_secs(1);

/// What a submitted command answers with: keep it, it is all that is needed to go on after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHandle {
    /// The job.
    #[serde(alias = "jobid", deserialize_with = "wire::id")]
    pub job_id: String,
    /// What the command creates; it exists already, and stays even when the job fails.
    #[serde(alias = "id", default, deserialize_with = "wire::text")]
    pub entity_id: Option<String>,
}

/// How long to wait for a job and how often to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitPolicy {
    /// When to give up waiting; the job runs on.
    pub deadline: Duration,
    /// The pause after the first question.
    pub first_interval: Duration,
    /// The longest pause; pauses grow by half from the first.
    pub longest_interval: Duration,
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(60 * 60),
            first_interval: Duration::from_millis(100),
            longest_interval: Duration::from_secs(5),
        }
    }
}

impl WaitPolicy {
    /// The default pauses with another deadline.
    #[must_use]
    pub fn with_deadline(deadline: Duration) -> Self {
        Self { deadline, ..Self::default() }
    }
}

/// Told to whoever watches a wait, after every question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProgress {
    /// The job.
    pub job_id: String,
    /// Questions asked so far.
    pub polls: u32,
    /// Time waited so far.
    pub waited: Duration,
    /// Why the last question was not answered, if it was not.
    pub trouble: Option<String>,
}

/// A job as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JobReport {
    /// The job.
    #[serde(alias = "jobid", default, deserialize_with = "wire::text_or_empty")]
    pub job_id: String,
    /// 0 pending, 1 succeeded, 2 failed, 3 cancelled.
    #[serde(alias = "jobstatus", default, deserialize_with = "wire::number")]
    pub status: Option<i64>,
    /// Error code of a failed job.
    #[serde(alias = "jobresultcode", default, deserialize_with = "wire::number")]
    pub result_code: Option<i64>,
    /// The server's class of the command.
    #[serde(alias = "cmd", default, deserialize_with = "wire::text")]
    pub command_class: Option<String>,
    /// What kind of thing the job is about (`Volume`, `VirtualMachine`).
    #[serde(alias = "jobinstancetype", default, deserialize_with = "wire::text")]
    pub entity_type: Option<String>,
    /// The thing the job is about.
    #[serde(alias = "jobinstanceid", default, deserialize_with = "wire::text")]
    pub entity_id: Option<String>,
    /// When it was submitted.
    #[serde(default, deserialize_with = "wire::moment")]
    pub created: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(default, deserialize_with = "wire::moment")]
    pub completed: Option<OffsetDateTime>,
    #[serde(alias = "jobresult", default)]
    result: Option<Value>,
}

/// What a report means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Not ended yet.
    Pending,
    /// Done.
    Succeeded(JobSuccess),
    /// Failed for this reason.
    Failed(Box<Refusal>),
    /// Ended without a result, with this `jobresultcode`.
    Lost(i64),
}

/// A job that succeeded. Its entity may lack fields: list it again for the full one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSuccess {
    /// The job.
    pub job_id: String,
    /// The thing the job was about, when the server says so.
    pub entity_id: Option<String>,
    result: Value,
}

impl JobSuccess {
    /// The entity in the result, such as `volume` or `virtualmachine`.
    ///
    /// # Errors
    /// [`CloudstackError::UnexpectedAnswer`] when there is none of that name and shape.
    pub fn entity<T: DeserializeOwned>(&self, key: &str) -> Result<T, CloudstackError> {
        decode_entity("queryAsyncJobResult", key, self.result.clone())
    }
}

impl JobReport {
    /// What the report means. Only the job's own status counts: entities inside the result carry others.
    #[must_use]
    pub fn outcome(&self) -> JobOutcome {
        match self.status {
            Some(1) => JobOutcome::Succeeded(JobSuccess {
                job_id: self.job_id.clone(),
                entity_id: self.entity_id.clone(),
                result: self.result.clone().unwrap_or_default(),
            }),
            Some(2 | 3) => self.failure(),
            _ => JobOutcome::Pending,
        }
    }

    fn failure(&self) -> JobOutcome {
        let code = self.result_code.unwrap_or_default();
        let field = |name: &str| self.result.as_ref().and_then(|result| result.get(name));
        let text = field("errortext").and_then(Value::as_str);
        // Seen from old servers: the reason as plain text.
        let text = text.or_else(|| self.result.as_ref().and_then(Value::as_str));
        let Some(text) = text else { return JobOutcome::Lost(code) };
        let code = field("errorcode").and_then(Value::as_i64).unwrap_or(code);
        let code = u16::try_from(code).ok().filter(|&code| code != 0).unwrap_or(530);
        let cs_error_code = field("cserrorcode").and_then(Value::as_i64);
        JobOutcome::Failed(Box::new(Refusal::new(&self.job_id, code, cs_error_code, text)))
    }
}

impl Client {
    /// Asks once how a job stands.
    ///
    /// # Errors
    /// [`CloudstackError::JobForgotten`] when the server does not know it any more, and those of any call.
    pub async fn job(&self, job_id: &str) -> Result<JobReport, CloudstackError> {
        let params = Params::new("queryAsyncJobResult").set("jobid", job_id);
        match self.read::<JobReport>(&params).await {
            Ok(mut report) => {
                report.job_id = job_id.to_owned();
                Ok(report)
            }
            Err(error) if error.refusal_class() == Some(RefusalClass::NotFound) => {
                Err(CloudstackError::JobForgotten { job_id: job_id.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    async fn job_within(&self, job_id: &str, patience: Duration) -> Result<JobReport, CloudstackError> {
        match tokio::time::timeout(patience, self.job(job_id)).await {
            Ok(answered) => answered,
            Err(_) => Err(CloudstackError::JobPending { job_id: job_id.to_owned(), waited: patience }),
        }
    }

    /// Waits until a job ends. May be dropped and called again, also by another process.
    ///
    /// # Errors
    /// See [`Client::wait_observed`].
    pub async fn wait(&self, job_id: &str, policy: WaitPolicy) -> Result<JobSuccess, CloudstackError> {
        self.wait_observed(job_id, policy, &mut |_| {}).await
    }

    /// As [`Client::wait`], telling `observe` after every question. A server that cannot be reached for a while (it
    /// restarts) is asked again until the deadline.
    ///
    /// # Errors
    /// [`CloudstackError::JobFailed`], [`CloudstackError::JobLost`], [`CloudstackError::JobForgotten`],
    /// [`CloudstackError::JobPending`] at the deadline, and whatever a call can fail with for good.
    pub async fn wait_observed(
        &self,
        job_id: &str,
        policy: WaitPolicy,
        observe: &mut (dyn FnMut(&JobProgress) + Send),
    ) -> Result<JobSuccess, CloudstackError> {
        let started = Instant::now();
        let mut interval = policy.first_interval;
        let mut polls = 0;
        loop {
            let patience = policy.deadline.saturating_sub(started.elapsed()).max(SHORTEST_QUESTION);
            let trouble = match self.job_within(job_id, patience).await {
                Ok(report) => match report.outcome() {
                    JobOutcome::Pending => None,
                    outcome => return ended(job_id, outcome),
                },
                Err(error @ CloudstackError::JobForgotten { .. }) => return Err(error),
                Err(error) if error.kind().is_transient() => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            polls += 1;
            let waited = started.elapsed();
            observe(&JobProgress { job_id: job_id.to_owned(), polls, waited, trouble });
            let Some(left) = policy.deadline.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(CloudstackError::JobPending { job_id: job_id.to_owned(), waited });
            };
            tokio::time::sleep(interval.min(left)).await;
            interval = next_interval(interval, policy.longest_interval);
        }
    }
}

fn ended(job_id: &str, outcome: JobOutcome) -> Result<JobSuccess, CloudstackError> {
    match outcome {
        JobOutcome::Succeeded(success) => Ok(success),
        JobOutcome::Failed(refusal) => Err(CloudstackError::JobFailed { job_id: job_id.to_owned(), refusal }),
        JobOutcome::Lost(code) => Err(CloudstackError::JobLost { job_id: job_id.to_owned(), code }),
        JobOutcome::Pending => Err(CloudstackError::JobPending { job_id: job_id.to_owned(), waited: Duration::ZERO }),
    }
}

fn next_interval(interval: Duration, longest: Duration) -> Duration {
    (interval + interval / 2).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(report: Value) -> JobOutcome {
        serde_json::from_value::<JobReport>(report).unwrap().outcome()
    }

    #[test]
    fn a_pending_job_has_no_result_yet() {
        let report = json!({"accountid":"27ef5ba2","cmd":"org.apache.cloudstack.api.command.admin.volume.CreateVolumeCmdByAdmin",
            "jobprocstatus":0,"jobresultcode":0,"jobinstancetype":"Volume","jobinstanceid":"5b1d","managementserverid":7,
            "created":"2026-01-02T03:04:05+0000","jobid":"a2c4","jobstatus":0});
        assert_eq!(outcome(report), JobOutcome::Pending);
    }

    #[test]
    fn the_status_of_a_job_inside_the_entity_does_not_count() {
        let report = json!({"jobresulttype":"object","jobresult":{"volume":{"id":"5b1d","jobid":"a2c4","jobstatus":0}},
            "jobinstanceid":"5b1d","jobid":"a2c4","jobstatus":1});
        let JobOutcome::Succeeded(success) = outcome(report) else { panic!("not a success") };
        assert_eq!(success.entity_id.as_deref(), Some("5b1d"));
        assert_eq!(success.entity::<Value>("volume").unwrap()["id"], "5b1d");
    }

    #[test]
    fn failures_with_and_without_a_result() {
        let with = json!({"jobresultcode":530,"jobresult":{"errorcode":530,
            "errortext":"Failed to attach volume vm1-disk1 to VM worker; timeout"},"jobid":"j","jobstatus":2});
        let JobOutcome::Failed(refusal) = outcome(with) else { panic!("not a failure") };
        assert_eq!((refusal.error_code, refusal.class), (530, RefusalClass::Internal));
        for (without, code) in [
            (json!({"jobresultcode":530,"jobid":"j","jobstatus":2}), 530),
            (json!({"jobresultcode":0,"jobid":"j","jobstatus":"2","jobresult":null}), 0),
            (json!({"jobid":"j","jobstatus":3,"jobresult":{}}), 0),
        ] {
            assert_eq!(outcome(without), JobOutcome::Lost(code));
        }
    }

    #[test]
    fn a_handle_is_read_from_both_kinds_of_submission_and_from_storage() {
        for (text, entity_id) in [(r#"{"jobid":"j"}"#, None), (r#"{"id":"v","jobid":"j"}"#, Some("v"))] {
            let handle: JobHandle = serde_json::from_str(text).unwrap();
            assert_eq!((handle.job_id.as_str(), handle.entity_id.as_deref()), ("j", entity_id));
            let stored = serde_json::to_string(&handle).unwrap();
            assert_eq!(serde_json::from_str::<JobHandle>(&stored).unwrap(), handle);
        }
        assert!(serde_json::from_str::<JobHandle>(r#"{"id":"v"}"#).is_err(), "no job");
    }

    #[test]
    fn pauses_grow_to_their_bound() {
        let longest = Duration::from_secs(5);
        let mut interval = Duration::from_millis(250);
        for _ in 0..20 {
            let next = next_interval(interval, longest);
            assert!(next >= interval && next <= longest);
            interval = next;
        }
        assert_eq!(interval, longest);
    }
}
