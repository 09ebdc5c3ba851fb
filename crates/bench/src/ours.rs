//! Our side of the comparison: three processes of the product's own code, and the handles the bench holds on them.
//!
//! `hub`, `agent` and `bridge` are what runs inside those processes; everything they use of the product is named there.

pub mod agent;
pub mod bridge;
pub mod hub;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use crate::error::BenchError;
use crate::process::{Running, free_address};
use agent::{Answer, Order};

/// Ends when whoever started this process closes its standard input, or is gone.
pub async fn until_input_ends() {
    let mut rest = Vec::new();
    // Whatever is said does not matter; a read that fails is an end, too.
    let _ = tokio::io::stdin().read_to_end(&mut rest).await;
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    running: Running,
    dir: PathBuf,
    tls: SocketAddr,
    plain: SocketAddr,
}

impl Gateway {
    /// Starts one whose export is `target`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(dir: &Path, logs: &Path, target: &Path, size_bytes: u64) -> Result<Self, BenchError> {
        let (tls, plain) = (free_address()?, free_address()?);
        let mut command = own("gateway")?;
        command.arg("--dir").arg(dir).args(["--listen", &tls.to_string(), "--plain", &plain.to_string()]);
        command.arg("--target").arg(target).args(["--size-bytes", &size_bytes.to_string()]);
        let running = Running::start_piped(command, "gateway", logs)?;
        running.listens_on(tls).await?;
        running.listens_on(plain).await?;
        running.listens_at(&hub::control_socket(dir)).await?;
        Ok(Self { running, dir: dir.to_owned(), tls, plain })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its TLS port.
    #[must_use]
    pub fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// Its export on the plain port, for stock NBD clients.
    #[must_use]
    pub fn plain_uri(&self) -> String {
        format!("nbd://{}/{}", self.plain, hub::export_name())
    }
}

/// An agent that runs and takes orders.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// What starting it took, in seconds: from nothing to the first connection.
    pub start_seconds: f64,
}

impl Agent {
    /// Starts one for this gateway.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(gateway: &Gateway, logs: &Path) -> Result<Self, BenchError> {
        Self::start_through(gateway, gateway.tls, logs).await
    }

    /// Starts one that dials `hub`, which leads to the TLS port of this gateway.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_through(gateway: &Gateway, hub: SocketAddr, logs: &Path) -> Result<Self, BenchError> {
        let mut command = own("mover")?;
        command.arg("--dir").arg(&gateway.dir);
        command.args(["--hub", &hub.to_string(), "--plain", &gateway.plain.to_string()]);
        let begun = Instant::now();
        let mut running = Running::start_piped(command, "mover", logs)?;
        let pipes = running.child().and_then(|child| Some((child.stdin.take()?, child.stdout.take()?)));
        let (orders, answers) = pipes.ok_or_else(|| BenchError::Mover { reason: "it has no pipes".to_owned() })?;
        let taking = "taking the mover's pipes";
        let orders = ChildStdin::from_std(orders).map_err(BenchError::io(taking))?;
        let answers = ChildStdout::from_std(answers).map_err(BenchError::io(taking))?;
        let mut agent = Self { running, orders, answers: BufReader::new(answers).lines(), start_seconds: 0.0 };
        match agent.answer().await? {
            Answer::Ready {} => agent.start_seconds = begun.elapsed().as_secs_f64(),
            other => return Err(BenchError::Mover { reason: format!("it began with {other:?}") }),
        }
        Ok(agent)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Has it copy.
    ///
    /// # Errors
    /// The mover's reason, or that it is gone.
    pub async fn copy(&mut self, order: &Order) -> Result<(), BenchError> {
        let mut line = serde_json::to_vec(order).map_err(BenchError::product("writing an order"))?;
        line.push(b'\n');
        self.orders.write_all(&line).await.map_err(BenchError::io("giving the mover an order"))?;
        match self.answer().await? {
            Answer::Done {} => Ok(()),
            Answer::Failed { reason } => Err(BenchError::Mover { reason }),
            Answer::Ready {} => Err(BenchError::Mover { reason: "it began anew".to_owned() }),
        }
    }

    async fn answer(&mut self) -> Result<Answer, BenchError> {
        let line = self.answers.next_line().await.map_err(BenchError::io("hearing the mover"))?;
        let line = line.ok_or_else(|| BenchError::Mover { reason: format!("it is gone: {}", self.running.said()) })?;
        serde_json::from_str(&line).map_err(BenchError::product("understanding the mover"))
    }
}

/// A bridge that runs.
#[derive(Debug)]
pub struct Bridge {
    running: Running,
    socket: PathBuf,
}

impl Bridge {
    /// Starts one to this gateway.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(gateway: &Gateway, logs: &Path) -> Result<Self, BenchError> {
        let socket = gateway.dir.join("bridge.sock");
        let mut command = own("bridge")?;
        command.arg("--dir").arg(&gateway.dir).args(["--hub", &gateway.tls.to_string()]);
        command.arg("--socket").arg(&socket);
        let running = Running::start_piped(command, "bridge", logs)?;
        running.listens_at(&socket).await?;
        Ok(Self { running, socket })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The gateway's export behind it, for stock NBD clients.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("nbd+unix:///{}?socket={}", hub::export_name(), self.socket.display())
    }
}

/// This program, doing something else.
fn own(role: &str) -> Result<Command, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("finding this program"))?;
    let mut command = Command::new(program);
    command.arg(role);
    Ok(command)
}
