//! A small typed HTTP client over any [`Transport`]: TCP, a Unix socket, or an agent's reversed connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use model::{FailureKind, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::sse::Events;

/// Largest JSON answer taken, in bytes: a full inventory of 10,000 VMs is below half of it.
pub const MAX_JSON_BYTES: usize = 64 * 1024 * 1024;
/// How long a connection may take to open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may be silent while it answers.
pub const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The bytes of an answer, as they come.
pub type ResponseBody = BoxStream<'static, Result<Bytes, TransportError>>;

/// Sends one HTTP request to one peer.
pub trait Transport: Send + Sync {
    /// Sends the request (its URI has only path and query) and answers once the head of the response is there.
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<ResponseBody>, TransportError>>;
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made, or it broke.
    #[error("{peer} cannot be reached")]
    Unreachable {
        /// Who was called.
        peer: String,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no connection to this peer at the moment.
    #[error("{peer} is not connected")]
    Closed {
        /// Who was called.
        peer: String,
    },
    /// The request could not be built.
    #[error("the request to {peer} is not valid HTTP")]
    Request {
        /// Who was to be called.
        peer: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a call did not give its result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The peer answered with a problem.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer that is not what the contract says.
    #[error("the answer to {request} is not understood: {reason}")]
    Unexpected {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Problem(problem) => problem.kind,
            Self::Transport(TransportError::Request { .. }) | Self::Unexpected { .. } => FailureKind::Internal,
            Self::Transport(_) => FailureKind::Unavailable,
        }
    }

    /// The error as a problem: the peer's own, or one made of what went wrong on the way.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            other => Problem::from_error(other.kind(), &other),
        }
    }
}

/// A client of one peer.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

impl Client {
    /// A client that sends through `transport`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// `GET path` and its JSON.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>, None).await
    }

    /// `POST path` with a JSON body, and the answer's JSON.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn post<B: Serialize + Sync, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body), None).await
    }

    /// Like [`Client::post`], with an `Idempotency-Key`: repeating it answers with the first call's result.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn post_once<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        idempotency_key: &str,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body), Some(idempotency_key)).await
    }

    /// `PUT path` with a JSON body, and the answer's JSON.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn put<B: Serialize + Sync, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        self.call(Method::PUT, path, Some(body), None).await
    }

    /// `DELETE path` and the answer's JSON.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, None::<&()>, None).await
    }

    /// Like [`Client::delete`], with an `Idempotency-Key`.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn delete_once<T: DeserializeOwned>(&self, path: &str, idempotency_key: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, None::<&()>, Some(idempotency_key)).await
    }

    /// `GET path` as a stream of bytes (digests, server-sent events).
    ///
    /// # Errors
    /// The peer's problem, or no answer.
    pub async fn stream(&self, path: &str) -> Result<ResponseBody, ClientError> {
        let request = build(&Method::GET, path, Bytes::new(), None)?;
        let response = self.transport.send(request).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(failure(&format!("GET {path}"), response).await)
    }

    /// `GET path` as server-sent events, after the one with that id.
    ///
    /// # Errors
    /// The peer's problem, or no answer.
    pub async fn events(&self, path: &str, last_event_id: Option<&str>) -> Result<Events, ClientError> {
        let mut request = build(&Method::GET, path, Bytes::new(), None)?;
        let failed = |source: header::InvalidHeaderValue| TransportError::Request {
            peer: format!("GET {path}"),
            source: source.into(),
        };
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
        if let Some(id) = last_event_id {
            headers.insert("last-event-id", id.parse().map_err(failed)?);
        }
        let response = self.transport.send(request).await?;
        if response.status().is_success() {
            return Ok(Events::new(response.into_body()));
        }
        Err(failure(&format!("GET {path}"), response).await)
    }

    async fn call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        idempotency_key: Option<&str>,
    ) -> Result<T, ClientError> {
        let name = format!("{method} {path}");
        let body = body
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|source| TransportError::Request { peer: name.clone(), source: source.into() })?;
        let request = build(&method, path, body.unwrap_or_default().into(), idempotency_key)?;
        let response = self.transport.send(request).await?;
        decode(&name, response).await
    }
}

fn build(method: &Method, path: &str, body: Bytes, key: Option<&str>) -> Result<Request<Bytes>, TransportError> {
    let mut builder = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    if !body.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    if let Some(key) = key {
        builder = builder.header("idempotency-key", key);
    }
    builder
        .body(body)
        .map_err(|source| TransportError::Request { peer: format!("{method} {path}"), source: source.into() })
}

/// Reads the whole answer as JSON; an empty answer counts as `null`.
///
/// # Errors
/// The peer's problem, or no usable answer.
pub async fn decode<T: DeserializeOwned>(name: &str, response: Response<ResponseBody>) -> Result<T, ClientError> {
    if !response.status().is_success() {
        return Err(failure(name, response).await);
    }
    let bytes = collect(name, response.into_body()).await?;
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| ClientError::Unexpected { request: name.to_owned(), reason: error.to_string() })
}

async fn failure(name: &str, response: Response<ResponseBody>) -> ClientError {
    let status = response.status();
    let bytes = match collect(name, response.into_body()).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(_) => ClientError::Problem(Box::new(foreign_problem(name, status))),
    }
}

/// A problem for an error answer that is not one of ours (a proxy, another program on the port).
fn foreign_problem(name: &str, status: StatusCode) -> Problem {
    let kind = match status.as_u16() {
        401 => FailureKind::Unauthenticated,
        403 => FailureKind::Forbidden,
        404 => FailureKind::NotFound,
        409 => FailureKind::Conflict,
        400..=499 => FailureKind::Invalid,
        502..=504 => FailureKind::Unavailable,
        _ => FailureKind::Internal,
    };
    Problem::new(kind, format!("{name} was answered with HTTP status {status}"))
}

async fn collect(name: &str, mut body: ResponseBody) -> Result<Bytes, ClientError> {
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.next().await {
        collected.extend_from_slice(&chunk?);
        if collected.len() > MAX_JSON_BYTES {
            let reason = format!("it is larger than {MAX_JSON_BYTES} bytes");
            return Err(ClientError::Unexpected { request: name.to_owned(), reason });
        }
    }
    Ok(collected.freeze())
}

/// A transport over TCP or a Unix socket.
#[derive(Clone)]
pub struct HttpTransport {
    http: reqwest::Client,
    /// For streams: the answer to one comes when all of it has been worked through, which may take hours.
    patient: reqwest::Client,
    base_url: String,
    token: Option<Secret>,
    peer: String,
}

impl HttpTransport {
    /// To `base_url` (`http://127.0.0.1:8082`, `https://hub.example`), with an optional bearer token and, for
    /// `https`, a TLS configuration of the caller's.
    ///
    /// # Errors
    /// When the client cannot be built, or the token would leave this machine without encryption.
    pub fn tcp(
        base_url: &str,
        token: Option<Secret>,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Self, TransportError> {
        if token.is_some() && !keeps_secrets(base_url) {
            let source = "a token is only sent over https, or to this machine".into();
            return Err(TransportError::Request { peer: base_url.to_owned(), source });
        }
        let builder = || match tls.clone() {
            Some(tls) => reqwest::Client::builder().tls_backend_preconfigured(tls),
            None => reqwest::Client::builder(),
        };
        Self::finish(builder, base_url.trim_end_matches('/').to_owned(), token, base_url.to_owned())
    }

    /// To the process that listens on the Unix socket `path`.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn unix(path: impl Into<PathBuf>) -> Result<Self, TransportError> {
        let path = path.into();
        let peer = path.display().to_string();
        let builder = || reqwest::Client::builder().unix_socket(path.as_path());
        Self::finish(builder, "http://localhost".to_owned(), None, peer)
    }

    fn finish(
        builder: impl Fn() -> reqwest::ClientBuilder,
        base_url: String,
        token: Option<Secret>,
        peer: String,
    ) -> Result<Self, TransportError> {
        let failed = |source: reqwest::Error| TransportError::Request { peer: peer.clone(), source: source.into() };
        let common = || {
            // No API of ours redirects; whoever does would be sent what is meant for the peer.
            builder().connect_timeout(CONNECT_TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy()
        };
        let http = common().read_timeout(READ_TIMEOUT).build().map_err(failed)?;
        let patient = common().build().map_err(failed)?;
        Ok(Self { http, patient, base_url, token, peer })
    }

    /// Sends a request whose body is a stream and reads the answer's JSON. However long the answer takes it is awaited:
    /// the caller gives up by dropping this.
    ///
    /// # Errors
    /// The peer's problem, or no usable answer.
    pub async fn post_stream<T: DeserializeOwned>(&self, path: &str, body: ResponseBody) -> Result<T, ClientError> {
        let mut request = self.patient.post(format!("{}{path}", self.base_url)).body(reqwest::Body::wrap_stream(body));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        decode(&format!("POST {path}"), self.response(response)).await
    }

    fn unreachable(&self, source: reqwest::Error) -> TransportError {
        TransportError::Unreachable { peer: self.peer.clone(), source: source.without_url().into() }
    }

    fn response(&self, response: reqwest::Response) -> Response<ResponseBody> {
        let (status, headers) = (response.status(), response.headers().clone());
        let peer = self.peer.clone();
        let body = response
            .bytes_stream()
            .map_err(move |source| TransportError::Unreachable { peer: peer.clone(), source: source.into() });
        let mut answer = Response::new(body.boxed());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer
    }
}

/// Whether nobody on the way can read what is sent to this URL.
fn keeps_secrets(base_url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base_url) else { return false };
    let is_local = || match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    url.scheme() == "https" || is_local()
}

impl Transport for HttpTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<ResponseBody>, TransportError>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = format!("{}{}", self.base_url, parts.uri);
            let mut outgoing = self.http.request(parts.method, url).headers(parts.headers).body(body);
            if let Some(token) = &self.token {
                outgoing = outgoing.bearer_auth(token.expose());
            }
            let response = outgoing.send().await.map_err(|source| self.unreachable(source))?;
            Ok(self.response(response))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_encrypted_or_stays_on_this_machine() {
        for url in ["https://hub.example", "http://127.0.0.1:8082", "http://localhost:1/", "http://[::1]:8082"] {
            assert!(keeps_secrets(url), "{url}");
        }
        for url in
            ["http://hub.example", "http://192.0.2.1", "http://127.0.0.1.example", "http://127.0.0.1@hub.example"]
        {
            assert!(!keeps_secrets(url), "{url}");
            let token = Some(Secret::new("x"));
            assert!(matches!(HttpTransport::tcp(url, token, None), Err(TransportError::Request { .. })), "{url}");
        }
    }

    #[tokio::test]
    async fn the_answer_to_a_stream_may_take_longer_than_any_other() {
        use axum::extract::State;
        use tokio::sync::Notify;

        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("peer.sock");
        let notices = std::sync::Arc::new((Notify::new(), Notify::new()));
        let slow = async |State(notices): State<std::sync::Arc<(Notify, Notify)>>, body: Bytes| {
            notices.0.notify_one();
            notices.1.notified().await;
            axum::Json(body.len())
        };
        let router = axum::Router::new().route("/slow", axum::routing::post(slow)).with_state(notices.clone());
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let transport = HttpTransport::unix(&socket).unwrap();
        let body = futures::stream::iter([Ok(Bytes::from_static(b"four"))]).boxed();
        let asking = tokio::spawn(async move { transport.post_stream::<usize>("/slow", body).await });
        notices.0.notified().await;
        tokio::time::pause();
        tokio::time::advance(READ_TIMEOUT * 2).await;
        tokio::time::resume();
        notices.1.notify_one();
        assert_eq!(asking.await.unwrap().unwrap(), 4);
        server.abort();
    }
}
