//! Numbers of replications for Prometheus: what the board shows, and nothing of its own.

use api::oma::progress::{JobProgress, Phase};
use runtime::metrics::Metrics;

use crate::progress::Board;

/// Running replications with numbers of their own, and disks of them: with four values each they stay below
/// [`runtime::metrics::MAX_SERIES`].
const MAX_SHOWN: usize = 200;

/// Adds them.
pub(super) fn of_replications(metrics: &Metrics, board: &Board) {
    let running = board.all();
    for phase in Phase::ALL {
        let at = running.iter().filter(|job| job.phase == phase).count();
        let labels = [("phase", phase.word())];
        set(metrics, "migratekit_oma_replications", "Replications under way, by phase.", &labels, at as u64);
    }
    let totals = board.totals();
    for (outcome, ended) in totals.ended {
        let help = "Replications that ended since the start.";
        metrics.counter("migratekit_oma_replications_ended_total", help, &[("outcome", outcome)]).add(ended);
    }
    let help = "Bytes of data sent by replications that ended since the start.";
    metrics.counter("migratekit_oma_ended_replications_sent_bytes_total", help, &[]).add(totals.bytes_sent);
    let help = "Leaves that differed when they were verified, since the start.";
    metrics.counter("migratekit_oma_verification_mismatched_leaves_total", help, &[]).add(totals.mismatched_leaves);
    for job in running.iter().take(MAX_SHOWN) {
        of_job(metrics, job);
    }
    let disks = running.iter().flat_map(|job| job.disks.iter().map(move |disk| (job, disk)));
    for (job, disk) in disks.take(MAX_SHOWN) {
        let name = [("vm", job.vm_name.as_str()), ("job", &job.job_id), ("disk", &disk.disk_id)];
        let help = "Bytes to copy and to verify of a disk.";
        let of_kind = |kind| [name[0], name[1], name[2], ("kind", kind)];
        set(metrics, "migratekit_oma_disk_work_bytes", help, &of_kind("copy"), disk.copy_total);
        set(metrics, "migratekit_oma_disk_work_bytes", help, &of_kind("verify"), disk.verify_total);
        let help = "Bytes copied and verified of a disk.";
        set(metrics, "migratekit_oma_disk_work_done_bytes", help, &of_kind("copy"), disk.copy_done);
        set(metrics, "migratekit_oma_disk_work_done_bytes", help, &of_kind("verify"), disk.verify_done);
        let help = "Bytes of data sent of a disk.";
        set(metrics, "migratekit_oma_disk_sent_bytes", help, &name, disk.bytes_sent);
        let help = "Bytes copied per second over the last seconds, of a disk.";
        set(metrics, "migratekit_oma_disk_speed_bytes_per_second", help, &name, disk.speed_bps);
        for (activity, share) in disk.shares.iter().flat_map(|shares| shares.parts()) {
            let labels = [name[0], name[1], name[2], ("activity", activity.label())];
            let help = "Where the time of copying a disk went, in per cent.";
            set(metrics, "migratekit_oma_disk_time_share_percent", help, &labels, share.into());
        }
    }
}

fn of_job(metrics: &Metrics, job: &JobProgress) {
    let name = [("vm", job.vm_name.as_str()), ("job", &job.job_id)];
    let is_at = [name[0], name[1], ("phase", job.phase.word())];
    set(metrics, "migratekit_oma_replication_phase", "The phase a replication is at.", &is_at, 1);
    // 0 to 100, so nothing is lost that anybody would see.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 100")]
    let percent = job.percent.clamp(0.0, 100.0).floor() as u64;
    let stalled_seconds = job.stalled_since.map_or(0, |since| (job.at - since).whole_seconds().max(0).unsigned_abs());
    let values: [(&'static str, &'static str, u64); 7] = [
        ("migratekit_oma_replication_percent", "How far a replication is; it never falls.", percent),
        ("migratekit_oma_replication_work_bytes", "Bytes to copy and to verify.", job.work_total),
        ("migratekit_oma_replication_work_done_bytes", "Bytes copied and verified.", job.work_done),
        ("migratekit_oma_replication_sent_bytes", "Bytes of data sent.", job.bytes_sent),
        ("migratekit_oma_replication_speed_bytes_per_second", "Speed over the last seconds.", job.speed_bps),
        ("migratekit_oma_replication_average_bytes_per_second", "Speed since the phase began.", job.average_bps),
        ("migratekit_oma_replication_stalled_seconds", "How long nothing has moved; 0 when it does.", stalled_seconds),
    ];
    for (metric, help, value) in values {
        set(metrics, metric, help, &name, value);
    }
    for (bound, seconds) in job.eta.iter().flat_map(|eta| [("low", eta.low_seconds), ("high", eta.high_seconds)]) {
        let labels = [name[0], name[1], ("bound", bound)];
        set(metrics, "migratekit_oma_replication_eta_seconds", "Seconds left; absent while unknown.", &labels, seconds);
    }
    for (activity, share) in job.shares.iter().flat_map(|shares| shares.parts()) {
        let labels = [name[0], name[1], ("activity", activity.label())];
        let help = "Where the time of copying went, in per cent.";
        set(metrics, "migratekit_oma_replication_time_share_percent", help, &labels, share.into());
    }
}

fn set(metrics: &Metrics, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
    metrics.gauge(name, help, labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::JobName;

    fn name(job_id: &str) -> JobName {
        JobName {
            job_id: job_id.to_owned(),
            tracking_id: "t".to_owned(),
            vm_context_id: "c".to_owned(),
            vm_name: "we\"b\n1".to_owned(),
        }
    }

    #[test]
    fn labels_are_escaped_and_bounded_however_many_run() {
        let board = Board::default();
        for number in 0..MAX_SHOWN + 50 {
            board.entered(&name(&format!("job-{number:05}")), Phase::Preparing, 12.9);
        }
        let metrics = Metrics::default();
        of_replications(&metrics, &board);
        let text = metrics.render();
        assert!(text.contains("migratekit_oma_replications{phase=\"preparing\"} 250\n"), "{text}");
        assert!(text.contains("migratekit_oma_replication_percent{vm=\"we\\\"b\\n1\",job=\"job-00000\"} 12\n"));
        let shown = text.lines().filter(|line| line.starts_with("migratekit_oma_replication_percent{")).count();
        assert_eq!(shown, MAX_SHOWN);
        assert!(!text.contains("overflow"));
    }
}
