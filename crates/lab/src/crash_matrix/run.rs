//! One case: the saga is begun, the trouble strikes, and afterwards everything is as it was or as it should be.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::cases::{Case, Met, SagaKind, Trouble};
use super::site::{Ended, Site, VM};
use crate::world::WorldError;

/// How long the database stays away.
const DATABASE_AWAY: Duration = Duration::from_millis(1500);
/// How long a trouble may take to find its place.
const MEETING_DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked whether the place is reached.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The saga completed.
    Completed,
    /// The saga was undone without a trace.
    Undone(String),
    /// Something is wrong.
    Failed(String),
}

/// Runs a case in a site that is at rest, and leaves it at rest. An error, or a failed outcome, leaves a site nobody
/// should use again.
pub(super) async fn run(site: &mut Site, case: &Case) -> Result<Outcome, WorldError> {
    prepare(site, case.place.saga).await?;
    let armed = arm(site, case).await?;
    let tracking_id = begin(site, case.place.saga).await?;
    if let Some(outcome) = strike(site, case, &armed, &tracking_id).await? {
        return Ok(outcome);
    }
    let ended = site.until_ended(&tracking_id).await?;
    let has_struck = match armed.fault_id {
        Some(id) => site.world.fault_struck(id).await? > 0,
        // What is done by hand was done.
        None => true,
    };
    site.world.clear_cloudstack_faults().await?;
    // A hub that was killed is up before its agent has dialled in again; an operator, too, waits for both.
    site.world.agent_is_connected().await?;
    if !has_struck {
        return Ok(Outcome::Failed(format!("the trouble never struck, this case says nothing; the saga: {ended:?}")));
    }
    let outcome = match ended {
        Ended::Completed => Outcome::Completed,
        Ended::Undone(why) => Outcome::Undone(why),
        Ended::Stuck(why) => return Ok(Outcome::Failed(why)),
    };
    if let Some(wrong) = settle(site, case.place.saga, outcome == Outcome::Completed).await? {
        return Ok(Outcome::Failed(wrong));
    }
    Ok(match site.at_rest().await {
        Ok(()) => outcome,
        Err(wrong) => Outcome::Failed(format!("after the saga was {outcome:?}: {wrong}")),
    })
}

/// Brings the site to where the saga begins.
async fn prepare(site: &mut Site, saga: SagaKind) -> Result<(), WorldError> {
    match saga {
        SagaKind::Test | SagaKind::Live | SagaKind::Teardown => Ok(()),
        SagaKind::Cleanup => site.command(&["failover", "test", VM, "--watch"]).await.map(|_| ()),
        SagaKind::Rollback => {
            site.command(&["failover", "live", VM, "--power-off-source", "--watch"]).await.map(|_| ())
        }
        SagaKind::Replication => tear_down(site).await,
    }
}

async fn tear_down(site: &mut Site) -> Result<(), WorldError> {
    let accepted = site.command(&["vm", "drop-replica", VM, "--yes"]).await?;
    let id = accepted["tracking_id"].as_str().unwrap_or_default().to_owned();
    site.until_ended(&id).await.map(|_| ())
}

/// Begins the saga; answers with its job in the JobLog.
async fn begin(site: &mut Site, saga: SagaKind) -> Result<String, WorldError> {
    let job = newest_failover(site).await.unwrap_or_default();
    let accepted = match saga {
        SagaKind::Test => site.command(&["failover", "test", VM]).await?,
        SagaKind::Cleanup => site.command(&["failover", "cleanup", &job]).await?,
        SagaKind::Live => site.command(&["failover", "live", VM, "--power-off-source"]).await?,
        SagaKind::Rollback => site.command(&["failover", "rollback", &job, "--power-on-source"]).await?,
        SagaKind::Replication => site.command(&["replicate", VM]).await?,
        SagaKind::Teardown => site.command(&["vm", "drop-replica", VM, "--yes"]).await?,
    };
    Ok(accepted["tracking_id"].as_str().unwrap_or_default().to_owned())
}

async fn newest_failover(site: &Site) -> Option<String> {
    let page = site.world.api("/api/v1/failovers?limit=1").await.ok()?;
    page["items"][0]["job_id"].as_str().map(str::to_owned)
}

/// After the saga: back to rest, without further trouble.
async fn settle(site: &mut Site, saga: SagaKind, completed: bool) -> Result<Option<String>, WorldError> {
    match (saga, completed) {
        (SagaKind::Test, true) => {
            let job = newest_failover(site).await.unwrap_or_default();
            site.command(&["failover", "cleanup", &job, "--watch"]).await?;
        }
        (SagaKind::Live, true) => {
            let job = newest_failover(site).await.unwrap_or_default();
            site.command(&["failover", "rollback", &job, "--power-on-source", "--watch"]).await?;
            site.replicate().await?;
        }
        (SagaKind::Rollback, true) | (SagaKind::Teardown | SagaKind::Replication, _) => site.replicate().await?,
        // The final replication may have been committed before the failover was undone.
        (SagaKind::Live, false) => site.remember_newest().await?,
        (SagaKind::Test, false) | (SagaKind::Cleanup, true) => {}
        (SagaKind::Cleanup | SagaKind::Rollback, false) => {
            return Ok(Some("it ended without doing what it is for".to_owned()));
        }
    }
    Ok(None)
}

/// A trouble that waits for its place.
struct Armed {
    fault_id: Option<u64>,
    /// For what the simulator does not strike itself: how often the command had been sent before.
    sent_before: u64,
}

async fn arm(site: &Site, case: &Case) -> Result<Armed, WorldError> {
    let sent_before = match case.place.command {
        Some(met) => sent(site, met.command).await?,
        None => 0,
    };
    let mut armed = Armed { fault_id: None, sent_before };
    let (Some(kind), Some(met)) = (case.trouble.fault(), case.place.command) else { return Ok(armed) };
    // A stale list is armed when the change it hides has been asked for.
    if case.trouble == Trouble::StaleList {
        return Ok(armed);
    }
    let mut fault = json!({ "command": met.command, "kind": kind, "skip": met.skip });
    if case.trouble.kills() {
        fault["pid"] = json!(site.hub_pid());
    }
    armed.fault_id = Some(site.world.arm_fault(&fault).await?);
    Ok(armed)
}

/// Does what the simulator cannot do by itself at the right moment. An outcome when the place was never reached.
async fn strike(site: &mut Site, case: &Case, armed: &Armed, tracking_id: &str) -> Result<Option<Outcome>, WorldError> {
    let by_hand = matches!(case.trouble, Trouble::StaleList | Trouble::DatabaseLost) || case.place.command.is_none();
    if !by_hand {
        return Ok(None);
    }
    let deadline = Instant::now() + MEETING_DEADLINE;
    while !is_reached(site, case, armed, tracking_id).await? {
        if Instant::now() > deadline {
            return Ok(Some(Outcome::Failed("the place was never reached: this case says nothing".to_owned())));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    match (case.trouble, case.place.command) {
        (Trouble::StaleList, Some(met)) => {
            site.world.arm_fault(&json!({ "command": met.list, "kind": "stale_list", "count": 2 })).await?;
        }
        (Trouble::DatabaseLost, _) => {
            if let Some(wire) = site.world.database_wire() {
                wire.cut();
                tokio::time::sleep(DATABASE_AWAY).await;
                wire.mend();
            }
        }
        _ => site.world.kill_role("hub")?,
    }
    Ok(None)
}

/// Whether the saga is at the case's place now, or was and has ended.
async fn is_reached(site: &Site, case: &Case, armed: &Armed, tracking_id: &str) -> Result<bool, WorldError> {
    if let Some(Met { command, skip, .. }) = case.place.command {
        return Ok(sent(site, command).await? > armed.sent_before + u64::from(skip));
    }
    let detail = site.world.api(&format!("/api/v1/jobs/{tracking_id}")).await?;
    let steps = detail["steps"].as_array().cloned().unwrap_or_default();
    let status = |step: &Value| step["status"].as_str().unwrap_or_default().to_owned();
    let step = steps.iter().find(|step| step["name"] == case.place.step);
    Ok(step.is_some_and(|step| matches!(status(step).as_str(), "running" | "completed" | "failed")))
}

/// How often a command was sent.
async fn sent(site: &Site, command: &str) -> Result<u64, WorldError> {
    let state = site.world.cloudstack_state().await?;
    let requests = state["requests"].as_object().cloned().unwrap_or_default();
    let found = requests.iter().find(|(name, _)| name.eq_ignore_ascii_case(command));
    Ok(found.and_then(|(_, count)| count.as_u64()).unwrap_or(0))
}
