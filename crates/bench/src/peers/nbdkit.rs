//! nbdcopy (libnbd) to nbdkit's file plugin: the best peer, plain and with TLS.

use std::path::Path;
use std::process::Command;

use super::gnutls::SharedKey;
use super::{NBDCOPY, NBDKIT, Servers};
use crate::error::BenchError;
use crate::process::{Running, free_address};

/// Connections nbdcopy opens; more do not make it faster on two cores.
const CONNECTIONS: u32 = 4;

/// nbdcopy from a file to `uri`; the target is flushed at the end, as ours is.
///
/// # Errors
/// When it is not there.
pub fn nbdcopy(source: &Path, uri: &str) -> Result<Command, BenchError> {
    let mut command = NBDCOPY.command()?;
    command.arg(format!("--connections={CONNECTIONS}")).arg("--flush").arg(source).arg(uri);
    Ok(command)
}

/// nbdkit with the target file, plain.
///
/// # Errors
/// When it does not come up.
pub async fn nbdkit_plain(target: &Path, logs: &Path) -> Result<Servers, BenchError> {
    let address = free_address()?;
    let mut command = NBDKIT.command()?;
    command.args(["--foreground", "--exit-with-parent", "--ipaddr", "127.0.0.1"]);
    command.args(["--port", &address.port().to_string()]).arg("file").arg(target);
    let running = Running::start(command, logs)?;
    running.listens_on(address).await?;
    Ok(Servers { running: vec![running], uri: format!("nbd://{address}") })
}

/// nbdkit with the target file, NBD-TLS with a key shared in advance.
///
/// # Errors
/// When it does not come up.
pub async fn nbdkit_tls(target: &Path, key: &SharedKey, logs: &Path) -> Result<Servers, BenchError> {
    let address = free_address()?;
    let mut command = NBDKIT.command()?;
    key.prefer_aes(&mut command);
    command.args(["--foreground", "--exit-with-parent", "--ipaddr", "127.0.0.1", "--tls", "require"]);
    command.arg(format!("--tls-psk={}", key.file().display()));
    command.args(["--port", &address.port().to_string()]).arg("file").arg(target);
    let running = Running::start(command, logs)?;
    running.listens_on(address).await?;
    Ok(Servers { running: vec![running], uri: key.nbds_uri(address) })
}
