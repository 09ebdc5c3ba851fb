//! A hub as small as it can be: the one port, exports in memory, and the control connection of the agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use block::BlockDevice;
use nbd::server::{
    Command, CommandRecord, ConnectionObserver, ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions,
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

use crate::ledger::{Ledger, Writer};

/// An export: a device, what its description says, and what is durable of it.
struct Export {
    device: Arc<dyn BlockDevice>,
    description: String,
    ledger: Arc<Ledger>,
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    exports: Mutex<HashMap<String, Export>>,
    /// Cuts the NBD connections after that many commands of a kind.
    cut_after: Mutex<Option<(Command, u64, CancellationToken)>>,
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
        let ledger = Ledger::new(Arc::clone(&device));
        self.shared.exports.lock().insert(name.to_owned(), Export { device, description, ledger });
    }

    pub(crate) fn remove_export(&self, name: &str) {
        self.shared.exports.lock().remove(name);
    }

    /// Cuts every NBD connection when that many commands of a kind were done, and every one that is dialled then.
    pub(crate) fn cut_after(&self, done: Option<(Command, u64)>) {
        *self.shared.cut_after.lock() = done.map(|(command, count)| (command, count, CancellationToken::new()));
    }

    fn ledger(&self, export: &str) -> Arc<Ledger> {
        Arc::clone(&self.shared.exports.lock()[export].ledger)
    }

    /// Bytes of the first `length` of an export that are durable of the content being written.
    pub(crate) fn durable_bytes(&self, export: &str, length: u64) -> u64 {
        self.ledger(export).durable_bytes(length)
    }

    /// Bytes of data that were written to an export of the content being written.
    pub(crate) fn written_bytes(&self, export: &str) -> u64 {
        self.ledger(export).written_bytes()
    }

    /// As after a loss of power.
    pub(crate) fn lose_what_is_not_durable(&self) {
        self.shared.exports.lock().values().for_each(|export| export.ledger.lose_what_is_loose());
    }

    /// Another run that has the export open for writing.
    pub(crate) fn write_as_another_run(&self, export: &str) -> Writer {
        self.ledger(export).writer("another").unwrap()
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
            let cut = shared.cut_after.lock().as_ref().map(|(_, _, cut)| cut.clone()).unwrap_or_default();
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
        let (name, generation) = name.split_once('@').unwrap_or((name, ""));
        let export = exports.get(name).ok_or(OpenRefused::Unknown)?;
        let open = |device: Arc<dyn BlockDevice>| OpenExport::new(device).described(&export.description);
        if generation.is_empty() {
            return Ok(open(Arc::clone(&export.device)));
        }
        if let Some(generation) = generation.strip_suffix(".ledger") {
            return Ok(open(Arc::new(export.ledger.bytes(generation))));
        }
        let busy = || OpenRefused::Busy { reason: "another run still writes".to_owned() };
        export.ledger.writer(generation).ok_or_else(busy).map(|writer| open(Arc::new(writer)))
    }

    async fn list(&self) -> Vec<ExportListing> {
        Vec::new()
    }
}

struct Watch(Arc<Shared>);

impl ConnectionObserver for Watch {
    fn command_done(&self, record: &CommandRecord) {
        if let Some((command, left, cut)) = &mut *self.0.cut_after.lock()
            && *command == record.command
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                cut.cancel();
            }
        }
    }
}
