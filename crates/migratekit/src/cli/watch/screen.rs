//! What is seen of a watched job: bars on a terminal, lines elsewhere, JSON for programs. Shows; waits for nothing.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use api::oma::events::HubEvent;
use api::oma::progress::{DiskProgress, EtaRange, JobProgress, Phase};
use api::progress::TimeShares;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::size::human_bytes;

use super::super::clock::{duration, stamp};
use super::super::output::{Reader, data, message};

/// Least time between two lines about the same phase where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Lengths of a bar that shows per cent.
const PERCENT: u64 = 100;

/// Where a job is shown.
pub enum Screen {
    /// A bar for each job and each of its disks.
    Bars(Box<Bars>),
    /// A line now and then.
    Lines(Lines),
    /// Every event as a line of JSON.
    Json,
    /// Nowhere: the outcome is shown at the end.
    Nothing,
}

impl Screen {
    /// Bars on a terminal, lines elsewhere.
    pub fn for_people() -> Self {
        if std::io::stderr().is_terminal() { Self::Bars(Box::new(Bars::new())) } else { Self::Lines(Lines::default()) }
    }

    /// A line of JSON for each event.
    pub fn for_programs() -> Self {
        Self::Json
    }

    /// Shows an event.
    pub fn show(&mut self, event: &HubEvent) -> Reader {
        match (self, event) {
            (Self::Json, HubEvent::Job(_) | HubEvent::Progress(_)) => {
                // One that cannot be written is no reason to stop watching.
                let text = serde_json::to_string(event).unwrap_or_default();
                return data(&text).unwrap_or(Reader::HasEnough);
            }
            (Self::Bars(bars), HubEvent::Progress(progress)) => bars.update(progress),
            (Self::Lines(lines), HubEvent::Progress(progress)) => {
                if let Some(line) = lines.line(progress, Instant::now()) {
                    message(&line);
                }
            }
            _ => {}
        }
        Reader::Reads
    }

    /// Says something beside it.
    pub fn say(&self, text: &str) {
        match self {
            // A line that cannot be drawn is not missed.
            Self::Bars(bars) => drop(bars.all.println(text)),
            Self::Lines(_) => message(text),
            Self::Json | Self::Nothing => {}
        }
    }

    /// Leaves the terminal as it was.
    pub fn finish(&self) {
        if let Self::Bars(bars) = self {
            bars.jobs.values().chain(bars.disks.values()).for_each(ProgressBar::finish_and_clear);
        }
    }
}

/// Bars on a terminal.
pub struct Bars {
    all: MultiProgress,
    jobs: HashMap<String, ProgressBar>,
    disks: HashMap<(String, String), ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), jobs: HashMap::new(), disks: HashMap::new() }
    }

    fn update(&mut self, progress: &JobProgress) {
        let all = &self.all;
        let job = self.jobs.entry(progress.job_id.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::new(PERCENT));
            bar.set_style(style("{prefix:14} {wide_bar:.cyan} {pos:>3} % {msg}").progress_chars("━╸─"));
            bar.set_prefix(progress.vm_name.clone());
            bar
        });
        job.set_position(whole_percent(progress.percent));
        job.set_message(about(progress));
        for disk in &progress.disks {
            let key = (progress.job_id.clone(), disk.disk_id.clone());
            let bar = self.disks.entry(key).or_insert_with(|| {
                let bar = all.add(ProgressBar::new(0));
                let template = "  {prefix:12} {wide_bar:.green} {bytes:>10}/{total_bytes:10} {msg}";
                bar.set_style(style(template).progress_chars("━╸─"));
                bar.set_prefix(disk.disk_id.clone());
                bar
            });
            let verifies = is_proving(progress.phase);
            let (done, total) =
                if verifies { (disk.verify_done, disk.verify_total) } else { (disk.copy_done, disk.copy_total) };
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(about_disk(disk, progress.phase));
        }
    }
}

/// Whether disks are past their copy.
fn is_proving(phase: Phase) -> bool {
    matches!(phase, Phase::Verifying | Phase::Committing | Phase::Releasing)
}

/// A style from a template of ours; the default one should a template ever be wrong.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 100")]
fn whole_percent(percent: f64) -> u64 {
    percent.clamp(0.0, 100.0).floor() as u64
}

/// Lines where there is no terminal.
#[derive(Default)]
pub struct Lines {
    told: HashMap<String, (Phase, Instant)>,
}

impl Lines {
    /// The line that is due: at each new phase, and now and then within one.
    fn line(&mut self, progress: &JobProgress, now: Instant) -> Option<String> {
        let is_told = self
            .told
            .get(&progress.job_id)
            .is_some_and(|(phase, at)| *phase == progress.phase && now.saturating_duration_since(*at) < LINE_INTERVAL);
        if is_told {
            return None;
        }
        self.told.insert(progress.job_id.clone(), (progress.phase, now));
        Some(format!("{}: {} %, {}", progress.vm_name, whole_percent(progress.percent), about(progress)))
    }
}

/// What a job is at, in words.
fn about(progress: &JobProgress) -> String {
    let mut text = progress.phase.to_string();
    if progress.work_total == 0 {
        return text;
    }
    let is_moving = matches!(progress.phase, Phase::Copying | Phase::Verifying);
    if is_moving {
        let (done, total) = (human_bytes(progress.work_done), human_bytes(progress.work_total));
        text.push_str(&format!(", {done} of {total}, {}/s", human_bytes(progress.speed_bps)));
    }
    match (progress.stalled_since, progress.eta) {
        (Some(since), _) => text.push_str(&format!(", nothing moves since {}", stamp(Some(since)))),
        (None, Some(eta)) => text.push_str(&format!(", {} left", range(eta))),
        (None, None) => {}
    }
    if let (Phase::Copying, Some(bound_by)) = (progress.phase, progress.bound_by) {
        text.push_str(&format!(", bound by: {bound_by}"));
    }
    text
}

fn about_disk(disk: &DiskProgress, phase: Phase) -> String {
    let is_copied = disk.copy_done == disk.copy_total;
    match phase {
        _ if disk.copy_total == 0 && !matches!(phase, Phase::Preparing | Phase::Snapshotting) => {
            "nothing changed".to_owned()
        }
        Phase::Copying if !is_copied => format!("{}/s", human_bytes(disk.speed_bps)),
        Phase::Copying => "copied".to_owned(),
        Phase::Verifying if disk.verify_done == disk.verify_total => "verified".to_owned(),
        other => other.to_string(),
    }
}

/// A range of time; one time where both ends say the same.
fn range(eta: EtaRange) -> String {
    let (low, high) = (duration(eta.low_seconds), duration(eta.high_seconds));
    if low == high { low } else { format!("{low} to {high}") }
}

/// Where the time went, and what it was bound by.
pub fn shares_text(shares: TimeShares) -> String {
    let parts = shares.parts().map(|(activity, share)| format!("{activity} {share} %"));
    format!("{} · bound by: {}", parts.join(", "), shares.largest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const GIB: u64 = 1 << 30;

    fn progress(phase: Phase) -> JobProgress {
        let shares = TimeShares { source_read: 60, hash: 10, network: 25, target_write: 5 };
        JobProgress {
            job_id: "job-1".to_owned(),
            tracking_id: "t".to_owned(),
            vm_context_id: "c".to_owned(),
            vm_name: "web1".to_owned(),
            phase,
            percent: 41.9,
            work_total: 4 * GIB,
            work_done: GIB,
            bytes_sent: GIB,
            speed_bps: 100 << 20,
            average_bps: 50 << 20,
            eta: Some(EtaRange { low_seconds: 10, high_seconds: 61 }),
            stalled_since: None,
            shares: Some(shares),
            bound_by: Some(shares.largest()),
            disks: Vec::new(),
            at: datetime!(2026-01-01 00:00:00 UTC),
        }
    }

    #[test]
    fn a_line_says_where_it_is_how_fast_how_long_and_why() {
        let copying = progress(Phase::Copying);
        let expected = "copying, 1.0 GiB of 4.0 GiB, 100.0 MiB/s, 10 s to 1 min 1 s left, bound by: source read";
        assert_eq!(about(&copying), expected);
        let stalled = JobProgress { stalled_since: Some(copying.at), eta: None, ..copying };
        assert!(about(&stalled).contains("nothing moves since 2026-01-01 00:00:00 UTC"), "{}", about(&stalled));
        let early = JobProgress { work_total: 0, work_done: 0, ..progress(Phase::Snapshotting) };
        assert_eq!(about(&early), "snapshotting");
        let text = shares_text(early.shares.unwrap());
        assert_eq!(text, "source read 60 %, hash 10 %, network 25 %, target write 5 % · bound by: source read");
    }

    #[test]
    fn without_a_terminal_a_phase_is_told_once_and_then_now_and_then() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let (copying, verifying) = (progress(Phase::Copying), progress(Phase::Verifying));
        let told = lines.line(&copying, now).unwrap();
        assert!(told.starts_with("web1: 41 %, copying"), "{told}");
        assert_eq!(lines.line(&copying, now + LINE_INTERVAL / 2), None);
        assert!(lines.line(&verifying, now + LINE_INTERVAL / 2).is_some());
        assert!(lines.line(&verifying, now + LINE_INTERVAL * 2).is_some());
    }

    #[test]
    fn a_disk_says_what_is_done_with_it() {
        let disk = DiskProgress { copy_total: 10, copy_done: 5, verify_total: 10, ..DiskProgress::default() };
        assert_eq!(about_disk(&disk, Phase::Copying), "0 B/s");
        let copied = DiskProgress { copy_done: 10, ..disk };
        assert_eq!(about_disk(&copied, Phase::Copying), "copied");
        assert_eq!(about_disk(&copied, Phase::Verifying), "verifying");
        assert_eq!(about_disk(&DiskProgress::default(), Phase::Copying), "nothing changed");
    }
}
