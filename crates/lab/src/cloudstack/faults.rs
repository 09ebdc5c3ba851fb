//! Failures a test arms: which command, which kind, how often.
//!
//! Only the book-keeping; the HTTP layer and the job engine act on what they take from here.

use serde::{Deserialize, Serialize};

/// A way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// HTTP 500 with an HTML body; nothing is done.
    #[serde(rename = "http_500")]
    Http500,
    /// No answer at all; nothing is done.
    Hang,
    /// The command is carried out, and no answer comes.
    HangAfterEffect,
    /// The account's API rate limit is reached; nothing is done.
    #[serde(rename = "429")]
    RateLimited,
    /// The server is shutting down; nothing is done.
    #[serde(rename = "503")]
    ShuttingDown,
    /// The answer comes `delay_ms` late.
    Slow,
    /// The job ends with status 2 and no `jobresult`; nothing was done, an entity made at submission stays.
    JobFailedNoResult,
    /// The job does its work and then reports failure.
    JobFailedButDone,
    /// The job stays pending for ever and does nothing.
    JobStuck,
    /// A list shows the state before the latest change.
    StaleList,
}

impl FaultKind {
    fn strikes_jobs(self) -> bool {
        matches!(self, Self::JobFailedNoResult | Self::JobFailedButDone | Self::JobStuck)
    }
}

/// An armed failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// API command, case ignored; `*` means any.
    pub command: String,
    /// What happens.
    pub kind: FaultKind,
    /// How many requests (or jobs) it strikes before it is used up.
    #[serde(default = "once")]
    pub count: u32,
    /// For `slow`: how late the answer comes.
    #[serde(default)]
    pub delay_ms: u64,
}

fn once() -> u32 {
    1
}

/// All armed failures, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Arms one more.
    pub(crate) fn arm(&mut self, fault: Fault) {
        if fault.count > 0 {
            self.0.push(fault);
        }
    }

    /// Disarms all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is still armed.
    pub(crate) fn armed(&self) -> Vec<Fault> {
        self.0.clone()
    }

    /// Takes the failure that strikes this request, if any.
    pub(crate) fn strike_request(&mut self, command: &str) -> Option<Fault> {
        self.strike(command, |kind| !kind.strikes_jobs())
    }

    /// Takes the failure that strikes the job of this command, if any.
    pub(crate) fn strike_job(&mut self, command: &str) -> Option<FaultKind> {
        self.strike(command, FaultKind::strikes_jobs).map(|fault| fault.kind)
    }

    fn strike(&mut self, command: &str, applies: impl Fn(FaultKind) -> bool) -> Option<Fault> {
        let index = self.0.iter().position(|fault| {
            applies(fault.kind) && (fault.command == "*" || fault.command.eq_ignore_ascii_case(command))
        })?;
        let fault = self.0.get_mut(index)?;
        fault.count -= 1;
        let struck = fault.clone();
        if struck.count == 0 {
            self.0.remove(index);
        }
        Some(struck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_strike_their_command_as_often_as_armed() {
        let mut faults = Faults::default();
        for (command, kind, count) in [
            ("listVolumes", FaultKind::StaleList, 2),
            ("attachVolume", FaultKind::JobFailedNoResult, 1),
            ("*", FaultKind::Http500, 1),
        ] {
            faults.arm(Fault { command: command.to_owned(), kind, count, delay_ms: 0 });
        }
        let mut kind_of = |command: &str| faults.strike_request(command).map(|fault| fault.kind);
        assert_eq!(kind_of("listvolumes"), Some(FaultKind::StaleList));
        assert_eq!(kind_of("attachVolume"), Some(FaultKind::Http500));
        assert_eq!(kind_of("attachVolume"), None);
        assert_eq!(kind_of("listVolumes"), Some(FaultKind::StaleList));
        assert_eq!(kind_of("listVolumes"), None);
        assert_eq!(faults.strike_job("detachVolume"), None);
        assert_eq!(faults.strike_job("attachVolume"), Some(FaultKind::JobFailedNoResult));
        assert!(faults.armed().is_empty());
    }

    #[test]
    fn kinds_have_their_published_names() {
        for (text, kind) in [
            ("http_500", FaultKind::Http500),
            ("hang", FaultKind::Hang),
            ("429", FaultKind::RateLimited),
            ("503", FaultKind::ShuttingDown),
            ("job_failed_no_result", FaultKind::JobFailedNoResult),
            ("job_failed_but_done", FaultKind::JobFailedButDone),
            ("stale_list", FaultKind::StaleList),
        ] {
            let fault: Fault = serde_json::from_str(&format!(r#"{{"command":"x","kind":"{text}"}}"#)).expect("a fault");
            assert_eq!((fault.kind, fault.count), (kind, 1));
        }
    }
}
