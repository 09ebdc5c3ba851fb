//! One agent's control connection from its admission to its end: rows, audit, and the pulse that proves it works.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Client;
use api::vma::{AgentHealth, VmaClient};
use model::status::{AuditEvent, EnrollmentStatus};
use serde_json::{Value, json};
use store::vma_connection_audit::{self as audit, NewAudit};
use store::vma_enrollments::{self as enrollments, Enrollment};
use store::{StoreError, vma_active_connections as rows};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tunnel::{ControlConnection, Refusal};

use crate::agents::LiveAgent;
use crate::error::OmaError;
use crate::state::OmaState;

/// Between two looks at an agent's health.
const PULSE_INTERVAL: Duration = Duration::from_secs(15);
/// For an agent's answer about its health; links die sooner, by HTTP/2 pings.
const PULSE_DEADLINE: Duration = Duration::from_secs(10);
/// What is kept of the versions an agent says it has, in characters: they are logged and recorded.
const MAX_VERSION_CHARS: usize = 64;

/// Who dialled, as the gateway read it from a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The enrolment.
    pub enrollment_id: String,
    /// The fingerprint of the agent's key.
    pub fingerprint: String,
    /// Where it calls from.
    pub remote: SocketAddr,
}

/// Admits or refuses an agent, and keeps its connection until it ends or `shutdown`.
pub async fn serve<S>(stream: S, peer: Peer, state: OmaState, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(refusal) = admit(&state, &peer).await {
        tracing::info!(enrollment_id = peer.enrollment_id, remote = %peer.remote, %refusal, "an agent is refused");
        tunnel::refusal::refuse(stream, refusal).await;
        return;
    }
    let name = format!("agent {}", peer.enrollment_id);
    if let Err(error) = keep(stream, name, &peer, &state, shutdown).await {
        tracing::warn!(
            enrollment_id = peer.enrollment_id,
            remote = %peer.remote,
            error = &error as &dyn std::error::Error,
            "an agent's connection could not be taken"
        );
    }
}

/// Whether an agent may connect now.
async fn admit(state: &OmaState, peer: &Peer) -> Result<(), Refusal> {
    match enrollments::by_id(state.store(), &peer.enrollment_id).await {
        Ok(row) => verdict(&row, &peer.fingerprint),
        Err(StoreError::NotFound { .. }) => Err(Refusal::Unknown),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the agents cannot be read");
            Err(Refusal::Busy)
        }
    }
}

fn verdict(row: &Enrollment, fingerprint: &str) -> Result<(), Refusal> {
    if row.vma_fingerprint != fingerprint {
        return Err(Refusal::Unknown);
    }
    match *row.status {
        EnrollmentStatus::Approved => Ok(()),
        EnrollmentStatus::Revoked => Err(Refusal::Revoked),
        EnrollmentStatus::PendingVerification | EnrollmentStatus::AwaitingApproval => Err(Refusal::NotApproved),
        EnrollmentStatus::Rejected | EnrollmentStatus::Expired => Err(Refusal::Unknown),
    }
}

async fn keep<S>(
    stream: S,
    name: String,
    peer: &Peer,
    state: &OmaState,
    shutdown: CancellationToken,
) -> Result<(), OmaError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(ControlConnection::from_stream(stream, name).await?);
    let client = VmaClient::new(Client::new(connection.clone()));
    let (health, _) = pulse(&client).await?;
    let agent = begin(state, peer, connection, &health).await?;
    tracing::info!(enrollment_id = peer.enrollment_id, remote = %peer.remote, version = health.version, "agent connected");
    let reason = watch(state, peer, &agent, &client, shutdown).await;
    agent.connection.close();
    end(state, peer, &agent, reason).await
}

/// Enters the connection and records it. The row refuses an agent that was revoked meanwhile.
async fn begin(
    state: &OmaState,
    peer: &Peer,
    connection: Arc<ControlConnection>,
    health: &AgentHealth,
) -> Result<Arc<LiveAgent>, OmaError> {
    let registry = state.agents();
    let _in_order = registry.records.lock().await;
    if let Err(refusal) = admit(state, peer).await {
        connection.close();
        return Err(OmaError::AgentRefused { enrollment_id: peer.enrollment_id.clone(), refusal });
    }
    let remote = peer.remote.to_string();
    rows::connected(state.store(), &peer.enrollment_id, &remote, &health.protocol_version).await?;
    let details = json!({ "version": health.version, "protocol_version": health.protocol_version });
    record(state, peer, AuditEvent::Connection, details).await?;
    Ok(registry.enter(&peer.enrollment_id, connection, peer.remote))
}

/// Returns why the connection ended.
async fn watch(
    state: &OmaState,
    peer: &Peer,
    agent: &LiveAgent,
    client: &VmaClient,
    shutdown: CancellationToken,
) -> &'static str {
    tokio::select! {
        () = agent.connection.closed() => "the connection ended",
        () = shutdown.cancelled() => "the hub stops",
        never = feel_pulse(state, peer, client) => match never {},
    }
}

/// Asks for the agent's health again and again. One that is too busy to answer keeps its connection, but is not counted
/// as seen.
async fn feel_pulse(state: &OmaState, peer: &Peer, client: &VmaClient) -> Infallible {
    let mut pulses = tokio::time::interval_at(Instant::now() + PULSE_INTERVAL, PULSE_INTERVAL);
    pulses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulses.tick().await;
        let seen = match pulse(client).await {
            Ok((_, round_trip_ms)) => rows::seen(state.store(), &peer.enrollment_id, Some(round_trip_ms)).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(enrollment_id = peer.enrollment_id, error, "an agent does not answer about its health");
                continue;
            }
        };
        if let Err(error) = seen {
            tracing::warn!(error = &error as &dyn std::error::Error, "an agent's pulse cannot be recorded");
        }
    }
}

/// Takes the connection out and records its end, unless a newer one of the same agent took its place.
async fn end(state: &OmaState, peer: &Peer, agent: &LiveAgent, reason: &'static str) -> Result<(), OmaError> {
    let registry = state.agents();
    let _in_order = registry.records.lock().await;
    let was_current = registry.leave(&peer.enrollment_id, agent);
    if was_current {
        rows::disconnected(state.store(), Some(&peer.enrollment_id)).await?;
    }
    tracing::info!(enrollment_id = peer.enrollment_id, remote = %peer.remote, reason, "agent disconnected");
    record(state, peer, AuditEvent::Disconnection, json!({ "reason": reason, "was_current": was_current })).await
}

async fn pulse(client: &VmaClient) -> Result<(AgentHealth, u64), OmaError> {
    let asked = Instant::now();
    let answer = tokio::time::timeout(PULSE_DEADLINE, client.health()).await;
    let mut health = answer.map_err(|_| OmaError::AgentSilent { seconds: PULSE_DEADLINE.as_secs() })??;
    for text in [&mut health.version, &mut health.protocol_version] {
        *text = text.chars().take(MAX_VERSION_CHARS).collect();
    }
    Ok((health, u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX)))
}

async fn record(state: &OmaState, peer: &Peer, event_type: AuditEvent, event_details: Value) -> Result<(), OmaError> {
    let line = NewAudit {
        enrollment_id: Some(peer.enrollment_id.clone()),
        event_type,
        vma_fingerprint: Some(peer.fingerprint.clone()),
        source_ip: peer.remote.ip().to_string(),
        user_agent: None,
        approved_by: None,
        event_details,
    };
    Ok(audit::append(state.store(), &line).await?)
}
