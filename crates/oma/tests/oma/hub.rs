//! A control plane for one test, and requests to it the way the gateway hands them over.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::post;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use joblog::{Events, Runner, RunnerBuilder};
use oma::{Front, OmaConfig, OmaState};
use parking_lot::Mutex;
use serde_json::Value;
use store::{DatabaseConfig, Store};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnel::FrontPreface;
use tunnel::front::FrontKind;

/// Where public requests seem to come from.
pub const REMOTE: &str = "192.0.2.10:40000";

/// A running control plane.
pub struct Hub {
    pub state: OmaState,
    pub events: Events,
    pub token: String,
    pub local: SocketAddr,
    pub gateway: Gateway,
    front_socket: PathBuf,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// The agents that the stand-in for the gateway's control socket was asked to cut.
#[derive(Clone, Default)]
pub struct Gateway {
    pub cut: Arc<Mutex<Vec<String>>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must have this status.
    pub fn expect(self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The body of an error, which must be a problem.
    pub fn problem(self, status: StatusCode) -> Value {
        assert_eq!(self.headers.get(CONTENT_TYPE).unwrap(), "application/problem+json", "{}", self.body);
        self.expect(status)
    }
}

impl Hub {
    pub async fn start() -> Self {
        Self::start_with(|builder, _| Ok(builder)).await
    }

    pub async fn start_with(
        sagas: impl FnOnce(RunnerBuilder, &OmaState) -> Result<RunnerBuilder, joblog::JobError>,
    ) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let config = OmaConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            state_dir: folder.path().join("state"),
            run_dir: folder.path().join("run"),
            ..OmaConfig::default()
        };
        std::fs::create_dir_all(&config.state_dir).unwrap();
        let store = Store::connect(&DatabaseConfig::Sqlite { path: folder.path().join("hub.db") }).await.unwrap();
        store.migrate().await.unwrap();
        let token_file = config.operator_token_file();
        oma::auth::create_first_operator(&store, &token_file).await.unwrap();
        let front = Front::bind(&config.front_socket(), config.listen).await.unwrap();
        let gateway = Gateway::default();
        let control = UnixListener::bind(config.gateway_socket()).unwrap();
        tokio::spawn(axum::serve(control, gateway.router()).into_future());
        let events = Events::default();
        let (local, front_socket) = (front.local_address().unwrap(), config.front_socket());
        let state = OmaState::open(config, store, events.clone(), sagas).unwrap();
        let shutdown = CancellationToken::new();
        let serving = oma::serve(state.clone(), front, shutdown.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        let token = model::Secret::from_file(&token_file).unwrap().expose().to_owned();
        Self { state, events, token, local, gateway, front_socket, shutdown, served, _folder: folder }
    }

    pub fn runner(&self) -> &Runner {
        self.state.runner()
    }

    pub fn operator_token_file(&self) -> PathBuf {
        self.state.config().operator_token_file()
    }

    /// A connection the gateway hands over.
    pub async fn hand_over(&self, preface: &FrontPreface) -> UnixStream {
        let mut stream = UnixStream::connect(&self.front_socket).await.unwrap();
        preface.write(&mut stream).await.unwrap();
        stream
    }

    /// A public connection from an address.
    pub async fn public(&self, remote: &str) -> UnixStream {
        let remote = remote.parse().unwrap();
        self.hand_over(&FrontPreface { kind: FrontKind::Http, remote, enrollment_id: None, fingerprint: None }).await
    }

    /// A public request with the operator's token.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = request(method, path, Some(&self.token), body);
        send(self.public(REMOTE).await, request).await
    }

    /// A public request without a token, from an address.
    pub async fn ask_anonymously(&self, method: Method, path: &str, body: Option<Value>, remote: &str) -> Answer {
        send(self.public(remote).await, request(method, path, None, body)).await
    }

    /// A request to the local port.
    pub async fn ask_locally(&self, request: Request<Full<Bytes>>) -> Answer {
        send(TcpStream::connect(self.local).await.unwrap(), request).await
    }

    /// Stops it the way the service manager does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.served.await.unwrap();
    }
}

impl Gateway {
    fn router(&self) -> Router {
        let cut = self.cut.clone();
        let cut_agent = move |Path(enrollment_id): Path<String>| async move {
            cut.lock().push(enrollment_id);
            axum::Json(())
        };
        Router::new().route("/agents/{enrollment_id}/close", post(cut_agent))
    }
}

/// A request with a JSON body.
pub fn request(method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match body {
        Some(body) => {
            builder = builder.header(CONTENT_TYPE, "application/json");
            body.to_string()
        }
        None => String::new(),
    };
    builder.body(body.into()).unwrap()
}

/// Sends a request and gives the answer as it begins.
pub async fn begin<S>(stream: S, request: Request<Full<Bytes>>) -> Response<Incoming>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// Sends a request and reads the whole answer; a body that is not JSON becomes a JSON text.
pub async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (parts, body) = begin(stream, request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status: parts.status, headers: parts.headers, body }
}
