//! `migratekit nbd serve`: one file, one export, until interrupted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use block::{BlockDevice, FileDevice};
use clap::Args;
use model::FailureKind;
use nbd::NbdUri;
use nbd::channel::{self, Channel};
use nbd::server::{ExportListing, ExportSource, OpenExport, OpenRefused, ServeOptions, serve_connection};
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::device_failure;
use crate::cli::failure::Failure;
use crate::cli::hub::Context;
use crate::cli::output::{OutputFormat, message, show};

/// Pause after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What to serve.
#[derive(Args)]
pub struct ServeArgs {
    /// Raw file or block device.
    file: PathBuf,
    /// Address to listen on; port 0 chooses one.
    #[arg(long, default_value = "127.0.0.1:10809", conflicts_with = "socket")]
    listen: SocketAddr,
    /// Unix socket to listen on instead.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Refuse writes.
    #[arg(long)]
    read_only: bool,
    /// Name of the export.
    #[arg(long, default_value = "")]
    name: String,
}

/// The one export, under its name and under the empty one (the default export).
struct OneExport {
    name: String,
    device: Arc<dyn BlockDevice>,
    read_only: bool,
}

#[async_trait]
impl ExportSource for OneExport {
    async fn open(&self, name: &str) -> Result<OpenExport, OpenRefused> {
        if !name.is_empty() && name != self.name {
            return Err(OpenRefused::Unknown);
        }
        let export = OpenExport::new(Arc::clone(&self.device));
        Ok(if self.read_only { export.read_only() } else { export })
    }

    async fn list(&self) -> Vec<ExportListing> {
        vec![ExportListing { name: self.name.clone(), description: String::new() }]
    }
}

/// Serves until interrupted.
///
/// # Errors
/// When the file cannot be opened or the address not listened on.
pub async fn run(context: &Context, args: &ServeArgs) -> Result<ExitCode, Failure> {
    let device = FileDevice::open(&args.file, args.read_only).map_err(|error| device_failure(&error))?;
    let export = OneExport { name: args.name.clone(), device: Arc::new(device), read_only: args.read_only };
    let server =
        Server { export: Arc::new(export), shutdown: runtime::shutdown::on_signals(), tasks: TaskTracker::new() };
    match &args.socket {
        Some(path) => {
            let listener = UnixListener::bind(path).map_err(|error| {
                Failure::new(FailureKind::Conflict, format!("cannot listen on {}: {error}", path.display()))
                    .remedy("remove the socket if nobody uses it")
            })?;
            announce(context, &server, NbdUri::unix(path, &args.name))?;
            server.accept(|| async { channel::unix(listener.accept().await?.0) }).await;
            // Somebody else may have removed it already.
            let _gone = std::fs::remove_file(path);
        }
        None => {
            let listener = TcpListener::bind(args.listen).await.map_err(|error| {
                Failure::new(FailureKind::Conflict, format!("cannot listen on {}: {error}", args.listen))
                    .remedy("choose another address, or port 0 for any free port")
            })?;
            let bound = listener.local_addr()?;
            announce(context, &server, NbdUri::tcp(&bound.ip().to_string(), bound.port(), &args.name))?;
            server.accept(|| async { channel::tcp(listener.accept().await?.0) }).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is served, for programs.
#[derive(Debug, Serialize)]
struct Served {
    uri: String,
    size_bytes: u64,
    read_only: bool,
}

/// The line scripts wait for comes first on standard error; JSON, if wanted, on standard output.
fn announce(context: &Context, server: &Server, uri: NbdUri) -> Result<(), Failure> {
    let export = &server.export;
    let served = Served { uri: uri.to_string(), size_bytes: export.device.size_bytes(), read_only: export.read_only };
    message(&format!("serving {uri}"));
    match context.output {
        OutputFormat::Json => show(context.output, &served, |_| String::new()),
        OutputFormat::Table => Ok(()),
    }
}

struct Server {
    export: Arc<OneExport>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Takes connections until shutdown, then lets the open ones finish what is in flight.
    async fn accept<C, F, Fut>(&self, next: F)
    where
        C: Channel + 'static,
        F: Fn() -> Fut,
        Fut: Future<Output = std::io::Result<C>>,
    {
        loop {
            let channel = tokio::select! {
                () = self.shutdown.cancelled() => break,
                channel = next() => channel,
            };
            let Ok(channel) = channel else {
                // No descriptors or no memory left: both come back when connections end.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let exports: Arc<dyn ExportSource> = Arc::clone(&self.export) as Arc<dyn ExportSource>;
            let options = ServeOptions { shutdown: self.shutdown.clone(), ..ServeOptions::default() };
            self.tasks.spawn(async move {
                if let Err(error) = serve_connection(channel, exports, options).await {
                    message(&format!("a connection broke: {error}"));
                }
            });
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}
