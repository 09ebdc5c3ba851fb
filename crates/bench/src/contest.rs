//! The rounds: everybody copies once in each, in turns, so that a noisy machine is noisy for all; every copy is compared.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use indicatif::{ProgressBar, ProgressStyle};
use model::size::GIB_BYTES;

use crate::contestants::{Contestant, Measured, OurSide, Site};
use crate::disks;
use crate::error::BenchError;
use crate::image::{self, Changes};
use crate::machine::Machine;
use crate::ours::agent::Via;
use crate::peers::{self, SharedKey, StunnelChain};
use crate::primitives::Primitives;
use crate::ram::RamFolder;
use crate::results::{IncrementResult, PeerResult, Results, Setup, rounded};
use crate::stats::{Increment, Reached, Spread, ratios};

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Size of the disk, in bytes.
    pub size_bytes: u64,
    /// Rounds that count.
    pub rounds: u32,
    /// Who takes part.
    pub contestants: Vec<Contestant>,
    /// Connections of our mover.
    pub connections: u32,
}

/// Bytes of memory that disks of this size need: source and target, wholly written, and what else there is.
#[must_use]
pub fn needed_bytes(size_bytes: u64) -> u64 {
    const REST_BYTES: u64 = 512 << 20;
    size_bytes * 2 + REST_BYTES
}

/// What an increment costs on the wire.
#[derive(Debug, Clone, Copy)]
struct Counted {
    changed_bytes: u64,
    data_bytes: u64,
    wire_bytes: u64,
}

/// Everything that was measured so far.
#[derive(Debug, Default)]
struct Noted {
    copies: BTreeMap<Contestant, Vec<Measured>>,
    increment_seconds: Vec<f64>,
    increment_bytes: Option<Counted>,
}

/// Measures.
///
/// # Errors
/// When a contestant fails, or its copy is not equal.
pub async fn run(plan: &Plan, ram: &RamFolder) -> Result<Results, BenchError> {
    for program in plan.contestants.iter().flat_map(|contestant| contestant.programs()) {
        program.path()?;
    }
    let progress = bar(plan);
    progress.set_message("writing the source");
    let mut site = set_up(plan, ram).await?;
    let cipher = cipher_of_the_peers(plan, &site).await?;
    let mut noted = Noted::default();
    // Round 0 does not count: it warms up, and every byte of its targets is 0xFF before.
    for round in 0..=plan.rounds {
        for place in 0..plan.contestants.len() {
            let contestant = plan.contestants[(place + round as usize) % plan.contestants.len()];
            progress.set_message(format!("round {round}: {}", contestant.name()));
            let measured = one_copy(&mut site, plan, contestant, round).await?;
            if round > 0 {
                noted.copies.entry(contestant).or_default().push(measured);
            }
            progress.inc(1);
        }
        if measures_increments(plan) {
            progress.set_message(format!("round {round}: an increment of 1 %"));
            one_increment(&mut site, plan, round, &mut noted).await?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(results(plan, ram, &site, &noted, cipher))
}

fn bar(plan: &Plan) -> ProgressBar {
    let a_round = plan.contestants.len() + usize::from(measures_increments(plan));
    let progress = ProgressBar::new(u64::from(plan.rounds + 1) * a_round as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed_precise} {msg}") {
        progress.set_style(style);
    }
    progress
}

fn measures_increments(plan: &Plan) -> bool {
    plan.contestants.contains(&Contestant::MoverTls)
}

async fn set_up(plan: &Plan, ram: &RamFolder) -> Result<Site, BenchError> {
    let (source, target) = (ram.path().join("source.raw"), ram.path().join("target.raw"));
    let (path, size_bytes) = (source.clone(), plan.size_bytes);
    blocking(move || image::write_source(&path, size_bytes)).await?;
    disks::fresh(&target, size_bytes)?;
    let logs = ram.folder("logs")?;
    let needs_ours = plan.contestants.iter().any(|contestant| contestant.needs_gateway());
    let ours = match needs_ours {
        true => Some(OurSide::start(ram.folder("ours")?, logs.clone(), target.clone(), size_bytes).await?),
        false => None,
    };
    let (key, chain) = (SharedKey::make(ram.folder("psk")?)?, StunnelChain::make(ram.folder("chain")?)?);
    Ok(Site { source, target, logs, connections: plan.connections, key, chain, ours })
}

/// What the best TLS peer really encrypts with.
async fn cipher_of_the_peers(plan: &Plan, site: &Site) -> Result<Option<String>, BenchError> {
    if !plan.contestants.contains(&Contestant::NbdkitTls) {
        return Ok(None);
    }
    let servers = peers::nbdkit_tls(&site.target, &site.key, &site.logs).await?;
    let client = |address: SocketAddr| {
        let mut client = peers::nbdcopy(&site.source, &site.key.nbds_uri(address))?;
        site.key.prefer_aes(&mut client);
        Ok(client)
    };
    let cipher = peers::agreed_cipher("nbdkit", servers.address()?, client, &site.logs).await?;
    servers.stop().await?;
    Ok(Some(cipher.to_owned()))
}

async fn one_copy(site: &mut Site, plan: &Plan, contestant: Contestant, round: u32) -> Result<Measured, BenchError> {
    let (target, size_bytes) = (site.target.clone(), plan.size_bytes);
    blocking(move || if round == 0 { disks::dirty(&target, size_bytes) } else { disks::fresh(&target, size_bytes) })
        .await?;
    let measured = site.copy(contestant).await?;
    compare(site, contestant.name()).await?;
    Ok(measured)
}

/// The source changes as a guest would change it, and only that is copied onto a target that was equal before. In round 0
/// the bytes on the wire are counted, in the others the time is taken.
async fn one_increment(site: &mut Site, plan: &Plan, round: u32, noted: &mut Noted) -> Result<(), BenchError> {
    let changes = Changes::scattered(plan.size_bytes, u64::from(round) + 1);
    let (source, target, to_apply) = (site.source.clone(), site.target.clone(), changes.clone());
    blocking(move || disks::clone(&source, &target).and_then(|()| to_apply.apply(&source))).await?;
    let extents = changes.extents();
    let named = extents.iter().map(|extent| (extent.offset, extent.length)).collect();
    if round == 0 {
        let wire_bytes = site.count_sent(named).await?;
        let changed_bytes = extents.iter().map(|extent| extent.length).sum();
        noted.increment_bytes = Some(Counted { changed_bytes, data_bytes: changes.data_bytes(), wire_bytes });
    } else {
        noted.increment_seconds.push(site.mover(Via::Tls, Some(named), false).await?.seconds);
    }
    compare(site, "the increment").await?;
    let source = site.source.clone();
    blocking(move || changes.revert(&source)).await
}

async fn compare(site: &Site, contestant: &str) -> Result<(), BenchError> {
    let (source, target) = (site.source.clone(), site.target.clone());
    match blocking(move || disks::first_difference(&source, &target)).await? {
        None => Ok(()),
        Some(offset) => Err(BenchError::Content { contestant: contestant.to_owned(), offset }),
    }
}

/// Work on disks, beside whoever waits for Ctrl-C.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(BenchError::Interrupted),
    }
}

#[allow(clippy::cast_precision_loss, reason = "sizes and times for people")]
fn results(plan: &Plan, ram: &RamFolder, site: &Site, noted: &Noted, cipher: Option<String>) -> Results {
    let gib = plan.size_bytes as f64 / GIB_BYTES as f64;
    let mut reached = BTreeMap::new();
    let mut peers = Vec::new();
    for contestant in &plan.contestants {
        let copies = noted.copies.get(contestant).map(Vec::as_slice).unwrap_or_default();
        let Some(found) = PeerResult::of(*contestant, copies, gib) else { continue };
        let medians = Reached { gib_per_s: found.gib_per_s, cpu_s_per_gib: found.cpu_s_per_gib };
        reached.insert(*contestant, medians);
        peers.push(found);
    }
    let full = reached.get(&Contestant::MoverTls).map(|found| rounded(gib / found.gib_per_s));
    let incremental = full.and_then(|full_seconds| increment_result(noted, full_seconds));
    let increment = incremental.as_ref().map(|found| Increment {
        bytes_ratio: found.wire_bytes as f64 / found.data_bytes as f64,
        seconds: found.seconds,
        full_seconds: found.full_seconds,
    });
    let setup = Setup {
        size_gib: rounded(gib),
        rounds: plan.rounds,
        connections: plan.connections,
        in_ram: ram.is_in_ram(),
        peer_cipher: cipher,
        agent_start_seconds: site.ours.as_ref().map(|ours| rounded(ours.agent.start_seconds)),
    };
    let ratios = ratios(&reached, increment).rounded();
    Results { ratios, peers, incremental, setup, machine: Machine::this(), primitives: Primitives::measured() }
}

fn increment_result(noted: &Noted, full_seconds: f64) -> Option<IncrementResult> {
    let Counted { changed_bytes, data_bytes, wire_bytes } = noted.increment_bytes?;
    let seconds = Spread::of(&noted.increment_seconds)?.median;
    Some(IncrementResult { seconds: rounded(seconds), full_seconds, changed_bytes, data_bytes, wire_bytes })
}
