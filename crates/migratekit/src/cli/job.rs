//! `migratekit job`: what runs, what ran, its steps and its log.

use std::process::ExitCode;
use std::time::Duration;

use api::Client;
use api::oma::jobs::{JobDetail, JobView, LogEventView};
use api::page::Page;
use clap::{Args, Subcommand};
use model::status::{JobStatus, Transitions};

use super::clock::{ago, stamp, took};
use super::failure::{Failure, explain};
use super::hub::{Context, escape, unknown, vm_context};
use super::output::{OutputFormat, Reader, data, fields, show, table};
use super::watch;

/// Log events asked for at once.
const LOG_PAGE: usize = 500;
/// How often a job that runs is asked for news.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// What to say of a job nobody knows.
pub(super) const WHICH_JOBS: &str = "see `migratekit job list`";

/// What can be done with jobs.
#[derive(Subcommand)]
pub enum JobCommand {
    /// List jobs, newest first.
    List(ListArgs),
    /// Show a job with its steps.
    Show {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
    /// Print a job's log; as JSON, one event a line.
    Log {
        /// Job id (`job-…`) or JobLog id.
        job: String,
        /// Go on until the job ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Show how far a job is until it ends; as JSON, one event a line. Ctrl-C stops watching, not the job.
    Watch {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
    /// Ask a job to stop; what it did is undone.
    Cancel {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
    /// Let a job that waits for an operator go on.
    Retry {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
    /// Undo a job of which nobody knows whether its point of no return was passed.
    ///
    /// Say this only after you have looked and made sure that the step `job show` names did NOT happen. It then counts as
    /// skipped, and everything before it is undone. If it did happen, or you cannot tell, do not: undoing would take away
    /// what is in use already. `job retry` looks again and goes forward instead.
    ///
    /// Refused for a job that waits for another reason, because that one can be retried.
    TurnBack {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
    /// Give up a job that waits for an operator; nothing more is done or undone.
    ///
    /// The last resort: for a job whose cause cannot be mended, so that `job retry` will never succeed. It ends as failed
    /// and cannot be taken up again. What it made or changed so far stays as it is, at the source and in the target, and
    /// is yours to put right; note what `job show` lists before you say this.
    Abandon {
        /// Job id (`job-…`) or JobLog id.
        job: String,
    },
}

/// Which jobs.
#[derive(Args)]
pub struct ListArgs {
    /// Only with this status: pending, running, completed, failed, cancelled, unwinding, needs_operator.
    #[arg(long)]
    status: Option<String>,
    /// Only of this VM (name or context id).
    #[arg(long)]
    vm: Option<String>,
    /// Most jobs shown.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: JobCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        JobCommand::List(args) => list(context, &client, &args).await?,
        JobCommand::Show { job } => {
            show(context.output, &detail(&client, &job).await?, detail_text)?;
        }
        JobCommand::Log { job, follow } => log(context, &client, &job, follow).await?,
        JobCommand::Watch { job } => return watch::run(context, &client, &job).await,
        JobCommand::Cancel { job } => act(context, &client, &job, "cancel").await?,
        JobCommand::Retry { job } => act(context, &client, &job, "retry").await?,
        JobCommand::TurnBack { job } => act(context, &client, &job, "turn-back").await?,
        JobCommand::Abandon { job } => act(context, &client, &job, "abandon").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn detail(client: &Client, job: &str) -> Result<JobDetail, Failure> {
    let found = client.get(&format!("/api/v1/jobs/{}", escape(job))).await;
    found.map_err(|error| unknown(error, WHICH_JOBS))
}

async fn list(context: &Context, client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let mut path = format!("/api/v1/jobs?limit={}", args.limit);
    let vm = match &args.vm {
        Some(vm) => Some(vm_context(client, vm).await?.context.context_id),
        None => None,
    };
    for (name, value) in [("status", &args.status), ("vm", &vm)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    let page: Page<JobView> = client.get(&path).await?;
    show(context.output, &page, |page| {
        table(
            ["JOB", "STATUS", "DONE", "BEGUN", "TOOK", "WHAT"],
            page.items.iter().map(|job| {
                [
                    name(job),
                    job.status.to_string(),
                    format!("{:.0} %", job.percent_complete),
                    ago(job.started_at),
                    took(job.started_at, job.completed_at),
                    job.operation.clone(),
                ]
            }),
        )
    })
}

fn detail_text(detail: &JobDetail) -> String {
    let job = &detail.job;
    let about = [
        ("what", job.operation.clone()),
        ("status", format!("{}, {:.0} %", job.status, job.percent_complete)),
        ("begun", stamp(job.started_at)),
        ("took", took(job.started_at, job.completed_at)),
        ("id", job.external_job_id.iter().chain([&job.id]).cloned().collect::<Vec<_>>().join(", ")),
    ];
    let about = fields(about.into_iter().chain(job.parent_job_id.clone().map(|parent| ("part of", parent))));
    let steps = table(
        ["STEP", "KIND", "STATUS", "TRIES", "BEGUN", "TOOK"],
        detail.steps.iter().map(|step| {
            [
                step.name.clone(),
                step.kind.to_string(),
                step.status.to_string(),
                step.attempt.to_string(),
                stamp(step.started_at),
                took(step.started_at, step.completed_at),
            ]
        }),
    );
    format!("{about}\n\n{steps}{}{}", parts(&detail.children), errors(detail))
}

/// The jobs that are parts of it; nothing when there are none.
fn parts(children: &[JobView]) -> String {
    if children.is_empty() {
        return String::new();
    }
    let rows = children.iter().map(|job| {
        [
            name(job),
            job.status.to_string(),
            format!("{:.0} %", job.percent_complete),
            took(job.started_at, job.completed_at),
            job.operation.clone(),
        ]
    });
    format!("\n\n{}", table(["PART", "STATUS", "DONE", "TOOK", "WHAT"], rows))
}

/// The id people know a job by.
fn name(job: &JobView) -> String {
    job.external_job_id.clone().unwrap_or_else(|| job.id.clone())
}

/// The job's error, then those of its steps that say something else.
fn errors(detail: &JobDetail) -> String {
    let told = detail.job.error.as_ref();
    let of_steps = detail.steps.iter().filter_map(|step| Some((step.name.as_str(), step.error.as_ref()?)));
    let of_steps = of_steps.filter(|(_, error)| told.is_none_or(|told| told.detail != error.detail));
    let of_steps = of_steps.map(|(step, error)| format!("\n\nstep {step}: {}", explain(error)));
    let of_job = told.map(|error| format!("\n\n{}", explain(error)));
    of_job.into_iter().chain(of_steps).collect()
}

/// Prints what there is; with `follow`, also what comes until the job has ended.
async fn log(context: &Context, client: &Client, job: &str, follow: bool) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        // Asked before its log: what it says until then is on the page that follows.
        let ended = !follow || is_over(detail(client, job).await?.job.status);
        loop {
            let path = format!("/api/v1/jobs/{}/log?after={after}&limit={LOG_PAGE}", escape(job));
            let page: Result<Page<LogEventView>, _> = client.get(&path).await;
            let page = page.map_err(|error| unknown(error, WHICH_JOBS))?;
            for event in &page.items {
                after = event.id;
                if print_event(context.output, event)? == Reader::HasEnough {
                    return Ok(());
                }
            }
            if page.items.len() < LOG_PAGE {
                break;
            }
        }
        if ended {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

/// A job that waits for an operator says nothing more by itself.
pub(super) fn is_over(status: JobStatus) -> bool {
    status.is_final() || status == JobStatus::NeedsOperator
}

fn print_event(output: OutputFormat, event: &LogEventView) -> Result<Reader, Failure> {
    match output {
        OutputFormat::Json => data(&serde_json::to_string(event).unwrap_or_default()),
        OutputFormat::Table => data(&line(event)),
    }
}

fn line(event: &LogEventView) -> String {
    let step = event.step.as_deref().map(|step| format!(" [{step}]")).unwrap_or_default();
    let attrs: String = event.attrs.as_object().into_iter().flatten().map(|(name, value)| attr(name, value)).collect();
    let level = event.level.to_string().to_uppercase();
    format!("{}  {level:5}{step} {}{attrs}", stamp(Some(event.at)), event.message)
}

/// A field; quoted only where it would not be seen where it ends.
fn attr(name: &str, value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => format!(" {name}={text}"),
        _ => format!(" {name}={value}"),
    }
}

async fn act(context: &Context, client: &Client, job: &str, verb: &str) -> Result<(), Failure> {
    let done = client.post(&format!("/api/v1/jobs/{}/{verb}", escape(job)), &()).await;
    let view: JobView = done.map_err(|error| unknown(error, WHICH_JOBS))?;
    show(context.output, &view, |view| format!("{}: {}", view.operation, view.status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_of_an_event_are_quoted_only_where_needed() {
        assert_eq!(attr("disk", &json!("disk-2000")), " disk=disk-2000");
        assert_eq!(attr("leaves", &json!(163)), " leaves=163");
        assert_eq!(attr("why", &json!("no \"room\"")), r#" why="no \"room\"""#);
    }

    #[test]
    fn a_job_shows_what_it_is_a_part_of_and_what_its_parts_are() {
        let job = |id: &str, parent: Option<&str>| {
            let view = json!({
                "id": id, "parent_job_id": parent, "job_type": "example", "operation": format!("do {id}"),
                "status": "running", "percent_complete": 50.0, "created_at": "2026-11-21T00:00:00Z",
                "started_at": null, "completed_at": null,
            });
            serde_json::from_value::<JobView>(view).unwrap()
        };
        let alone = JobDetail { job: job("a", None), steps: Vec::new(), children: Vec::new() };
        let text = detail_text(&alone);
        assert!(!text.contains("part of") && !text.contains("PART"), "{text}");
        let within = JobDetail { job: job("b", Some("a")), children: vec![job("c", Some("b"))], ..alone };
        let text = detail_text(&within);
        assert!(text.contains("part of  a") && text.contains("PART") && text.contains("do c"), "{text}");
    }
}
