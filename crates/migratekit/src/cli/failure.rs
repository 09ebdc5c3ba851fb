//! A failed command: printed with cause and remedy, and turned into the documented exit code.

use std::process::ExitCode;

use api::{ClientError, Problem};
use model::FailureKind;

use super::output::OutputFormat;

/// Exit code of a command that was interrupted, as shells report it.
pub const INTERRUPTED: u8 = 130;
/// Exit code when a check (a target's prerequisites, a VM's preflight, a dry run) found a blocker.
pub const CHECK_FAILED: u8 = 9;

/// What to do when the hub does not answer.
const UNREACHABLE_REMEDY: &str = "check that the hub runs (systemctl status migratekit-hub) and that --hub names it";

/// Why a command failed.
#[derive(Debug)]
pub struct Failure(Box<Problem>);

impl Failure {
    /// A failure of `kind` that says `detail`.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(kind, detail)))
    }

    /// An error of another crate, with everything below it.
    pub fn of(kind: FailureKind, error: &dyn std::error::Error, remedy: Option<&str>) -> Self {
        let mut problem = Problem::from_error(kind, error);
        problem.remedy = remedy.map(str::to_owned);
        Self(Box::new(problem))
    }

    /// With what to do about it, unless whoever failed said so.
    pub fn advise(mut self, remedy: &str) -> Self {
        self.0.remedy.get_or_insert_with(|| remedy.to_owned());
        self
    }

    /// With why it happened.
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// With what became of a destination that was being written.
    pub fn unfinished(self, destination: &str) -> Self {
        match self.0.evidence.clone() {
            Some(seen) => self.evidence(format!("{seen}; {destination} is incomplete")),
            None => self.evidence(format!("{destination} is incomplete")),
        }
    }

    /// With what was seen.
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.0.evidence = Some(evidence.into());
        self
    }

    /// What kind it is.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// With what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Prints it to standard error, as text or as JSON, and gives the exit code.
    pub fn report(&self, output: OutputFormat) -> ExitCode {
        let text = match output {
            OutputFormat::Json => serde_json::to_string_pretty(&self.0).unwrap_or_else(|_| self.0.detail.clone()),
            OutputFormat::Table => explain(&self.0),
        };
        super::output::message(&text);
        ExitCode::from(exit_code(self.0.kind))
    }
}

/// The problem in words: what happened, then evidence, cause and remedy, a line each.
pub fn explain(problem: &Problem) -> String {
    let mut text = format!("error: {}", problem.detail);
    let lines =
        [("seen", &problem.evidence), ("cause", &problem.cause), ("remedy", &problem.remedy), ("job", &problem.job_id)];
    for (name, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("\n  {name}: {value}"));
        }
    }
    if !problem.data_safe {
        text.push_str("\n  data: the replica may not be what its change ids say; verify it before relying on it");
    }
    text
}

fn exit_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Internal => 1,
        FailureKind::NotFound => 3,
        FailureKind::Conflict => 4,
        FailureKind::Invalid => 5,
        FailureKind::Unauthenticated | FailureKind::Forbidden => 6,
        FailureKind::Unavailable => 7,
        FailureKind::Exhausted => 8,
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let no_answer = matches!(error, ClientError::Transport(_));
        let failure = Self(Box::new(error.into_problem()));
        if no_answer { failure.advise(UNREACHABLE_REMEDY) } else { failure }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FailureKind::Internal, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_reads_cause_and_remedy() {
        let problem = Problem::new(FailureKind::Conflict, "VM web1 is being replicated")
            .cause("job-20260101-000000-abcdef runs")
            .remedy("wait for it or cancel it");
        assert_eq!(
            explain(&problem),
            "error: VM web1 is being replicated\n  cause: job-20260101-000000-abcdef runs\n  remedy: wait for it or cancel it"
        );
    }
}
