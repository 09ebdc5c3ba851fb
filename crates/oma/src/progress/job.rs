//! One replication's numbers, made of what agent and gateway say. Pure: it is given the moment.

use std::collections::HashMap;
use std::time::Duration;

use api::gateway::ExportWork;
use api::oma::progress::{DiskProgress, EtaRange, JobProgress, Phase};
use api::progress::{TimeShares, TimeSpent};
use api::vma::{RunDiskView, RunPhase, RunView};
use model::LEAF_SIZE_BYTES;
use model::pace::{Eta, Pace};
use time::OffsetDateTime;

use super::{DiskWork, JobName};

/// When something was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Since the process began: for speeds.
    pub(super) since: Duration,
    /// By the clock: for people.
    pub(super) at: OffsetDateTime,
}

/// A replication under way.
pub(super) struct Job {
    view: JobProgress,
    /// Of the work in the present phase: tells stalls, and the speed of a verification.
    pace: Pace,
    /// The phase has begun, and its work is still to be summed.
    is_new_phase: bool,
    devices: HashMap<String, DeviceTime>,
}

/// How long the target's device worked for a disk in this job: the gateway only counts on.
#[derive(Debug, Clone, Copy, Default)]
struct DeviceTime {
    last_ms: Option<u64>,
    sum_ms: u64,
}

impl DeviceTime {
    fn note(&mut self, device_ms: u64) {
        let more = match self.last_ms {
            None => 0,
            // A gateway that was restarted begins at nothing.
            Some(last) => device_ms.checked_sub(last).unwrap_or(device_ms),
        };
        self.sum_ms = self.sum_ms.saturating_add(more);
        self.last_ms = Some(device_ms);
    }
}

impl Job {
    pub(super) fn new(name: &JobName, moment: Moment) -> Self {
        let view = JobProgress {
            job_id: name.job_id.clone(),
            tracking_id: name.tracking_id.clone(),
            vm_context_id: name.vm_context_id.clone(),
            vm_name: name.vm_name.clone(),
            phase: Phase::Preparing,
            percent: 0.0,
            work_total: 0,
            work_done: 0,
            bytes_sent: 0,
            speed_bps: 0,
            average_bps: 0,
            eta: None,
            stalled_since: None,
            shares: None,
            bound_by: None,
            disks: Vec::new(),
            at: moment.at,
        };
        Self { view, pace: Pace::default(), is_new_phase: true, devices: HashMap::new() }
    }

    pub(super) fn view(&self) -> &JobProgress {
        &self.view
    }

    pub(super) fn entered(&mut self, phase: Phase, percent: f64, moment: Moment) {
        self.at_phase(phase, percent, moment);
        self.update(moment);
    }

    pub(super) fn copied(&mut self, run: &RunView, work: &DiskWork, percent: f64, moment: Moment) {
        self.at_phase(phase_of(run.phase).unwrap_or(self.view.phase), percent, moment);
        let (mut spent, mut device_ms) = (TimeSpent::default(), 0_u64);
        let mut disks = Vec::with_capacity(run.disks.len());
        for disk in &run.disks {
            let device = self.devices.entry(disk.disk_id.clone()).or_default();
            if let Some(ExportWork { device_ms, .. }) = work.get(&disk.disk_id) {
                device.note(*device_ms);
            }
            spent = spent.plus(disk.time);
            device_ms = device_ms.saturating_add(device.sum_ms.min(disk.time.deliver_ms));
            let verified = self.view.disks.iter().find(|known| known.disk_id == disk.disk_id);
            let verified = verified.map_or(0, |known| known.verify_done);
            disks.push(of_disk(disk, verified, device.sum_ms));
        }
        self.view.disks = disks;
        self.view.bytes_sent = run.disks.iter().map(|disk| disk.bytes_sent).sum();
        self.view.shares = TimeShares::of(spent, device_ms);
        self.view.bound_by = self.view.shares.map(TimeShares::largest);
        self.update(moment);
        if self.view.phase == Phase::Copying {
            // Measured where the bytes are read, the agent's speeds are steadier than those of its answers.
            self.view.speed_bps = run.disks.iter().map(|disk| disk.speed_bps).sum();
            self.view.average_bps = run.disks.iter().map(|disk| disk.average_bps).sum();
            self.view.eta = self.eta();
        }
    }

    /// It is at that percentage of the whole, or was further before.
    pub(super) fn reached(&mut self, percent: f64) {
        self.view.percent = percent.max(self.view.percent);
    }

    /// 0 to 1; 0 when there is nothing to verify.
    #[allow(clippy::cast_precision_loss, reason = "a share for people")]
    pub(super) fn share_verified(&self) -> f64 {
        let sum = |of: fn(&DiskProgress) -> u64| self.view.disks.iter().map(of).fold(0, u64::saturating_add);
        let (done, total) = (sum(|disk| disk.verify_done), sum(|disk| disk.verify_total));
        if total == 0 { 0.0 } else { done as f64 / total as f64 }
    }

    pub(super) fn verified(&mut self, disk_id: &str, leaves: u64, moment: Moment) {
        self.at_phase(Phase::Verifying, 0.0, moment);
        if let Some(disk) = self.view.disks.iter_mut().find(|disk| disk.disk_id == disk_id) {
            let bytes = leaves.saturating_mul(LEAF_SIZE_BYTES).min(disk.verify_total);
            disk.verify_done = bytes.max(disk.verify_done);
        }
        self.update(moment);
    }

    fn at_phase(&mut self, phase: Phase, percent: f64, moment: Moment) {
        if phase != self.view.phase {
            self.view.phase = phase;
            self.is_new_phase = true;
        }
        self.reached(percent);
        self.view.at = moment.at;
    }

    /// Sums, and what follows from them.
    fn update(&mut self, moment: Moment) {
        let sum = |of: fn(&DiskProgress) -> u64| self.view.disks.iter().map(of).fold(0, u64::saturating_add);
        self.view.work_total = sum(|disk| disk.copy_total.saturating_add(disk.verify_total));
        self.view.work_done = sum(|disk| disk.copy_done.saturating_add(disk.verify_done));
        if std::mem::take(&mut self.is_new_phase) {
            // What came before is not of this phase's speed.
            self.pace.begin(moment.since, self.view.work_done);
        }
        self.pace.note(moment.since, self.view.work_done);
        let is_moving = matches!(self.view.phase, Phase::Copying | Phase::Verifying);
        let stalled_for = self.pace.stalled_for(moment.since).filter(|_| is_moving);
        self.view.stalled_since = stalled_for.and_then(|still| moment.at.checked_sub(still.try_into().ok()?));
        let (speed_bps, average_bps) = (self.pace.speed_bps(moment.since), self.pace.average_bps(moment.since));
        (self.view.speed_bps, self.view.average_bps) = if is_moving { (speed_bps, average_bps) } else { (0, 0) };
        self.view.eta = self.eta();
    }

    fn eta(&self) -> Option<EtaRange> {
        let left = |of: fn(&DiskProgress) -> u64| self.view.disks.iter().map(of).fold(0, u64::saturating_add);
        let to_verify = left(|disk| disk.verify_total.saturating_sub(disk.verify_done));
        let to_copy = left(|disk| disk.copy_total.saturating_sub(disk.copy_done));
        let (left, after) = match self.view.phase {
            Phase::Copying => (to_copy, to_verify),
            Phase::Verifying => (to_verify, 0),
            _ => return None,
        };
        Eta::of(left, after, self.view.speed_bps, self.view.average_bps).map(Into::into)
    }
}

/// Everything that is copied is verified.
fn of_disk(disk: &RunDiskView, verified: u64, device_ms: u64) -> DiskProgress {
    let shares = TimeShares::of(disk.time, device_ms);
    DiskProgress {
        disk_id: disk.disk_id.clone(),
        copy_total: disk.bytes_total,
        copy_done: disk.bytes_done.min(disk.bytes_total),
        verify_total: disk.bytes_total,
        // What is copied again is verified again.
        verify_done: if disk.bytes_done < disk.bytes_total { 0 } else { verified.min(disk.bytes_total) },
        bytes_sent: disk.bytes_sent,
        speed_bps: disk.speed_bps,
        shares,
        bound_by: shares.map(TimeShares::largest),
    }
}

/// A run that has ended says nothing about what its job does next.
fn phase_of(phase: RunPhase) -> Option<Phase> {
    match phase {
        RunPhase::Preparing => Some(Phase::Preparing),
        RunPhase::Snapshotting => Some(Phase::Snapshotting),
        RunPhase::Copying => Some(Phase::Copying),
        RunPhase::Flushing => Some(Phase::Flushing),
        RunPhase::Copied => Some(Phase::Verifying),
        RunPhase::Released | RunPhase::Failed | RunPhase::Cancelled => None,
    }
}

#[cfg(test)]
mod tests;
