//! Agents as operators see them: their rows, and whether they are connected now.

use std::collections::HashMap;

use api::oma::agents::{AgentAuditEntry, AgentView};
use store::vma_active_connections::{self as connections, Connection};
use store::vma_connection_audit::AuditLine;
use store::vma_enrollments::{self as enrollments, Enrollment};

use crate::error::OmaError;
use crate::state::OmaState;

/// Every agent, newest first.
///
/// # Errors
/// The database fails.
pub async fn list(state: &OmaState) -> Result<Vec<AgentView>, OmaError> {
    let connections = connections_by_agent(state).await?;
    let rows = enrollments::list(state.store()).await?;
    Ok(rows.iter().map(|row| agent(state, row, connections.get(&row.id))).collect())
}

/// One agent.
///
/// # Errors
/// The database fails.
pub async fn one(state: &OmaState, row: &Enrollment) -> Result<AgentView, OmaError> {
    let connections = connections_by_agent(state).await?;
    Ok(agent(state, row, connections.get(&row.id)))
}

/// A line of the audit.
#[must_use]
pub fn audit_entry(line: AuditLine) -> AgentAuditEntry {
    AgentAuditEntry {
        id: line.id,
        enrollment_id: line.enrollment_id,
        event_type: *line.event_type,
        vma_fingerprint: line.vma_fingerprint,
        source_ip: line.source_ip,
        approved_by: line.approved_by,
        event_details: line.event_details,
        created_at: *line.created_at,
    }
}

async fn connections_by_agent(state: &OmaState) -> Result<HashMap<String, Connection>, OmaError> {
    let rows = connections::list(state.store()).await?;
    Ok(rows.into_iter().map(|row| (row.enrollment_id.clone(), row)).collect())
}

fn agent(state: &OmaState, row: &Enrollment, connection: Option<&Connection>) -> AgentView {
    let live = state.agents().remote_address(&row.id).map(|address| address.to_string());
    let recorded = connection.map(|connection| connection.remote_address.clone());
    AgentView {
        enrollment_id: row.id.clone(),
        vma_name: row.vma_name.clone(),
        vma_version: row.vma_version.clone(),
        fingerprint: row.vma_fingerprint.clone(),
        status: *row.status,
        remote_address: live.or(recorded).or_else(|| row.vma_ip_address.clone()),
        connected: state.agents().is_connected(&row.id),
        last_seen_at: connection.map(|connection| *connection.last_seen_at),
        certificate_expires_at: row.certificate_expires_at.map(|end| *end),
        approved_by: row.approved_by.clone(),
        created_at: *row.created_at,
    }
}
