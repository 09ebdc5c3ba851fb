//! Who copies, and how one copy of each is measured: from the start of the client to its end, processor time and memory
//! of all processes of both ends.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::ours::agent::{Order, Via};
use crate::ours::{Agent, Bridge, Gateway};
use crate::peers::{self, Servers, SharedKey, StunnelChain};
use crate::process::{Program, Running};
use crate::relay::Relay;
use crate::usage::{Meter, Usage};

/// How often the memory of the processes is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Somebody who copies the source to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// nbdcopy from the file to nbdkit, NBD-TLS.
    NbdkitTls,
    /// qemu-img convert to qemu-nbd, NBD-TLS.
    QemuTls,
    /// nbdcopy through stunnel to nbd-server: the predecessor's chain.
    StunnelChain,
    /// nbdcopy from the file to nbdkit, plain.
    NbdkitPlain,
    /// `cp --sparse=always`: no network.
    Cp,
    /// Ours over TLS 1.3, without proof.
    MoverTls,
    /// Ours over TLS 1.3, with proof.
    MoverTlsProof,
    /// Ours over TLS 1.3, without proof, in frames that are compressed where that pays.
    MoverTlsFramed,
    /// Our mover to our plain port.
    MoverPlain,
    /// nbdcopy to our plain port.
    NbdcopyToUsPlain,
    /// nbdcopy through a local bridge to our TLS port.
    NbdcopyToUsTls,
}

impl Contestant {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 11] = [
        Self::Cp,
        Self::NbdkitPlain,
        Self::NbdkitTls,
        Self::QemuTls,
        Self::StunnelChain,
        Self::MoverTls,
        Self::MoverTlsProof,
        Self::MoverTlsFramed,
        Self::MoverPlain,
        Self::NbdcopyToUsPlain,
        Self::NbdcopyToUsTls,
    ];

    /// How it is called in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NbdkitTls => "nbdkit-tls",
            Self::QemuTls => "qemu-tls",
            Self::StunnelChain => "stunnel-chain",
            Self::NbdkitPlain => "nbdkit-plain",
            Self::Cp => "cp",
            Self::MoverTls => "mover-tls",
            Self::MoverTlsProof => "mover-tls-proof",
            Self::MoverTlsFramed => "mover-tls-framed",
            Self::MoverPlain => "mover-plain",
            Self::NbdcopyToUsPlain => "nbdcopy-to-us-plain",
            Self::NbdcopyToUsTls => "nbdcopy-to-us-tls",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::NbdkitTls => "nbdcopy → nbdkit, NBD-TLS (PSK, AES-GCM), 4 connections",
            Self::QemuTls => "qemu-img convert -W -m 16 → qemu-nbd -e 16, NBD-TLS (PSK, AES-GCM)",
            Self::StunnelChain => "nbdcopy → stunnel → stunnel → nbd-server (the predecessor's chain)",
            Self::NbdkitPlain => "nbdcopy → nbdkit, plain, 4 connections",
            Self::Cp => "cp --sparse=always (no network)",
            Self::MoverTls => "ours: mover → TLS 1.3 → gateway, proof off",
            Self::MoverTlsProof => "ours: mover → TLS 1.3 → gateway, proof on",
            Self::MoverTlsFramed => "ours: mover → TLS 1.3 → gateway, proof off, nbd+zstd (auto)",
            Self::MoverPlain => "ours: mover → gateway, plain",
            Self::NbdcopyToUsPlain => "nbdcopy → our gateway, plain",
            Self::NbdcopyToUsTls => "nbdcopy → bridge → TLS 1.3 → our gateway",
        }
    }

    /// Whether it is somebody else's program all the way, with TLS.
    #[must_use]
    pub fn is_tls_peer(self) -> bool {
        matches!(self, Self::NbdkitTls | Self::QemuTls | Self::StunnelChain)
    }

    /// Whether our gateway is its target.
    #[must_use]
    pub fn needs_gateway(self) -> bool {
        matches!(
            self,
            Self::MoverTls
                | Self::MoverTlsProof
                | Self::MoverTlsFramed
                | Self::MoverPlain
                | Self::NbdcopyToUsPlain
                | Self::NbdcopyToUsTls
        )
    }

    /// What has to be installed for it.
    #[must_use]
    pub fn programs(self) -> &'static [Program] {
        match self {
            Self::NbdkitTls | Self::NbdkitPlain => &[peers::NBDCOPY, peers::NBDKIT],
            Self::QemuTls => &[peers::QEMU_IMG, peers::QEMU_NBD],
            Self::StunnelChain => &[peers::NBDCOPY, peers::STUNNEL, peers::NBD_SERVER],
            Self::Cp => &[peers::CP],
            Self::NbdcopyToUsPlain | Self::NbdcopyToUsTls => &[peers::NBDCOPY],
            Self::MoverTls | Self::MoverTlsProof | Self::MoverTlsFramed | Self::MoverPlain => &[],
        }
    }
}

/// Our processes, up through all rounds as they are in the product.
#[derive(Debug)]
pub struct OurSide {
    /// The gateway.
    pub gateway: Gateway,
    /// The agent.
    pub agent: Agent,
    /// The bridge for stock clients.
    pub bridge: Bridge,
}

impl OurSide {
    /// Starts all of them.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start(dir: PathBuf, logs: PathBuf, target: PathBuf, size_bytes: u64) -> Result<Self, BenchError> {
        let gateway = Gateway::start(&dir, &logs, &target, size_bytes).await?;
        let agent = Agent::start(&gateway, &logs).await?;
        let bridge = Bridge::start(&gateway, &logs).await?;
        Ok(Self { gateway, agent, bridge })
    }
}

/// Where the copies are made.
#[derive(Debug)]
pub struct Site {
    /// The disk that is read.
    pub source: PathBuf,
    /// The file that is written.
    pub target: PathBuf,
    /// Where processes say what they have to say.
    pub logs: PathBuf,
    /// Connections of our mover.
    pub connections: u32,
    /// The key of the GnuTLS peers.
    pub key: SharedKey,
    /// The predecessor's chain.
    pub chain: StunnelChain,
    /// Our processes, when one of ours takes part.
    pub ours: Option<OurSide>,
}

/// One copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Wall time of the client, in seconds.
    pub seconds: f64,
    /// What all processes used.
    pub usage: Usage,
}

impl Site {
    /// Has one contestant copy the source to the target as it is now.
    ///
    /// # Errors
    /// When it fails.
    pub async fn copy(&mut self, contestant: Contestant) -> Result<Measured, BenchError> {
        match contestant {
            Contestant::Cp => self.race(peers::cp(&self.source, &self.target)?, &[]).await,
            Contestant::NbdkitPlain => {
                let servers = peers::nbdkit_plain(&self.target, &self.logs).await?;
                self.against(peers::nbdcopy(&self.source, &servers.uri)?, servers).await
            }
            Contestant::NbdkitTls => {
                let servers = peers::nbdkit_tls(&self.target, &self.key, &self.logs).await?;
                let mut client = peers::nbdcopy(&self.source, &servers.uri)?;
                self.key.prefer_aes(&mut client);
                self.against(client, servers).await
            }
            Contestant::QemuTls => {
                let servers = peers::qemu_nbd(&self.target, &self.key, &self.logs).await?;
                self.against(peers::qemu_img(&self.source, &servers, &self.key)?, servers).await
            }
            Contestant::StunnelChain => {
                let servers = self.chain.start(&self.target, &self.logs).await?;
                self.against(peers::nbdcopy(&self.source, &servers.uri)?, servers).await
            }
            Contestant::NbdcopyToUsPlain => {
                let ours = self.ours()?;
                let (client, pid) = (peers::nbdcopy(&self.source, &ours.gateway.plain_uri())?, ours.gateway.pid());
                self.race(client, &[pid]).await
            }
            Contestant::NbdcopyToUsTls => {
                let ours = self.ours()?;
                let pids = [ours.gateway.pid(), ours.bridge.pid()];
                self.race(peers::nbdcopy(&self.source, &ours.bridge.uri())?, &pids).await
            }
            Contestant::MoverTls => self.mover(Via::Tls, None, false).await,
            Contestant::MoverTlsProof => self.mover(Via::Tls, None, true).await,
            Contestant::MoverTlsFramed => self.mover(Via::TlsFramed, None, false).await,
            Contestant::MoverPlain => self.mover(Via::Plain, None, false).await,
        }
    }

    fn ours(&self) -> Result<&OurSide, BenchError> {
        self.ours.as_ref().ok_or_else(|| BenchError::Asked { reason: "our gateway does not run".to_owned() })
    }

    /// A client against servers that are only there for it.
    async fn against(&self, client: Command, servers: Servers) -> Result<Measured, BenchError> {
        let measured = self.race(client, &servers.pids()).await?;
        servers.stop().await?;
        Ok(measured)
    }

    /// A client against processes that run already.
    async fn race(&self, client: Command, servers: &[u32]) -> Result<Measured, BenchError> {
        let mut meter = Meter::begin(servers);
        let begun = Instant::now();
        let client = Running::start(client, &self.logs)?;
        meter.add(client.pid());
        watched(&mut meter, client.ended()).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let usage = meter.end();
        client.succeeded()?;
        Ok(Measured { seconds, usage })
    }

    /// Our mover.
    ///
    /// # Errors
    /// When it fails.
    pub async fn mover(
        &mut self,
        via: Via,
        changed: Option<Vec<(u64, u64)>>,
        proof: bool,
    ) -> Result<Measured, BenchError> {
        let order = Order { source: self.source.clone(), via, connections: self.connections, changed, proof };
        let missing = || BenchError::Asked { reason: "our gateway does not run".to_owned() };
        let ours = self.ours.as_mut().ok_or_else(missing)?;
        let mut meter = Meter::begin(&[ours.gateway.pid(), ours.agent.pid()]);
        let begun = Instant::now();
        watched(&mut meter, ours.agent.copy(&order)).await?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Measured { seconds, usage: meter.end() })
    }
}

impl Site {
    /// Has a further agent of ours copy the named areas through a relay that counts; answers with the bytes it sent.
    ///
    /// # Errors
    /// When it fails.
    pub async fn count_sent(&self, changed: Vec<(u64, u64)>) -> Result<u64, BenchError> {
        let gateway = &self.ours()?.gateway;
        let relay = Relay::start(gateway.tls()).await?;
        let mut agent = Agent::start_through(gateway, relay.address(), &self.logs).await?;
        let (source, connections) = (self.source.clone(), self.connections);
        let before = relay.sent_bytes();
        agent.copy(&Order { source, via: Via::Tls, connections, changed: Some(changed), proof: false }).await?;
        Ok(relay.sent_bytes() - before)
    }
}

/// Awaits some work and looks at the memory of the processes meanwhile.
///
/// # Errors
/// The work's own.
pub async fn watched<T>(meter: &mut Meter, work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = looks.tick() => meter.look(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_name_of_their_own_and_it_is_the_one_of_the_command_line() {
        use clap::ValueEnum as _;
        let mut names: Vec<&str> = Contestant::ALL.iter().map(|contestant| contestant.name()).collect();
        for contestant in Contestant::ALL {
            assert_eq!(contestant.to_possible_value().unwrap().get_name(), contestant.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Contestant::ALL.len());
    }
}
