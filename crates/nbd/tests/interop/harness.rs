//! Servers, programs, images and devices for the tests. No assertions about the protocol.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use block::{BlockDevice, MemoryDevice};
use nbd::NbdUri;
use nbd::channel;
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions, serve_connection};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a program may take to be ready or to finish.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// Exports by name.
#[derive(Default)]
pub struct Exports(pub BTreeMap<String, (Arc<dyn BlockDevice>, bool)>);

impl Exports {
    pub fn one(device: Arc<dyn BlockDevice>) -> Self {
        Self(BTreeMap::from([(String::new(), (device, false))]))
    }

    pub fn memory(size_bytes: u64) -> (Arc<MemoryDevice>, Self) {
        let device = Arc::new(MemoryDevice::new(size_bytes));
        (Arc::clone(&device), Self::one(device))
    }

    pub fn and(mut self, name: &str, device: Arc<dyn BlockDevice>, read_only: bool) -> Self {
        self.0.insert(name.to_owned(), (device, read_only));
        self
    }
}

#[async_trait]
impl ExportSource for Exports {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        if name == "forbidden" {
            return Err(OpenRefused::Forbidden { reason: "not yours".into() });
        }
        let (device, read_only) = self.0.get(name).ok_or(OpenRefused::Unknown)?;
        let export = OpenExport::new(Arc::clone(device)).described("an export for tests");
        Ok(if *read_only { export.read_only() } else { export })
    }

    async fn list(&self) -> Vec<ExportListing> {
        let listing = |name: &String| ExportListing { name: name.clone(), description: "an export for tests".into() };
        self.0.keys().map(listing).collect()
    }
}

/// A server of ours that runs until it is dropped.
pub struct Served {
    pub uri: NbdUri,
    pub folder: TempDir,
    accepting: JoinHandle<()>,
}

impl Served {
    pub fn unix(exports: Exports) -> Self {
        Self::unix_with(exports, ServeOptions::default())
    }

    pub fn unix_with(exports: Exports, options: ServeOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let exports: Arc<dyn ExportSource> = Arc::new(exports);
        let accepting = tokio::spawn(async move {
            loop {
                let channel = channel::unix(listener.accept().await.unwrap().0).unwrap();
                tokio::spawn(serve_connection(channel, Arc::clone(&exports), options.clone()));
            }
        });
        Self { uri: NbdUri::unix(&path, ""), folder, accepting }
    }

    pub async fn tcp(exports: Exports) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = NbdUri::tcp("127.0.0.1", listener.local_addr().unwrap().port(), "");
        let (exports, options): (Arc<dyn ExportSource>, _) = (Arc::new(exports), ServeOptions::default());
        let accepting = tokio::spawn(async move {
            loop {
                let channel = channel::tcp(listener.accept().await.unwrap().0).unwrap();
                tokio::spawn(serve_connection(channel, Arc::clone(&exports), options.clone()));
            }
        });
        Self { uri, folder: tempfile::tempdir().unwrap(), accepting }
    }

    pub fn uri(&self) -> String {
        self.uri.to_string()
    }

    pub fn export(&self, name: &str) -> NbdUri {
        NbdUri { export: name.to_owned(), ..self.uri.clone() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A bare connection to its socket.
    pub async fn raw(&self) -> UnixStream {
        UnixStream::connect(self.path("server.sock")).await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Both ends of a connection: a stream for tasks and a channel for a thread.
pub fn pair() -> (UnixStream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, channel::unix(theirs).unwrap())
}

/// What a program said.
pub struct Said {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

fn missing(program: &str) -> String {
    let package = match program {
        "nbdkit" => "nbdkit",
        "nbdinfo" | "nbdcopy" => "libnbd-bin",
        _ => "qemu-utils",
    };
    format!("{program} not found: apt-get install {package}")
}

/// Runs a program to its end.
pub async fn run(program: &str, arguments: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROGRAM_TIMEOUT, command.output())
        .await
        .unwrap_or_else(|_elapsed| panic!("{program} {arguments:?} did not end in time"))
        .unwrap_or_else(|error| panic!("{} ({error})", missing(program)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { ok: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs a program that has to succeed.
pub async fn must(program: &str, arguments: &[&str]) -> Said {
    let said = run(program, arguments).await;
    assert!(said.ok, "{program} {arguments:?} failed: {}{}", said.stdout, said.stderr);
    said
}

/// A server of somebody else's that runs until it is dropped.
pub struct Peer {
    pub uri: NbdUri,
    pub child: Child,
    _folder: TempDir,
}

impl Peer {
    /// nbdkit with these arguments, in a folder of its own.
    pub async fn nbdkit(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::nbdkit_in(folder, arguments).await
    }

    pub async fn nbdkit_in(folder: TempDir, arguments: &[&str]) -> Self {
        let socket = folder.path().join("peer.sock");
        let mut all = vec!["--foreground", "--exit-with-parent", "--unix", socket.to_str().unwrap()];
        all.extend(arguments);
        Self::start("nbdkit", &all, folder).await
    }

    /// qemu-nbd of an image in the folder.
    pub async fn qemu(folder: TempDir, arguments: &[&str]) -> Self {
        let socket = folder.path().join("peer.sock");
        let mut all = vec!["--persistent", "--shared=8", "--socket", socket.to_str().unwrap()];
        all.extend(arguments);
        Self::start("qemu-nbd", &all, folder).await
    }

    async fn start(program: &str, arguments: &[&str], folder: TempDir) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} ({error})", missing(program)));
        let socket = folder.path().join("peer.sock");
        let ready = async {
            while UnixStream::connect(&socket).await.is_err() {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{program} {arguments:?} ended: {ended:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PROGRAM_TIMEOUT, ready).await.expect("its socket answers in time");
        Self { uri: NbdUri::unix(&socket, ""), child, _folder: folder }
    }
}

/// An image of `size_bytes` with what copies get wrong: holes, written zeroes, single bytes far apart, a tail.
pub fn image(path: &Path, size_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0u8; usize::try_from(size_bytes).unwrap()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (index, block) in bytes.chunks_mut(64 * 1024).enumerate() {
        match index % 5 {
            // Incompressible.
            0 | 1 => block.iter_mut().for_each(|byte| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }),
            // One byte where a sampled zero test does not look.
            2 => block[block.len() * 2 / 3] = 1,
            // Half data, half zeroes.
            3 => block.iter_mut().step_by(2).for_each(|byte| *byte = 7),
            // A hole.
            _ => {}
        }
    }
    *bytes.last_mut().unwrap() = 0xa5;
    let device = block::FileDevice::create(path, size_bytes).unwrap();
    for (index, block) in bytes.chunks(64 * 1024).enumerate() {
        if index % 5 != 4 || index * 64 * 1024 + block.len() == bytes.len() {
            device.write_at(block, (index * 64 * 1024) as u64).unwrap();
        }
    }
    bytes
}

/// All bytes of a device.
pub fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(&mut bytes, 0).unwrap();
    bytes
}
