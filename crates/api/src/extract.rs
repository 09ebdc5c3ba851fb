//! Axum's extractors with our errors: a rejected body, query or path is a [`Problem`] too, never plain text.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use model::FailureKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// `axum::Json` whose rejection is a problem; also a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => {
                let mut problem = Problem::new(FailureKind::Invalid, rejection.body_text());
                problem.status = rejection.status().as_u16();
                Err(problem.remedy("send a JSON body that follows /api/v1/openapi.json"))
            }
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> axum::response::Response {
        axum::Json(self.0).into_response()
    }
}

/// `axum::extract::Query` whose rejection is a problem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(FailureKind::Invalid, rejection.body_text())),
        }
    }
}

/// `axum::extract::Path` whose rejection is a problem.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Problem::new(FailureKind::Invalid, rejection.body_text())),
        }
    }
}

/// The answer to a path nobody serves: for `Router::fallback`.
pub async fn not_found(uri: axum::http::Uri) -> Problem {
    Problem::new(FailureKind::NotFound, format!("there is nothing at {}", uri.path()))
}

/// The answer to a method a path does not know: for `Router::method_not_allowed_fallback`.
pub async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    let mut problem = Problem::new(FailureKind::Invalid, format!("{} does not answer to {method}", uri.path()));
    problem.status = 405;
    problem
}

/// The answer when a handler panicked: for `tower_http::catch_panic::CatchPanicLayer::custom`.
#[must_use]
pub fn panicked(_panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    Problem::new(FailureKind::Internal, "the request met a defect; the log has the details").into_response()
}
