//! The process a fault stops or kills: named by whoever armed the fault, and nobody else.
//!
//! A process is told from a later one with the same number by the time it started.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long every thread of a process may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// A process that existed when the fault was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TargetProcess {
    pid: u32,
    /// Clock ticks after the machine's start (`starttime` of proc(5)).
    started: u64,
}

impl TargetProcess {
    /// The process with that number; says why it cannot be one to kill.
    pub(crate) fn named(pid: u32) -> Result<Self, String> {
        if pid <= 1 {
            return Err(format!("process {pid} is never killed"));
        }
        if pid == std::process::id() {
            return Err(format!("process {pid} is the laboratory itself"));
        }
        let started = started(pid).ok_or_else(|| format!("there is no process {pid}"))?;
        Ok(Self { pid, started })
    }

    /// Kills it at once. One that is gone already is fine.
    pub(crate) fn kill(self) {
        self.send(Signal::KILL);
    }

    /// Stops it; returns when none of its threads runs any more, or after a bounded time.
    pub(crate) async fn stop(self) {
        self.send(Signal::STOP);
        let deadline = Instant::now() + STOP_LIMIT;
        while self.has_running_threads() {
            if Instant::now() > deadline {
                tracing::warn!(pid = self.pid, "a process did not stop in time");
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn send(self, signal: Signal) {
        if started(self.pid) != Some(self.started) {
            tracing::debug!(pid = self.pid, "the process of a fault is gone");
            return;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
            tracing::warn!(pid = self.pid, %error, "the process of a fault could not be signalled");
        }
    }

    fn has_running_threads(self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        let is_running = |entry: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            fields(&stat).next().is_some_and(|state| !matches!(state, "T" | "t" | "Z" | "X"))
        };
        threads.flatten().any(is_running)
    }
}

/// The fields of `stat` after the name, which is in brackets and may hold anything.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

fn started(pid: u32) -> Option<u64> {
    // Field 22 of proc(5); the first one here is field 3.
    const STARTED: usize = 22 - 3;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let is_dead = matches!(fields(&stat).next(), Some("Z" | "X"));
    if is_dead { None } else { fields(&stat).nth(STARTED)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_other_living_processes_can_be_named() {
        for pid in [0, 1, std::process::id(), u32::MAX] {
            assert!(TargetProcess::named(pid).is_err(), "{pid}");
        }
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let named = TargetProcess::named(child.id()).unwrap();
        assert_eq!(TargetProcess { started: named.started + 1, ..named }.pid, child.id());
        TargetProcess { started: named.started + 1, ..named }.kill();
        assert!(child.try_wait().unwrap().is_none(), "another process of that number is left alone");
        named.kill();
        assert!(!child.wait().unwrap().success());
        assert!(TargetProcess::named(child.id()).is_err(), "it is gone");
    }

    #[tokio::test]
    async fn a_stopped_process_has_no_running_thread() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let named = TargetProcess::named(child.id()).unwrap();
        named.stop().await;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        assert_eq!(fields(&stat).next(), Some("T"));
        named.kill();
        child.wait().unwrap();
    }
}
