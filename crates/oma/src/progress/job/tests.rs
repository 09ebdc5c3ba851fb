//! A replication from its first to its last phase, second by second.

use api::progress::Activity;
use time::macros::datetime;

use super::*;

const MIB: u64 = 1 << 20;

fn at(seconds: u64) -> Moment {
    let since = Duration::from_secs(seconds);
    Moment { since, at: datetime!(2026-01-01 00:00:00 UTC) + since }
}

fn job() -> Job {
    let text = |text: &str| text.to_owned();
    let name =
        JobName { job_id: text("job-1"), tracking_id: text("t"), vm_context_id: text("c"), vm_name: text("web1") };
    Job::new(&name, at(0))
}

/// A run with one disk of 100 MiB.
fn run(phase: RunPhase, done_mib: u64, speed_mib: u64, average_mib: u64, time: TimeSpent) -> RunView {
    let disk = RunDiskView {
        disk_id: "disk-2000".to_owned(),
        sync_mode: None,
        reason: None,
        change_id: None,
        bytes_total: 100 * MIB,
        bytes_done: done_mib * MIB,
        bytes_read: done_mib * MIB,
        bytes_sent: done_mib * MIB / 2,
        bytes_zero: 0,
        extents: 1,
        speed_bps: speed_mib * MIB,
        eta_seconds: None,
        average_bps: average_mib * MIB,
        time,
        durable: false,
        bytes_to_scrub: 0,
        bytes_kept: 0,
        bytes_on_wire: 0,
        compressed_share_percent: None,
        compression_ratio_percent: None,
    };
    let (vm_snapshot, error, ended_at) = (None, None, None);
    let started_at = at(0).at;
    let (job_id, disks) = ("job-1".to_owned(), vec![disk]);
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

fn spent(source_read_ms: u64, hash_ms: u64, deliver_ms: u64) -> TimeSpent {
    TimeSpent { source_read_ms, hash_ms, deliver_ms }
}

fn device(device_ms: u64) -> DiskWork {
    HashMap::from([("disk-2000".to_owned(), ExportWork { device_ms, leaves_verified: None })])
}

#[test]
fn copying_and_verifying_are_one_work_and_the_percentage_never_falls() {
    let mut job = job();
    job.copied(&run(RunPhase::Copying, 10, 10, 5, spent(0, 0, 0)), &device(7000), 7.0, at(2));
    let view = job.view();
    assert_eq!((view.work_total, view.work_done, view.bytes_sent), (200 * MIB, 10 * MIB, 5 * MIB));
    assert_eq!(view.eta, Some(EtaRange { low_seconds: 9, high_seconds: 38 }));
    assert_eq!((view.shares, view.bound_by), (None, None));

    // The agent was killed and begins anew.
    job.copied(&run(RunPhase::Copying, 2, 2, 2, spent(0, 0, 0)), &device(7000), 4.0, at(3));
    assert!((job.view().percent - 7.0).abs() < f64::EPSILON);
    assert_eq!(job.view().work_done, 2 * MIB);

    job.copied(&run(RunPhase::Copied, 100, 0, 0, spent(60, 20, 20)), &device(7010), 50.0, at(20));
    assert_eq!((job.view().phase, job.view().eta), (Phase::Verifying, None));
    for second in 1..=4 {
        job.verified("disk-2000", second * 160, at(20 + second));
    }
    let view = job.view();
    assert_eq!((view.work_done, view.speed_bps), (140 * MIB, 10 * MIB));
    assert_eq!(view.eta, Some(EtaRange { low_seconds: 6, high_seconds: 6 }));
    // With full coverage more leaves are looked at than were copied.
    job.verified("disk-2000", 4000, at(25));
    assert_eq!((job.view().work_done, job.view().eta.unwrap().high_seconds), (200 * MIB, 0));
    assert!((job.share_verified() - 1.0).abs() < f64::EPSILON);
    job.reached(99.0);
    job.reached(98.0);
    assert!((job.view().percent - 99.0).abs() < f64::EPSILON);
}

#[test]
fn the_device_s_time_is_taken_from_what_delivering_took_also_over_a_restart_of_the_gateway() {
    let mut job = job();
    let copying = |time| run(RunPhase::Copying, 10, 1, 1, time);
    job.copied(&copying(spent(0, 0, 0)), &device(7000), 1.0, at(1));
    job.copied(&copying(spent(10, 10, 80)), &device(7050), 1.0, at(2));
    let shares = job.view().shares.unwrap();
    assert_eq!(shares, TimeShares { source_read: 10, hash: 10, network: 30, target_write: 50 });
    assert_eq!(job.view().bound_by, Some(Activity::TargetWrite));
    assert_eq!(job.view().disks[0].shares, Some(shares));
    job.copied(&copying(spent(10, 10, 80)), &device(10), 1.0, at(3));
    assert_eq!(job.view().shares.unwrap().target_write, 60);
    // A gateway that does not answer takes nothing away.
    job.copied(&copying(spent(10, 10, 80)), &HashMap::new(), 1.0, at(4));
    assert_eq!(job.view().shares.unwrap().target_write, 60);
}

#[test]
fn what_stands_still_says_since_when() {
    let mut job = job();
    let stuck = run(RunPhase::Copying, 10, 0, 1, spent(0, 0, 0));
    for second in 1..=40 {
        job.copied(&stuck, &HashMap::new(), 1.0, at(second));
        let expected = (second >= 31).then(|| at(1).at);
        assert_eq!(job.view().stalled_since, expected, "at {second} s");
    }
    assert_eq!(job.view().eta, None, "nobody knows");
    job.copied(&run(RunPhase::Copying, 11, 1, 1, spent(0, 0, 0)), &HashMap::new(), 1.0, at(41));
    assert_eq!(job.view().stalled_since, None);
    for second in 42..90 {
        job.copied(&run(RunPhase::Flushing, 11, 0, 1, spent(0, 0, 0)), &HashMap::new(), 1.0, at(second));
    }
    assert_eq!(job.view().stalled_since, None, "a flush moves nothing that is counted");
}
