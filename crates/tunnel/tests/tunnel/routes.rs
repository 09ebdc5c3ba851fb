//! Each ALPN route with and without a client certificate, and what unauthenticated peers may occupy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tunnel::{AcceptLimits, Acceptor, Refusal, Route, TunnelError, refusal};

use crate::support::{Hub, connect, key_and_certificate, plain_client, soon, tls_error};

#[tokio::test]
async fn an_agent_gets_in_by_its_control_route_and_is_known() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    let serve = async {
        let mut accepted = hub.next().await;
        accepted.stream.write_all(b"PRI and more").await.unwrap();
        accepted.stream.flush().await.unwrap();
        accepted
    };
    let (stream, mut accepted) = soon("the dial", async { tokio::join!(dialer.dial_control(), serve) }).await;
    let mut stream = stream.unwrap();
    let Route::AgentControl(identity) = accepted.route else { panic!("{:?}", accepted.route) };
    assert_eq!(&identity, agent.identity.facts());
    assert_eq!(identity.enrollment_id, "e-1");
    assert_eq!(identity.fingerprint, agent.identity.key().public_key().fingerprint());
    assert_eq!(accepted.remote, stream.get_ref().0.local_addr().unwrap());
    let mut greeting = [0; 12];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"PRI and more");
    stream.write_all(b"back").await.unwrap();
    let mut back = [0; 4];
    accepted.stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"back");
}

/// The protocols a client offers, and the one that must be agreed on.
type Offer = (&'static [&'static [u8]], Option<&'static [u8]>);

#[tokio::test]
async fn http_needs_no_certificate() {
    let mut hub = Hub::start().await;
    let offers: [Offer; 4] = [
        (&[b"h2", b"http/1.1"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
        (&[b"something-else", b"http/1.1"], Some(b"http/1.1")),
    ];
    for (offer, agreed) in offers {
        let mut stream = connect(hub.address, plain_client(&hub.ca(), offer, None)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        let mut accepted = hub.next().await;
        assert_eq!(accepted.route, Route::Http);
        stream.write_all(b"GET").await.unwrap();
        let mut got = [0; 3];
        accepted.stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"GET");
    }
    let error = connect(hub.address, plain_client(&hub.ca(), &[b"migratekit-agent/2"], None)).await.unwrap_err();
    assert_eq!(tls_error(&error), rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol));
}

/// What the client hears after a handshake that the server refuses at its end.
async fn refusal_of(hub: &Hub, config: rustls::ClientConfig) -> rustls::Error {
    let outcome = match connect(hub.address, config).await {
        Ok(mut stream) => stream.read(&mut [0; 1]).await.map(|_| ()),
        Err(error) => Err(error),
    };
    tls_error(&outcome.unwrap_err())
}

#[tokio::test]
async fn agent_routes_are_closed_without_a_certificate_of_this_hub() {
    let hub = Hub::start().await;
    let other = Hub::start().await;
    let foreign = other.enrol("e-1");
    for alpn in [b"nbd".as_slice(), b"migratekit-agent/1"] {
        let none = refusal_of(&hub, plain_client(&hub.ca(), &[alpn], None)).await;
        assert_eq!(none, rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        let shown = Some(key_and_certificate(&foreign.file()));
        let wrong = refusal_of(&hub, plain_client(&hub.ca(), &[alpn], shown)).await;
        assert_eq!(wrong, rustls::Error::AlertReceived(AlertDescription::UnknownCA));
        let servers = Some(key_and_certificate(&hub.folder.path().join("server.pem")));
        let posing = refusal_of(&hub, plain_client(&hub.ca(), &[alpn], servers)).await;
        assert!(matches!(posing, rustls::Error::AlertReceived(_)), "{posing:?}");
    }
}

#[tokio::test]
async fn an_http_session_cannot_be_resumed_as_an_agent() {
    let mut hub = Hub::start().await;
    let config = plain_client(&hub.ca(), &[b"h2"], None);
    let mut first = connect(hub.address, config.clone()).await.unwrap();
    let mut accepted = hub.next().await;
    accepted.stream.write_all(b"x").await.unwrap();
    first.read_exact(&mut [0]).await.unwrap();
    let mut again = config;
    again.alpn_protocols = vec![b"nbd".to_vec()];
    let refused = refusal_of(&hub, again).await;
    assert_eq!(refused, rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn a_refused_agent_hears_why() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let dialer = hub.dialer(&agent);
    for reason in [Refusal::Unknown, Refusal::NotApproved, Refusal::Revoked, Refusal::Busy] {
        let refuse = async { refusal::refuse_channel(hub.next_nbd().await.channel, reason).await };
        let (for_data, ()) = soon("the refusal", async { tokio::join!(dialer.dial_nbd(), refuse) }).await;
        let refuse = async { refusal::refuse(hub.next().await.stream, reason).await };
        let (for_control, ()) = soon("the refusal", async { tokio::join!(dialer.dial_control(), refuse) }).await;
        for error in [for_data.unwrap_err(), for_control.unwrap_err()] {
            assert!(matches!(error, TunnelError::Refused { .. }), "{error}");
            assert!(error.to_string().contains(&reason.to_string()));
            assert_eq!(error.kind(), reason.kind());
            assert_eq!(error.remedy(), Some(reason.remedy()));
        }
    }
    let close = async { drop(hub.next().await) };
    let (dialled, ()) = soon("the end", async { tokio::join!(dialer.dial_control(), close) }).await;
    assert!(matches!(dialled.unwrap_err(), TunnelError::HubClosedEarly { .. }));
}

#[tokio::test]
async fn garbage_is_closed_at_once() {
    let hub = Hub::start().await;
    for garbage in [b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(), b"SSH-2.0-x\r\n".to_vec(), vec![0xff; 4096]] {
        let mut tcp = TcpStream::connect(hub.address).await.unwrap();
        tcp.write_all(&garbage).await.unwrap();
        let started = Instant::now();
        let _ = soon("the end of the connection", tcp.read_to_end(&mut Vec::new())).await;
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

/// An acceptor without its own loop, and a listener beside it.
async fn bare(limits: AcceptLimits) -> (Hub, Arc<Acceptor>, TcpListener) {
    let hub = Hub::start().await;
    let acceptor = Arc::new(Acceptor::new(Arc::clone(&hub.tls), limits));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (hub, acceptor, listener)
}

#[tokio::test]
async fn a_peer_that_drips_bytes_is_closed_at_the_deadline() {
    let handshake_deadline = Duration::from_millis(300);
    let (_hub, acceptor, listener) = bare(AcceptLimits { handshake_deadline, ..AcceptLimits::default() }).await;
    let mut drip = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let dripping = async {
        // A record header that promises 512 bytes of ClientHello, which never come whole.
        drip.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        let mut every = tokio::time::interval(Duration::from_millis(20));
        loop {
            every.tick().await;
            if drip.write_all(&[0]).await.is_err() {
                return;
            }
        }
    };
    let started = Instant::now();
    let (outcome, ()) = soon("the deadline", async { tokio::join!(acceptor.accept(tcp), dripping) }).await;
    assert!(matches!(outcome.unwrap_err(), TunnelError::HandshakeTimeout { .. }));
    assert!(started.elapsed() >= handshake_deadline);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn silent_peers_hold_up_nobody_beyond_the_deadline() {
    let limits = AcceptLimits {
        handshake_deadline: Duration::from_millis(500),
        max_handshakes: 4,
        max_handshakes_per_address: 4,
    };
    let mut hub = Hub::start_with(limits, OffsetDateTime::now_utc()).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(hub.address).await.unwrap());
    }
    let config = plain_client(&hub.ca(), &[b"h2"], None);
    let (stream, accepted) =
        soon("a good client", async { tokio::join!(connect(hub.address, config), hub.next()) }).await;
    stream.unwrap();
    assert_eq!(accepted.route, Route::Http);
    for mut tcp in silent {
        let left = soon("the end of a silent connection", tcp.read(&mut [0; 1])).await;
        assert!(matches!(left, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn one_address_may_not_occupy_all_handshakes() {
    let limits = AcceptLimits { max_handshakes_per_address: 2, ..AcceptLimits::default() };
    let (_hub, acceptor, listener) = bare(limits).await;
    let mut silent = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = Arc::clone(&acceptor);
        waiting.push(Box::pin(async move { acceptor.accept(tcp).await }));
    }
    for handshake in &mut waiting {
        assert!(futures::poll!(handshake.as_mut()).is_pending());
    }
    let third = async {
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.unwrap_err()
    };
    assert!(matches!(soon("the refusal", third).await, TunnelError::TooManyHandshakes { .. }));
    drop(silent);
    for handshake in waiting {
        assert!(matches!(soon("the end", handshake).await.unwrap_err(), TunnelError::PeerHandshake { .. }));
    }
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    drop(client);
    assert!(matches!(soon("a free slot", acceptor.accept(tcp)).await.unwrap_err(), TunnelError::PeerHandshake { .. }));
}
