//! `bench bridge`: lets a stock NBD client use the agent's way to the hub. It listens on a Unix socket, dials the TLS
//! port as the agent for every connection, and passes bytes on unseen.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{UnixListener, UnixStream};
use tunnel::{AgentIdentity, Dialer, HubAddress};

use super::hub;
use crate::error::BenchError;

/// Bytes passed on at a time, in each direction.
const BUFFER_BYTES: usize = 256 * 1024;

/// Where the bridge stands.
#[derive(Debug, Clone, Args)]
pub struct BridgeArgs {
    /// Folder of the gateway's process.
    #[arg(long)]
    dir: PathBuf,
    /// The gateway's TLS port.
    #[arg(long)]
    hub: SocketAddr,
    /// The socket to listen on.
    #[arg(long)]
    socket: PathBuf,
}

/// Passes connections on until its standard input is closed.
///
/// # Errors
/// When the identity cannot be used or the socket not be listened on.
pub async fn run(args: BridgeArgs) -> Result<(), BenchError> {
    let opening = "opening the agent's identity";
    let identity = AgentIdentity::load(&hub::agent_folder(&args.dir)).map_err(BenchError::product(opening))?;
    let identity = identity.ok_or_else(|| BenchError::Asked { reason: "the agent is not enrolled".to_owned() })?;
    let address = HubAddress::parse(&args.hub.to_string()).map_err(BenchError::product(opening))?;
    let dialer = Arc::new(Dialer::new(address, &identity).map_err(BenchError::product(opening))?);
    let listener = UnixListener::bind(&args.socket);
    let listener = listener.map_err(BenchError::io(format!("listening on {}", args.socket.display())))?;
    let mut end = std::pin::pin!(super::until_input_ends());
    loop {
        let (stream, _) = tokio::select! {
            () = &mut end => return Ok(()),
            accepted = listener.accept() => accepted.map_err(BenchError::io("accepting a connection"))?,
        };
        let dialer = Arc::clone(&dialer);
        tokio::spawn(async move {
            if let Err(error) = pass_on(stream, &dialer).await {
                tell(&error);
            }
        });
    }
}

async fn pass_on(mut client: UnixStream, dialer: &Dialer) -> Result<(), BenchError> {
    let mut hub = dialer.dial_nbd_stream().await.map_err(BenchError::product("dialling the hub"))?;
    let passed = copy_bidirectional_with_sizes(&mut client, &mut hub, BUFFER_BYTES, BUFFER_BYTES).await;
    passed.map(|_bytes| ()).map_err(BenchError::io("passing bytes on"))
}

#[allow(clippy::print_stderr, reason = "its standard error is its log")]
fn tell(error: &BenchError) {
    eprintln!("{}", crate::error::with_causes(error));
}
