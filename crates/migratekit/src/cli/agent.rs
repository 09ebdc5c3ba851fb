//! `migratekit agent`: pairing codes, approval, who is connected, and how much an agent may send.

use std::num::NonZeroU32;
use std::process::ExitCode;

use api::Client;
use api::oma::agents::{AgentAuditEntry, AgentLimits, AgentView, PairingCode};
use api::page::Page;
use clap::{Args, Subcommand};
use model::status::EnrollmentStatus;
use model::wan::{TimeOfDay, Weekday};
use model::{BandwidthLimit, FailureKind};

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
    /// Show how much an agent may send, or say it anew; runs under way keep to it within seconds.
    Limit(LimitArgs),
    /// What happened to agents, newest first.
    Audit,
}

/// How much an agent may send. Windows are by the agent's own clock; where several limits are in force, the lowest counts.
#[derive(Args)]
pub struct LimitArgs {
    /// Enrolment id, or its beginning, or the agent's name.
    agent: String,
    /// Most MiB per second; takes the place of every limit there was.
    #[arg(long, value_name = "N")]
    mib_per_s: Option<NonZeroU32>,
    /// Only from one time of the day to another, such as 08:00-18:00; may be repeated, and go over midnight.
    #[arg(long = "window", value_name = "HH:MM-HH:MM", requires = "mib_per_s", value_parser = window)]
    windows: Vec<(TimeOfDay, TimeOfDay)>,
    /// Only on these days, such as mon,tue,wed; a window over midnight belongs to the day it begins on.
    #[arg(long, value_delimiter = ',', requires = "mib_per_s", value_parser = day)]
    days: Vec<Weekday>,
    /// Keep the limits there are.
    #[arg(long, requires = "mib_per_s")]
    add: bool,
    /// Lift every limit the hub has set.
    #[arg(long, conflicts_with = "mib_per_s")]
    none: bool,
}

/// Reads what `--window` says.
fn window(text: &str) -> Result<(TimeOfDay, TimeOfDay), String> {
    let (from, to) = text.split_once('-').ok_or("expected HH:MM-HH:MM")?;
    let time = |text: &str| text.parse::<TimeOfDay>().map_err(|error| error.to_string());
    Ok((time(from)?, time(to)?))
}

/// Reads one of what `--days` says.
fn day(text: &str) -> Result<Weekday, String> {
    text.parse().map_err(|_| "expected mon, tue, wed, thu, fri, sat or sun".to_owned())
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
        AgentCommand::Limit(args) => limit(context, &client, args).await?,
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

/// The enrolment an operator means.
async fn enrolment(client: &Client, agent: &str) -> Result<String, Failure> {
    let known = agents(client).await?.items;
    let matching: Vec<&AgentView> =
        known.iter().filter(|known| known.enrollment_id.starts_with(agent) || known.vma_name == agent).collect();
    match matching.as_slice() {
        [one] => Ok(one.enrollment_id.clone()),
        [] => Ok(agent.to_owned()),
        several => Err(Failure::new(FailureKind::Invalid, format!("{agent:?} stands for {} agents", several.len()))
            .remedy("type more of the enrolment id; see `migratekit agent list`")),
    }
}

async fn limit(context: &Context, client: &Client, args: LimitArgs) -> Result<(), Failure> {
    let id = enrolment(client, &args.agent).await?;
    let path = format!("/api/v1/agents/{}/limits", escape(&id));
    let no_agent = |error| unknown(error, "see `migratekit agent list`");
    let mut limits = match (args.mib_per_s, args.add) {
        (Some(_), false) => AgentLimits::default(),
        _ => client.get(&path).await.map_err(no_agent)?,
    };
    if let Some(mib_per_s) = args.mib_per_s {
        let windows = args.windows.into_iter().map(Some);
        let windows: Vec<_> = if windows.len() == 0 { vec![None] } else { windows.collect() };
        for window in windows {
            let made = BandwidthLimit::new(mib_per_s, window, args.days.clone());
            limits.limits.push(made.map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?);
        }
    } else if args.none {
        limits.limits.clear();
    }
    if args.mib_per_s.is_some() || args.none {
        limits = client.put(&path, &limits).await.map_err(no_agent)?;
    }
    show(context.output, &limits, |limits| match limits.limits.as_slice() {
        [] => "no limit but those of the agent's own configuration".to_owned(),
        limits => limits.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    })
}

async fn decide(context: &Context, client: &Client, agent: &str, verb: &str) -> Result<(), Failure> {
    let id = enrolment(client, agent).await?;
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
