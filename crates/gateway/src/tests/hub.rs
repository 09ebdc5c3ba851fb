//! A hub with one VM: a volume that is a sparse file, rows in SQLite, both ports and the control socket.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use api::client::HttpTransport;
use api::gateway::{GatewayClient, SealReport};
use model::status::{ExportStatus, ReplicationType};

use nbd::client::ClientOptions;
use nbd::server::{ServeOptions, serve_connection};
use nbd::{Client, NbdError, channel};
use serde_json::json;
use store::commit::commit_replication;
use store::device_mappings::SeenDevice;
use store::recovery_points::{self, NewPoint, RecoveryPoint};
use store::{DatabaseConfig, Store, device_mappings, nbd_exports};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fixture;
use crate::connections::Connections;
use crate::control::{self, Control};
use crate::exports::{Peer, PeerExports};
use crate::replicas::Replicas;

pub(super) const AGENT: &str = "agent-1";
pub(super) const GENERATION: &str = "00112233445566778899aabbccddeeff";
pub(super) const OTHER_GENERATION: &str = "ffeeddccbbaa99887766554433221100";
/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Hub {
    pub(super) root: TempDir,
    pub(super) store: Store,
    pub(super) context: String,
    pub(super) volumes: Vec<String>,
    pub(super) export: String,
    pub(super) served: Served,
}

/// A gateway that runs.
pub(super) struct Served {
    pub(super) agents: SocketAddr,
    pub(super) tools: SocketAddr,
    pub(super) control: GatewayClient,
    pub(super) replicas: Arc<Replicas>,
    connections: Arc<Connections>,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Hub {
    /// A VM whose replica was committed once, with the empty file as the first disk's volume.
    pub(super) async fn start() -> Self {
        let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let root = tempfile::tempdir().unwrap();
        let store = Store::connect(&DatabaseConfig::Sqlite { path: root.path().join("hub.db") }).await.unwrap();
        store.migrate().await.unwrap();
        let (context, volumes) = fixture::committed_vm(&store, "web").await;
        let volume = root.path().join("volume.raw");
        std::fs::File::create(&volume).unwrap().set_len(fixture::GIB).unwrap();
        let seen = SeenDevice {
            device_path: volume.display().to_string(),
            symlink_path: None,
            ..fixture::device(&volumes[0])
        };
        device_mappings::set_present(&store, &volumes[0], &seen).await.unwrap();
        // The other disk has no device here.
        let other = model::id::volume_export_name(&volumes[1]);
        nbd_exports::set_status(&store, &other, ExportStatus::Closed).await.unwrap();
        let export = model::id::volume_export_name(&volumes[0]);
        let served = Served::start(&store, root.path()).await;
        Self { root, store, context, volumes, export, served }
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.root.path().join("volume.raw")
    }

    /// The first `length` bytes of the volume.
    pub(super) fn volume_content(&self, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; length];
        std::fs::File::open(self.volume()).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub(super) fn journal_path(&self, job: &str, end: &str) -> PathBuf {
        self.root.path().join("journals").join(&self.export).join(format!("{job}.{end}"))
    }

    /// Begins a replication and opens the first disk's export for it.
    pub(super) async fn begin(&self, job: &str, journal: bool) {
        fixture::running_job(&self.store, &self.context, job).await;
        self.open_export(job, journal).await;
    }

    pub(super) async fn open_export(&self, job: &str, journal: bool) {
        let disks = store::vm_disks::of_context(&self.store, &self.context).await.unwrap();
        let mut export = fixture::export(&self.context, &disks[0].id, &self.volumes[0]);
        export.job_id = Some(job.to_owned());
        export.metadata = json!({ "disk_uuid": "6000C29", "journal": journal });
        nbd_exports::open(&self.store, &export).await.unwrap();
    }

    /// Commits a replication; with a seal, its journal becomes the first disk's recovery point.
    pub(super) async fn commit(&self, job: &str, sequence: u32, seal: Option<SealReport>) {
        let mut commit = fixture::commit(job, sequence);
        commit.disks.iter_mut().for_each(|disk| disk.sync_type = ReplicationType::Incremental);
        commit.disks[0].journal = seal.map(|seal| NewPoint {
            export_name: self.export.clone(),
            index_bytes: seal.index_bytes,
            data_bytes: seal.data_bytes,
        });
        commit_replication(&self.store, &commit, None).await.unwrap();
    }

    /// A whole increment: `fill` over `length` bytes from `offset`, committed as a recovery point.
    pub(super) async fn increment(&self, job: &str, sequence: u32, (offset, length, fill): (u64, usize, u8)) {
        self.begin(job, true).await;
        let client = self.write_as(GENERATION).await.unwrap();
        client.write(offset, &vec![fill; length]).await.unwrap();
        client.flush().await.unwrap();
        client.close().await;
        self.served.control.close(&self.export).await.unwrap();
        let seal = self.served.control.seal(&self.export, job).await.unwrap();
        assert!(seal.journal);
        self.commit(job, sequence, Some(seal)).await;
    }

    pub(super) async fn kept(&self) -> Vec<RecoveryPoint> {
        recovery_points::of_export(&self.store, &self.export).await.unwrap()
    }

    /// As an agent, any name.
    pub(super) async fn agent(&self, name: &str) -> Result<Client, NbdError> {
        connect(self.served.agents, name).await
    }

    /// As a tool on this machine, any name.
    pub(super) async fn tool(&self, name: &str) -> Result<Client, NbdError> {
        connect(self.served.tools, name).await
    }

    pub(super) async fn write_as(&self, generation: &str) -> Result<Client, NbdError> {
        self.agent(&format!("{}@{generation}", self.export)).await
    }

    /// What is durable of a generation, as an agent reads it.
    pub(super) async fn ledger(&self, generation: &str) -> Vec<(u64, u64)> {
        let client = self.agent(&format!("{}@{generation}.ledger", self.export)).await.unwrap();
        assert!(client.is_read_only());
        let mut bytes = vec![0; usize::try_from(client.size_bytes()).unwrap()];
        client.read(0, &mut bytes).await.unwrap();
        client.close().await;
        assert_eq!(&bytes[..8], b"MKLEDGR1");
        let mut numbers = bytes[8..].as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
        let count = numbers.next().unwrap();
        let extents: Vec<_> = std::iter::from_fn(|| Some((numbers.next()?, numbers.next()?))).collect();
        assert_eq!(extents.len() as u64, count);
        assert!(extents.windows(2).all(|two| two[0].0 + two[0].1 < two[1].0), "{extents:?}");
        extents
    }

    /// The gateway dies without a word and is started again.
    pub(super) async fn crash(&mut self) {
        self.served.tasks.abort_all();
        while self.served.tasks.join_next().await.is_some() {}
        assert!(self.served.connections.are_over(&self.export, Instant::now() + PATIENCE).await);
        self.served = Served::start(&self.store, self.root.path()).await;
    }

    /// Copies what a tool reads from an export with nbdcopy, and answers with its first `length` bytes.
    pub(super) async fn nbdcopy(&self, name: &str, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let copy = self.root.path().join("copy.raw");
        let _ = std::fs::remove_file(&copy);
        let uri = format!("nbd://{}/{name}", self.served.tools);
        must("nbdcopy", &[&uri, &copy.display().to_string()]).await;
        let mut bytes = vec![0; length];
        std::fs::File::open(&copy).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

async fn connect(address: SocketAddr, name: &str) -> Result<Client, NbdError> {
    let stream = TcpStream::connect(address).await.unwrap();
    Client::over(stream, name, &ClientOptions::default()).await
}

/// Runs a program to its end; it must succeed.
pub(super) async fn must(program: &str, arguments: &[&str]) -> String {
    let ran = tokio::process::Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(PATIENCE, ran).await.unwrap();
    let output = output.unwrap_or_else(|error| panic!("{program} not found ({error}): apt-get install libnbd-bin"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

impl Served {
    async fn start(store: &Store, root: &Path) -> Self {
        let (connections, shutdown) = (Arc::new(Connections::default()), CancellationToken::new());
        let replicas = Arc::new(Replicas::new(store.clone(), root).unwrap());
        replicas.sweep().await.unwrap();
        let mut tasks = JoinSet::new();
        let mut listen = async |peer: Peer| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (store, replicas) = (store.clone(), Arc::clone(&replicas));
            let (connections, shutdown) = (Arc::clone(&connections), shutdown.clone());
            tasks.spawn(async move {
                let mut sessions = JoinSet::new();
                loop {
                    let (stream, remote) = listener.accept().await.unwrap();
                    let guard = connections.enter(remote, None, &shutdown);
                    let connection = Arc::clone(guard.connection());
                    let options = ServeOptions { shutdown: connection.cut_token().clone(), ..ServeOptions::default() };
                    let exports = PeerExports::new(store.clone(), Arc::clone(&replicas), peer.clone(), connection);
                    sessions.spawn(async move {
                        let _open = guard;
                        let _ = serve_connection(channel::tcp(stream).unwrap(), Arc::new(exports), options).await;
                    });
                }
            });
            address
        };
        let agents = listen(Peer::Agent { enrollment_id: AGENT.to_owned() }).await;
        let tools = listen(Peer::Local { may_write: true }).await;
        let socket = root.join("gateway.sock");
        let shared = Control {
            store: store.clone(),
            connections: Arc::clone(&connections),
            replicas: Arc::clone(&replicas),
            verifications: Arc::default(),
        };
        let control = control::router(shared);
        let (path, until) = (socket.clone(), shutdown.clone());
        tasks.spawn(async move { runtime::http::serve_unix(control, &path, until).await.unwrap() });
        let control = GatewayClient::new(HttpTransport::unix(socket).unwrap());
        let ready = async {
            while control.connections().await.is_err() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.unwrap();
        Self { agents, tools, control, replicas, connections, tasks, shutdown }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
