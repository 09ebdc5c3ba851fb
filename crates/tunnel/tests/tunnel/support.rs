//! A hub on a loopback port, agents enrolled with it, and waiting with a deadline. No assertions of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tunnel::identity::AGENT_VALIDITY;
use tunnel::{
    AcceptLimits, Accepted, AcceptedNbd, Acceptor, AgentIdentity, AgentKey, CaPrefix, Dialer, HubAddress, HubIdentity,
    Incoming, PairingRecord, ServerTls, csr, issue_agent_certificate,
};

/// Waits for what must come; a test that waits longer than this has failed.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// A hub whose accepted connections come out of a channel.
pub(crate) struct Hub {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) identity: HubIdentity,
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) address: SocketAddr,
    accepted: mpsc::Receiver<Incoming>,
    shutdown: CancellationToken,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_with(AcceptLimits::default(), OffsetDateTime::now_utc()).await
    }

    /// A hub with other limits, or whose certificates were made at another time.
    pub(crate) async fn start_with(limits: AcceptLimits, made: OffsetDateTime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = HubIdentity::open(folder.path(), &[], made).unwrap();
        let leaf = identity.server_leaf(made).unwrap();
        let tls = Arc::new(ServerTls::new(identity.ca(), &leaf).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let acceptor = Arc::new(Acceptor::new(Arc::clone(&tls), limits));
        let hand_over = move |connection| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(connection).await;
            }
        };
        tokio::spawn(acceptor.serve(listener, hand_over, shutdown.clone()));
        Self { folder, identity, tls, address, accepted, shutdown }
    }

    /// The next connection, which is none of the data plane.
    pub(crate) async fn next(&mut self) -> Accepted {
        match soon("an accepted connection", self.accepted.recv()).await.unwrap() {
            Incoming::Stream(accepted) => *accepted,
            Incoming::Nbd(accepted) => panic!("{accepted:?}"),
        }
    }

    /// The next connection, which is one of the data plane.
    pub(crate) async fn next_nbd(&mut self) -> AcceptedNbd {
        match soon("an accepted connection", self.accepted.recv()).await.unwrap() {
            Incoming::Nbd(accepted) => *accepted,
            Incoming::Stream(accepted) => panic!("{accepted:?}"),
        }
    }

    pub(crate) fn hub_address(&self) -> HubAddress {
        HubAddress::parse(&self.address.to_string()).unwrap()
    }

    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        self.identity.ca().certificate().clone()
    }

    pub(crate) fn enrol(&self, enrollment_id: &str) -> Agent {
        self.enrol_at(enrollment_id, OffsetDateTime::now_utc())
    }

    pub(crate) fn enrol_at(&self, enrollment_id: &str, now: OffsetDateTime) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let key = AgentKey::load_or_create_pending(folder.path()).unwrap();
        let record = PairingRecord {
            enrollment_id: enrollment_id.to_owned(),
            vma_name: "vma-test".to_owned(),
            public_key: csr::verified_key(&key.csr("vma-test").unwrap()).unwrap(),
        };
        let issued = issue_agent_certificate(self.identity.ca(), &record, AGENT_VALIDITY, now).unwrap();
        let ca_pem = self.identity.ca().certificate_pem();
        let pin = CaPrefix::of(self.identity.ca().certificate());
        let identity =
            AgentIdentity::install(folder.path(), key, &issued.certificate_pem, &ca_pem, Some(&pin)).unwrap();
        Agent { folder, identity }
    }

    pub(crate) fn dialer(&self, agent: &Agent) -> Arc<Dialer> {
        Arc::new(Dialer::new(self.hub_address(), &agent.identity).unwrap())
    }
}

/// An enrolled agent.
pub(crate) struct Agent {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) identity: AgentIdentity,
}

impl Agent {
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("agent.pem")
    }
}

/// Key and first certificate of a PEM file.
pub(crate) fn key_and_certificate(file: &std::path::Path) -> (PrivateKeyDer<'static>, CertificateDer<'static>) {
    (PrivateKeyDer::from_pem_file(file).unwrap(), CertificateDer::from_pem_file(file).unwrap())
}

/// A rustls client as anybody could write one: it trusts `ca`, checks the name, and shows what it is told to show.
pub(crate) fn plain_client(
    ca: &CertificateDer<'static>,
    alpn: &[&[u8]],
    shown: Option<(PrivateKeyDer<'static>, CertificateDer<'static>)>,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((key, certificate)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// The client's side of a handshake with such a client.
pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// The TLS error inside an I/O error.
pub(crate) fn tls_error(error: &std::io::Error) -> rustls::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => error.clone(),
        None => panic!("not a TLS error: {error:?}"),
    }
}
