//! `migratekit job`: what runs, what ran, its steps and its log.

use std::process::ExitCode;

use api::Client;
use api::oma::jobs::{JobDetail, JobView, LogEventView};
use api::page::Page;
use clap::{Args, Subcommand};

use super::failure::{Failure, explain};
use super::hub::{Context, escape};
use super::output::{OutputFormat, data, or_dash, show, table, time};

/// Log events asked for at once.
const LOG_PAGE: usize = 500;

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
    /// Print a job's log.
    Log {
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
}

/// Which jobs.
#[derive(Args)]
pub struct ListArgs {
    /// Only with this status: pending, running, completed, failed, cancelled, unwinding, needs_operator.
    #[arg(long)]
    status: Option<String>,
    /// Only of this VM (context id).
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
            let detail: JobDetail = client.get(&format!("/api/v1/jobs/{}", escape(&job))).await?;
            show(context.output, &detail, detail_text)?;
        }
        JobCommand::Log { job } => log(context, &client, &job).await?,
        JobCommand::Cancel { job } => act(context, &client, &job, "cancel").await?,
        JobCommand::Retry { job } => act(context, &client, &job, "retry").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let mut path = format!("/api/v1/jobs?limit={}", args.limit);
    for (name, value) in [("status", &args.status), ("vm", &args.vm)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    let page: Page<JobView> = client.get(&path).await?;
    show(context.output, &page, |page| {
        table(
            ["JOB", "TYPE", "STATUS", "DONE", "BEGUN", "ENDED", "WHAT"],
            page.items.iter().map(|job| {
                [
                    job.external_job_id.clone().unwrap_or_else(|| job.id.clone()),
                    job.job_type.clone(),
                    job.status.to_string(),
                    format!("{:.0} %", job.percent_complete),
                    time(job.started_at),
                    time(job.completed_at),
                    job.operation.clone(),
                ]
            }),
        )
    })
}

fn detail_text(detail: &JobDetail) -> String {
    let job = &detail.job;
    let steps = table(
        ["#", "STEP", "KIND", "STATUS", "TRIES", "BEGUN", "ENDED", "ERROR"],
        detail.steps.iter().map(|step| {
            [
                step.seq.to_string(),
                step.name.clone(),
                step.kind.to_string(),
                step.status.to_string(),
                step.attempt.to_string(),
                time(step.started_at),
                time(step.completed_at),
                or_dash(step.error.as_ref().map(|error| error.detail.as_str())),
            ]
        }),
    );
    let mut text = format!("{} · {} · {}\n{}\n\n{steps}", job.operation, job.status, job.id, job.job_type);
    if let Some(error) = &job.error {
        text.push_str(&format!("\n{}", explain(error)));
    }
    text
}

async fn log(context: &Context, client: &Client, job: &str) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let path = format!("/api/v1/jobs/{}/log?after={after}&limit={LOG_PAGE}", escape(job));
        let page: Page<LogEventView> = client.get(&path).await?;
        for event in &page.items {
            match context.output {
                OutputFormat::Json => data(&serde_json::to_string(event).unwrap_or_default()),
                OutputFormat::Table => data(&line(event)),
            }
            after = event.id;
        }
        if page.items.len() < LOG_PAGE {
            return Ok(());
        }
    }
}

fn line(event: &LogEventView) -> String {
    let step = event.step.as_deref().map(|step| format!(" [{step}]")).unwrap_or_default();
    let attrs = event.attrs.as_object().map(|attrs| {
        attrs.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>()
    });
    let level = event.level.to_string().to_uppercase();
    format!("{} {level:5}{step} {}{}", time(Some(event.at)), event.message, attrs.unwrap_or_default())
}

async fn act(context: &Context, client: &Client, job: &str, verb: &str) -> Result<(), Failure> {
    let view: JobView = client.post(&format!("/api/v1/jobs/{}/{verb}", escape(job)), &()).await?;
    show(context.output, &view, |view| format!("{}: {}", view.operation, view.status))
}
