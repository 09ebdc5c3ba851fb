//! The programs we compare with, each set up as fast as it can be: what they are started with and what they need.
//!
//! GnuTLS prefers ChaCha20 where keys are shared in advance, at a third of the speed: it is told not to.

mod chain;
mod gnutls;
mod nbdkit;
mod qemu;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

pub use chain::StunnelChain;
pub use gnutls::{SharedKey, agreed_cipher};
pub use nbdkit::{nbdcopy, nbdkit_plain, nbdkit_tls};
pub use qemu::{qemu_img, qemu_nbd};

use crate::error::BenchError;
use crate::process::{Program, Running};

/// Copies files.
pub const CP: Program = Program { name: "cp", package: "coreutils" };
/// The NBD server with plugins.
pub const NBDKIT: Program = Program { name: "nbdkit", package: "nbdkit" };
/// The copying client of libnbd.
pub const NBDCOPY: Program = Program { name: "nbdcopy", package: "libnbd-bin" };
/// QEMU's converter.
pub const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };
/// QEMU's NBD server.
pub const QEMU_NBD: Program = Program { name: "qemu-nbd", package: "qemu-utils" };
/// The reference NBD server.
pub const NBD_SERVER: Program = Program { name: "nbd-server", package: "nbd-server" };
/// The TLS tunnel.
pub const STUNNEL: Program = Program { name: "stunnel", package: "stunnel4" };

/// A server (or several) that a client copies to.
#[derive(Debug)]
pub struct Servers {
    /// The processes.
    pub running: Vec<Running>,
    /// What the client is given.
    pub uri: String,
}

impl Servers {
    /// The ids of their processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Running::pid).collect()
    }

    /// Where the first of them listens, if [`uri`](Self::uri) is an address or begins with one.
    ///
    /// # Errors
    /// When there is none in it.
    pub fn address(&self) -> Result<SocketAddr, BenchError> {
        let place = self.uri.split_once('@').map_or(self.uri.as_str(), |(_, place)| place);
        let place = place.split_once('/').map_or(place, |(address, _)| address);
        place.parse().map_err(|_| BenchError::Asked { reason: format!("{} has no address", self.uri) })
    }

    /// Stops all of them, the one that was started last first.
    ///
    /// # Errors
    /// When one does not stop.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        while let Some(running) = self.running.pop() {
            running.stop().await?;
        }
        Ok(())
    }
}

/// `cp --sparse=always`: no network at all.
///
/// # Errors
/// When it is not there.
pub fn cp(source: &Path, target: &Path) -> Result<Command, BenchError> {
    let mut command = CP.command()?;
    command.arg("--sparse=always").arg(source).arg(target);
    Ok(command)
}
