//! The agent's manners on the link to the hub: what its configuration and the hub allow, put in force as the time goes by.

use std::sync::Arc;
use std::time::Duration;

use api::vma::{RunLimits, StartRun};
use chrono::{Datelike, Timelike};
use model::wan::{BandwidthLimit, TimeOfDay, WallTime, Weekday, lowest_limit};
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tunnel::{DataLink, JobPace, Pacer};

use crate::config::WanConfig;
use crate::lanes::{Lanes, Turn};

/// How often it is looked whether another window has begun.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of one MiB.
const MIB_BYTES: u64 = 1 << 20;

/// What all runs of the agent share of the link.
#[derive(Debug)]
pub(crate) struct Wan {
    config: WanConfig,
    pacer: Pacer,
    lanes: Lanes,
    limits: Mutex<Limits>,
}

#[derive(Debug, Default)]
struct Limits {
    /// What the hub said last.
    of_hub: Vec<BandwidthLimit>,
    /// What is in force, in bytes per second.
    in_force: Option<u64>,
}

impl Wan {
    pub(crate) fn new(config: WanConfig) -> Self {
        let lanes = Lanes::new(config.max_connections);
        let wan = Self { config, pacer: Pacer::default(), lanes, limits: Mutex::default() };
        wan.put_in_force();
        wan
    }

    /// Takes over what the hub allows this agent.
    pub(crate) fn allow(&self, limits: &[BandwidthLimit]) {
        self.limits.lock().of_hub = limits.to_vec();
        self.put_in_force();
    }

    /// Watches the clock until shutdown.
    pub(crate) async fn watch_the_clock(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.put_in_force(),
            }
        }
    }

    fn put_in_force(&self) {
        let mut limits = self.limits.lock();
        let now = lowest_limit(self.config.limit.iter().chain(&limits.of_hub), wall_time());
        if now != limits.in_force {
            tracing::info!(bytes_per_s = now, "another limit of bandwidth is in force");
            limits.in_force = now;
            self.pacer.set_limit(now);
        }
    }

    /// Waits until a disk of this VM may copy over so many connections.
    pub(crate) async fn turn(&self, vm: &str, connections: u32) -> Turn {
        self.lanes.turn(vm, connections).await
    }

    /// The share of a run, and of each of its disks.
    pub(crate) fn share_of(&self, request: &StartRun) -> (Arc<JobPace>, Vec<DataLink>) {
        let pace = self.pacer.job(bytes_per_s(&request.limits));
        let compression = request.compression.unwrap_or(self.config.compression);
        let link = |_| DataLink { compression, meter: Arc::default(), pace: Some(pace.disk()) };
        let links = request.disks.iter().map(link).collect();
        (pace, links)
    }
}

/// The limit of a run alone.
pub(crate) fn bytes_per_s(limits: &RunLimits) -> Option<u64> {
    limits.limit_mib_per_s.map(|limit| u64::from(limit.get()) * MIB_BYTES)
}

/// What the clock on the wall shows here.
fn wall_time() -> WallTime {
    let now = chrono::Local::now();
    let minutes = u16::try_from(now.hour() * 60 + now.minute()).unwrap_or_default();
    let time = TimeOfDay::from_minutes(minutes).unwrap_or(TimeOfDay::MIDNIGHT);
    let day = Weekday::from_monday(now.weekday().num_days_from_monday()).unwrap_or(Weekday::Mon);
    WallTime { day, time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn always(mib_per_s: u32) -> BandwidthLimit {
        BandwidthLimit::new(NonZeroU32::new(mib_per_s).unwrap(), None, Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn the_stricter_of_hub_and_configuration_is_in_force_at_once() {
        let wan = Wan::new(WanConfig { limit: vec![always(20)], ..WanConfig::default() });
        assert_eq!(wan.limits.lock().in_force, Some(20 << 20));
        wan.allow(&[always(5), always(50)]);
        assert_eq!(wan.limits.lock().in_force, Some(5 << 20));
        wan.allow(&[always(50)]);
        assert_eq!(wan.limits.lock().in_force, Some(20 << 20));
        wan.allow(&[]);
        assert_eq!(wan.limits.lock().in_force, Some(20 << 20));
    }

    #[test]
    fn the_wall_shows_a_time_of_today() {
        let shown = wall_time();
        let end: TimeOfDay = "24:00".parse().unwrap();
        assert!(shown.time < end);
    }
}
