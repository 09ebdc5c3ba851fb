//! Why a step failed, as it is told to operators and kept in the rows.

use model::FailureKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The failure of a step or of its undo. Only its kind decides what happens next: `unavailable` is repeated with
/// backoff, everything else is final.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// The kind. From a pivot at its first attempt, any kind but `unavailable` and `internal` promises that its change
    /// has not happened, and the job is undone; otherwise what happened is unknown and an operator is asked.
    pub kind: FailureKind,
    /// What happened, with its causes.
    pub message: String,
    /// What an operator does next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Evidence, for programs and for the curious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// Key inside `detail` under which a failed undo keeps why the job was being undone.
const ORIGINAL: &str = "undoing_because";

impl StepError {
    /// A failure with a message.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), remedy: None, detail: None }
    }

    /// A failure made of an error and everything it was caused by, outermost first.
    #[must_use]
    pub fn from_error(kind: FailureKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain: Vec<String> =
            std::iter::successors(Some(error), |cause| cause.source()).map(ToString::to_string).collect();
        Self::new(kind, chain.join(": "))
    }

    /// What a step answers when it stopped because it was asked to.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Conflict, "stopped on request")
    }

    /// With what the operator should do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With evidence.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The columns `error_message` and `error_detail`.
    #[must_use]
    pub fn to_columns(&self) -> (String, Value) {
        let detail = json!({ "kind": self.kind, "remedy": self.remedy, "detail": self.detail });
        (self.message.clone(), detail)
    }

    /// The failure the columns stand for; a detail written by something else is kept as evidence.
    #[must_use]
    pub fn from_columns(message: String, detail: Option<Value>) -> Self {
        #[derive(Deserialize)]
        struct Columns {
            kind: FailureKind,
            remedy: Option<String>,
            detail: Option<Value>,
        }
        match detail.as_ref().map(Columns::deserialize) {
            Some(Ok(columns)) => Self { kind: columns.kind, message, remedy: columns.remedy, detail: columns.detail },
            _ => Self { kind: FailureKind::Internal, message, remedy: None, detail },
        }
    }

    /// This failure of an undo, for the job: names the step and keeps why the job was being undone.
    pub(crate) fn of_undo(&self, step: &str, original: Option<&Self>) -> Self {
        Self {
            kind: self.kind,
            message: format!("undoing step `{step}` failed: {}", self.message),
            remedy: self.remedy.clone().or_else(|| Some("mend the cause, then retry the job".to_owned())),
            detail: Some(json!({ "undo": self.detail, ORIGINAL: original })),
        }
    }

    /// Why the job was being undone when this undo failed.
    pub(crate) fn original(&self) -> Option<Self> {
        self.detail.as_ref()?.get(ORIGINAL).and_then(|original| Self::deserialize(original).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_the_whole_failure() {
        let error = StepError::new(FailureKind::Exhausted, "the volume is full")
            .remedy("enlarge it")
            .detail(json!({ "needed_bytes": 7 }));
        let (message, detail) = error.to_columns();
        assert_eq!(StepError::from_columns(message, Some(detail)), error);
    }

    #[test]
    fn foreign_columns_become_evidence() {
        let error = StepError::from_columns("boom".into(), Some(json!([1])));
        assert_eq!((error.kind, error.detail), (FailureKind::Internal, Some(json!([1]))));
        assert_eq!(StepError::from_columns("boom".into(), None).kind, FailureKind::Internal);
    }

    #[test]
    fn a_failed_undo_remembers_why_it_was_undone() {
        let first = StepError::new(FailureKind::Invalid, "too small").remedy("take a larger one");
        let undo = StepError::new(FailureKind::Forbidden, "may not delete").of_undo("provision", Some(&first));
        assert_eq!(undo.message, "undoing step `provision` failed: may not delete");
        assert_eq!(undo.original(), Some(first));
        assert_eq!(StepError::cancelled().of_undo("x", None).original(), None);
    }

    #[test]
    fn causes_are_joined_outermost_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the volume")]
        struct Outer(#[source] std::io::Error);
        let error = StepError::from_error(FailureKind::NotFound, &Outer(std::io::Error::other("no such device")));
        assert_eq!(error.message, "cannot open the volume: no such device");
    }
}
