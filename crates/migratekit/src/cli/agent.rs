//! `migratekit agent`: pairing codes, approval, and who is connected.

use std::process::ExitCode;

use api::Client;
use api::oma::agents::{AgentAuditEntry, AgentView, PairingCode};
use api::page::Page;
use clap::Subcommand;
use model::FailureKind;
use model::status::EnrollmentStatus;

use super::clock::{ago, stamp};
use super::failure::Failure;
use super::hub::{Context, escape, unknown};
use super::output::{hint, or_dash, show, table, yes_no};

/// Characters of a fingerprint that tell agents apart in a list.
const SHORT_FINGERPRINT: usize = 16;

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
    show(context.output, &code, |code| {
        format!("{}\nvalid until {}", code.code.expose(), stamp(Some(code.expires_at)))
    })?;
    hint(
        context.output,
        "next, beside vCenter: migratekit enroll --config /etc/migratekit/vma.toml (it asks for the code)",
    );
    Ok(())
}

async fn agents(client: &Client) -> Result<Page<AgentView>, Failure> {
    Ok(client.get("/api/v1/agents").await?)
}

async fn list(context: &Context, client: &Client) -> Result<(), Failure> {
    show(context.output, &agents(client).await?, |page| {
        let agents = table(
            ["NAME", "STATUS", "CONNECTED", "LAST SEEN", "VERSION", "FINGERPRINT", "ID"],
            page.items.iter().map(|agent| {
                [
                    agent.vma_name.clone(),
                    agent.status.to_string(),
                    yes_no(agent.connected),
                    ago(agent.last_seen_at),
                    agent.vma_version.clone(),
                    format!("{}…", agent.fingerprint.chars().take(SHORT_FINGERPRINT).collect::<String>()),
                    agent.enrollment_id.clone(),
                ]
            }),
        );
        format!("{agents}{}", waiting(&page.items))
    })
}

/// Those that wait for the operator, with everything the decision needs.
fn waiting(agents: &[AgentView]) -> String {
    let waiting = agents.iter().filter(|agent| agent.status == EnrollmentStatus::AwaitingApproval);
    waiting
        .map(|agent| {
            format!(
                "\n\n{} waits for approval\n  fingerprint: {}\n  compare it with what the agent shows, then: migratekit agent approve {}",
                agent.vma_name, agent.fingerprint, agent.enrollment_id
            )
        })
        .collect()
}

async fn decide(context: &Context, client: &Client, agent: &str, verb: &str) -> Result<(), Failure> {
    let known = agents(client).await?.items;
    let matching: Vec<&AgentView> =
        known.iter().filter(|known| known.enrollment_id.starts_with(agent) || known.vma_name == agent).collect();
    let id = match matching.as_slice() {
        [one] => one.enrollment_id.clone(),
        [] => agent.to_owned(),
        several => {
            return Err(Failure::new(FailureKind::Invalid, format!("{agent:?} stands for {} agents", several.len()))
                .remedy("type more of the enrolment id; see `migratekit agent list`"));
        }
    };
    let decided = client.post(&format!("/api/v1/agents/{}/{verb}", escape(&id)), &()).await;
    let view: AgentView = decided.map_err(|error| unknown(error, "see `migratekit agent list`"))?;
    show(context.output, &view, |view| format!("{} ({}): {}", view.vma_name, view.enrollment_id, view.status))
}

async fn audit(context: &Context, client: &Client) -> Result<(), Failure> {
    let page: Page<AgentAuditEntry> = client.get("/api/v1/agents/audit").await?;
    show(context.output, &page, |page| {
        table(
            ["WHEN", "EVENT", "AGENT", "FROM", "BY"],
            page.items.iter().map(|entry| {
                [
                    stamp(Some(entry.created_at)),
                    entry.event_type.to_string(),
                    or_dash(entry.enrollment_id.as_deref()),
                    entry.source_ip.clone(),
                    or_dash(entry.approved_by.as_deref()),
                ]
            }),
        )
    })
}
