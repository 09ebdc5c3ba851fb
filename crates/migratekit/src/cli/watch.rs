//! Watching a job to its end: `migratekit job watch`, and `replicate --watch`. It hears the hub's events; a hub that does
//! not tell them is asked again and again.

mod screen;

use std::process::ExitCode;
use std::time::Duration;

use api::oma::events::HubEvent;
use api::oma::jobs::{JobDetail, JobView};
use api::oma::progress::JobProgress;
use api::oma::replications::ReplicationProgress;
use api::{Client, ClientError};
use model::FailureKind;
use model::status::{JobStatus, Transitions};

use super::failure::{Failure, INTERRUPTED};
use super::hub::{Context, escape, unknown};
use super::job::{WHICH_JOBS, is_over};
use super::output::{OutputFormat, Reader, hint};
pub use screen::{Screen, shares_text};

/// How often a hub without events is asked, and one that is away looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Looks at a hub that is away (a restart, a lost link) before it is given up: five minutes.
const AWAY_LIMIT: u32 = 600;
/// Longest silence of an open stream: the hub says something every ten seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The type of the jobs that have progress.
const REPLICATION: &str = "replication";

/// `migratekit job watch`.
///
/// # Errors
/// The hub's problem, or the job's own error.
pub async fn run(context: &Context, client: &Client, job: &str) -> Result<ExitCode, Failure> {
    let mut screen = match context.output {
        OutputFormat::Table => Screen::for_people(),
        OutputFormat::Json => Screen::for_programs(),
    };
    let ended = tokio::select! {
        ended = follow(client, job, &mut screen) => ended?,
        _ = tokio::signal::ctrl_c() => {
            hint(context.output, &format!("\nit goes on: migratekit job show {job}"));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let Some(ended) = ended else { return Ok(ExitCode::SUCCESS) };
    hint(context.output, &format!("{}: {}", ended.operation, ended.status));
    match (ended.status, ended.error) {
        (JobStatus::Completed, _) => Ok(ExitCode::SUCCESS),
        (_, Some(problem)) => Err(Failure::from(problem)),
        (status, None) => Err(Failure::new(FailureKind::Conflict, format!("the job ended as {status}"))),
    }
}

/// Shows what happens to a job until it has ended, or waits for an operator; answers with how it stands then, or with
/// nothing when nobody reads any more.
///
/// # Errors
/// There is no such job; the hub's problem, or it stays away.
pub async fn follow(client: &Client, job: &str, screen: &mut Screen) -> Result<Option<JobView>, Failure> {
    let (mut away, mut tells) = (0, true);
    loop {
        let heard = if tells { listen(client, job, screen, &mut away).await } else { look(client, job, screen).await };
        match heard {
            Ok(Heard::Ended(job)) => {
                screen.finish();
                return Ok(Some(*job));
            }
            Ok(Heard::NobodyReads) => return Ok(None),
            // The stream was cut, or it was only a look.
            Ok(Heard::More) => {}
            Err(error) if error.kind() == FailureKind::Unavailable && away < AWAY_LIMIT => {
                if away == 0 {
                    screen.say("the hub does not answer; the job goes on when it is back");
                }
                away += 1;
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            // An older hub, or one with too many listeners: whether the job exists is told by looking.
            Err(error) if tells && matches!(error.kind(), FailureKind::NotFound | FailureKind::Exhausted) => {
                tells = false;
                continue;
            }
            Err(error) => return Err(unknown(error, WHICH_JOBS)),
        }
        away = 0;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What came of listening or looking.
enum Heard {
    /// The job has ended or waits for an operator.
    Ended(Box<JobView>),
    /// There is more to come.
    More,
    /// Standard output was closed.
    NobodyReads,
}

async fn listen(client: &Client, job: &str, screen: &mut Screen, away: &mut u32) -> Result<Heard, ClientError> {
    let mut events = client.events(&format!("/api/v1/jobs/{}/events", escape(job)), None).await?;
    *away = 0;
    // The first event is the job itself.
    let mut watched: Option<String> = None;
    loop {
        let Ok(heard) = tokio::time::timeout(SILENCE_LIMIT, events.next()).await else { return Ok(Heard::More) };
        let Some(heard) = heard? else { return Ok(Heard::More) };
        // A newer hub may tell of more than is known here.
        let event = heard.and_then(|event| serde_json::from_str::<HubEvent>(&event.data).ok());
        let Some(event) = event else { continue };
        if screen.show(&event) == Reader::HasEnough {
            return Ok(Heard::NobodyReads);
        }
        if let HubEvent::Job(view) = event {
            let id = watched.get_or_insert_with(|| view.id.clone());
            if *id == view.id && is_over(view.status) {
                return Ok(Heard::Ended(view));
            }
        }
    }
}

async fn look(client: &Client, job: &str, screen: &mut Screen) -> Result<Heard, ClientError> {
    let detail: JobDetail = client.get(&format!("/api/v1/jobs/{}", escape(job))).await?;
    let view = detail.job;
    let replication = view.external_job_id.as_ref().filter(|_| view.job_type == REPLICATION && !view.status.is_final());
    if let Some(id) = replication
        && let Some(work) = work_of(client, id).await?
        && screen.show(&HubEvent::Progress(Box::new(work))) == Reader::HasEnough
    {
        return Ok(Heard::NobodyReads);
    }
    let is_over = is_over(view.status);
    let event = HubEvent::Job(Box::new(view));
    if screen.show(&event) == Reader::HasEnough {
        return Ok(Heard::NobodyReads);
    }
    match event {
        HubEvent::Job(view) if is_over => Ok(Heard::Ended(view)),
        _ => Ok(Heard::More),
    }
}

async fn work_of(client: &Client, id: &str) -> Result<Option<JobProgress>, ClientError> {
    let progress: ReplicationProgress = client.get(&format!("/api/v1/replications/{}/progress", escape(id))).await?;
    Ok(progress.work)
}
