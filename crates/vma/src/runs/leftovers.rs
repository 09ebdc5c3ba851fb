//! Folders of runs that nobody goes on with: removed when the agent starts and when their VM is run again.

use std::io;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::record::RunRecord;

/// Runs older than this are not gone on with.
const MAX_AGE: Duration = Duration::days(30);
/// Files that never outlast a process: passwords for readers and their sockets.
const OF_A_PROCESS: [&str; 2] = ["password", "sock"];

/// Removes what no run can go on with, and what may hold passwords.
pub(crate) fn tidy_up(runs: &Path, now: OffsetDateTime) -> io::Result<()> {
    each(runs, |folder, record| match record {
        Some(record) if now - record.started_at < MAX_AGE => forget_secrets(folder),
        _ => remove(folder),
    })
}

/// Removes the folders of `is_over`'s runs.
pub(super) fn forget(runs: &Path, is_over: impl Fn(&RunRecord) -> bool) -> io::Result<()> {
    each(runs, |folder, record| if record.is_some_and(|record| is_over(&record)) { remove(folder) } else { Ok(()) })
}

fn each(runs: &Path, mut visit: impl FnMut(&Path, Option<RunRecord>) -> io::Result<()>) -> io::Result<()> {
    let entries = match std::fs::read_dir(runs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            visit(&entry.path(), RunRecord::load(&entry.path()))?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> io::Result<()> {
    tracing::info!(folder = %folder.display(), "a run nobody goes on with is forgotten");
    std::fs::remove_dir_all(folder)
}

fn forget_secrets(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| OF_A_PROCESS.iter().any(|of| kind == *of)) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(runs: &Path, job_id: &str, vm: &str, started_at: OffsetDateTime) {
        let folder = runs.join(job_id);
        std::fs::create_dir_all(&folder).unwrap();
        let text = serde_json::json!({
            "version": 1, "job_id": job_id, "moref": vm, "instance_uuid": vm,
            "generation": "0".repeat(32), "vm_snapshot": "snapshot-1", "quiesced": false,
            "started_at": started_at.format(&time::format_description::well_known::Rfc3339).unwrap(), "resumed": 0,
            "disks": [{ "disk_id": "disk-2000", "disk_uuid": "u", "capacity_bytes": 512, "export_name": "e",
                "change_source": "cbt", "previous_change_id": null, "change_id": null, "mode": "full", "reason": "r" }],
        });
        runtime::private_file::write(&folder.join("run.json"), text.to_string().as_bytes()).unwrap();
        for name in ["disk-2000.digests", "disk-2000.password", "disk-2000.sock"] {
            std::fs::write(folder.join(name), b"x").unwrap();
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_nobody_can_go_on_with_goes_and_so_does_every_password() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        tidy_up(&folder.path().join("not there"), now).unwrap();
        run_of(folder.path(), "job-young", "vm-1", now - Duration::days(29));
        run_of(folder.path(), "job-old", "vm-1", now - Duration::days(31));
        std::fs::create_dir(folder.path().join("job-of-an-earlier-version")).unwrap();
        tidy_up(folder.path(), now).unwrap();
        assert_eq!(names(folder.path()), ["job-young"]);
        assert_eq!(names(&folder.path().join("job-young")), ["disk-2000.digests", "run.json"]);
    }

    #[test]
    fn runs_of_another_vm_stay() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        for (job_id, vm) in [("job-1", "vm-1"), ("job-2", "vm-1"), ("job-3", "vm-2")] {
            run_of(folder.path(), job_id, vm, now);
        }
        forget(folder.path(), |record| record.instance_uuid == "vm-1" && record.job_id != "job-2").unwrap();
        assert_eq!(names(folder.path()), ["job-2", "job-3"]);
    }
}
