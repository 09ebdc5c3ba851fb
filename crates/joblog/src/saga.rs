//! How a domain describes its jobs: a list of steps with each undo beside its do. Runs nothing.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use model::FailureKind;
use model::status::{JobStatus, StepKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::StepContext;
use crate::error::JobError;
use crate::failure::StepError;
use crate::retry::RetryPolicy;
use crate::store::{JobRow, Lease, StepRow};

/// What a step leaves for later steps and for its undo, or why it failed. Made with [`output`].
pub type StepResult = Result<Value, StepError>;

/// A step's code. It must be repeatable: look first, act, answer with the outcome.
pub type ActFn<C> = for<'a> fn(&'a C, &'a StepContext) -> BoxFuture<'a, StepResult>;

/// The code that undoes a step. It must be repeatable and must cope with a step that did nothing or half of it.
pub type UndoFn<C> = for<'a> fn(&'a C, &'a StepContext) -> BoxFuture<'a, Result<(), StepError>>;

/// Tells the domain how a job ends. It must be repeatable: after a crash before the end is recorded it runs again.
pub type FinishedFn<C> = for<'a> fn(&'a C, &'a JobView) -> BoxFuture<'a, Result<(), StepError>>;

/// A kind of job over the context `C` its steps need (clients, stores, settings).
pub struct Saga<C: 'static> {
    /// `lower_snake`; the `job_type` of its jobs. A released type's steps are never renamed or reordered.
    pub job_type: &'static str,
    /// Undoable steps, then at most one pivot, then retried steps.
    pub steps: &'static [Step<C>],
    /// Called before a job is recorded as completed, failed, cancelled or in need of an operator.
    pub finished: FinishedFn<C>,
}

/// One step of a [`Saga`].
pub struct Step<C: 'static> {
    /// Unique in its saga.
    pub name: &'static str,
    /// How it may end.
    pub kind: StepKind,
    /// What it does.
    pub act: ActFn<C>,
    /// How it is undone; an undoable step without one has no effect.
    pub undo: Option<UndoFn<C>>,
    /// How transient failures of it, and of its undo, are repeated.
    pub retry: RetryPolicy,
    /// Its share of the job's progress.
    pub weight: u32,
}

impl<C> Step<C> {
    /// A step that can be undone.
    #[must_use]
    pub const fn undoable(name: &'static str, act: ActFn<C>, undo: UndoFn<C>) -> Self {
        let retry = RetryPolicy::PATIENT;
        Self { name, kind: StepKind::Undoable, act, undo: Some(undo), retry, weight: 1 }
    }

    /// A step before the pivot that has no effect to undo.
    #[must_use]
    pub const fn check(name: &'static str, act: ActFn<C>) -> Self {
        Self { name, kind: StepKind::Undoable, act, undo: None, retry: RetryPolicy::PATIENT, weight: 1 }
    }

    /// The point of no return. Its errors promise that nothing happened, unless their kind is `unavailable` or
    /// `internal`: see [`StepError::kind`].
    #[must_use]
    pub const fn pivot(name: &'static str, act: ActFn<C>) -> Self {
        Self { name, kind: StepKind::Pivot, act, undo: None, retry: RetryPolicy::PATIENT, weight: 1 }
    }

    /// A step after the pivot.
    #[must_use]
    pub const fn retried(name: &'static str, act: ActFn<C>) -> Self {
        Self { name, kind: StepKind::Retried, act, undo: None, retry: RetryPolicy::STUBBORN, weight: 1 }
    }

    /// With other bounds for repeating transient failures.
    #[must_use]
    pub const fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With another share of the progress (the default is 1).
    #[must_use]
    pub const fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }
}

/// The output of a step as it is stored.
///
/// # Errors
/// When the value has no JSON form.
pub fn output<T: Serialize>(value: &T) -> StepResult {
    serde_json::to_value(value)
        .map_err(|error| StepError::new(FailureKind::Internal, format!("the step's output cannot be stored: {error}")))
}

/// Reads a stored value.
pub(crate) fn parsed<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, StepError> {
    T::deserialize(value)
        .map_err(|error| StepError::new(FailureKind::Internal, format!("{what} cannot be read: {error}")))
}

/// A job as [`Saga::finished`] sees it.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The job as it will be recorded.
    pub job: JobRow,
    /// Its steps.
    pub steps: Vec<StepRow>,
    /// How it ends: completed, failed, cancelled or needs_operator.
    pub outcome: JobStatus,
    /// The right to write the job: see [`StepContext::lease`].
    pub lease: Lease,
}

impl JobView {
    /// The job's parameters.
    ///
    /// # Errors
    /// When they have another form.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        parsed("the job's parameters", &self.job.params)
    }

    /// The output of a step, if it left one.
    ///
    /// # Errors
    /// When it has another form.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>, StepError> {
        let row = self.steps.iter().find(|row| row.name == step);
        row.and_then(|row| row.output.as_ref())
            .map(|value| parsed(&format!("the output of `{step}`"), value))
            .transpose()
    }
}

/// What the runner must know of a step besides its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepFacts {
    pub name: &'static str,
    pub kind: StepKind,
    pub retry: RetryPolicy,
    pub weight: u32,
}

/// A saga with its context, whatever type that has.
pub(crate) trait ErasedSaga: Send + Sync {
    fn facts(&self) -> Vec<StepFacts>;
    fn act<'a>(&'a self, index: usize, context: &'a StepContext) -> BoxFuture<'a, StepResult>;
    fn undo<'a>(&'a self, index: usize, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>>;
    fn finished<'a>(&'a self, view: &'a JobView) -> BoxFuture<'a, Result<(), StepError>>;
}

/// A saga bound to its context.
pub(crate) struct Bound<C: 'static> {
    pub saga: &'static Saga<C>,
    pub context: Arc<C>,
}

impl<C: Send + Sync> ErasedSaga for Bound<C> {
    fn facts(&self) -> Vec<StepFacts> {
        let facts =
            |step: &Step<C>| StepFacts { name: step.name, kind: step.kind, retry: step.retry, weight: step.weight };
        self.saga.steps.iter().map(facts).collect()
    }

    fn act<'a>(&'a self, index: usize, context: &'a StepContext) -> BoxFuture<'a, StepResult> {
        (self.saga.steps[index].act)(&self.context, context)
    }

    fn undo<'a>(&'a self, index: usize, context: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
        match self.saga.steps[index].undo {
            Some(undo) => undo(&self.context, context),
            None => Box::pin(async { Ok(()) }),
        }
    }

    fn finished<'a>(&'a self, view: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
        (self.saga.finished)(&self.context, view)
    }
}

/// Whether the steps are in an order the machine can keep its promises with.
pub(crate) fn check_form<C>(saga: &Saga<C>) -> Result<(), JobError> {
    let malformed = |reason: String| JobError::Malformed { job_type: saga.job_type.to_owned(), reason };
    if saga.steps.is_empty() {
        return Err(malformed("it has no steps".to_owned()));
    }
    let mut names = HashSet::new();
    let mut reached = rank(StepKind::Undoable);
    for step in saga.steps {
        if !names.insert(step.name) {
            return Err(malformed(format!("two steps are named `{}`", step.name)));
        }
        if step.undo.is_some() && step.kind != StepKind::Undoable {
            return Err(malformed(format!("`{}` is {} but has an undo", step.name, step.kind)));
        }
        let rank = rank(step.kind);
        if rank < reached || (rank == reached && step.kind == StepKind::Pivot) {
            return Err(malformed(format!("`{}` ({}) stands too late", step.name, step.kind)));
        }
        reached = rank;
    }
    Ok(())
}

fn rank(kind: StepKind) -> u8 {
    match kind {
        StepKind::Undoable => 0,
        StepKind::Pivot => 1,
        StepKind::Retried => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act<'a>((): &'a (), _: &'a StepContext) -> BoxFuture<'a, StepResult> {
        Box::pin(async { output(&()) })
    }

    fn undo<'a>((): &'a (), _: &'a StepContext) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>((): &'a (), _: &'a JobView) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }

    fn reason(steps: &'static [Step<()>]) -> Option<String> {
        check_form(&Saga { job_type: "example", steps, finished }).err().map(|error| error.to_string())
    }

    #[test]
    fn the_order_is_undoable_pivot_retried() {
        const GOOD: &[Step<()>] =
            &[Step::check("a", act), Step::undoable("b", act, undo), Step::pivot("c", act), Step::retried("d", act)];
        assert_eq!(reason(GOOD), None);
        const TWO_PIVOTS: &[Step<()>] = &[Step::pivot("a", act), Step::pivot("b", act)];
        assert!(reason(TWO_PIVOTS).unwrap().contains("`b` (pivot) stands too late"));
        const UNDOABLE_AFTER_PIVOT: &[Step<()>] = &[Step::pivot("a", act), Step::undoable("b", act, undo)];
        assert!(reason(UNDOABLE_AFTER_PIVOT).unwrap().contains("stands too late"));
        const TWINS: &[Step<()>] = &[Step::check("a", act), Step::check("a", act)];
        assert!(reason(TWINS).unwrap().contains("two steps"));
        const UNDO_OF_RETRIED: &[Step<()>] = &[Step { kind: StepKind::Retried, ..Step::undoable("a", act, undo) }];
        assert!(reason(UNDO_OF_RETRIED).unwrap().contains("has an undo"));
        assert!(reason(&[]).unwrap().contains("no steps"));
    }
}
