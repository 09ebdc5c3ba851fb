//! A process of the world: its log in a file, killed when it is dropped, killable at any instant.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::error::WorldError;

/// Lines of a log that are shown when a process ended unexpectedly.
const SHOWN_LINES: usize = 30;

/// A running process.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    leave: bool,
}

impl Process {
    /// Starts `program`; everything it says goes to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, program: &Path, arguments: &[&str], log: &Path) -> Result<Self, WorldError> {
        Self::start_with(name, program, arguments, log, None)
    }

    /// Like [`Self::start`], with a folder whose programs it finds before all others.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(
        name: &str,
        program: &Path,
        arguments: &[&str],
        log: &Path,
        programs: Option<&Path>,
    ) -> Result<Self, WorldError> {
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let folders = programs.map(Path::to_owned).into_iter().chain(std::env::split_paths(&usual));
        // A folder with a colon in its name cannot be in PATH; nobody makes one here.
        let path = std::env::join_paths(folders).unwrap_or(usual.clone());
        let out = File::options().create(true).append(true).open(log).map_err(WorldError::file("open", log))?;
        let also = out.try_clone().map_err(WorldError::file("open", log))?;
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", path).stdin(Stdio::null()).stdout(out).stderr(also);
        let child = command.spawn().map_err(|source| WorldError::Start {
            program: program.to_owned(),
            hint: "build it: cargo build -p migratekit -p lab",
            source,
        })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), leave: false })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Kills it at once, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may be dead already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    pub async fn terminate(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !self.has_ended()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while !self.has_ended() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The most memory it ever held, in bytes (`VmHWM` of proc(5)).
    #[must_use]
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Why it should not have ended: the end of its log.
    #[must_use]
    pub fn ended_error(&self) -> WorldError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        WorldError::Ended { name: self.name.clone(), log }
    }

    /// It runs on when this is dropped.
    pub fn leave_running(&mut self) {
        self.leave = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.leave {
            self.kill();
        }
    }
}
