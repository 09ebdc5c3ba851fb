//! The agent beside vCenter: it discovers, and it moves the disks of a vm_snapshot to the hub. It dials, nothing dials in.
//!
//! It decides nothing that outlasts a run and stores nothing but its own identity: plans, credentials and commits are
//! the hub's. In reading order: `config`, `enrol` and `renewal` (how it belongs to a hub, over `hub`), `http` (what it
//! answers), `vcenter` and `describe` (what there is), `power` (of the source), `runs` (how disks are moved), `wan` and `lanes` (with what manners).

pub mod config;
pub mod enrol;
pub mod error;
pub mod http;
pub mod runs;
pub mod vcenter;

mod describe;
mod hub;
mod lanes;
mod power;
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
use runs::Runs;

/// How long runs have to remove their vm_snapshots after a shutdown; what stays is removed by the VM's next run.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);

/// Runs the agent until `shutdown`: serves the hub over the connection it keeps to it, and this machine's status.
/// Runs under way are cancelled then, and it returns when their vm_snapshots are removed (a minute at most).
///
/// # Errors
/// It belongs to no hub, its identity or configuration cannot be used, or the local address is taken.
pub async fn run(config: VmaConfig, shutdown: CancellationToken) -> Result<(), VmaError> {
    let identity = AgentIdentity::load(&config.state_dir)?.ok_or(VmaError::NotEnrolled)?;
    let dialer = Arc::new(Dialer::new(HubAddress::parse(&config.hub)?, &identity)?);
    let listener = runtime::http::bind_loopback(config.listen).await.map_err(VmaError::Listen)?;
    forget_files_of_earlier_runs(&config.runs_folder()).await?;
    // Whatever ends first ends the rest.
    let stop = shutdown.child_token();
    let runs = Arc::new(Runs::new(config.clone(), Arc::clone(&dialer), stop.clone()));
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
            tracing::error!("not every vm_snapshot could be removed in time; the next run of its VM does that");
        }
    };
    let (served, (), (), ()) = tokio::join!(local, control, renewal, ending);
    served
}

/// Runs are forgotten with their process; their files may hold passwords.
async fn forget_files_of_earlier_runs(folder: &Path) -> Result<(), VmaError> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(VmaError::StateFile { path: folder.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
