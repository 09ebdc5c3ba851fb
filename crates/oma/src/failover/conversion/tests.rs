//! The runner with stand-ins for the tool: shell scripts that read the description as the tool does.

use std::process::Command as Blocking;

use super::*;

/// Longest anything may take here.
const SOON: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Where the process that is to die finds its folder.
const DYING: &str = "MIGRATEKIT_TEST_DYING_FOLDER";

/// Reads the description; `$1` is the path of the first disk afterwards, and "$@" those of all.
const READ_DISKS: &str = r#"
test "$1 $2 $3 $4" = "-i libvirtxml --root single" || exit 64
eval set -- $(sed -n "s/.*<source dev='\([^']*\)'.*/\1/p" "$5")
"#;

fn stand_in(folder: &Path, script: &str) -> Tool {
    let path = folder.join(PROGRAM);
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    find_in([folder.join("absent"), folder.to_owned()]).unwrap()
}

fn disk(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, b"vmware").unwrap();
    path
}

fn is_alive(pid: &str) -> bool {
    // A zombie has no command line any more.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

fn written(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.ends_with('\n').then(|| text.trim().to_owned())
}

#[tokio::test]
async fn the_disks_are_changed_and_every_line_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{READ_DISKS}
        echo "[   0.0] Setting up the source: $#"
        printf virtio > "$2"
        printf "warning: there are no drivers for that\n" >&2
        printf "   50%%\r"
        printf "[   1.0] Finishing off""#
    );
    let tool = stand_in(folder.path(), &script);
    let disks = [disk(folder.path(), "data.img"), disk(folder.path(), "boot.img")];
    let mut lines = Vec::new();
    let token = CancellationToken::new();
    let report = run(&tool, &disks, Firmware::Efi, SOON, &token, |line| lines.push(line.to_owned())).await.unwrap();
    assert_eq!(std::fs::read(&disks[0]).unwrap(), b"vmware");
    assert_eq!(std::fs::read(&disks[1]).unwrap(), b"virtio", "the second disk is the second");
    assert_eq!((report.lines, report.warnings.len()), (4, 1), "{lines:?}");
    assert!(lines.contains(&"[   0.0] Setting up the source: 2".to_owned()), "{lines:?}");
    assert!(lines.contains(&"[   1.0] Finishing off".to_owned()), "{lines:?}");
    assert!(report.warnings[0].contains("no drivers"), "{report:?}");
}

#[tokio::test]
async fn a_failure_tells_how_it_ended_and_what_was_said_last() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        seq 1 100
        echo "virt-v2v-in-place: error: inspection could not detect the source guest" >&2
        exit 3"#;
    let tool = stand_in(folder.path(), script);
    let disks = [disk(folder.path(), "boot.img")];
    let error = run(&tool, &disks, Firmware::Bios, SOON, &CancellationToken::new(), |_| {}).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit status: 3") && text.contains("could not detect the source guest"), "{text}");
    assert_eq!(error.kind(), FailureKind::Conflict);
    assert!(error.remedy().unwrap().contains("not shut down cleanly"));
    let ConversionError::Failed { last_lines, .. } = error else { panic!("{error}") };
    assert_eq!(last_lines.len(), KEPT_LINES);
}

#[tokio::test]
async fn one_that_says_nothing_is_stopped_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"cd "${0%/*}"; sleep 1000 & echo $! > child.pid; echo $$ > pid; echo begun; wait"#;
    let tool = stand_in(folder.path(), script);
    let disks = [disk(folder.path(), "boot.img")];
    let limit = Duration::from_secs(3);
    let token = CancellationToken::new();
    let running = run(&tool, &disks, Firmware::Bios, limit, &token, |_| {});
    let error = timeout(SOON, running).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("said nothing for 3 s") && error.to_string().contains("begun"), "{error}");
    assert!(error.remedy().is_some() && !error.kind().is_transient());
    for file in ["pid", "child.pid"] {
        let pid = written(&folder.path().join(file)).unwrap();
        until("its end", || !is_alive(&pid)).await;
    }
}

#[tokio::test]
async fn one_that_goes_on_talking_is_not_stopped_however_long_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    // Without a line's end: a progress bar is progress.
    let tool = stand_in(folder.path(), "for n in 1 2 3 4 5 6 7 8; do printf .; sleep 0.5; done");
    let disks = [disk(folder.path(), "boot.img")];
    let limit = Duration::from_secs(3);
    let report = run(&tool, &disks, Firmware::Bios, limit, &CancellationToken::new(), |_| {}).await.unwrap();
    assert!(report.seconds > limit.as_secs_f64(), "{report:?}");
}

#[tokio::test]
async fn a_stop_and_a_dropped_future_end_it_before_they_return_or_soon_after() {
    let folder = tempfile::tempdir().unwrap();
    let tool = stand_in(folder.path(), r#"echo $$ > "${0%/*}/pid"; exec sleep 1000"#);
    let disks = [disk(folder.path(), "boot.img")];
    let pid_file = folder.path().join("pid");
    let token = CancellationToken::new();
    let running = run(&tool, &disks, Firmware::Bios, SOON * 2, &token, |_| {});
    let stopping = async {
        until("the tool", || written(&pid_file).is_some()).await;
        token.cancel();
    };
    let (ended, ()) = tokio::join!(running, stopping);
    assert!(matches!(ended, Err(ConversionError::Cancelled)), "{ended:?}");
    assert!(!is_alive(&written(&pid_file).unwrap()), "it returned while the tool could still write");

    std::fs::remove_file(&pid_file).unwrap();
    let token = CancellationToken::new();
    let running = run(&tool, &disks, Firmware::Bios, SOON * 2, &token, |_| {});
    tokio::select! {
        ended = running => panic!("{ended:?}"),
        () = until("the tool", || written(&pid_file).is_some()) => {}
    }
    let pid = written(&pid_file).unwrap();
    until("its end", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn what_it_leaves_behind_is_killed_or_at_least_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let disks = [disk(folder.path(), "boot.img")];
    let token = CancellationToken::new();
    for (leaving, is_killed) in [("sh", true), ("setsid sh", false)] {
        let pid_file = folder.path().join(leaving);
        let script = format!(
            r#"{leaving} -c 'echo $$ > "$0"; exec sleep 1000' "${{0%/*}}/{leaving}" &
            until [ -s "${{0%/*}}/{leaving}" ]; do sleep 0.05; done
            echo done"#
        );
        let tool = stand_in(folder.path(), &script);
        let running = run(&tool, &disks, Firmware::Bios, SOON * 2, &token, |_| {});
        let report = timeout(SOON, running).await.unwrap().unwrap();
        assert_eq!(report.lines, 1);
        let pid = written(&pid_file).unwrap();
        if is_killed {
            until("its end", || !is_alive(&pid)).await;
        } else {
            rustix::process::kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        }
    }
}

#[tokio::test]
async fn what_cannot_be_started_or_told_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let tool = stand_in(folder.path(), "exit 0");
    let relative = [PathBuf::from("boot.img")];
    let error = run(&tool, &relative, Firmware::Bios, SOON, &CancellationToken::new(), |_| {}).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid, "{error}");
    let gone = Tool { path: folder.path().join("gone") };
    let disks = [disk(folder.path(), "boot.img")];
    let error = run(&gone, &disks, Firmware::Bios, SOON, &CancellationToken::new(), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    let error = spawn(Command::new(folder.path().join("gone"))).unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert!(error.remedy().unwrap().contains("util-linux"));
}

#[test]
fn only_a_program_that_may_be_run_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(PROGRAM);
    assert_eq!(find_in([folder.path().to_owned()]), None);
    std::fs::write(&path, "not a program").unwrap();
    assert_eq!(find_in([folder.path().to_owned()]), None);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(find_in([folder.path().to_owned()]).unwrap().path(), path);
}

/// Runs in a process of its own, which the test below starts and which dies without any farewell.
#[tokio::test(flavor = "multi_thread")]
async fn dies_while_the_tool_runs() {
    let Some(folder) = std::env::var_os(DYING).map(PathBuf::from) else { return };
    let tool = find_in([folder.clone()]).unwrap();
    let disks = [folder.join("boot.img")];
    let token = CancellationToken::new();
    let running = run(&tool, &disks, Firmware::Bios, SOON, &token, |_| {});
    // Within the race: after it the losing future would be dropped, which ends the tool in another way.
    let dying = async {
        until("the tool", || written(&folder.join("pid")).is_some()).await;
        std::process::abort();
    };
    let (ended, ()) = tokio::join!(running, dying);
    panic!("it lives: {ended:?}");
}

#[tokio::test]
async fn the_tool_dies_with_the_process_that_started_it() {
    let folder = tempfile::tempdir().unwrap();
    stand_in(folder.path(), r#"echo $$ > "${0%/*}/pid"; exec sleep 1000"#);
    disk(folder.path(), "boot.img");
    let itself = std::env::current_exe().unwrap();
    let output = Blocking::new(itself)
        .args(["--exact", "failover::conversion::tests::dies_while_the_tool_runs"])
        .env(DYING, folder.path())
        .output()
        .unwrap();
    assert!(!output.status.success(), "it did not die: {output:?}");
    let pid = written(&folder.path().join("pid")).expect("the tool did not run");
    until("the tool's end", || !is_alive(&pid)).await;
}
