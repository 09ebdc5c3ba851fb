//! `/metrics` of the agent: its runs under way in the Prometheus text format. Only on this machine; what it cannot tell
//! (how the network and the target share the time) only the hub can.

use api::vma::{RunDiskView, RunPhase, RunView};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use runtime::metrics::{CONTENT_TYPE, Metrics};

use super::AgentState;
use crate::runs::phase_text;

/// Disks with numbers of their own: with three values each they stay below [`runtime::metrics::MAX_SERIES`].
const MAX_SHOWN_DISKS: usize = 300;

pub(super) async fn metrics(State(state): State<AgentState>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], rendered(&state.runs.views())).into_response()
}

fn rendered(runs: &[RunView]) -> String {
    let metrics = Metrics::default();
    let is_under_way =
        |run: &&RunView| !matches!(run.phase, RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled);
    let active: Vec<&RunView> = runs.iter().filter(is_under_way).collect();
    metrics.gauge("migratekit_agent_up", "The agent runs.", &[]).set(1);
    let count = i64::try_from(active.len()).unwrap_or(i64::MAX);
    metrics.gauge("migratekit_agent_runs", "Runs under way.", &[]).set(count);
    for run in active.iter().take(MAX_SHOWN_DISKS) {
        let labels = [("job", run.job_id.as_str()), ("phase", phase_text(run.phase))];
        metrics.gauge("migratekit_agent_run_phase", "The phase a run is at.", &labels).set(1);
    }
    let disks = active.iter().flat_map(|run| run.disks.iter().map(|disk| (run.job_id.as_str(), disk)));
    disks.take(MAX_SHOWN_DISKS).for_each(|(job_id, disk)| of_disk(&metrics, job_id, disk));
    metrics.render()
}

fn of_disk(metrics: &Metrics, job_id: &str, disk: &RunDiskView) {
    let name = [("job", job_id), ("disk", disk.disk_id.as_str())];
    let values = [
        ("migratekit_agent_disk_work_bytes", "Bytes of a disk to copy.", disk.bytes_total),
        ("migratekit_agent_disk_work_done_bytes", "Bytes of a disk copied.", disk.bytes_done),
        ("migratekit_agent_disk_read_bytes", "Bytes of a disk read from the source.", disk.bytes_read),
        ("migratekit_agent_disk_sent_bytes", "Bytes of data of a disk sent.", disk.bytes_sent),
        ("migratekit_agent_disk_zero_bytes", "Bytes of a disk that were zero.", disk.bytes_zero),
        ("migratekit_agent_disk_speed_bytes_per_second", "Speed of a disk over the last seconds.", disk.speed_bps),
        ("migratekit_agent_disk_average_bytes_per_second", "Speed of a disk since it began.", disk.average_bps),
    ];
    let set = |metric, help, labels: &[(&str, &str)], value: u64| {
        metrics.gauge(metric, help, labels).set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    for (metric, help, value) in values {
        set(metric, help, &name, value);
    }
    let times =
        [("source_read", disk.time.source_read_ms), ("hash", disk.time.hash_ms), ("deliver", disk.time.deliver_ms)];
    for (activity, milliseconds) in times {
        let labels = [name[0], name[1], ("activity", activity)];
        set("migratekit_agent_disk_time_milliseconds", "What a disk's threads spent time on.", &labels, milliseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::progress::TimeSpent;
    use time::OffsetDateTime;

    fn run(job_id: &str, phase: RunPhase) -> RunView {
        let disk = RunDiskView {
            disk_id: "disk-2000".to_owned(),
            sync_mode: None,
            reason: None,
            change_id: None,
            bytes_total: 100,
            bytes_done: 40,
            bytes_read: 50,
            bytes_sent: 30,
            bytes_zero: 10,
            extents: 1,
            speed_bps: 7,
            eta_seconds: None,
            average_bps: 5,
            time: TimeSpent { source_read_ms: 1, hash_ms: 2, deliver_ms: 3 },
            durable: false,
            bytes_to_scrub: 0,
            bytes_kept: 0,
            bytes_on_wire: 0,
            compressed_share_percent: None,
            compression_ratio_percent: None,
        };
        let (vm_snapshot, error, ended_at) = (None, None, None);
        let started_at = OffsetDateTime::UNIX_EPOCH;
        let (job_id, disks) = (job_id.to_owned(), vec![disk]);
        let (resumed, bytes_kept, waiting_for_hub) = Default::default();
        RunView {
            job_id,
            phase,
            vm_snapshot,
            quiesced: false,
            disks,
            error,
            started_at,
            ended_at,
            resumed,
            bytes_kept,
            waiting_for_hub,
        }
    }

    #[test]
    fn only_runs_under_way_have_numbers() {
        let text = rendered(&[run("job-1", RunPhase::Copying), run("job-2", RunPhase::Failed)]);
        for line in [
            "migratekit_agent_runs 1",
            "migratekit_agent_run_phase{job=\"job-1\",phase=\"copying\"} 1",
            "migratekit_agent_disk_work_done_bytes{job=\"job-1\",disk=\"disk-2000\"} 40",
            "migratekit_agent_disk_time_milliseconds{job=\"job-1\",disk=\"disk-2000\",activity=\"deliver\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
        assert!(!text.contains("job-2"), "{text}");
    }
}
