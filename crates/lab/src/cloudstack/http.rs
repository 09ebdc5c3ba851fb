//! The API endpoint: decoding, authentication, request faults, dispatch, and the envelope around every answer.
//!
//! Thin: what a command means is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use time::OffsetDateTime;
use url::form_urlencoded;

use super::commands::{self, Reply};
use super::connections::Connection;
use super::faults::{FaultKind, Struck};
use super::jobs::Engine;
use super::json::{Json, Object};
use super::params::Params;
use super::refusal::Refusal;
use super::signature::{is_still_valid, parse_expiry, signature_of};
use super::target_process::TargetProcess;
use super::world::{Caller, World};

/// Largest form (`request.content.size`).
const FORM_LIMIT_BYTES: usize = 1 << 20;
/// Most parameters in one request.
const PARAMETER_LIMIT: usize = 5000;
/// What a rate-limited caller is told to wait.
const RETRY_AFTER_MS: u64 = 1000;
/// Furthest expiry under `enforce.post.requests.and.timestamps`.
const EXPIRY_HORIZON: time::Duration = time::Duration::minutes(15);

/// The routes of the API.
pub(crate) fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/client/api", get(serve).post(serve))
        .layer(DefaultBodyLimit::max(FORM_LIMIT_BYTES))
        .with_state(engine)
}

async fn serve(
    State(engine): State<Arc<Engine>>,
    Extension(connection): Extension<Arc<Connection>>,
    method: Method,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let form: &[u8] = if method == Method::POST { &body } else { &[] };
    let request = Request::read(query.as_deref().unwrap_or_default(), form);
    let admitted = authenticate(&engine.world.lock(), &request, &method);
    let (caller, params) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(&refusal, request.value("command")),
    };
    let fault = {
        let mut world = engine.world.lock();
        *world.requests.entry(params.command().to_owned()).or_insert(0) += 1;
        world.faults.strike_request(params.command())
    };
    match fault {
        None => carry_out(&engine, &caller, &params, false),
        Some(Struck { process: Some(process), kind, .. }) => {
            killing(&engine, &caller, &params, kind, process, connection).await
        }
        Some(struck) => failing(&engine, &caller, &params, struck).await,
    }
}

/// A request whose sender, or another process, does not live to see the answer.
async fn killing(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &Params,
    kind: FaultKind,
    process: TargetProcess,
    connection: Arc<Connection>,
) -> Response {
    tracing::info!(command = params.command(), ?kind, ?process, "a process is killed on purpose");
    if kind == FaultKind::KillBefore {
        process.kill();
        connection.drop_it();
        return hang(engine).await;
    }
    let mut response = carry_out(engine, caller, params, false);
    if kind == FaultKind::KillDuring {
        process.kill();
        connection.drop_it();
        return hang(engine).await;
    }
    process.stop().await;
    connection.kill_when_written(process);
    // The connection is shut down after this answer, which tells that all of it was written.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn failing(engine: &Arc<Engine>, caller: &Caller, params: &Params, fault: Struck) -> Response {
    let command = Some(params.command());
    match fault.kind {
        FaultKind::Http500 => html_failure(),
        FaultKind::RateLimited => refused(&Refusal::rate_limited(RETRY_AFTER_MS), command),
        FaultKind::ShuttingDown => refused(&Refusal::shutting_down(), command),
        FaultKind::StaleList => carry_out(engine, caller, params, true),
        FaultKind::Slow => {
            tokio::select! {
                () = engine.cancel.cancelled() => return html_failure(),
                () = tokio::time::sleep(Duration::from_millis(fault.delay_ms)) => {}
            }
            carry_out(engine, caller, params, false)
        }
        FaultKind::HangAfterEffect => {
            drop(carry_out(engine, caller, params, false));
            hang(engine).await
        }
        FaultKind::Hang
        | FaultKind::KillBefore
        | FaultKind::KillDuring
        | FaultKind::KillAfter
        | FaultKind::JobFailedNoResult
        | FaultKind::JobFailedButDone
        | FaultKind::JobStuck => hang(engine).await,
    }
}

/// Never answers; the end of the server closes the connection.
async fn hang(engine: &Engine) -> Response {
    engine.cancel.cancelled().await;
    html_failure()
}

fn carry_out(engine: &Arc<Engine>, caller: &Caller, params: &Params, stale: bool) -> Response {
    let mut world = engine.world.lock();
    let past = stale.then(|| world.in_the_past(|world| commands::list(world, caller, params))).flatten();
    let answer = match past {
        Some(answer) => answer,
        None => match commands::carry_out(&mut world, caller, params) {
            Ok(Reply::Now(content)) => Ok(content),
            Ok(Reply::Job(submission)) => engine.submit(&mut world, caller, params, submission),
            Err(refusal) => Err(refusal),
        },
    };
    engine.commit(&mut world);
    drop(world);
    match answer {
        Ok(content) => {
            let key = format!("{}response", params.command().to_lowercase());
            respond(StatusCode::OK, None, &Object::new().put(&key, content).into())
        }
        Err(refusal) => refused(&refusal, Some(params.command())),
    }
}

/// The decoded parameters of a request; of a repeated name the last value counts.
struct Request {
    pairs: Vec<(String, String)>,
}

impl Request {
    fn read(query: &str, form: &[u8]) -> Self {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let decoded = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(form));
        for (name, value) in decoded.take(PARAMETER_LIMIT) {
            match pairs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, slot)) => *slot = value.into_owned(),
                None => pairs.push((name.into_owned(), value.into_owned())),
            }
        }
        Self { pairs }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Key, signature, expiry, then the rules on methods and formats.
fn authenticate(world: &World, request: &Request, method: &Method) -> Result<(Caller, Params), Refusal> {
    let account = request
        .value("apikey")
        .and_then(|key| world.catalogue.account_with_key(key))
        .ok_or_else(Refusal::unauthenticated)?;
    let signature = request.value("signature").ok_or_else(Refusal::unauthenticated)?;
    let expected = signature_of(&request.pairs, account.secret_key.expose());
    if signature != expected {
        return Err(Refusal::unauthenticated());
    }
    let now = OffsetDateTime::now_utc();
    let is_version_3 = request.value("signatureversion") == Some("3");
    if is_version_3 && !request.value("expires").is_some_and(|expires| is_still_valid(expires, now)) {
        return Err(Refusal::unauthenticated());
    }
    let command = request.value("command").ok_or_else(Refusal::unauthenticated)?;
    if world.config.enforce_post {
        let expires = request.value("expires").and_then(parse_expiry);
        if !is_version_3 || expires.is_none_or(|expires| expires > now + EXPIRY_HORIZON) {
            return Err(Refusal::unauthenticated());
        }
        if *method != Method::POST && !may_be_read_by_get(command) {
            return Err(Refusal::malformed(format!(
                "State changing command {command} needs to be sent using POST request"
            )));
        }
    }
    if !request.value("response").is_some_and(|format| format.eq_ignore_ascii_case("json")) {
        return Err(Refusal::malformed("This simulated server answers only response=json"));
    }
    let caller = Caller { account_id: account.id.clone(), root_admin: account.root_admin };
    Ok((caller, Params::new(command, &request.pairs)?))
}

fn may_be_read_by_get(command: &str) -> bool {
    ["get", "list", "query", "find"].iter().any(|prefix| command.starts_with(prefix) && command.len() > prefix.len())
}

fn refused(refusal: &Refusal, command: Option<&str>) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(status, Some(&refusal.text), &refusal.body(command))
}

fn respond(status: StatusCode, description: Option<&str>, body: &Json) -> Response {
    let mut response = Response::new(Body::from(body.render()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    if let Some(value) = description.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert("X-Description", value);
    }
    response
}

fn html_failure() -> Response {
    let mut response = Response::new(Body::from("<html><body><h1>HTTP ERROR 500</h1></body></html>"));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html;charset=iso-8859-1"));
    response
}
