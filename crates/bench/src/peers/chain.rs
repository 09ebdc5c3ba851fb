//! The predecessor's chain: a plain client, a TLS tunnel on both sides, and nbd-server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{NBD_SERVER, STUNNEL, Servers};
use crate::error::BenchError;
use crate::process::{Running, free_address};

/// Name of the export.
const EXPORT: &str = "bench";

/// What all parts of the chain are configured with.
#[derive(Debug)]
pub struct StunnelChain {
    folder: PathBuf,
}

impl StunnelChain {
    /// Makes the certificate the tunnel trusts.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn make(folder: PathBuf) -> Result<Self, BenchError> {
        let making = "making the tunnel's certificate";
        let certified = rcgen::generate_simple_self_signed(["bench.invalid".to_owned()]);
        let certified = certified.map_err(BenchError::product(making))?;
        let write = |name: &str, text: String| {
            runtime::private_file::write(&folder.join(name), text.as_bytes()).map_err(BenchError::io(making))
        };
        write("tunnel.crt", certified.cert.pem())?;
        write("tunnel.key", certified.signing_key.serialize_pem())?;
        Ok(Self { folder })
    }

    /// Starts nbd-server with the target file and both ends of the tunnel.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn start(&self, target: &Path, logs: &Path) -> Result<Servers, BenchError> {
        let (entry, exit, server) = (free_address()?, free_address()?, free_address()?);
        let mut running = vec![self.nbd_server(target, server, logs).await?];
        running.push(self.tunnel("exit", &self.exit_text(exit, server), exit, logs).await?);
        running.push(self.tunnel("entry", &self.entry_text(entry, exit), entry, logs).await?);
        Ok(Servers { running, uri: format!("nbd://{entry}/{EXPORT}") })
    }

    /// It goes to the background by itself: in the foreground it serves a single connection.
    async fn nbd_server(&self, target: &Path, address: SocketAddr, logs: &Path) -> Result<Running, BenchError> {
        let (ip, port, target) = (address.ip(), address.port(), target.display());
        let text = format!(
            "[generic]\n  listenaddr = {ip}\n  port = {port}\n[{EXPORT}]\n  exportname = {target}\n  flush = true\n  trim = true\n"
        );
        let (settings, pid_file) = (self.write("nbd-server.conf", &text)?, self.folder.join("nbd-server.pid"));
        crate::disks::remove(&pid_file)?;
        let mut command = NBD_SERVER.command()?;
        command.arg("-C").arg(settings).arg("-p").arg(&pid_file);
        let starter = Running::start(command, logs)?;
        starter.ended().await?;
        starter.succeeded()?;
        let running = Running::adopt(NBD_SERVER.name, &pid_file, logs.join("nbd-server.log")).await?;
        running.listens_on(address).await?;
        Ok(running)
    }

    async fn tunnel(&self, name: &str, text: &str, address: SocketAddr, logs: &Path) -> Result<Running, BenchError> {
        let settings = self.write(&format!("stunnel-{name}.conf"), text)?;
        let mut command = STUNNEL.command()?;
        command.arg(settings);
        let running = Running::start(command, logs)?;
        running.listens_on(address).await?;
        Ok(running)
    }

    /// TLS 1.3 with the faster of OpenSSL's AES suites, as its GnuTLS peers have.
    fn common_text(&self) -> String {
        "foreground = yes\npid =\nsyslog = no\ndebug = 4\n[nbd]\nsslVersion = TLSv1.3\n\
         ciphersuites = TLS_AES_128_GCM_SHA256\n"
            .to_owned()
    }

    fn exit_text(&self, accept: SocketAddr, connect: SocketAddr) -> String {
        let (common, folder) = (self.common_text(), self.folder.display());
        format!(
            "{common}accept = {accept}\nconnect = {connect}\ncert = {folder}/tunnel.crt\nkey = {folder}/tunnel.key\n"
        )
    }

    fn entry_text(&self, accept: SocketAddr, connect: SocketAddr) -> String {
        let (common, folder) = (self.common_text(), self.folder.display());
        let trust = format!("CAfile = {folder}/tunnel.crt\nverifyPeer = yes\n");
        format!("{common}client = yes\naccept = {accept}\nconnect = {connect}\n{trust}")
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, BenchError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(BenchError::io(format!("writing {}", path.display())))?;
        Ok(path)
    }
}
