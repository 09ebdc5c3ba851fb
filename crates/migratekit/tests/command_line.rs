//! The command line as such: help, completions, exit codes, closed pipes, and where output goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn migratekit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migratekit"));
    for name in ["MIGRATEKIT_OUTPUT", "MIGRATEKIT_HUB", "MIGRATEKIT_TOKEN_FILE", "MIGRATEKIT_CA_FILE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    migratekit().args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_long_help_documents_every_exit_code() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let help = stdout(&output);
    for code in ["  0  done", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "  6  ", "  7  ", "  8  ", "  9  ", "130  "]
    {
        assert!(help.contains(code), "{code:?} is missing:\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 116), "{help}");
}

#[test]
fn every_command_has_help() {
    let commands = [
        "vcenter add",
        "vcenter list",
        "target add",
        "target validate",
        "target list",
        "target networks",
        "target zones",
        "target offerings",
        "target templates",
        "agent pair",
        "agent list",
        "agent approve",
        "agent reject",
        "agent revoke",
        "agent audit",
        "vm discover",
        "vm add",
        "vm list",
        "vm show",
        "network list",
        "network map",
        "network unmap",
        "network validate",
        "group create",
        "group list",
        "group show",
        "group delete",
        "group add",
        "group remove",
        "replicate",
        "certificate list",
        "certificate get",
        "verify cert",
        "verify disk",
        "job list",
        "job show",
        "job log",
        "job cancel",
        "job retry",
        "job turn-back",
        "job abandon",
        "probe vcenter",
        "probe cloudstack",
        "nbd serve",
        "nbd info",
        "nbd copy",
        "hub",
        "gateway",
        "volume-daemon",
        "oma",
        "vma",
        "enroll",
        "completions",
    ];
    for command in commands {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let output = run(&arguments);
        assert!(output.status.success(), "{command}");
        assert!(stdout(&output).contains("Usage: migratekit"), "{command}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn what_cannot_be_taken_back_says_when_it_is_right() {
    let help =
        |command: &str| stdout(&run(&["job", command, "--help"])).split_whitespace().collect::<Vec<_>>().join(" ");
    let turn_back = help("turn-back");
    for word in ["made sure that the step `job show` names did NOT happen", "`job retry`", "counts as skipped"] {
        assert!(turn_back.contains(word), "{word:?} is missing: {turn_back}");
    }
    let abandon = help("abandon");
    for word in ["last resort", "ends as failed and cannot be taken up again", "stays as it is", "`job retry`"] {
        assert!(abandon.contains(word), "{word:?} is missing: {abandon}");
    }
}

#[test]
fn no_secret_is_an_argument() {
    for command in [["probe", "vcenter"], ["probe", "cloudstack"], ["vcenter", "add"], ["target", "add"]] {
        let help = stdout(&run(&[command[0], command[1], "--help"]));
        for option in ["--password", "--api-key", "--secret-key", "--token"] {
            let bare = format!("{option} ");
            assert!(!help.contains(&bare), "{command:?} takes {option}:\n{help}");
        }
    }
}

#[test]
fn completions_are_scripts() {
    let script = stdout(&run(&["completions", "bash"]));
    let mut bash =
        Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash not found: apt-get install bash");
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("replicate"), "{shell}");
    }
}

#[test]
fn nobody_has_to_read_the_output() {
    let cases: [&[&str]; 4] = [&["--help"], &["vm", "--help"], &["completions", "bash"], &["nonsense"]];
    for arguments in cases {
        let mut child = migratekit().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if arguments == ["nonsense"] { 2 } else { 0 }), "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = migratekit().args(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("error: cannot write the output"), "{}", stderr(&output));
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "top-secret-token\n").unwrap();
    let token = token.to_str().unwrap();
    let absent = folder.path().join("absent");
    let absent = absent.to_str().unwrap();
    let cases: [(&[&str], i32); 5] = [
        (&["vm", "list", "--hub", "http://127.0.0.1:1", "--token-file", token], 7),
        (&["vm", "list", "--hub", "https://127.0.0.1:1", "--token-file", token], 5),
        (&["vm", "list", "--token-file", absent], 5),
        (&["vm", "list", "--hub", "http://127.0.0.1:1", "--token-file", token, "--ca-file", absent], 5),
        (&["vm", "lits"], 2),
    ];
    for (arguments, code) in cases {
        let output = migratekit().args(arguments).args(["--output", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let problem: Value = serde_json::from_slice(&output.stderr).unwrap();
        for field in ["detail", "kind", "title", "type", "remedy"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{arguments:?}: {problem}");
        }
        let output = run(arguments);
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
        assert!(!stderr(&output).contains("top-secret-token"));
    }
}
