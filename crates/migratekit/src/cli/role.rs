//! Running the roles, and giving an agent its identity.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use gateway::GatewayConfig;
use joblog::{Events, LogLayer};
use model::FailureKind;
use oma::OmaConfig;
use runtime::config;
use runtime::shutdown::on_signals;
use serde::Deserialize;
use store::{DatabaseConfig, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use vma::VmaConfig;
use volume_daemon::VolumeDaemonConfig;

use super::failure::Failure;
use super::hub::Context;
use super::output::{OutputFormat, hint, message, show};

/// Where a role's configuration is.
#[derive(Args)]
pub struct RoleArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// How an agent is paired.
#[derive(Args)]
pub struct EnrollArgs {
    /// The agent's configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The pairing code of `migratekit agent pair`; asked for on standard input when it is not given.
    #[arg(long)]
    code: Option<String>,
    /// What the operator sees; the host's name otherwise.
    #[arg(long)]
    name: Option<String>,
}

/// The roles of a hub or an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gateway, volume daemon and control plane in one process.
    Hub,
    /// The data plane.
    Gateway,
    /// The volume daemon.
    VolumeDaemon,
    /// The control plane.
    Oma,
    /// The agent.
    Vma,
}

/// The hub's configuration: one file for all of its roles; each reads its own table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HubFile {
    database: DatabaseConfig,
    #[serde(default)]
    gateway: GatewayConfig,
    #[serde(default)]
    volume_daemon: VolumeDaemonConfig,
    #[serde(default)]
    oma: OmaConfig,
}

/// Runs a role until it is told to stop.
///
/// # Errors
/// When the configuration cannot be read, or the role cannot run.
pub async fn run(role: Role, args: &RoleArgs) -> Result<ExitCode, Failure> {
    let shutdown = on_signals();
    if role == Role::Vma {
        runtime::telemetry::init(None);
        let config: VmaConfig = load(&args.config)?;
        vma::run(config, shutdown).await.map_err(|error| Failure::from(error.to_problem()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (layer, writer) = LogLayer::new(Level::INFO);
    runtime::telemetry::init(Some(layer.boxed()));
    let file: HubFile = load(&args.config)?;
    let store = open_store(&file.database).await?;
    let events = Events::default();
    // The log is written to its end after the roles have stopped.
    let log_ends = CancellationToken::new();
    let log = tokio::spawn(writer.run(Arc::new(store.clone()), events.clone(), log_ends.clone()));
    let outcome = run_hub_roles(role, file, store, events, shutdown).await;
    log_ends.cancel();
    log.await.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn open_store(database: &DatabaseConfig) -> Result<Store, Failure> {
    let store = Store::connect(database).await.map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
    store.migrate().await.map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
    Ok(store)
}

/// Starts what the role consists of. The first part that ends takes the others with it.
async fn run_hub_roles(
    role: Role,
    file: HubFile,
    store: Store,
    events: Events,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let has = |part: Role| role == part || role == Role::Hub;
    let mut parts: JoinSet<Result<(), Failure>> = JoinSet::new();
    if has(Role::VolumeDaemon) {
        let run = volume_daemon::run(file.volume_daemon, store.clone(), shutdown.clone());
        parts.spawn(async move { run.await.map_err(|error| Failure::of(error.kind(), &error, error.remedy())) });
    }
    if has(Role::Oma) {
        let run = oma::run(file.oma, store.clone(), events, shutdown.clone());
        parts.spawn(async move { run.await.map_err(|error| Failure::of(error.kind(), &error, error.remedy())) });
    }
    if has(Role::Gateway) {
        let run = gateway::run(file.gateway, store, shutdown.clone());
        parts.spawn(async move { run.await.map_err(|error| Failure::of(error.kind(), &error, error.remedy())) });
    }
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        shutdown.cancel();
        let ended = ended.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
        outcome = outcome.and(ended);
    }
    outcome
}

/// Pairs this agent with its hub and waits for the operator.
///
/// # Errors
/// When the hub cannot be reached, does not take the code, or the operator says no.
pub async fn enroll(context: &Context, args: &EnrollArgs) -> Result<ExitCode, Failure> {
    runtime::telemetry::init(None);
    let config: VmaConfig = load(&args.config)?;
    let code = args.code.clone().map_or_else(|| ask_for_code(context.output), Ok)?;
    let request = vma::enrol::EnrolRequest { code, name: args.name.clone() };
    let told = |fingerprint: &str| {
        message(&format!("this agent's fingerprint: {fingerprint}"));
        message("waiting for the operator to compare it and to say, on the hub: migratekit agent approve");
    };
    let enrolled = vma::enrol::enrol(&config, &request, told, on_signals())
        .await
        .map_err(|error| Failure::from(error.to_problem()))?;
    show(context.output, &enrolled, |enrolled| {
        format!("enrolled as {}; next: migratekit vma --config {}", enrolled.enrollment_id, args.config.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The first line of standard input.
fn ask_for_code(output: OutputFormat) -> Result<String, Failure> {
    hint(output, "pairing code:");
    let mut code = String::new();
    std::io::stdin().read_line(&mut code)?;
    let code = code.trim();
    if code.is_empty() {
        return Err(Failure::new(FailureKind::Invalid, "there is no pairing code on standard input")
            .remedy("get one on the hub: migratekit agent pair"));
    }
    Ok(code.to_owned())
}

fn load<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    config::load(path).map_err(|error| Failure::of(FailureKind::Invalid, &error, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_configurations_can_be_used() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        for name in ["hub.toml", "hub-mariadb.toml"] {
            config::load::<HubFile>(&deploy.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        config::load::<VmaConfig>(&deploy.join("vma.toml")).unwrap_or_else(|error| panic!("vma.toml: {error}"));
    }
}
