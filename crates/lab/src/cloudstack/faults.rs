//! Failures a test arms: which command, which kind, after how many, how often.
//!
//! Only the book-keeping; the HTTP layer and the job engine act on what they take from here.

use serde::{Deserialize, Serialize};

use super::target_process::TargetProcess;

/// Used-up failures that are still told of.
const KEPT_USED_UP: usize = 200;

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
    /// The process `pid` is killed when the request arrives; nothing is done, the connection is dropped.
    KillBefore,
    /// The command is carried out (its job runs), the process `pid` is killed, the connection is dropped unanswered.
    KillDuring,
    /// The command is carried out; the process `pid` is stopped, the answer written to the socket, then it is killed:
    /// its machine received the answer, and the process never saw it.
    KillAfter,
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

    fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillDuring | Self::KillAfter)
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
    /// How many matching requests (or jobs) it lets through first.
    #[serde(default)]
    pub skip: u32,
    /// For `slow`: how late the answer comes.
    #[serde(default)]
    pub delay_ms: u64,
    /// For the kinds that kill: the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// A failure that strikes the next request (or job) of a command.
    #[must_use]
    pub fn once(command: &str, kind: FaultKind) -> Self {
        Self { command: command.to_owned(), kind, count: 1, skip: 0, delay_ms: 0, pid: None }
    }
}

/// A failure that was armed, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultView {
    /// Number given when it was armed.
    pub id: u64,
    /// What is left: `count` and `skip` go down.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often it struck.
    pub struck: u32,
}

/// A failure that strikes now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struck {
    pub(crate) kind: FaultKind,
    pub(crate) delay_ms: u64,
    pub(crate) process: Option<TargetProcess>,
}

#[derive(Debug)]
struct Armed {
    view: FaultView,
    process: Option<TargetProcess>,
}

/// All failures, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    all: Vec<Armed>,
    last_id: u64,
}

impl Faults {
    /// Arms one more; gives its number, or says why it cannot be.
    pub(crate) fn arm(&mut self, fault: Fault) -> Result<u64, String> {
        let process = match (fault.kind.kills(), fault.pid) {
            (true, Some(pid)) => Some(TargetProcess::named(pid)?),
            (true, None) => return Err("a fault that kills needs the pid of a process".to_owned()),
            (false, Some(_)) => return Err("only faults that kill have a pid".to_owned()),
            (false, None) => None,
        };
        self.last_id += 1;
        self.all.push(Armed { view: FaultView { id: self.last_id, fault, struck: 0 }, process });
        let mut too_many = self.all.iter().filter(|armed| armed.is_used_up()).count().saturating_sub(KEPT_USED_UP);
        self.all.retain(|armed| {
            let goes = armed.is_used_up() && too_many > 0;
            too_many -= usize::from(goes);
            !goes
        });
        Ok(self.last_id)
    }

    /// Disarms and forgets all.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// What is still armed.
    pub(crate) fn armed(&self) -> Vec<Fault> {
        self.all.iter().filter(|armed| !armed.is_used_up()).map(|armed| armed.view.fault.clone()).collect()
    }

    /// Everything armed since the last `clear`, used up or not.
    pub(crate) fn views(&self) -> Vec<FaultView> {
        self.all.iter().map(|armed| armed.view.clone()).collect()
    }

    /// Takes the failure that strikes this request, if any.
    pub(crate) fn strike_request(&mut self, command: &str) -> Option<Struck> {
        self.strike(command, |kind| !kind.strikes_jobs())
    }

    /// Takes the failure that strikes the job of this command, if any.
    pub(crate) fn strike_job(&mut self, command: &str) -> Option<FaultKind> {
        self.strike(command, FaultKind::strikes_jobs).map(|struck| struck.kind)
    }

    /// The first that matches and has nothing to let through strikes; those before it count one less to let through.
    fn strike(&mut self, command: &str, applies: impl Fn(FaultKind) -> bool) -> Option<Struck> {
        for Armed { view, process } in &mut self.all {
            let fault = &mut view.fault;
            let matches = fault.command == "*" || fault.command.eq_ignore_ascii_case(command);
            if fault.count == 0 || !applies(fault.kind) || !matches {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.count -= 1;
            view.struck += 1;
            return Some(Struck { kind: fault.kind, delay_ms: fault.delay_ms, process: *process });
        }
        None
    }
}

impl Armed {
    fn is_used_up(&self) -> bool {
        self.view.fault.count == 0
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
            faults.arm(Fault { count, ..Fault::once(command, kind) }).unwrap();
        }
        let mut kind_of = |command: &str| faults.strike_request(command).map(|struck| struck.kind);
        assert_eq!(kind_of("listvolumes"), Some(FaultKind::StaleList));
        assert_eq!(kind_of("attachVolume"), Some(FaultKind::Http500));
        assert_eq!(kind_of("attachVolume"), None);
        assert_eq!(kind_of("listVolumes"), Some(FaultKind::StaleList));
        assert_eq!(kind_of("listVolumes"), None);
        assert_eq!(faults.strike_job("detachVolume"), None);
        assert_eq!(faults.strike_job("attachVolume"), Some(FaultKind::JobFailedNoResult));
        assert!(faults.armed().is_empty());
        assert_eq!(
            faults.views().iter().map(|view| (view.id, view.struck)).collect::<Vec<_>>(),
            [(1, 2), (2, 1), (3, 1)]
        );
    }

    #[test]
    fn faults_of_requests_and_of_jobs_let_some_through_first() {
        let mut faults = Faults::default();
        faults.arm(Fault { skip: 2, ..Fault::once("attachVolume", FaultKind::Hang) }).unwrap();
        faults.arm(Fault { skip: 1, ..Fault::once("attachVolume", FaultKind::JobStuck) }).unwrap();
        let requests: Vec<_> =
            (0..4).map(|_| faults.strike_request("attachVolume").map(|struck| struck.kind)).collect();
        assert_eq!(requests, [None, None, Some(FaultKind::Hang), None]);
        let jobs: Vec<_> = (0..3).map(|_| faults.strike_job("attachVolume")).collect();
        assert_eq!(jobs, [None, Some(FaultKind::JobStuck), None]);
    }

    #[test]
    fn only_faults_that_kill_have_a_process_and_it_must_be_another_one() {
        let mut faults = Faults::default();
        let own = std::process::id();
        for (kind, pid) in [
            (FaultKind::KillBefore, None),
            (FaultKind::KillDuring, Some(0)),
            (FaultKind::KillAfter, Some(1)),
            (FaultKind::KillAfter, Some(own)),
            (FaultKind::Hang, Some(own)),
        ] {
            assert!(faults.arm(Fault { pid, ..Fault::once("*", kind) }).is_err(), "{kind:?} {pid:?}");
        }
        assert!(faults.views().is_empty());
    }

    #[test]
    fn used_up_faults_are_forgotten_when_they_are_many() {
        let mut faults = Faults::default();
        for _ in 0..KEPT_USED_UP + 50 {
            faults.arm(Fault::once("*", FaultKind::Hang)).unwrap();
            faults.strike_request("listZones");
        }
        faults.arm(Fault::once("*", FaultKind::Hang)).unwrap();
        assert_eq!((faults.views().len(), faults.armed().len()), (KEPT_USED_UP + 1, 1));
    }

    #[test]
    fn kinds_have_their_published_names() {
        for (text, kind) in [
            ("http_500", FaultKind::Http500),
            ("hang", FaultKind::Hang),
            ("429", FaultKind::RateLimited),
            ("503", FaultKind::ShuttingDown),
            ("kill_before", FaultKind::KillBefore),
            ("kill_during", FaultKind::KillDuring),
            ("kill_after", FaultKind::KillAfter),
            ("job_failed_no_result", FaultKind::JobFailedNoResult),
            ("job_failed_but_done", FaultKind::JobFailedButDone),
            ("stale_list", FaultKind::StaleList),
        ] {
            let fault: Fault = serde_json::from_str(&format!(r#"{{"command":"x","kind":"{text}"}}"#)).expect("a fault");
            assert_eq!((fault.kind, fault.count, fault.skip, fault.pid), (kind, 1, 0, None));
        }
    }
}
