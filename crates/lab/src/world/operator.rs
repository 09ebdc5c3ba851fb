//! An operator at the hub: runs the real command line and reads what it prints.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::error::WorldError;

/// Runs `migratekit` against one hub.
#[derive(Debug, Clone)]
pub struct Operator {
    program: PathBuf,
    hub_url: String,
    token_file: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    command: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Operator {
    pub(super) fn new(program: PathBuf, hub_url: String, token_file: PathBuf) -> Self {
        Self { program, hub_url, token_file }
    }

    /// The command line as a person would type it.
    #[must_use]
    pub fn command_line(&self) -> String {
        format!("{} --hub {} --token-file {}", self.program.display(), self.hub_url, self.token_file.display())
    }

    /// Runs a command with JSON output.
    ///
    /// # Errors
    /// It cannot be started; how it ends is in the output.
    pub async fn run(&self, arguments: &[&str]) -> Result<CommandOutput, WorldError> {
        let mut command = Command::new(&self.program);
        command.arg("--hub").arg(&self.hub_url).arg("--token-file").arg(&self.token_file).args(["--output", "json"]);
        let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await;
        let output = output.map_err(|source| WorldError::Start {
            program: self.program.clone(),
            hint: "build it: cargo build -p migratekit",
            source,
        })?;
        Ok(CommandOutput {
            command: arguments.join(" "),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

impl CommandOutput {
    /// The JSON it printed.
    ///
    /// # Errors
    /// It failed, or printed no JSON.
    pub fn json(&self) -> Result<Value, WorldError> {
        if self.code != 0 {
            let (command, stderr) = (self.command.clone(), self.stderr.clone());
            return Err(WorldError::Command { command, code: self.code, stderr });
        }
        serde_json::from_str(&self.stdout).map_err(|error| WorldError::Answer {
            what: format!("the output of `migratekit {}`", self.command),
            reason: error.to_string(),
        })
    }

    /// The problem it printed when it failed.
    #[must_use]
    pub fn problem(&self) -> Value {
        let start = self.stderr.find('{').unwrap_or(self.stderr.len());
        serde_json::from_str(&self.stderr[start..]).unwrap_or(Value::Null)
    }
}
