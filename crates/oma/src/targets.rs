//! CloudStack targets: stored with sealed keys, checked against everything replication needs.

use std::time::Duration;

use api::Problem;
use api::oma::targets::{CheckOutcome, PrerequisiteCheck, TargetReport, TargetRequest, TargetView};
use cloudstack::{Client, ClientOptions, CloudstackError, ConnectionSettings, ProbeOptions, ProbeReport, Trust};
use model::FailureKind;
use store::ossea_configs::{self, OsseaConfig, OsseaConfigFields};
use store::vm_replication_contexts::VmContext;
use tokio::fs;

use crate::error::OmaError;
use crate::state::OmaState;

/// Where Linux lists this machine's network cards.
const NET_CLASS: &str = "/sys/class/net";
/// How long all reads for one answer may take: a client repeats a read that failed, an operator does not wait that long.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The column and row a sealed key belongs to: it opens nowhere else.
fn sealed_as(column: &str, id: &str) -> String {
    format!("ossea_configs.{column}:{id}")
}

/// Stores a target.
///
/// # Errors
/// The name is taken, the address is not one, or the database fails.
pub(crate) async fn create(state: &OmaState, request: &TargetRequest) -> Result<TargetView, OmaError> {
    let id = model::id::new_id();
    let fields = fields(state, &id, request)?;
    Ok(view(ossea_configs::create(state.store(), &id, &fields).await?))
}

/// Replaces a target, keys included.
///
/// # Errors
/// There is no such target, or as [`create`].
pub(crate) async fn replace(state: &OmaState, target: &str, request: &TargetRequest) -> Result<TargetView, OmaError> {
    let id = ossea_configs::find(state.store(), target).await?.id;
    let fields = fields(state, &id, request)?;
    Ok(view(ossea_configs::replace(state.store(), &id, &fields).await?))
}

/// Every target, without keys.
///
/// # Errors
/// The database fails.
pub(crate) async fn list(state: &OmaState) -> Result<Vec<TargetView>, OmaError> {
    Ok(ossea_configs::list(state.store()).await?.into_iter().map(view).collect())
}

/// Looks at a target and judges every prerequisite; the hub's own VM and the disk offering are noted when found.
///
/// # Errors
/// There is no such target, its keys cannot be opened, or its settings cannot be used.
pub(crate) async fn validate(state: &OmaState, target: &str) -> Result<TargetReport, OmaError> {
    let row = ossea_configs::find(state.store(), target).await?;
    let client = client(state, &row)?;
    let options = ProbeOptions {
        zone: Some(row.zone.clone()),
        disk_offering_id: row.disk_offering_id.clone(),
        local_macs: local_macs().await,
        own_vm_id: row.oma_vm_id.clone(),
        wanted_sizes_bytes: Vec::new(),
    };
    let report = cloudstack::probe(&client, &options).await;
    let oma_vm_id = row.oma_vm_id.clone().or_else(|| report.own_vm.as_ref().map(|vm| vm.id.clone()));
    if row.oma_vm_id.is_none() {
        ossea_configs::set_found(state.store(), &row.id, oma_vm_id.as_deref(), None).await?;
    }
    Ok(target_report(report, oma_vm_id))
}

fn fields(state: &OmaState, id: &str, request: &TargetRequest) -> Result<OsseaConfigFields, OmaError> {
    let seal = |column, secret| state.sealing().seal(secret, &sealed_as(column, id)).map_err(OmaError::Sealing);
    let fields = OsseaConfigFields {
        name: request.name.clone(),
        api_url: request.api_url.clone(),
        api_key_encrypted: seal("api_key_encrypted", &request.api_key)?,
        secret_key_encrypted: seal("secret_key_encrypted", &request.secret_key)?,
        domain: request.domain.clone().unwrap_or_default(),
        zone: request.zone.clone(),
        template_id: request.template_id.clone(),
        network_id: request.network_id.clone(),
        service_offering_id: request.service_offering_id.clone(),
        disk_offering_id: request.disk_offering_id.clone(),
        oma_vm_id: request.oma_vm_id.clone(),
        tls_fingerprint: request.tls_fingerprint.clone(),
        is_active: request.is_active,
    };
    // Settings that cannot be used are refused now, not at the first replication.
    Client::new(&settings(request)).map_err(refused)?;
    Ok(fields)
}

fn settings(request: &TargetRequest) -> ConnectionSettings {
    ConnectionSettings {
        api_url: request.api_url.clone(),
        api_key: request.api_key.clone(),
        secret_key: request.secret_key.clone(),
        trust: request.tls_fingerprint.clone().map_or(Trust::System, Trust::Thumbprint),
    }
}

/// The target with this id or name; the active one when none is named.
///
/// # Errors
/// There is none; the database fails.
pub(crate) async fn named(state: &OmaState, target: Option<&str>) -> Result<OsseaConfig, OmaError> {
    let found = match target {
        Some(target) => ossea_configs::find(state.store(), target).await,
        None => ossea_configs::active(state.store()).await,
    };
    found.map_err(|error| {
        let is_absent = error.kind() == FailureKind::NotFound;
        let error = OmaError::from(error);
        if !is_absent {
            return error;
        }
        let remedy = "`migratekit target list` shows the targets, `migratekit target add` adds one";
        error.into_problem().remedy(remedy).into()
    })
}

/// The target a VM goes to, its own or the active one, and a client of it; nothing is asked yet.
///
/// # Errors
/// There is none, or its settings cannot be used; the database fails.
pub(crate) async fn client_of(state: &OmaState, vm: &VmContext) -> Result<(OsseaConfig, Client), OmaError> {
    let row = named(state, vm.ossea_config_id.as_deref()).await?;
    let client = client(state, &row)?;
    Ok((row, client))
}

/// Reads from a target, within a time an operator waits.
///
/// # Errors
/// The target's own error with its remedy; it took too long.
pub(crate) async fn read<T>(
    row: &OsseaConfig,
    reading: impl Future<Output = Result<T, CloudstackError>>,
) -> Result<T, OmaError> {
    match tokio::time::timeout(READ_LIMIT, reading).await {
        Ok(outcome) => outcome.map_err(refused),
        Err(_elapsed) => {
            let detail = format!("the target {} did not answer within {} s", row.name, READ_LIMIT.as_secs());
            let problem = Problem::new(FailureKind::Unavailable, detail);
            Err(problem.remedy("look at CloudStack's management server; the same request may work later").into())
        }
    }
}

/// A client of a target; nothing is asked yet.
///
/// # Errors
/// Its keys cannot be opened, or its settings cannot be used.
pub(crate) fn client(state: &OmaState, row: &OsseaConfig) -> Result<Client, OmaError> {
    let open = |column, text: &str| state.sealing().open(text, &sealed_as(column, &row.id)).map_err(OmaError::Sealing);
    let settings = ConnectionSettings {
        api_url: row.api_url.clone(),
        api_key: open("api_key_encrypted", &row.api_key_encrypted)?,
        secret_key: open("secret_key_encrypted", &row.secret_key_encrypted)?,
        trust: row.tls_fingerprint.clone().map_or(Trust::System, Trust::Thumbprint),
    };
    let options = ClientOptions { call_timeout: state.config().call_timeout(), ..ClientOptions::default() };
    Client::with_options(&settings, options).map_err(refused)
}

/// An error of a target, as it is told. It is the hub that was not let in: whoever asked the hub has proved who they are.
fn refused(error: CloudstackError) -> OmaError {
    let kind = match error.kind() {
        FailureKind::Unauthenticated => FailureKind::Forbidden,
        kind => kind,
    };
    let mut problem = Problem::from_error(kind, &error);
    problem.remedy = error.remedy().map(str::to_owned);
    problem.into()
}

/// MAC addresses of this machine: one of them finds the hub's own VM.
async fn local_macs() -> Vec<String> {
    let mut macs = Vec::new();
    let Ok(mut cards) = fs::read_dir(NET_CLASS).await else { return macs };
    while let Ok(Some(card)) = cards.next_entry().await {
        if let Ok(mac) = fs::read_to_string(card.path().join("address")).await {
            let mac = mac.trim();
            if !mac.is_empty() && mac != "00:00:00:00:00:00" {
                macs.push(mac.to_owned());
            }
        }
    }
    macs
}

fn target_report(report: ProbeReport, oma_vm_id: Option<String>) -> TargetReport {
    let checks = report.prerequisites.checks.into_iter().map(|check| {
        let outcome = match check.outcome {
            cloudstack::CheckOutcome::Passed => CheckOutcome::Passed,
            cloudstack::CheckOutcome::Warning => CheckOutcome::Warning,
            cloudstack::CheckOutcome::Failed => CheckOutcome::Failed,
        };
        PrerequisiteCheck {
            code: check.code,
            title: check.title,
            outcome,
            evidence: check.evidence,
            remedy: check.remedy,
        }
    });
    let checks: Vec<PrerequisiteCheck> = checks.collect();
    let usable = checks.iter().all(|check| check.outcome != CheckOutcome::Failed);
    TargetReport { usable, oma_vm_id, checks }
}

fn view(row: OsseaConfig) -> TargetView {
    TargetView {
        id: row.id,
        name: row.name,
        api_url: row.api_url,
        domain: Some(row.domain).filter(|domain| !domain.is_empty()),
        zone: row.zone,
        template_id: row.template_id,
        network_id: row.network_id,
        service_offering_id: row.service_offering_id,
        disk_offering_id: row.disk_offering_id,
        oma_vm_id: row.oma_vm_id,
        tls_fingerprint: row.tls_fingerprint,
        is_active: row.is_active,
        created_at: *row.created_at,
    }
}
