//! Watching a job of the JobLog to its end: the step it is at, how far, and what it said when it failed.

use std::time::Duration;

use api::Client;
use api::oma::jobs::JobDetail;
use indicatif::{ProgressBar, ProgressStyle};
use model::FailureKind;
use model::status::{JobStatus, StepStatus};

use crate::cli::failure::Failure;
use crate::cli::hub::{Context, escape};
use crate::cli::output::{OutputFormat, message};

/// How often the hub is asked.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);
/// How often the hub may not answer before watching is given up: a restart takes seconds.
const AWAY_LIMIT: u32 = 600;

/// Waits until a job has ended.
///
/// # Errors
/// The job's own error when it did not complete, or the hub's problem.
pub(in crate::cli) async fn until_ended(context: &Context, client: &Client, tracking_id: &str) -> Result<(), Failure> {
    let path = format!("/api/v1/jobs/{}", escape(tracking_id));
    let bar = bar(context.output);
    let mut away = 0;
    loop {
        match client.get::<JobDetail>(&path).await {
            Ok(detail) => {
                away = 0;
                update(&bar, &detail);
                if let Some(ended) = ended(&detail) {
                    bar.finish_and_clear();
                    return ended;
                }
            }
            Err(error) if error.kind() == FailureKind::Unavailable && away < AWAY_LIMIT => {
                if away == 0 && context.output == OutputFormat::Table {
                    bar.suspend(|| message("the hub does not answer; the job goes on when it is back"));
                }
                away += 1;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn bar(output: OutputFormat) -> ProgressBar {
    if output != OutputFormat::Table {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100);
    let style = ProgressStyle::with_template("{spinner} {wide_bar:.green} {pos:>3} %  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
    bar
}

fn update(bar: &ProgressBar, detail: &JobDetail) {
    let at = detail.steps.iter().find(|step| matches!(step.status, StepStatus::Running | StepStatus::Undoing));
    let doing = at.map(|step| match step.status {
        StepStatus::Undoing => format!("undoing {}", step.name),
        _ if step.attempt > 1 => format!("{} (try {})", step.name, step.attempt),
        _ => step.name.clone(),
    });
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    bar.set_position(detail.job.percent_complete.clamp(0.0, 100.0) as u64);
    bar.set_message(doing.unwrap_or_else(|| detail.job.status.to_string()));
    bar.tick();
}

/// How the job ended, if it did.
fn ended(detail: &JobDetail) -> Option<Result<(), Failure>> {
    let job = &detail.job;
    match job.status {
        JobStatus::Pending | JobStatus::Running | JobStatus::Unwinding => None,
        JobStatus::Completed => Some(Ok(())),
        status => Some(Err(match &job.error {
            Some(problem) => Failure::from(problem.clone()),
            None => Failure::new(FailureKind::Conflict, format!("{} ended as {status}", job.operation)),
        })),
    }
}
