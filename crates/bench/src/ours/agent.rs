//! `bench mover`: the product's copy engine in a process of its own, as it is inside an agent. It copies what it is told
//! on its standard input, one JSON line each, and answers with one JSON line each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use api::client::HttpTransport;
use api::gateway::{Coverage, GatewayClient, VerifyQuery};
use api::vma::SyncMode;
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use model::{Extent, id};
use mover::DiskCopy;
use mover::digest_file::DigestFile;
use mover::ledger::writing_name;
use mover::plan::plan;
use mover::progress::DiskProgress;
use mover::reader::Source;
use mover::target::Target;
use nbd::Lane;
use nbd::channel::{self, Channel};
use nbd::client::Wishes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tunnel::{AgentIdentity, DataLink, Dialer, HubAddress};

use super::hub;
use crate::error::{BenchError, with_causes};

/// Bytes of the digest file read at a time.
const DIGEST_CHUNK_BYTES: usize = 256 * 1024;

/// Where the agent finds its hub.
#[derive(Debug, Clone, Args)]
pub struct MoverArgs {
    /// Folder of the gateway's process.
    #[arg(long)]
    dir: PathBuf,
    /// The gateway's TLS port.
    #[arg(long)]
    hub: SocketAddr,
    /// The gateway's plain port.
    #[arg(long)]
    plain: SocketAddr,
}

/// Which port a copy goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// TLS 1.3 with the agent's certificate, NBD as it is.
    Tls,
    /// The same, in frames that are compressed where that pays: what an agent does when nothing else was asked for.
    TlsFramed,
    /// The plain port for tools of the hub's own machine.
    Plain,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The disk to be read.
    pub source: PathBuf,
    /// Which way.
    pub via: Via,
    /// How many connections.
    pub connections: u32,
    /// Changed areas as (offset, length) for an increment; all that is allocated otherwise.
    pub changed: Option<Vec<(u64, u64)>>,
    /// Whether the gateway re-reads the replica and compares it with the source's digests.
    pub proof: bool,
}

/// What a copy was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is ready for orders.
    Ready {},
    /// It is done and durable (and proven).
    Done {},
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The agent's side of the connection to the hub.
struct Agent {
    dialer: Dialer,
    plain: SocketAddr,
    control: GatewayClient,
    digests: PathBuf,
}

/// Takes orders until its standard input is closed.
///
/// # Errors
/// When the identity cannot be used, or nobody hears the answers.
pub async fn run(args: MoverArgs) -> Result<(), BenchError> {
    let agent = Agent::new(&args)?;
    // The first handshake seeds the random numbers, which takes a while: an agent has that behind it.
    drop(agent.connect(Via::Tls, &hub::export_name()).await?);
    answer(&Answer::Ready {}).await?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await.map_err(BenchError::io("reading an order"))? {
        let done = match serde_json::from_str(&line) {
            Ok(order) => agent.copy(&order).await,
            Err(error) => Err(BenchError::Asked { reason: error.to_string() }),
        };
        let done = done.unwrap_or_else(|error| Answer::Failed { reason: with_causes(&error) });
        answer(&done).await?;
    }
    Ok(())
}

async fn answer(answer: &Answer) -> Result<(), BenchError> {
    let mut line = serde_json::to_vec(answer).map_err(BenchError::product("writing an answer"))?;
    line.push(b'\n');
    let mut output = tokio::io::stdout();
    output.write_all(&line).await.map_err(BenchError::io("answering"))?;
    output.flush().await.map_err(BenchError::io("answering"))
}

impl Agent {
    fn new(args: &MoverArgs) -> Result<Self, BenchError> {
        let opening = "opening the agent's identity";
        let identity = AgentIdentity::load(&hub::agent_folder(&args.dir)).map_err(BenchError::product(opening))?;
        let identity = identity.ok_or_else(|| BenchError::Asked { reason: "the agent is not enrolled".to_owned() })?;
        let address = HubAddress::parse(&args.hub.to_string()).map_err(BenchError::product(opening))?;
        let dialer = Dialer::new(address, &identity).map_err(BenchError::product(opening))?;
        let control = HttpTransport::unix(hub::control_socket(&args.dir));
        let control = control.map_err(BenchError::product("opening the gateway's control socket"))?;
        let control = GatewayClient::new(control);
        Ok(Self { dialer, plain: args.plain, control, digests: args.dir.join("disk.digests") })
    }

    async fn connect(&self, via: Via, name: &str) -> Result<Lane, BenchError> {
        let connecting = "connecting to the gateway";
        let channel: Box<dyn Channel> = match via {
            Via::Tls => Box::new(self.dialer.dial_nbd().await.map_err(BenchError::product(connecting))?),
            Via::TlsFramed => {
                let dialled = self.dialer.dial_data(&DataLink::default()).await;
                Box::new(dialled.map_err(BenchError::product(connecting))?)
            }
            Via::Plain => {
                let stream = TcpStream::connect(self.plain).await.map_err(BenchError::io(connecting))?;
                Box::new(channel::tcp(stream).map_err(BenchError::io(connecting))?)
            }
        };
        let lane = Lane::open(channel, name, Wishes::default()).await;
        lane.map_err(BenchError::product(connecting))
    }

    async fn copy(&self, order: &Order) -> Result<Answer, BenchError> {
        let source = Source::file(&order.source).map_err(BenchError::product("opening the source"))?;
        let capacity_bytes = source.capacity_bytes();
        let name = match order.via {
            // As the agent of a run: the gateway keeps a ledger of what is durable.
            Via::Tls | Via::TlsFramed => writing_name(&hub::export_name(), &id::generation()),
            Via::Plain => hub::export_name(),
        };
        let mut lanes = Vec::new();
        for _ in 0..order.connections.max(1) {
            lanes.push(self.connect(order.via, &name).await?);
        }
        let target = Target::new(lanes, &hub::export_name(), capacity_bytes);
        let target = target.map_err(BenchError::product("opening the target"))?;
        let (mode, extents) = what_to_read(order, &source)?;
        let digests = if order.proof { Some(DigestFile::create(&self.digests)) } else { None };
        let digests = digests.transpose().map_err(BenchError::product("beginning the digests"))?.map(Arc::new);
        let copy = DiskCopy {
            plan: plan(mode, capacity_bytes, extents),
            source,
            target,
            mode,
            digests,
            progress: Arc::new(DiskProgress::default()),
        };
        copy.run(&CancellationToken::new()).await.map_err(BenchError::product("copying"))?;
        let name = hub::export_name();
        self.control.close(&name).await.map_err(BenchError::product("ending the run"))?;
        if order.proof {
            self.prove(mode, capacity_bytes).await?;
        }
        // What a commit does with the ledger of a run.
        self.control.forget(&name, hub::JOB_ID).await.map_err(BenchError::product("ending the run"))?;
        Ok(Answer::Done {})
    }

    /// As the control plane has it done: digests of the source against what the gateway reads back from the medium.
    async fn prove(&self, mode: SyncMode, capacity_bytes: u64) -> Result<(), BenchError> {
        let file = tokio::fs::File::open(&self.digests).await.map_err(BenchError::io("reading the digests"))?;
        let peer = self.digests.display().to_string();
        let digests = ReaderStream::with_capacity(file, DIGEST_CHUNK_BYTES)
            .map_err(move |source| api::TransportError::Unreachable { peer: peer.clone(), source: source.into() });
        let coverage = if mode == SyncMode::Full { Coverage::Full } else { Coverage::Named };
        self.control.seal(&hub::export_name(), hub::JOB_ID).await.map_err(BenchError::product("sealing the run"))?;
        let query = VerifyQuery { capacity_bytes, coverage };
        let report = self.control.verify(&hub::export_name(), query, digests.boxed()).await;
        let report = report.map_err(BenchError::product("asking the gateway for a proof"))?;
        let is_whole = coverage == Coverage::Named || report.leaves_verified == report.leaves_total;
        if report.mismatch_count == 0 && is_whole {
            return Ok(());
        }
        Err(BenchError::Proof { reason: format!("{report:?}") })
    }
}

/// What change tracking would have named, or all that is allocated.
fn what_to_read(order: &Order, source: &Source) -> Result<(SyncMode, Option<Vec<Extent>>), BenchError> {
    match &order.changed {
        Some(changed) => {
            let extents = changed.iter().map(|&(offset, length)| Extent::new(offset, length)).collect();
            Ok((SyncMode::Incremental, Some(extents)))
        }
        None => {
            let allocated = source.allocated(source.capacity_bytes());
            Ok((SyncMode::Full, allocated.map_err(BenchError::product("asking where the source holds data"))?))
        }
    }
}
