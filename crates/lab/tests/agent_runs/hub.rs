//! A hub as small as it can be: the one port, exports in memory, and the control connection of the agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use block::BlockDevice;
use nbd::server::{
    CommandRecord, ConnectionObserver, ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions,
    serve_connection,
};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tunnel::identity::AGENT_VALIDITY;
use tunnel::{
    AcceptLimits, Accepted, Acceptor, AgentIdentity, AgentKey, ControlConnection, HubIdentity, Incoming, PairingRecord,
    Route, ServerTls, csr, issue_agent_certificate,
};

/// An export: a device, and what its description says.
struct Export {
    device: Arc<dyn BlockDevice>,
    description: String,
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    exports: Mutex<HashMap<String, Export>>,
    /// Cuts the NBD connections after that many writes.
    cut_after_writes: Mutex<Option<(u64, CancellationToken)>>,
}

/// A running hub.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    identity: HubIdentity,
    address: SocketAddr,
    controls: mpsc::Receiver<ControlConnection>,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let identity = HubIdentity::open(folder.path(), &[], now).unwrap();
        let tls = Arc::new(ServerTls::new(identity.ca(), &identity.server_leaf(now).unwrap()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, controls) = mpsc::channel(4);
        let (shared, shutdown) = (Arc::new(Shared::default()), CancellationToken::new());
        let known = Arc::clone(&shared);
        let handle = move |incoming| serve(incoming, Arc::clone(&known), sender.clone());
        tokio::spawn(Arc::new(Acceptor::new(tls, AcceptLimits::default())).serve(listener, handle, shutdown.clone()));
        Self { shared, identity, address, controls, shutdown, _folder: folder }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Gives the agent whose state is in `folder` an identity.
    pub(crate) fn enrol(&self, folder: &Path) {
        let key = AgentKey::load_or_create_pending(folder).unwrap();
        let public_key = csr::verified_key(&key.csr("vma-test").unwrap()).unwrap();
        let record = PairingRecord { enrollment_id: "e-1".to_owned(), vma_name: "vma-test".to_owned(), public_key };
        let now = OffsetDateTime::now_utc();
        let issued = issue_agent_certificate(self.identity.ca(), &record, AGENT_VALIDITY, now).unwrap();
        let ca_pem = self.identity.ca().certificate_pem();
        AgentIdentity::install(folder, key, &issued.certificate_pem, &ca_pem, None).unwrap();
    }

    /// Offers a device as an export made for the disk of that uuid.
    pub(crate) fn export(&self, name: &str, disk_uuid: &str, device: Arc<dyn BlockDevice>) {
        let description = api::gateway::export_description(disk_uuid);
        self.shared.exports.lock().insert(name.to_owned(), Export { device, description });
    }

    /// Cuts every NBD connection when that many writes were done.
    pub(crate) fn cut_after_writes(&self, writes: Option<u64>) {
        *self.shared.cut_after_writes.lock() = writes.map(|writes| (writes, CancellationToken::new()));
    }

    /// The agent's next control connection.
    pub(crate) async fn control(&mut self) -> ControlConnection {
        self.controls.recv().await.unwrap()
    }
}

async fn serve(incoming: Incoming, shared: Arc<Shared>, controls: mpsc::Sender<ControlConnection>) {
    match incoming {
        Incoming::Stream(accepted) => {
            let Accepted { route: Route::AgentControl(peer), stream, .. } = *accepted else { return };
            if let Ok(control) = ControlConnection::from_stream(stream, peer.enrollment_id).await {
                let _ = controls.send(control).await;
            }
        }
        Incoming::Nbd(accepted) => {
            let cut = shared.cut_after_writes.lock().as_ref().map(|(_, cut)| cut.clone()).unwrap_or_default();
            let observer = Arc::new(Watch(Arc::clone(&shared)));
            let options = ServeOptions { observer, ..ServeOptions::default() };
            tokio::select! {
                () = cut.cancelled() => {}
                _ = serve_connection(accepted.channel, Arc::new(Exports(shared)), options) => {}
            }
        }
    }
}

struct Exports(Arc<Shared>);

#[async_trait]
impl ExportSource for Exports {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        let exports = self.0.exports.lock();
        let export = exports.get(name).ok_or(OpenRefused::Unknown)?;
        Ok(OpenExport::new(Arc::clone(&export.device)).described(&export.description))
    }

    async fn list(&self) -> Vec<ExportListing> {
        Vec::new()
    }
}

struct Watch(Arc<Shared>);

impl ConnectionObserver for Watch {
    fn command_done(&self, record: &CommandRecord) {
        if record.command != nbd::server::Command::Write {
            return;
        }
        if let Some((left, cut)) = &mut *self.0.cut_after_writes.lock() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                cut.cancel();
            }
        }
    }
}
