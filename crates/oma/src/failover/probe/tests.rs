//! Probes against real sockets of the loopback: what answers, what refuses, what never says a word.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use super::*;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longest a probe that must pass may take.
const SOON: Duration = Duration::from_secs(30);
/// Tries follow each other quickly.
const QUICK: Pace = Pace { pause: Duration::from_millis(5), try_limit: Duration::from_secs(10) };
/// Room for the head of a request.
const HEAD_BYTES: usize = 4096;

fn spec(text: &str) -> ProbeSpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

async fn one(text: &str, address: Option<IpAddr>) -> ProbeResult {
    let results = run_at(QUICK, &[spec(text)], address, SOON, &CancellationToken::new()).await;
    results.into_iter().next().unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port nobody listens on. Bound, but not listening, so that nobody else gets it.
fn refused_port() -> (rustix::fd::OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bound: std::net::SocketAddrV4 = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, bound.port())
}

/// Reads a request and answers with these bytes; answers with the request's first line.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, with: &str) -> String {
    let mut head = vec![0; HEAD_BYTES];
    let length = stream.read(&mut head).await.unwrap();
    let _ = stream.write_all(with.as_bytes()).await;
    let _ = stream.shutdown().await;
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    head.lines().next().unwrap_or_default().to_owned()
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")
}

/// A web server whose n-th answer is the n-th of these, the last one for ever; tells the first lines of its requests.
async fn web(answers: Vec<String>) -> (u16, mpsc::Receiver<String>) {
    let (listener, port) = listen().await;
    let (sender, requests) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let with = answers[count.min(answers.len() - 1)].clone();
            count += 1;
            let _ = sender.send(answer(stream, &with).await).await;
        }
    });
    (port, requests)
}

#[tokio::test]
async fn a_port_that_takes_connections_passes_at_once() {
    let (_listener, port) = listen().await;
    for (text, address) in [
        (format!("tcp:{port}"), Some(LOCAL)),
        (format!("tcp:127.0.0.1:{port}"), None),
        (format!("tcp:localhost:{port}"), Some(Ipv4Addr::new(192, 0, 2, 1).into())),
    ] {
        let result = one(&text, address).await;
        assert!(result.passed && result.attempts == 1, "{result:?}");
        assert_eq!(result.probe, spec(&text));
    }
}

#[tokio::test]
async fn a_web_server_passes_by_its_status_alone() {
    for (line, passes) in [("200 OK", true), ("204 No Content", true), ("304 Not Modified", true)] {
        let (port, mut requests) = web(vec![status(line)]).await;
        let result = one(&format!("http:{port}/health?full=1"), Some(LOCAL)).await;
        assert_eq!(result.passed, passes, "{result:?}");
        assert_eq!(requests.recv().await.unwrap(), "GET /health?full=1 HTTP/1.1");
        assert!(result.message.contains(&line[..3]), "{result:?}");
    }
}

#[tokio::test]
async fn a_guest_that_is_still_starting_is_asked_again() {
    let answers = vec![status("503 Service Unavailable"), String::new(), status("404 Not Found"), status("200 OK")];
    let (port, _requests) = web(answers).await;
    let result = one(&format!("http://127.0.0.1:{port}"), None).await;
    assert!(result.passed, "{result:?}");
    assert_eq!((result.attempts, result.message.as_str()), (4, "HTTP status 200"));
}

#[tokio::test]
async fn redirects_are_an_answer_and_are_not_followed() {
    let (elsewhere, mut other) = web(vec![status("500 Internal Server Error")]).await;
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (port, _requests) = web(vec![moved]).await;
    let result = one(&format!("http:{port}"), Some(LOCAL)).await;
    assert!(result.passed && result.message.contains("302"), "{result:?}");
    assert!(other.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_body_without_end_is_not_read() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; HEAD_BYTES];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let body = vec![0; 1 << 20];
        while stream.write_all(&body).await.is_ok() {}
    });
    let result = one(&format!("http:{port}"), Some(LOCAL)).await;
    assert!(result.passed, "{result:?}");
    timeout(SOON, server).await.expect("the connection stays open").unwrap();
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_taken_and_said_so() {
    let made = rcgen::generate_simple_self_signed(["another.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        answer(acceptor.accept(stream).await.unwrap(), &status("200 OK")).await
    });
    let result = one(&format!("https:{port}/ready"), Some(LOCAL)).await;
    assert!(result.passed && result.message.contains("not verified"), "{result:?}");
    assert_eq!(server.await.unwrap(), "GET /ready HTTP/1.1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_port_is_tried_until_the_deadline() {
    let (_bound, port) = refused_port();
    let results =
        run(&[spec(&format!("tcp:{port}"))], Some(LOCAL), Duration::from_secs(60), &CancellationToken::new()).await;
    let result = &results[0];
    assert!(!result.passed && (30..=61).contains(&result.attempts), "{result:?}");
    assert!((60.0..61.0).contains(&result.seconds), "{result:?}");
    assert!(result.message.starts_with("not passed within 60 s") && result.message.contains("refused"), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_answers_does_not_keep_a_try_for_ever() {
    let (listener, port) = listen().await;
    let taken = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let probes = [spec(&format!("http:{port}")), spec(&format!("https:{port}"))];
    let results = run(&probes, Some(LOCAL), Duration::from_secs(29), &CancellationToken::new()).await;
    for result in &results {
        assert!(!result.passed && result.attempts == 5, "{result:?}");
        assert!(result.message.contains("no answer within 5 s"), "{result:?}");
    }
    assert!(taken.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn a_cancelled_probe_ends_at_once() {
    let (listener, port) = listen().await;
    let taken = Arc::new(Notify::new());
    let notify = Arc::clone(&taken);
    tokio::spawn(async move {
        let kept = listener.accept().await.unwrap();
        notify.notify_one();
        std::future::pending::<()>().await;
        drop(kept);
    });
    let cancellation = CancellationToken::new();
    let probes = [spec(&format!("http:{port}"))];
    let slow = Pace { try_limit: Duration::from_secs(3600), ..QUICK };
    let probing = run_at(slow, &probes, Some(LOCAL), Duration::from_secs(7200), &cancellation);
    let cancelling = async {
        taken.notified().await;
        cancellation.cancel();
    };
    let (results, ()) = timeout(SOON, async { tokio::join!(probing, cancelling) }).await.unwrap();
    assert_eq!((results[0].passed, results[0].attempts, results[0].message.as_str()), (false, 1, "cancelled"));
    let none = run(&probes, Some(LOCAL), SOON, &cancellation).await;
    assert_eq!((none[0].attempts, none[0].message.as_str()), (0, "cancelled"));
}

#[tokio::test]
async fn a_probe_without_anybody_to_ask_says_so_and_does_not_wait() {
    for text in ["tcp:22", "http:80", "icmp"] {
        let result = one(text, None).await;
        assert_eq!((result.passed, result.attempts), (false, 0));
        assert!(result.message.contains("no address of the VM is known"), "{result:?}");
    }
    assert_eq!(run(&[], None, SOON, &CancellationToken::new()).await, []);
}

#[tokio::test]
async fn many_silent_ones_do_not_keep_a_good_one_from_its_turn() {
    let (good, _good_requests) = web(vec![status("200 OK")]).await;
    let (_silent, port) = listen().await;
    let mut probes = vec![spec(&format!("http:{port}")); MAX_CONCURRENT_TRIES * 2];
    probes.push(spec(&format!("http:{good}")));
    let pace = Pace { pause: Duration::from_millis(5), try_limit: Duration::from_millis(100) };
    let results = run_at(pace, &probes, Some(LOCAL), Duration::from_secs(2), &CancellationToken::new()).await;
    let (last, others) = results.split_last().unwrap();
    assert!(last.passed && others.iter().all(|result| !result.passed && result.attempts > 0), "{results:?}");
}

#[tokio::test]
async fn an_echo_comes_back_or_the_operator_is_told_what_to_allow() {
    let addresses = [LOCAL, IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let v6 = TcpListener::bind((addresses[1], 0)).await.is_ok();
    for address in addresses.into_iter().filter(|address| address.is_ipv4() || v6) {
        let result = one("icmp", Some(address)).await;
        if result.passed {
            assert!(result.message.contains(&address.to_string()), "{result:?}");
        } else {
            assert!(result.message.contains("net.ipv4.ping_group_range"), "{result:?}");
            assert_eq!(result.attempts, 1, "another try cannot go better");
        }
    }
    let named = one("icmp:localhost", None).await;
    assert!(named.passed || named.message.contains("net.ipv4.ping_group_range"), "{named:?}");
}
