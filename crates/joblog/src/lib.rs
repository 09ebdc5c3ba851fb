//! Durable jobs: the saga machine is the job log (`job_tracking`, `job_steps`, `log_events`).
//!
//! A domain describes a [`Saga`]; a [`Runner`] keeps every intent and outcome in a [`JobStore`] and, killed anywhere,
//! goes on from the rows. Knows no SQL, no HTTP and nothing of what its jobs do.

mod clock;
mod context;
mod drive;
mod error;
mod events;
mod failure;
mod layer;
mod log_writer;
pub mod machine;
mod new_job;
mod recover;
mod retry;
mod runner;
mod saga;
mod session;
mod store;

pub use clock::{Clock, SystemClock};
pub use context::StepContext;
pub use error::JobError;
pub use events::{EVENTS_CAPACITY, Events, JobEvent};
pub use failure::StepError;
pub use layer::{LOG_QUEUE_CAPACITY, LogLayer, MAX_FIELDS, MAX_TEXT_BYTES};
pub use log_writer::{LogWriter, MAX_BATCH_EVENTS};
pub use new_job::NewJob;
pub use retry::RetryPolicy;
pub use runner::{Runner, RunnerBuilder, RunnerConfig};
pub use saga::{ActFn, FinishedFn, JobView, Saga, Step, StepResult, UndoFn, output};
pub use store::{
    ClaimRequest, ClaimableFilter, Heartbeat, JobFilter, JobPage, JobRecord, JobRow, JobStore, JobWrite, Lease,
    LogEventRow, LogFilter, MAX_PAGE_JOBS, MAX_PAGE_LOG_EVENTS, NewLogEvent, StepRow,
};
