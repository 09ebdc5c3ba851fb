//! Which servers an agent believes to be its hub, what it says about the others, and certificates at their end.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tunnel::{CaPrefix, Dialer, HubAddress, HubTrust, ServerLeaf, TunnelError, dial_http};

use crate::support::{Hub, connect, key_and_certificate, plain_client, soon};

/// A server that shows whatever chain it is given, to anybody.
async fn impostor(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"nbd".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(tcp).await {
                let _ = stream.write_all(b"NBDMAGIC").await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        }
    });
    address
}

fn at(address: SocketAddr) -> HubAddress {
    HubAddress::parse(&address.to_string()).unwrap()
}

async fn refused(address: SocketAddr, trust: HubTrust) -> TunnelError {
    match soon("the dial", dial_http(&at(address), trust)).await {
        Ok(_) => panic!("it was believed"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn enrolment_believes_only_the_ca_of_the_code() {
    let mut hub = Hub::start().await;
    let other = Hub::start().await;
    let prefix = HubTrust::Prefix(CaPrefix::of(&hub.ca()));
    let opened = dial_http(&hub.hub_address(), prefix.clone()).await.unwrap();
    assert_eq!(*opened.hub_ca(), hub.ca());
    hub.next().await;
    dial_http(&hub.hub_address(), HubTrust::Ca(hub.ca())).await.unwrap();
    for trust in [prefix, HubTrust::Ca(hub.ca())] {
        let error = refused(other.address, trust).await;
        assert!(matches!(error, TunnelError::NotThePinnedHub { .. }), "{error:?}");
        assert!(error.remedy().is_some());
    }
}

#[tokio::test]
async fn a_copied_ca_certificate_convinces_nobody() {
    let hub = Hub::start().await;
    let other = Hub::start().await;
    let agent = hub.enrol("e-1");
    let (foreign_key, foreign) = key_and_certificate(&other.folder.path().join("server.pem"));
    let (agent_key, agents) = key_and_certificate(&agent.file());
    let (hubs_key, hubs) = key_and_certificate(&hub.folder.path().join("server.pem"));
    let chains = [
        ("another hub's certificate", vec![foreign, hub.ca()], foreign_key),
        ("an agent's certificate", vec![agents, hub.ca()], agent_key),
        ("the hub's own certificate without its CA", vec![hubs], hubs_key),
    ];
    for (what, chain, key) in chains {
        let address = impostor(chain, key).await;
        let error = refused(address, HubTrust::Prefix(CaPrefix::of(&hub.ca()))).await;
        assert!(matches!(error, TunnelError::NotThePinnedHub { .. }), "{what}: {error:?}");
        let dialer = Dialer::new(at(address), &agent.identity).unwrap();
        match soon("the dial", dialer.dial_nbd()).await {
            Err(TunnelError::NotThePinnedHub { .. }) => {}
            Ok(_) if what.contains("without its CA") => {}
            outcome => panic!("{what}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn certificates_past_their_end_are_named() {
    let now = OffsetDateTime::now_utc();
    let hub = Hub::start().await;
    let agent = hub.enrol_at("e-1", now - Duration::days(31));
    assert!(agent.identity.needs_renewal(now));
    let error = soon("the dial", hub.dialer(&agent).dial_nbd()).await.unwrap_err();
    assert!(matches!(error, TunnelError::AgentCertificateExpired { .. }), "{error:?}");

    let old = Hub::start_with(tunnel::AcceptLimits::default(), now - Duration::days(91)).await;
    let agent = old.enrol("e-1");
    assert!(!agent.identity.needs_renewal(now));
    let error = soon("the dial", old.dialer(&agent).dial_nbd()).await.unwrap_err();
    assert!(matches!(error, TunnelError::HubCertificateExpired { .. }), "{error:?}");

    let ancient = Hub::start_with(tunnel::AcceptLimits::default(), now - Duration::days(21 * 365)).await;
    let fresh: ServerLeaf = ancient.identity.server_leaf(now).unwrap();
    ancient.tls.replace(ancient.identity.ca(), &fresh).unwrap();
    let error = refused(ancient.address, HubTrust::Prefix(CaPrefix::of(&ancient.ca()))).await;
    assert!(matches!(error, TunnelError::HubCertificateExpired { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let dialer = Dialer::new(at(address), &agent.identity).unwrap();
    let error = soon("the dial", dialer.dial_control()).await.unwrap_err();
    assert!(matches!(error, TunnelError::HubUnreachable { .. }), "{error:?}");
    assert_eq!(error.kind(), model::FailureKind::Unavailable);
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("443")));

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialer = Dialer::new(at(plain.local_addr().unwrap()), &agent.identity).unwrap();
    let answer = async {
        let (mut tcp, _) = plain.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    };
    let (error, _tcp) = soon("the dial", async { tokio::join!(dialer.dial_control(), answer) }).await;
    assert!(matches!(error.unwrap_err(), TunnelError::HubHandshake { .. }));
}

#[tokio::test]
async fn a_renewed_server_certificate_is_shown_without_a_restart() {
    let mut hub = Hub::start().await;
    let shown = |stream: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let config = plain_client(&hub.ca(), &[b"http/1.1"], None);
    let mut before = connect(hub.address, config.clone()).await.unwrap();
    let mut accepted = hub.next().await;
    let now = OffsetDateTime::now_utc();
    assert!(!hub.tls.renew_if_due(&hub.identity, now).unwrap());
    assert!(hub.tls.renew_if_due(&hub.identity, now + Duration::days(61)).unwrap());
    let after = connect(hub.address, plain_client(&hub.ca(), &[b"http/1.1"], None)).await;
    // The new one is dated from the day it was renewed, which lies ahead of this test.
    assert!(after.is_err());
    assert!(!hub.tls.renew_if_due(&hub.identity, now + Duration::days(62)).unwrap());
    let identity = &hub.identity;
    std::fs::remove_file(hub.folder.path().join("server.pem")).unwrap();
    assert!(hub.tls.renew_if_due(identity, now).unwrap());
    let again = connect(hub.address, config).await.unwrap();
    assert_ne!(shown(&before), shown(&again));
    before.write_all(b"x").await.unwrap();
    accepted.stream.read_exact(&mut [0]).await.unwrap();
}
