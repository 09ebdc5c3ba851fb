//! Statuses of jobs, steps and their log.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::Transitions;

/// State of a job in the JobLog (`job_tracking.status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobStatus {
    /// Waiting for a runner.
    Pending,
    /// A runner holds its lease.
    Running,
    /// All steps done.
    Completed,
    /// Ended; what was done has been undone.
    Failed,
    /// Ended on request; undone.
    Cancelled,
    /// Undoing what was done.
    Unwinding,
    /// Cannot go on or back by itself.
    NeedsOperator,
}

impl Transitions for JobStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Running, Self::Cancelled, Self::Failed],
            Self::Running => {
                &[Self::Completed, Self::Failed, Self::Cancelled, Self::Unwinding, Self::NeedsOperator, Self::Pending]
            }
            Self::Completed => &[],
            Self::Failed => &[],
            Self::Cancelled => &[],
            Self::Unwinding => &[Self::Failed, Self::Cancelled, Self::NeedsOperator],
            Self::NeedsOperator => &[Self::Running, Self::Unwinding, Self::Failed, Self::Cancelled],
        }
    }
}

/// How a step may end (`job_steps.kind`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepKind {
    /// Has an undo; before the pivot.
    Undoable,
    /// The point of no return: done or not done, never undone.
    Pivot,
    /// After the pivot: repeated until it succeeds.
    Retried,
}

/// State of a step (`job_steps.status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Begun; its outcome is not recorded.
    Running,
    /// Done, output recorded.
    Completed,
    /// Ended in an error.
    Failed,
    /// Not needed.
    Skipped,
    /// Its undo began.
    Undoing,
    /// Its undo is done.
    Undone,
    /// Its undo failed: an operator must look.
    UndoFailed,
}

impl Transitions for StepStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Running, Self::Skipped],
            Self::Running => &[Self::Running, Self::Completed, Self::Failed, Self::Undoing],
            Self::Completed => &[Self::Undoing],
            Self::Failed => &[Self::Running, Self::Undoing, Self::Skipped],
            Self::Skipped => &[],
            Self::Undoing => &[Self::Undoing, Self::Undone, Self::UndoFailed],
            Self::Undone => &[],
            Self::UndoFailed => &[Self::Undoing],
        }
    }
}

/// Level of a log event (`log_events.level`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal progress.
    Info,
    /// Works, but look.
    Warn,
    /// Does not work.
    Error,
}
