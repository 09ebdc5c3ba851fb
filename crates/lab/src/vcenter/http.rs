//! The HTTPS side: TLS connections, `/sdk` and the version document. Files are `folder`, methods are `methods`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::fault::Fault;
use super::folder;
use super::injection::Effect;
use super::methods::{self, Answer, Caller};
use super::service_content;
use super::soap::{self, Call};
use super::state::Lab;

/// Largest request body; real calls stay below 100 KiB.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Longest a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Name of the session cookie.
pub(crate) const SESSION_COOKIE: &str = "vmware_soap_session";

/// The routes of the HTTPS port.
pub(crate) fn router(lab: Arc<Lab>) -> Router {
    Router::new()
        .route("/sdk", post(sdk))
        .route("/sdk/", post(sdk))
        .route("/sdk/vimServiceVersions.xml", get(versions))
        .route("/folder/{*path}", get(folder::read))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(lab)
}

/// Accepts TLS connections until the laboratory shuts down.
pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, lab: Arc<Lab>, tracker: TaskTracker) {
    let router = router(Arc::clone(&lab));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = lab.shutdown.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), lab.shutdown.clone());
        tracker.spawn(async move {
            tokio::select! {
                () = connection(stream, acceptor, router) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = handshake else {
        tracing::debug!("a TLS handshake failed or took too long");
        return;
    };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn versions() -> Response {
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], service_content::versions_document()).into_response()
}

/// The value of a cookie of the request, byte for byte.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}

async fn sdk(State(lab): State<Arc<Lab>>, headers: HeaderMap, body: String) -> Response {
    let action = headers.get("soapaction").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !service_content::accepts_action(action) {
        return xml(StatusCode::INTERNAL_SERVER_ERROR, soap::version_mismatch(action));
    }
    let call = match Call::parse(&body) {
        Ok(call) => call,
        Err(fault) => return fault_response(&fault),
    };
    if let Some(effect) = lab.injections.take_or_hold(&call.method).await {
        return injected(&lab, effect).await;
    }
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let caller = Caller { cookie: cookie(&headers, SESSION_COOKIE), user_agent: user_agent.to_owned() };
    match methods::answer(&lab, &caller, &call).await {
        Ok(answer) => success(answer),
        Err(fault) => {
            tracing::debug!(method = call.method, fault = %fault.type_name, message = fault.message, "answered a fault");
            fault_response(&fault)
        }
    }
}

fn success(answer: Answer) -> Response {
    let mut response = xml(StatusCode::OK, answer.xml);
    let cookie = answer.cookie.map(|value| format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; Secure; SameSite=Lax"));
    if let Some(value) = cookie.and_then(|text| HeaderValue::from_str(&text).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

fn fault_response(fault: &Fault) -> Response {
    xml(StatusCode::INTERNAL_SERVER_ERROR, soap::fault(fault))
}

fn xml(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "text/xml; charset=utf-8")], body).into_response()
}

/// Carries out an injected effect.
pub(crate) async fn injected(lab: &Lab, effect: Effect) -> Response {
    match effect {
        Effect::Fault { fault, message } => fault_response(&Fault::new(fault, message)),
        Effect::Status { status } => {
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response()
        }
        Effect::Hang | Effect::Hold | Effect::IgnoredByGuest | Effect::TaskFault { .. } | Effect::CutAfter { .. } => {
            tokio::select! {
                () = lab.injections.until_cleared() => {}
                () = lab.shutdown.cancelled() => {}
            }
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}
