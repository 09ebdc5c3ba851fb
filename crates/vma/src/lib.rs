//! The agent beside vCenter: it discovers, and it moves the disks of a vm_snapshot to the hub. It dials, nothing dials in.
//!
//! It decides nothing that outlasts a run and stores nothing but its own identity, how far its runs are, and what it added
//! to its own VM: plans, credentials and commits are the hub's. In reading order: `config`, `enrol` and `renewal` (how it
//! belongs to a hub, over `hub`), `http` (what it answers), `vcenter`, `describe` and `readers` (what there is), `power` (of
//! the source), `runs` (how disks are moved), `wan` and `lanes` (with what manners), `hotadd` (disks added to this VM).

pub mod config;
pub mod enrol;
pub mod error;
pub mod hotadd;
pub mod http;
pub mod runs;
pub mod vcenter;

mod describe;
mod hub;
mod lanes;
mod power;
mod readers;
mod renewal;
mod wan;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tunnel::link::LinkTimings;
use tunnel::{AgentIdentity, AgentLink, Dialer, HubAddress};

pub use config::VmaConfig;
pub use error::VmaError;
use hotadd::HotAdd;
use runs::Runs;

/// How long runs have to end after a shutdown. A vm_snapshot that was just being taken is removed, by the VM's next run if
/// not by this one.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);

/// Runs the agent until `shutdown`: serves the hub over the connection it keeps to it, and this machine's status.
/// Runs under way are left then, with their vm_snapshots: the next process goes on with them when the hub asks. It returns
/// when that is written down (a minute at most).
///
/// # Errors
/// It belongs to no hub, its identity or configuration cannot be used, or the local address is taken.
pub async fn run(config: VmaConfig, shutdown: CancellationToken) -> Result<(), VmaError> {
    let identity = AgentIdentity::load(&config.state_dir)?.ok_or(VmaError::NotEnrolled)?;
    let dialer = Arc::new(Dialer::new(HubAddress::parse(&config.hub)?, &identity)?);
    let listener = runtime::http::bind_loopback(config.listen).await.map_err(VmaError::Listen)?;
    tidy_up_earlier_runs(&config.runs_folder()).await?;
    // Whatever ends first ends the rest.
    let stop = shutdown.child_token();
    let hotadd = HotAdd::open(config.hotadd.clone(), &config.state_dir)?;
    let runs = Arc::new(Runs::new(config.clone(), Arc::clone(&dialer), hotadd, stop.clone()));
    let link = AgentLink::new(Arc::clone(&dialer), LinkTimings::default());
    let control = link.run(http::control(Arc::clone(&runs)), stop.clone());
    let renewal = renewal::keep_renewed(&config.state_dir, identity, &dialer, stop.clone());
    let status = runtime::http::serve_tcp(http::status(Arc::clone(&runs)), listener, stop.clone());
    let local = async {
        let served = status.await;
        stop.cancel();
        served.map_err(VmaError::Listen)
    };
    let ending = async {
        stop.cancelled().await;
        tracing::info!(active_runs = runs.active(), "stopping");
        if tokio::time::timeout(SHUTDOWN_GRACE, runs.ended()).await.is_err() {
            tracing::error!("not every run ended in time; the next run of its VM removes what is left");
        }
    };
    let (served, (), (), ()) = tokio::join!(local, control, renewal, ending);
    served
}

/// What no run can go on with is removed, and every password with it.
async fn tidy_up_earlier_runs(folder: &Path) -> Result<(), VmaError> {
    const DOING: &str = "removing the files of earlier runs";
    let runs = folder.to_owned();
    let now = time::OffsetDateTime::now_utc();
    let tidying = tokio::task::spawn_blocking(move || runs::leftovers::tidy_up(&runs, now)).await;
    let tidied = tidying.map_err(|source| VmaError::Interrupted { doing: DOING, source })?;
    tidied.map_err(|source| VmaError::StateFile { path: folder.to_owned(), source })
}
