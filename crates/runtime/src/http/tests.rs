//! Real connections: TCP and Unix sockets, HTTP/1.1 and HTTP/2, shutdown while a request runs, broken peers.

use super::*;
use axum::extract::{Extension, State};
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

fn router(slow: Slow) -> Router {
    Router::new().route("/peer", get(peer)).route("/slow", get(wait)).with_state(slow)
}

async fn peer(peer: Option<Extension<ConnectInfo<SocketAddr>>>) -> String {
    peer.map_or("nobody".to_owned(), |peer| peer.0.0.to_string())
}

async fn wait(State(slow): State<Slow>) -> &'static str {
    slow.begun.notify_one();
    slow.go_on.notified().await;
    "done"
}

async fn ask<S>(stream: S, path: &str, http2: bool) -> Result<(u16, String), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(format!("http://hub{path}")).header("host", "hub").body(Empty::<Bytes>::new()).unwrap();
    let io = TokioIo::new(stream);
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

async fn tcp(slow: Slow, shutdown: &CancellationToken) -> (SocketAddr, tokio::task::JoinHandle<Result<(), HttpError>>) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve_tcp(router(slow), listener, shutdown.clone())))
}

#[tokio::test]
async fn tcp_speaks_both_versions_and_knows_its_peer() {
    let shutdown = CancellationToken::new();
    let (address, serving) = tcp(Slow::default(), &shutdown).await;
    for http2 in [false, true] {
        let stream = TcpStream::connect(address).await.unwrap();
        let own = stream.local_addr().unwrap().to_string();
        assert_eq!(ask(stream, "/peer", http2).await.unwrap(), (200, own));
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_shutdown_waits_for_what_runs() {
    for http2 in [false, true] {
        let (shutdown, slow) = (CancellationToken::new(), Slow::default());
        let (address, serving) = tcp(slow.clone(), &shutdown).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let asking = tokio::spawn(async move { ask(stream, "/slow", http2).await });
        slow.begun.notified().await;
        shutdown.cancel();
        slow.go_on.notify_one();
        assert_eq!(asking.await.unwrap().unwrap(), (200, "done".to_owned()));
        serving.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever() {
    let (shutdown, slow) = (CancellationToken::new(), Slow::default());
    let (ours, theirs) = tokio::io::duplex(4096);
    let serving = tokio::spawn(serve_connection(ours, None, router(slow.clone()), shutdown.clone()));
    let asking = tokio::spawn(ask(theirs, "/slow", true));
    slow.begun.notified().await;
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    assert!(asking.await.unwrap().is_err(), "dropped with its connection");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_sent_away() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let serving = tokio::spawn(serve_connection(ours, None, router(Slow::default()), CancellationToken::new()));
    theirs.write_all(b"GET /peer HTTP/1.1\r\nhost: ").await.unwrap();
    let outcome = serving.await.unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let serving = tokio::spawn(serve_connection(ours, None, router(Slow::default()), CancellationToken::new()));
    theirs.write_all(&[0x16, 3, 1, 0, 200, 1, 0, 0, 0xc4, 3, 3, b'\r', b'\n', b'\r', b'\n']).await.unwrap();
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(serving.await.unwrap().is_err());
}

#[tokio::test]
async fn a_stream_is_served_with_the_peer_it_is_given() {
    let peer = "192.0.2.7:5".parse().unwrap();
    let (ours, theirs) = tokio::io::duplex(4096);
    tokio::spawn(serve_stream_from(ours, peer, router(Slow::default()), CancellationToken::new()));
    assert_eq!(ask(theirs, "/peer", true).await.unwrap(), (200, "192.0.2.7:5".to_owned()));
}

#[tokio::test]
async fn a_unix_socket_is_private_and_goes_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.sock");
    let shutdown = CancellationToken::new();
    let listener = bind_unix(&path).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    // The name is still there, but nobody answers: taken over.
    let serving = tokio::spawn({
        let (path, shutdown) = (path.clone(), shutdown.clone());
        async move { serve_unix(router(Slow::default()), &path, shutdown).await }
    });
    let stream = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(ask(stream, "/peer", false).await.unwrap(), (200, "nobody".to_owned()));
    assert!(matches!(bind_unix(&path).await, Err(HttpError::SocketInUse { .. })), "a living server keeps its socket");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn other_files_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    std::fs::write(&path, "mine").unwrap();
    let error = bind_unix(&path).await.unwrap_err();
    assert!(matches!(error, HttpError::NotASocket { .. }));
    assert!(error.remedy().is_some());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let nowhere = bind_unix(&path.join("x.sock")).await.unwrap_err();
    assert!(matches!(nowhere, HttpError::Listen { .. }));
    bind_unix(&folder.path().join("made/for/it/x.sock")).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = bind(listener.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict);
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"));
}

#[tokio::test]
async fn only_loopback_addresses_are_local() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        assert!(!matches!(bind_loopback(address.parse().unwrap()).await, Err(HttpError::NotLoopback { .. })));
    }
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = bind_loopback(address.parse().unwrap()).await.unwrap_err();
        assert!(matches!(refused, HttpError::NotLoopback { .. }), "{refused}");
        assert!(refused.remedy().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let (client, server) = tokio::io::duplex(64);
    serve_stream(server, router(Slow::default()), CancellationToken::new()).await;
    drop(client);
}
