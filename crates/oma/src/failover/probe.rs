//! Runs health probes against a VM that was started: each is tried again until it passes or the deadline is over. It
//! judges nothing: what a failed probe means for a failover is decided by whoever asked.

mod http;
mod icmp;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use api::oma::probes::{ProbeHost, ProbeKind, ProbeResult, ProbeSpec};
use futures::future::join_all;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use http::Web;

/// Most tries under way at once; the others wait for their turn. Each holds a socket.
const MAX_CONCURRENT_TRIES: usize = 16;
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// How the probes of a failover are paced: a guest that boots opens its ports within seconds of each other, and one that
/// drops packets must not keep a try for long.
const USUAL_PACE: Pace = Pace { pause: Duration::from_secs(1), try_limit: Duration::from_secs(5) };

/// How often and how long is tried.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between two tries of a probe.
    pause: Duration,
    /// Longest a single try may take.
    try_limit: Duration,
}

/// Runs all probes at the same time until each has passed, `deadline` is over, or somebody cancels. Answers in the
/// order of `probes`. `address` is the VM's own, for probes that name no host.
pub(crate) async fn run(
    probes: &[ProbeSpec],
    address: Option<IpAddr>,
    deadline: Duration,
    cancellation: &CancellationToken,
) -> Vec<ProbeResult> {
    run_at(USUAL_PACE, probes, address, deadline, cancellation).await
}

async fn run_at(
    pace: Pace,
    probes: &[ProbeSpec],
    address: Option<IpAddr>,
    deadline: Duration,
    cancellation: &CancellationToken,
) -> Vec<ProbeResult> {
    let round = Round { pace, deadline, turns: Semaphore::new(MAX_CONCURRENT_TRIES), web: Web::new(), cancellation };
    join_all(probes.iter().map(|probe| round.run(probe, address))).await
}

/// What the probes of one call share.
struct Round<'a> {
    pace: Pace,
    deadline: Duration,
    turns: Semaphore,
    web: Result<Web, String>,
    cancellation: &'a CancellationToken,
}

/// Why a try failed.
struct Failure {
    message: String,
    /// Whether no later try can go better.
    is_final: bool,
}

impl Failure {
    fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_final: false }
    }

    fn lasting(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_final: true }
    }
}

/// How far a probe has come.
#[derive(Default)]
struct Tries {
    begun: u32,
    last: Option<String>,
}

impl Round<'_> {
    async fn run(&self, probe: &ProbeSpec, address: Option<IpAddr>) -> ProbeResult {
        let began = Instant::now();
        let mut tries = Tries::default();
        let ended = tokio::select! {
            biased;
            () = self.cancellation.cancelled() => Err("cancelled".to_owned()),
            ended = self.try_until_it_passes(probe, address, &mut tries) => ended,
            () = sleep_until(began + self.deadline) => Err(format!("not passed within {} s", self.deadline.as_secs())),
        };
        let (passed, message) = match (ended, tries.last) {
            (Ok(message), _) => (true, message),
            (Err(reason), Some(last)) if last != reason => (false, format!("{reason}; the last try: {last}")),
            (Err(reason), _) => (false, reason),
        };
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(%probe, passed, attempts = tries.begun, seconds, message, "probe");
        ProbeResult { probe: probe.clone(), passed, attempts: tries.begun, seconds, message }
    }

    /// What was answered in the end, or why no try can pass.
    async fn try_until_it_passes(
        &self,
        probe: &ProbeSpec,
        address: Option<IpAddr>,
        tries: &mut Tries,
    ) -> Result<String, String> {
        let own = address.map(ProbeHost::Address);
        let Some(host) = probe.host().or(own.as_ref()) else {
            return Err("no address of the VM is known: name a host in the probe, such as tcp:HOST:22".to_owned());
        };
        loop {
            // Nobody closes it; a turn that cannot be had only means that no limit is kept.
            let turn = self.turns.acquire().await;
            tries.begun += 1;
            let tried = timeout(self.pace.try_limit, self.attempt(probe.kind(), host, tries.begun)).await;
            drop(turn);
            let nothing = || Err(Failure::passing(format!("no answer within {} s", self.pace.try_limit.as_secs())));
            match tried.unwrap_or_else(|_| nothing()) {
                Ok(message) => return Ok(message),
                Err(failure) if failure.is_final => return Err(failure.message),
                Err(failure) => {
                    tracing::debug!(%probe, attempt = tries.begun, message = failure.message, "not yet");
                    tries.last = Some(failure.message);
                }
            }
            sleep(self.pace.pause).await;
        }
    }

    async fn attempt(&self, kind: &ProbeKind, host: &ProbeHost, attempt: u32) -> Result<String, Failure> {
        match kind {
            ProbeKind::Tcp { port } => connect(host, *port).await,
            ProbeKind::Http { scheme, port, path } => {
                let web = self.web.as_ref().map_err(Failure::lasting)?;
                web.get(*scheme, host, *port, path).await
            }
            ProbeKind::Icmp => echo(host, attempt).await,
        }
    }
}

async fn connect(host: &ProbeHost, port: NonZeroU16) -> Result<String, Failure> {
    let mut last = None;
    for address in addresses(host, port.get()).await? {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(format!("{address} takes connections")),
            Err(error) => last = Some(format!("cannot connect to {address}: {error}")),
        }
    }
    Err(Failure::passing(last.unwrap_or_else(|| no_address(host))))
}

async fn echo(host: &ProbeHost, attempt: u32) -> Result<String, Failure> {
    let Some(address) = addresses(host, 0).await?.first().map(SocketAddr::ip) else {
        return Err(Failure::passing(no_address(host)));
    };
    // A number that comes again does no harm: the payload tells requests apart.
    let sequence = u16::try_from(attempt % (1 << 16)).unwrap_or_default();
    match icmp::echo(address, sequence).await {
        Ok(()) => Ok(format!("{address} answers echo requests")),
        Err(error) => {
            let message = causes(&error);
            Err(match error.remedy() {
                Some(remedy) => Failure::lasting(format!("{message}; {remedy}")),
                None => Failure::passing(message),
            })
        }
    }
}

/// Where a host can be reached; a name is looked up for every try, because it may only just have been registered.
async fn addresses(host: &ProbeHost, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    match host {
        ProbeHost::Address(address) => Ok(vec![SocketAddr::new(*address, port)]),
        ProbeHost::Name(name) => {
            let found = lookup_host((name.as_str(), port)).await;
            let found = found.map_err(|error| Failure::passing(format!("{name} cannot be looked up: {error}")))?;
            Ok(found.take(MAX_ADDRESSES).collect())
        }
    }
}

fn no_address(host: &ProbeHost) -> String {
    format!("{host} has no address")
}

/// An error and everything it was caused by, outermost first.
fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
