//! qemu-img convert to qemu-nbd with TLS.

use std::path::Path;
use std::process::Command;

use super::gnutls::SharedKey;
use super::{QEMU_IMG, QEMU_NBD, Servers};
use crate::error::BenchError;
use crate::process::{Running, free_address};

/// Requests under way, and clients the server takes: it takes one otherwise.
const PARALLEL: &str = "16";
/// Name of the export.
const EXPORT: &str = "bench";

/// qemu-nbd with the target file; the address is in [`Servers::uri`].
///
/// # Errors
/// When it does not come up.
pub async fn qemu_nbd(target: &Path, key: &SharedKey, logs: &Path) -> Result<Servers, BenchError> {
    let address = free_address()?;
    let mut command = QEMU_NBD.command()?;
    key.prefer_aes(&mut command);
    command.args(["-e", PARALLEL, "-t", "-f", "raw", "--discard=unmap", "-x", EXPORT]);
    command.args(["-b", "127.0.0.1", "-p", &address.port().to_string()]);
    command.args(["--object", &key.qemu_server(), "--tls-creds", "tls0"]).arg(target);
    let running = Running::start(command, logs)?;
    running.listens_on(address).await?;
    Ok(Servers { running: vec![running], uri: address.to_string() })
}

/// qemu-img convert from the source file to that server: writes out of order, 16 requests under way.
///
/// # Errors
/// When it is not there.
pub fn qemu_img(source: &Path, server: &Servers, key: &SharedKey) -> Result<Command, BenchError> {
    let address = server.address()?;
    let (host, port) = (address.ip(), address.port());
    let mut command = QEMU_IMG.command()?;
    key.prefer_aes(&mut command);
    command.args(["convert", "-n", "-W", "-m", PARALLEL, "-f", "raw", "--object", &key.qemu_client()]);
    command.arg("--target-image-opts").arg(source);
    command.arg(format!("driver=nbd,host={host},port={port},export={EXPORT},tls-creds=tls0"));
    Ok(command)
}
