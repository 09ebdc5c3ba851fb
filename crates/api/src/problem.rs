//! RFC 9457 problem details: the one form in which every process of ours reports an error over HTTP.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::FailureKind;
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`] (RFC 9457 §3).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// An error as an operator reads it: what happened, why, what to do, and whether the data is safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// A URN that names the class of the error (RFC 9457 `type`).
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The class in words.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The kind that decided the status.
    pub kind: FailureKind,
    /// What was seen: an id, a size, a server's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The likely cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the operator does next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Whether the same request may succeed later without anybody acting.
    pub retryable: bool,
    /// Whether every committed replica is still as good as before.
    pub data_safe: bool,
    /// The job it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

impl Problem {
    /// A problem of `kind` with its standard title, status and `retryable`; the data is safe unless said otherwise.
    #[must_use]
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:migratekit:problem:{kind}"),
            title: title(kind).to_owned(),
            status: kind.http_status(),
            detail: detail.into(),
            kind,
            evidence: None,
            cause: None,
            remedy: None,
            retryable: kind.is_transient(),
            data_safe: true,
            job_id: None,
        }
    }

    /// A problem made of an error and everything it was caused by, outermost first.
    #[must_use]
    pub fn from_error(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        let mut problem = Self::new(kind, error.to_string());
        let causes: Vec<String> =
            std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect();
        if !causes.is_empty() {
            problem.cause = Some(causes.join(": "));
        }
        problem
    }

    /// With what the operator should do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With the likely cause.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With what was seen.
    #[must_use]
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = Some(evidence.into());
        self
    }

    /// With the job it happened in.
    #[must_use]
    pub fn job(mut self, job_id: impl Into<String>) -> Self {
        self.job_id = Some(job_id.into());
        self
    }
}

fn title(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::NotFound => "Not found",
        FailureKind::Conflict => "Conflicts with the present state",
        FailureKind::Invalid => "The request cannot be right",
        FailureKind::Unauthenticated => "Not authenticated",
        FailureKind::Forbidden => "Not allowed",
        FailureKind::Unavailable => "Not reachable at the moment",
        FailureKind::Exhausted => "A limit is reached",
        FailureKind::Internal => "Internal error",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_decides_status_and_retryable() {
        let problem = Problem::new(FailureKind::Unavailable, "the gateway does not answer");
        assert_eq!((problem.status, problem.retryable), (503, true));
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:migratekit:problem:unavailable");
        assert!(json.get("remedy").is_none());
    }

    #[test]
    fn causes_are_joined_outermost_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the volume")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no such device"));
        let problem = Problem::from_error(FailureKind::NotFound, &error);
        assert_eq!(
            (problem.detail.as_str(), problem.cause.as_deref()),
            ("cannot open the volume", Some("no such device"))
        );
    }
}
