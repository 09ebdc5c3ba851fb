//! Runs the gate's parts in order and stops at the first that fails.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{report, tidy};

/// A part of the gate that is a command of its own.
struct Part {
    name: &'static str,
    arguments: &'static [&'static str],
    /// How to get the tool when it is missing.
    install: &'static str,
}

const LINTS: [Part; 3] = [
    Part { name: "format", arguments: &["fmt", "--all", "--check"], install: "rustup component add rustfmt" },
    Part {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        install: "rustup component add clippy",
    },
    // The advisory database is fetched from the internet; `cargo deny check advisories` is run by a maintainer.
    Part {
        name: "deny",
        arguments: &["deny", "--locked", "--all-features", "check", "bans", "licenses", "sources"],
        install: "cargo install --locked cargo-deny",
    },
];

const TESTS: Part = Part {
    name: "tests",
    arguments: &["nextest", "run", "--workspace", "--locked", "--no-fail-fast"],
    install: "cargo install --locked cargo-nextest",
};

/// Runs every part; `Ok(false)` names the first that failed.
pub fn run(root: &Path, no_tests: bool) -> Result<bool> {
    let findings = tidy::findings(root)?;
    for finding in &findings {
        report(finding);
    }
    if !findings.is_empty() {
        report(&format!("tidy: {} findings", findings.len()));
        return Ok(false);
    }
    report("tidy: passed");
    for part in LINTS.iter().chain((!no_tests).then_some(&TESTS)) {
        if !run_part(root, part)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Builds what the crash matrix runs and runs all of it; `Ok(false)` when a case failed.
pub fn crash_matrix(root: &Path, only: Option<&str>) -> Result<bool> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(root);
        command
    };
    let built = cargo(&["build", "--locked", "-p", "migratekit", "-p", "lab"]).status().context("cannot run cargo")?;
    if !built.success() {
        return Ok(false);
    }
    let mut matrix = cargo(&["run", "--locked", "--quiet", "-p", "lab", "--", "crash-matrix"]);
    if let Some(only) = only {
        matrix.args(["--only", only]);
    }
    Ok(matrix.status().context("cannot run the crash matrix")?.success())
}

fn run_part(root: &Path, part: &Part) -> Result<bool> {
    let begun = Instant::now();
    let status = Command::new("cargo")
        .args(part.arguments)
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot run cargo {}; {}", part.arguments[0], part.install))?;
    let verdict = if status.success() { "passed" } else { "FAILED" };
    report(&format!("{}: {verdict} in {:.0} s", part.name, begun.elapsed().as_secs_f64()));
    if !status.success() {
        report(&format!("  (if the tool is missing: {})", part.install));
    }
    Ok(status.success())
}
