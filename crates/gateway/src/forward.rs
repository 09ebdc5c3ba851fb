//! Hands what is not NBD over to the control plane: one line that says who it is, then bytes both ways.

use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::UnixStream;
use tunnel::FrontPreface;

use crate::error::GatewayError;

/// Forwards `stream` until one side ends.
///
/// # Errors
/// When the control plane cannot be reached; a connection that breaks later is nobody's error.
pub async fn forward<S>(mut stream: S, preface: &FrontPreface, front_socket: &Path) -> Result<(), GatewayError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let unreachable = |source| GatewayError::ControlPlane { socket: front_socket.to_owned(), source };
    let mut oma = UnixStream::connect(front_socket).await.map_err(unreachable)?;
    preface.write(&mut oma).await.map_err(|source| GatewayError::Tunnel { source })?;
    if let Err(error) = copy_bidirectional(&mut stream, &mut oma).await {
        tracing::debug!(%error, remote = %preface.remote, "a forwarded connection broke");
    }
    Ok(())
}
