//! The control plane: agents, VMs, replications and jobs behind one HTTP API. It decides and records; it moves no bytes.
//!
//! Read in this order: `config`, `state` (what everything shares), `router` (every route), `front` and `origin` (how
//! requests and agents come in), `auth` (who may ask), `enrolment` and `agents` (who belongs to this hub), then the
//! domain. Handlers are in `http`, a file per resource; a module's work is in the module of the same word.
//!
//! What is absent: SQL (`store`), TLS (`gateway`, `tunnel`), CloudStack volumes (`volume-daemon`), VMware (`vma`).

pub mod agents;
pub mod auth;
pub mod config;
pub mod enrolment;
pub mod error;
pub mod front;
pub mod http;
pub mod origin;
pub mod progress;
pub mod router;
pub mod state;

mod certificates;
mod digests;
mod failover;
mod failure;
mod ghosts;
mod inventory;
mod machine_groups;
mod networks;
mod operations;
mod recovery_points;
mod replication;
mod target_listings;
mod targets;
mod teardown;
mod unfinished;
mod verification;

mod throttle;

use joblog::{Events, JobError, RunnerBuilder, Saga};
use store::Store;
use tokio_util::sync::CancellationToken;

pub use auth::Operator;
pub use config::OmaConfig;
pub use error::OmaError;
pub use front::Front;
pub use state::OmaState;

/// Runs the control plane until `shutdown`. The store is open and migrated; `events` is where the log's writer
/// publishes, so that listeners hear of log lines, too.
///
/// # Errors
/// When the state folder, an address or the database cannot be used.
pub async fn run(config: OmaConfig, store: Store, events: Events, shutdown: CancellationToken) -> Result<(), OmaError> {
    let front = Front::bind(&config.front_socket(), config.listen).await?;
    auth::create_first_operator(&store, &config.operator_token_file()).await?;
    let state = OmaState::open(config, store, events, register_sagas)?;
    serve(state, front, shutdown).await
}

/// Serves a state whose listeners are bound: what [`run`] does after opening both.
///
/// # Errors
/// When the rows a dead process left behind cannot be put right, or the local port broke.
pub async fn serve(state: OmaState, front: Front, shutdown: CancellationToken) -> Result<(), OmaError> {
    // Whatever was connected when this process last stopped is not now.
    store::vma_active_connections::disconnected(state.store(), None).await?;
    if let Err(error) = digests::settle_all(&state).await {
        // Each replication settles its own disk before it begins.
        tracing::warn!(error = &error as &dyn std::error::Error, "what was proven before is not settled yet");
    }
    let router = router::router(state.clone());
    let runner = state.runner().clone();
    // Whatever ends the listeners ends the rest, too.
    let stop = shutdown.child_token();
    let listeners = async {
        let served = front.serve(state.clone(), router, stop.clone()).await;
        stop.cancel();
        served
    };
    let end_streams = async {
        stop.cancelled().await;
        state.stopping().cancel();
    };
    let sweep = enrolment::sweep::run(state.clone(), stop.clone());
    let expiry = failover::expiry::run(state.clone(), stop.clone());
    let ghosts = ghosts::reconcile::run(state.clone(), stop.clone());
    let (served, (), (), (), (), ()) =
        tokio::join!(listeners, end_streams, sweep, expiry, ghosts, runner.run(stop.clone()));
    served
}

/// Every kind of job this process runs.
fn register_sagas(builder: RunnerBuilder, state: &OmaState) -> Result<RunnerBuilder, JobError> {
    let context = std::sync::Arc::new(state.clone());
    let sagas: [&'static Saga<OmaState>; 11] = [
        &replication::REPLICATION,
        &teardown::TEARDOWN,
        &failover::TEST,
        &failover::LIVE,
        &failover::CLEANUP,
        &failover::ROLLBACK,
        &failover::COMMIT,
        &failover::GROUP,
        &failover::GROUP_CLEANUP,
        &ghosts::REMOVAL,
        &verification::VERIFICATION,
    ];
    sagas.into_iter().try_fold(builder, |builder, saga| builder.register(saga, context.clone()))
}
