//! What happens to jobs, told to whoever listens in this process. Listeners that fall behind lose events and look again.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::store::{JobRow, LogEventRow, StepRow};

/// Events kept for a listener that is behind: some seconds of a busy hub. One that misses more is told how many.
pub const EVENTS_CAPACITY: usize = 1024;

/// Something happened to a job.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// The job was made or its row was written.
    Job(Arc<JobRow>),
    /// A step's row was written.
    Step(Arc<StepRow>),
    /// The job moved on; at most one a second and job.
    Progress {
        /// The job.
        job_id: Arc<str>,
        /// 0 to 100.
        percent_complete: f64,
    },
    /// A line of the log was stored; its id is the `Last-Event-ID` of listeners over HTTP.
    Log(Arc<LogEventRow>),
}

impl JobEvent {
    /// The job it is about.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        match self {
            Self::Job(job) => Some(&job.id),
            Self::Step(step) => Some(&step.job_id),
            Self::Progress { job_id, .. } => Some(job_id),
            Self::Log(event) => event.job_id.as_deref(),
        }
    }
}

/// Where events are published and heard. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<JobEvent>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(EVENTS_CAPACITY).0 }
    }
}

impl Events {
    /// Hears every event from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<JobEvent> {
        self.sender.subscribe()
    }

    /// Tells everybody who listens; nobody needs to.
    pub fn publish(&self, event: JobEvent) {
        // An error only says that nobody listens.
        let _ = self.sender.send(event);
    }
}
