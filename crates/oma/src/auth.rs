//! Who may ask: bearer tokens, the first operator, and the brake on guessing. Knows nothing of what is asked.

mod first_operator;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use model::status::Role;
use parking_lot::Mutex;
use store::api_tokens;
use time::OffsetDateTime;

pub use first_operator::create_first_operator;

use crate::error::OmaError;
use crate::origin::Origin;
use crate::state::OmaState;
use crate::throttle::Throttle;

/// Wrong tokens an outside address may send within [`FAILURE_WINDOW`].
const MAX_FAILURES: u32 = 10;
/// See [`MAX_FAILURES`].
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Longest token looked at, in bytes; ours have 64.
const MAX_TOKEN_BYTES: usize = 512;

/// Between two notes of when a token was used last.
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// Tokens whose last note is remembered.
const MAX_NOTED_TOKENS: usize = 1024;

/// Limits on failed authentication.
pub(crate) struct AuthLimits {
    failures: Throttle,
    uses: Mutex<HashMap<String, Instant>>,
}

impl Default for AuthLimits {
    fn default() -> Self {
        Self { failures: Throttle::new(MAX_FAILURES, FAILURE_WINDOW), uses: Mutex::default() }
    }
}

impl AuthLimits {
    /// Whether the use of a token should be written down again.
    fn is_use_due(&self, token_id: &str, now: Instant) -> bool {
        let mut uses = self.uses.lock();
        if uses.get(token_id).is_some_and(|noted| now.duration_since(*noted) < USE_INTERVAL) {
            return false;
        }
        if uses.len() >= MAX_NOTED_TOKENS {
            uses.clear();
        }
        uses.insert(token_id.to_owned(), now);
        true
    }
}

/// Whoever holds the token of the request; in the extensions of every request that passed [`require_operator`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The user's name: what `approved_by` and the like record.
    pub name: String,
    /// What the token allows.
    pub role: Role,
}

impl Operator {
    /// Refuses operators below a role.
    ///
    /// # Errors
    /// [`OmaError::Forbidden`].
    pub fn require(&self, needed: Role) -> Result<(), OmaError> {
        if self.role >= needed { Ok(()) } else { Err(OmaError::Forbidden { operator: self.name.clone(), needed }) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = OmaError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, OmaError> {
        parts.extensions.get::<Self>().cloned().ok_or(OmaError::Unauthenticated)
    }
}

/// Middleware: lets only requests with a valid token pass, and only those of operators that change something.
pub(crate) async fn require_operator(
    State(state): State<OmaState>,
    origin: Origin,
    mut request: Request,
    next: Next,
) -> Result<Response, OmaError> {
    let address = origin.remote.ip();
    let limit = &state.auth_limits().failures;
    let too_many = |wait: Duration| OmaError::TooManyAttempts { retry_after_seconds: wait.as_secs() + 1 };
    if origin.public {
        limit.check(address, Instant::now()).map_err(too_many)?;
    }
    let Some(operator) = authenticate(&state, request.headers()).await? else {
        if origin.public {
            limit.attempt(address, Instant::now()).map_err(too_many)?;
        }
        return Err(OmaError::Unauthenticated);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        operator.require(Role::Operator)?;
    }
    request.extensions_mut().insert(operator);
    Ok(next.run(request).await)
}

/// The operator of the bearer token. Right, wrong and missing tokens cost the same: one hash and one look-up by it, so
/// neither time nor the index tells how much of a guess was right.
async fn authenticate(state: &OmaState, headers: &HeaderMap) -> Result<Option<Operator>, OmaError> {
    let token = bearer(headers);
    let hash = token_hash(token.unwrap_or_default());
    let now = OffsetDateTime::now_utc();
    let found = api_tokens::verify(state.store(), &hash, now).await?;
    let Some(bearer) = found.filter(|_| token.is_some()) else { return Ok(None) };
    if state.auth_limits().is_use_due(&bearer.token_id, Instant::now()) {
        api_tokens::note_use(state.store(), &bearer.token_id, now).await?;
    }
    Ok(Some(Operator { name: bearer.user_name, role: bearer.role }))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=MAX_TOKEN_BYTES).contains(&token.len())).then_some(token)
}

/// What the database keeps of a token (`api_tokens.token_hash`): SHA-256, lower hex. Tokens are random, so a fast hash
/// gives nothing away.
pub(crate) fn token_hash(token: &str) -> String {
    hex::encode(digest(&SHA256, token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer_of(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn only_bearer_tokens_of_sane_length_are_looked_at() {
        assert_eq!(bearer_of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(bearer_of("bearer  abc "), Some("abc".to_owned()));
        for wrong in ["Bearer", "Bearer ", "Basic abc", &format!("Bearer {}", "x".repeat(513))] {
            assert_eq!(bearer_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn roles_include_those_below() {
        let operator = Operator { name: "op".into(), role: Role::Operator };
        assert!(operator.require(Role::Viewer).is_ok());
        assert!(matches!(operator.require(Role::Administrator), Err(OmaError::Forbidden { .. })));
    }
}
