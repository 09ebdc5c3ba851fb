//! What is tried: every step of every saga with every fault that can meet it there. Pure tables.
//!
//! A step is met by the command it sends to CloudStack, the n-th of its name in the saga; one that sends none is met when
//! the job log says that it runs.

use std::fmt;

/// A saga under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SagaKind {
    /// A first replication: volumes are created and attached.
    Replication,
    /// A test failover.
    Test,
    /// Putting a test back.
    Cleanup,
    /// A live failover.
    Live,
    /// Taking a live failover back.
    Rollback,
    /// Tearing a replica down: volumes are detached and deleted.
    Teardown,
}

impl fmt::Display for SagaKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Replication => "replication",
            Self::Test => "test",
            Self::Cleanup => "cleanup",
            Self::Live => "live",
            Self::Rollback => "rollback",
            Self::Teardown => "teardown",
        })
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// The hub is killed before its call reaches CloudStack.
    KillBefore,
    /// The hub is killed while CloudStack does what was asked; the answer is lost.
    KillDuring,
    /// The hub is killed after the answer reached its machine, before it was recorded.
    KillAfter,
    /// The call is answered with HTTP 500.
    ServerError,
    /// The call is never answered, and nothing is done.
    Hang,
    /// The call is never answered, and what was asked is done.
    HangAfterEffect,
    /// The rate limit is reached.
    RateLimited,
    /// The job ends without a result.
    JobWithoutResult,
    /// The job does its work and then says that it failed.
    JobFailedButDone,
    /// The next lists are older than the change.
    StaleList,
    /// The connection to the database is lost for a while.
    DatabaseLost,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::KillBefore,
        Self::KillDuring,
        Self::KillAfter,
        Self::ServerError,
        Self::Hang,
        Self::HangAfterEffect,
        Self::RateLimited,
        Self::JobWithoutResult,
        Self::JobFailedButDone,
        Self::StaleList,
        Self::DatabaseLost,
    ];

    /// Whether it kills the hub.
    #[must_use]
    pub fn kills(self) -> bool {
        matches!(self, Self::KillBefore | Self::KillDuring | Self::KillAfter)
    }

    /// The name of the fault in the simulated CloudStack; none for the database's.
    #[must_use]
    pub fn fault(self) -> Option<&'static str> {
        Some(match self {
            Self::KillBefore => "kill_before",
            Self::KillDuring => "kill_during",
            Self::KillAfter => "kill_after",
            Self::ServerError => "http_500",
            Self::Hang => "hang",
            Self::HangAfterEffect => "hang_after_effect",
            Self::RateLimited => "429",
            Self::JobWithoutResult => "job_failed_no_result",
            Self::JobFailedButDone => "job_failed_but_done",
            Self::StaleList => "stale_list",
            Self::DatabaseLost => return None,
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.fault().unwrap_or("database_lost"))
    }
}

/// A place in a saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The saga.
    pub saga: SagaKind,
    /// The step.
    pub step: &'static str,
    /// The command by which it is met; none when it sends none.
    pub command: Option<Met>,
}

/// The command by which a step is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Its name.
    pub command: &'static str,
    /// How many of its name the saga sends before.
    pub skip: u32,
    /// Whether CloudStack answers with a job.
    pub has_job: bool,
    /// The list by which its effect is looked at.
    pub list: &'static str,
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Where.
    pub place: Place,
    /// What.
    pub trouble: Trouble,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { saga, step, command } = self.place;
        let at = command.map(|met| format!(" ({} #{})", met.command, met.skip + 1)).unwrap_or_default();
        write!(formatter, "{saga}/{step}{at} × {}", self.trouble)
    }
}

const VOLUMES: &str = "listVolumes";
const VMS: &str = "listVirtualMachines";
const SNAPSHOTS: &str = "listSnapshots";

const fn job(command: &'static str, skip: u32, list: &'static str) -> Option<Met> {
    Some(Met { command, skip, has_job: true, list })
}

const fn at(saga: SagaKind, step: &'static str, command: Option<Met>) -> Place {
    Place { saga, step, command }
}

/// Every place, in the order of the sagas' steps. The VM has two disks.
#[must_use]
pub fn places() -> Vec<Place> {
    use SagaKind::{Cleanup, Live, Replication, Rollback, Teardown, Test};
    let delete_volume = |skip| Some(Met { command: "deleteVolume", skip, has_job: false, list: VOLUMES });
    // Whoever asks for a failover has it looked at once before it begins.
    let read = |command| Some(Met { command, skip: 1, has_job: false, list: VOLUMES });
    let mut places = Vec::new();
    for saga in [Test, Live] {
        places.push(at(saga, "validate", read("listNetworks")));
        if saga == Live {
            places.push(at(saga, "power_off_source", None));
            places.push(at(saga, "final_sync", None));
        }
        places.extend([
            at(saga, "snapshot", job("createSnapshot", 0, SNAPSHOTS)),
            at(saga, "snapshot", job("createSnapshot", 1, SNAPSHOTS)),
            at(saga, "create_vm", job("deployVirtualMachine", 0, VMS)),
            at(saga, "create_vm", job("createTags", 0, VMS)),
            at(saga, "discard_root", job("detachVolume", 0, VOLUMES)),
            at(saga, "discard_root", delete_volume(0)),
            at(saga, "detach", job("detachVolume", 1, VOLUMES)),
            at(saga, "detach", job("detachVolume", 2, VOLUMES)),
            at(saga, "attach", job("attachVolume", 0, VOLUMES)),
            at(saga, "attach", job("attachVolume", 1, VOLUMES)),
            at(saga, "power_on", job("startVirtualMachine", 0, VMS)),
        ]);
    }
    for saga in [Cleanup, Rollback] {
        places.extend([
            at(saga, "stop", job("stopVirtualMachine", 0, VMS)),
            at(saga, "detach", job("detachVolume", 0, VOLUMES)),
            at(saga, "detach", job("detachVolume", 1, VOLUMES)),
        ]);
        if saga == Cleanup {
            places.extend([
                at(saga, "revert", job("revertSnapshot", 0, VOLUMES)),
                at(saga, "revert", job("revertSnapshot", 1, VOLUMES)),
            ]);
        }
        places.extend([
            at(saga, "reattach", job("attachVolume", 0, VOLUMES)),
            at(saga, "reattach", job("attachVolume", 1, VOLUMES)),
            at(saga, "destroy_vm", job("destroyVirtualMachine", 0, VMS)),
            at(saga, "delete_snapshots", job("deleteSnapshot", 0, SNAPSHOTS)),
            at(saga, "delete_snapshots", job("deleteSnapshot", 1, SNAPSHOTS)),
        ]);
    }
    places.extend([
        at(Replication, "provision", job("createVolume", 0, VOLUMES)),
        at(Replication, "provision", job("attachVolume", 0, VOLUMES)),
        at(Replication, "provision", job("attachVolume", 1, VOLUMES)),
        at(Teardown, "detach", job("detachVolume", 0, VOLUMES)),
        at(Teardown, "detach", job("detachVolume", 1, VOLUMES)),
        at(Teardown, "delete", delete_volume(0)),
        at(Teardown, "delete", delete_volume(1)),
    ]);
    places
}

/// Whether a trouble can meet a place.
#[must_use]
pub fn can_meet(place: &Place, trouble: Trouble) -> bool {
    match (trouble, place.command) {
        (Trouble::DatabaseLost, _) => true,
        // Met in the job log, the process is killed at an instant of its own.
        (Trouble::KillBefore, None) => true,
        (_, None) => false,
        (Trouble::JobWithoutResult | Trouble::JobFailedButDone, Some(met)) => met.has_job,
        _ => true,
    }
}

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    let of = |place: Place| {
        Trouble::ALL
            .into_iter()
            .filter(move |&trouble| can_meet(&place, trouble))
            .map(move |trouble| Case { place, trouble })
    };
    places().into_iter().flat_map(of).collect()
}

/// Every place once and every kind of trouble once with every saga: what the ordinary test run tries.
#[must_use]
pub fn bounded() -> Vec<Case> {
    let mut chosen: Vec<Case> = Vec::new();
    for place in places() {
        // Each saga begins with the kills: the shorter ones do not get to the end of the list.
        let met = chosen.iter().filter(|case| case.place.saga == place.saga).count();
        let rotated = (0..Trouble::ALL.len()).map(|turn| Trouble::ALL[(met + turn) % Trouble::ALL.len()]);
        // A kind this saga has not met yet comes first.
        let is_new =
            |trouble: &Trouble| !chosen.iter().any(|case| case.place.saga == place.saga && case.trouble == *trouble);
        let possible: Vec<Trouble> = rotated.filter(|&trouble| can_meet(&place, trouble)).collect();
        let trouble = possible.iter().find(|trouble| is_new(trouble)).or(possible.first());
        chosen.extend(trouble.map(|&trouble| Case { place, trouble }));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_bounded_form_meets_every_place_and_every_kind() {
        let bounded = bounded();
        assert_eq!(bounded.len(), places().len());
        let kinds: BTreeSet<Trouble> = bounded.iter().map(|case| case.trouble).collect();
        assert_eq!(kinds.len(), Trouble::ALL.len(), "{kinds:?}");
        for saga in [SagaKind::Test, SagaKind::Live, SagaKind::Cleanup, SagaKind::Rollback] {
            let killed = bounded.iter().filter(|case| case.place.saga == saga && case.trouble.kills()).count();
            assert!(killed >= 3, "{saga}: {killed}");
        }
    }

    #[test]
    fn the_full_form_has_every_case_once() {
        let all = all();
        let texts: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), all.len());
        assert!(all.len() > 400, "{}", all.len());
    }
}
