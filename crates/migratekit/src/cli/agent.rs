//! `migratekit agent`: pairing codes, approval, and who is connected.

use std::process::ExitCode;

use api::Client;
use api::oma::agents::{AgentAuditEntry, AgentView, PairingCode};
use api::page::Page;
use clap::Subcommand;

use super::failure::Failure;
use super::hub::Context;
use super::output::{message, or_dash, show, table, time};

/// What can be done with agents.
#[derive(Subcommand)]
pub enum AgentCommand {
    /// Make a pairing code: single use, good for ten minutes.
    Pair,
    /// List agents.
    List,
    /// Approve an agent after comparing its fingerprint with the one it shows.
    Approve {
        /// Enrolment id, or its beginning.
        agent: String,
    },
    /// Refuse an agent that waits for approval.
    Reject {
        /// Enrolment id, or its beginning.
        agent: String,
    },
    /// Revoke an approved agent: its connections end now.
    Revoke {
        /// Enrolment id, or its beginning.
        agent: String,
    },
    /// What happened to agents, newest first.
    Audit,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: AgentCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        AgentCommand::Pair => pair(context, &client).await?,
        AgentCommand::List => list(context, &client).await?,
        AgentCommand::Approve { agent } => decide(context, &client, &agent, "approve").await?,
        AgentCommand::Reject { agent } => decide(context, &client, &agent, "reject").await?,
        AgentCommand::Revoke { agent } => decide(context, &client, &agent, "revoke").await?,
        AgentCommand::Audit => audit(context, &client).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn pair(context: &Context, client: &Client) -> Result<(), Failure> {
    let code: PairingCode = client.post("/api/v1/agents/pairing-codes", &()).await?;
    show(context.output, &code, |code| format!("{}\nvalid until {} UTC", code.code, time(Some(code.expires_at))))?;
    message(&format!("next, beside vCenter: migratekit enroll --config /etc/migratekit/vma.toml --code {}", code.code));
    Ok(())
}

async fn agents(client: &Client) -> Result<Page<AgentView>, Failure> {
    Ok(client.get("/api/v1/agents").await?)
}

async fn list(context: &Context, client: &Client) -> Result<(), Failure> {
    show(context.output, &agents(client).await?, |page| {
        table(
            ["ID", "NAME", "STATUS", "CONNECTED", "LAST SEEN", "VERSION", "FINGERPRINT"],
            page.items.iter().map(|agent| {
                [
                    agent.enrollment_id.clone(),
                    agent.vma_name.clone(),
                    agent.status.to_string(),
                    if agent.connected { "yes" } else { "no" }.to_owned(),
                    time(agent.last_seen_at),
                    agent.vma_version.clone(),
                    agent.fingerprint.clone(),
                ]
            }),
        )
    })
}

async fn decide(context: &Context, client: &Client, agent: &str, verb: &str) -> Result<(), Failure> {
    let known = agents(client).await?.items;
    let matching: Vec<&AgentView> =
        known.iter().filter(|known| known.enrollment_id.starts_with(agent) || known.vma_name == agent).collect();
    let id = match matching.as_slice() {
        [one] => one.enrollment_id.clone(),
        [] => agent.to_owned(),
        several => {
            return Err(Failure::new(
                model::FailureKind::Invalid,
                format!("{agent:?} stands for {} agents", several.len()),
            )
            .remedy("type more of the enrolment id; see `migratekit agent list`"));
        }
    };
    let view: AgentView = client.post(&format!("/api/v1/agents/{id}/{verb}"), &()).await?;
    show(context.output, &view, |view| format!("{} ({}): {}", view.vma_name, view.enrollment_id, view.status))
}

async fn audit(context: &Context, client: &Client) -> Result<(), Failure> {
    let page: Page<AgentAuditEntry> = client.get("/api/v1/agents/audit").await?;
    show(context.output, &page, |page| {
        table(
            ["WHEN", "EVENT", "AGENT", "FROM", "BY"],
            page.items.iter().map(|entry| {
                [
                    time(Some(entry.created_at)),
                    entry.event_type.to_string(),
                    or_dash(entry.enrollment_id.as_deref()),
                    entry.source_ip.clone(),
                    or_dash(entry.approved_by.as_deref()),
                ]
            }),
        )
    })
}
