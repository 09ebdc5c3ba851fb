//! Finding and running the command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// What the command line said and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    pub(crate) fn problem(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }
}

/// Beside the folder with this test: `target/<profile>/migratekit`.
fn path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let program = profile.join("migratekit");
    assert!(program.exists(), "{} is not built: cargo build -p migratekit", program.display());
    program
}

/// Runs `migratekit` without a hub or anything else of this machine's environment.
pub(crate) async fn migratekit(arguments: &[&str]) -> Said {
    let mut command = Command::new(path());
    for name in ["MIGRATEKIT_OUTPUT", "MIGRATEKIT_HUB", "MIGRATEKIT_TOKEN_FILE", "MIGRATEKIT_CA_FILE"] {
        command.env_remove(name);
    }
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Writes a secret as editors do, with a line end.
pub(crate) fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}
