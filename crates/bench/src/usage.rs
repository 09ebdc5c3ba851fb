//! What processes used, as the kernel counts it: processor time and the most memory, theirs and their children's.

use std::collections::HashMap;
use std::fs;
use std::io;

/// Ticks of `/proc/PID/stat` in a second (`USER_HZ`, the same on every Linux this runs on).
const TICKS_PER_SECOND: f64 = 100.0;
/// Written to `/proc/PID/clear_refs` it makes the peak of memory begin anew (proc(5)).
const RESET_PEAK: &str = "5";

/// What a measured piece of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// User and system time of all processes, in seconds.
    pub cpu_seconds: f64,
    /// Most memory the largest process had, in bytes.
    pub peak_bytes: u64,
    /// The peaks of all processes added up, in bytes.
    pub peak_sum_bytes: u64,
}

/// Watches processes from now on; what they used before does not count.
#[derive(Debug)]
pub struct Meter {
    /// Root processes and what they had used at the beginning.
    roots: Vec<(u32, f64)>,
    peaks: HashMap<u32, u64>,
}

impl Meter {
    /// Begins with processes that run already.
    #[must_use]
    pub fn begin(pids: &[u32]) -> Self {
        for pid in pids.iter().flat_map(|pid| tree(*pid)) {
            // Not every kernel can; then the peak is the one since the process began.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK);
        }
        Self { roots: pids.iter().map(|&pid| (pid, cpu_seconds(pid))).collect(), peaks: HashMap::new() }
    }

    /// Adds a process that has just begun: all it uses counts.
    pub fn add(&mut self, pid: u32) {
        self.roots.push((pid, 0.0));
    }

    /// Looks at the memory; the peak of a process that ends between two looks is the one of the look before.
    pub fn look(&mut self) {
        for pid in self.roots.iter().flat_map(|(root, _)| tree(*root)).collect::<Vec<_>>() {
            let peak = fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| peak_bytes(&text));
            let known = self.peaks.entry(pid).or_default();
            *known = peak.unwrap_or_default().max(*known);
        }
    }

    /// Most memory a process was seen to have, in bytes.
    #[must_use]
    pub fn peak_bytes(&self, pid: u32) -> u64 {
        self.peaks.get(&pid).copied().unwrap_or_default()
    }

    /// What was used. Processes that have ended must not have been reaped yet.
    #[must_use]
    pub fn end(mut self) -> Usage {
        self.look();
        Usage {
            cpu_seconds: self.roots.iter().map(|(pid, before)| cpu_seconds(*pid) - before).sum(),
            peak_bytes: self.peaks.values().copied().max().unwrap_or_default(),
            peak_sum_bytes: self.peaks.values().sum(),
        }
    }
}

/// A process with all its descendants.
#[must_use]
pub fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        found.extend(children(pid).unwrap_or_default());
        at += 1;
    }
    found
}

fn children(pid: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("children"))?;
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(found)
}

/// Processor time of a process and its descendants, living and reaped, in seconds.
fn cpu_seconds(root: u32) -> f64 {
    let ticks = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|text| cpu_ticks(&text));
    let all: u64 = tree(root).into_iter().filter_map(ticks).sum();
    #[allow(clippy::cast_precision_loss, reason = "ticks of minutes, not of millennia")]
    let seconds = all as f64 / TICKS_PER_SECOND;
    seconds
}

/// utime, stime, cutime and cstime of `/proc/PID/stat`: fields 14 to 17. The name in field 2 may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<u64> = fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// `VmHWM` of `/proc/PID/status`.
fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "77 (a) b (c)) S 1 77 77 0 -1 4194560 100 0 0 0 12 34 5 6 20 0 1 0 100 1000 10";
        assert_eq!(cpu_ticks(stat), Some(57));
        assert_eq!(cpu_ticks("77 (a) Z"), None);
        assert_eq!(peak_bytes("Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(peak_bytes("Name:\ta\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_process_that_works_is_seen_working() {
        let own = std::process::id();
        let mut meter = Meter::begin(&[own]);
        let mut seen = 0u64;
        while cpu_seconds(own) - meter.roots[0].1 < 0.03 {
            seen = seen.wrapping_add(blake3::hash(&seen.to_le_bytes()).as_bytes()[0].into());
        }
        meter.look();
        let usage = meter.end();
        assert!(usage.cpu_seconds >= 0.03 && usage.peak_bytes > 1 << 20, "{usage:?} {seen}");
        assert!(usage.peak_sum_bytes >= usage.peak_bytes);
    }
}
