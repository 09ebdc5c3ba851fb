//! Every reason why a failover cannot begin, at once, and what is worth knowing before it does. Pure.

use api::Problem;
use api::oma::failovers::{ConversionPolicy, PowerOff, StartFailover};
use api::oma::probes::MAX_PROBES;
use model::FailureKind;
use model::status::{ContextStatus, DiskSyncStatus, FailoverType, Firmware};

use super::conversion::INSTALL;
use super::conversion::need::Need;
use super::facts::{DiskFacts, Facts, TargetFacts};
use super::hardware::{Drivers, MAX_DISKS, MAX_IDE_DISKS};

/// Longest time a test may be given: one that stays longer is forgotten, and a replica that stands still is none.
const MAX_TEST_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Longest time a guest may be given to shut down, or probes to pass, in seconds.
const MAX_WAIT_SECONDS: u32 = 24 * 60 * 60;
/// Longest host name CloudStack takes (RFC 1123 §2.1), in characters.
pub(crate) const MAX_NAME_CHARS: usize = 63;
const GIB_BYTES: u64 = 1 << 30;

/// Whether the guest is converted before it boots, and with what hardware it is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversion {
    /// Whether the tool is run.
    pub(crate) converts: bool,
    /// What the guest can drive then.
    pub(crate) drivers: Drivers,
    /// Why.
    pub(crate) reason: String,
}

/// Decides about the conversion.
#[must_use]
pub(crate) fn conversion(policy: ConversionPolicy, need: Need) -> Conversion {
    let decided = |converts, drivers, reason: &str| Conversion { converts, drivers, reason: reason.to_owned() };
    match (policy, need) {
        (ConversionPolicy::Always, _) => decided(true, Drivers::Virtio, "asked for"),
        (ConversionPolicy::Auto, Need::Needed(why)) => decided(true, Drivers::Virtio, why),
        (_, Need::NotNeeded(why)) => decided(false, Drivers::Virtio, why),
        (ConversionPolicy::Never, Need::Needed(why) | Need::Unknown(why))
        | (ConversionPolicy::Auto, Need::Unknown(why)) => {
            decided(false, Drivers::Emulated, &format!("{why}: it gets emulated hardware"))
        }
    }
}

/// What stands in the way, and what is worth knowing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    pub(crate) blockers: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
}

/// Looks at everything but the network cards, the offering and the template, which `spec` decides.
#[must_use]
pub(crate) fn findings(facts: &Facts, request: &StartFailover, conversion: &Conversion) -> Findings {
    let mut blockers = of_request(request);
    blockers.extend(of_vm(facts));
    blockers.extend(facts.disks.iter().filter_map(|disk| of_disk(disk, &facts.vm.name)));
    blockers.extend(of_disk_count(facts, conversion));
    blockers.extend(of_point(facts, request));
    blockers.extend(of_source(facts, request));
    blockers.extend(of_tool(facts, conversion));
    match &facts.target {
        Ok(target) => blockers.extend(of_target(target, facts)),
        Err(problem) => blockers.push(problem.clone()),
    }
    Findings { blockers, warnings: warnings(facts, request) }
}

fn of_request(request: &StartFailover) -> Vec<Problem> {
    let invalid = |detail: String, remedy: &str| Problem::new(FailureKind::Invalid, detail).remedy(remedy);
    let mut found = Vec::new();
    if request.failover_type == FailoverType::Test {
        if request.power_off_source != PowerOff::No || request.final_sync {
            let detail = "a test leaves the source alone: no power-off, no final replication";
            found.push(invalid(detail.to_owned(), "leave these options out, or begin a live failover"));
        }
        if request.test_duration_seconds.is_some_and(|seconds| seconds == 0 || seconds > MAX_TEST_SECONDS) {
            found.push(invalid(format!("a test lasts 1 to {MAX_TEST_SECONDS} seconds"), "give it another duration"));
        }
    } else if request.test_duration_seconds.is_some() {
        found.push(invalid("only a test has a duration".to_owned(), "leave the duration out"));
    }
    if request.probes.len() > MAX_PROBES {
        found.push(invalid(format!("{} probes are too many", request.probes.len()), "name at most 32"));
    }
    let waits = [request.probe_seconds, request.shutdown_seconds];
    if waits.into_iter().flatten().any(|seconds| seconds == 0 || seconds > MAX_WAIT_SECONDS) {
        found.push(invalid(format!("a wait lasts 1 to {MAX_WAIT_SECONDS} seconds"), "give another number of seconds"));
    }
    found
}

fn of_vm(facts: &Facts) -> Vec<Problem> {
    let (vm, mut found) = (&facts.vm, Vec::new());
    if let Some(job) = &facts.running_job {
        found.push(
            Problem::new(FailureKind::Conflict, format!("a job works on the replica of {}", vm.name))
                .evidence(format!("{job} runs"))
                .remedy(format!("wait for it (migratekit job show {job}) or cancel it"))
                .job(job),
        );
    }
    if let Some(other) = &facts.held_by {
        found.push(
            Problem::new(FailureKind::Conflict, format!("{} is failed over already", vm.name))
                .evidence(format!("{other} holds it"))
                .remedy(format!("end that first: migratekit failover show {other}"))
                .job(other),
        );
    }
    if vm.status != ContextStatus::ReadyForFailover && facts.held_by.is_none() && facts.running_job.is_none() {
        let remedy = match vm.status {
            ContextStatus::CleanupRequired => {
                "something of an earlier failover is left: migratekit failover list, migratekit ghost list"
            }
            ContextStatus::Completed => "it was moved for good; add it again to replicate it anew",
            _ => "replicate it to the end first: migratekit replicate",
        };
        let detail = format!("{} is {}, not ready_for_failover", vm.name, vm.status);
        found.push(Problem::new(FailureKind::Conflict, detail).remedy(remedy));
    }
    if facts.disks.is_empty() {
        found.push(Problem::new(FailureKind::Invalid, format!("{} has no disks", vm.name)));
    }
    found
}

fn of_disk(disk: &DiskFacts, vm_name: &str) -> Option<Problem> {
    let id = &disk.disk_id;
    let Some(volume) = &disk.volume else {
        let detail = format!("{id} of {vm_name} has no replica");
        return Some(Problem::new(FailureKind::Conflict, detail).remedy("migratekit replicate makes one"));
    };
    if disk.committed.is_none() || disk.sync_status != DiskSyncStatus::Completed {
        let detail = format!("the replica of {id} is not complete");
        return Some(
            Problem::new(FailureKind::Conflict, detail)
                .evidence(format!("it is {}", disk.sync_status))
                .remedy("replicate to the end first; what is not committed is not failed over"),
        );
    }
    if let Some(holder) = &volume.held_by_vm {
        let detail = format!("the replica of {id} is attached to another VM");
        return Some(
            Problem::new(FailureKind::Conflict, detail)
                .evidence(format!("volume {} is held by VM {holder}", volume.volume_uuid))
                .remedy("detach it there, then compare: migratekit replicate --type compare"),
        );
    }
    (volume.size_bytes < disk.capacity_bytes).then(|| {
        Problem::new(FailureKind::Invalid, format!("the replica of {id} is smaller than the disk"))
            .evidence(format!("volume {} bytes, disk {} bytes", volume.size_bytes, disk.capacity_bytes))
            .remedy("tear the replica down and replicate again")
    })
}

fn of_point(facts: &Facts, request: &StartFailover) -> Option<Problem> {
    let point = request.point.as_ref()?;
    if request.final_sync {
        let detail = "a final replication would be newer than the recovery point".to_owned();
        return Some(Problem::new(FailureKind::Invalid, detail).remedy("leave one of the two out"));
    }
    (!facts.points.contains(point)).then(|| {
        Problem::new(FailureKind::NotFound, format!("{} has no recovery point {point}", facts.vm.name))
            .remedy(format!("choose one of migratekit point list {}", facts.vm.name))
    })
}

fn of_disk_count(facts: &Facts, conversion: &Conversion) -> Option<Problem> {
    let count = facts.disks.len();
    let uses_ide = conversion.drivers == Drivers::Emulated && facts.vm.firmware == Firmware::Bios;
    if count > MAX_DISKS {
        let detail = format!("{count} disks are more than a VM of the target can have ({MAX_DISKS})");
        return Some(Problem::new(FailureKind::Invalid, detail).remedy("join or leave out disks at the source"));
    }
    (uses_ide && count > MAX_IDE_DISKS).then(|| {
        let detail = format!("{count} disks are more than a BIOS guest without virtio can have ({MAX_IDE_DISKS})");
        Problem::new(FailureKind::Conflict, detail).remedy("let the guest be converted: --conversion always")
    })
}

fn of_source(facts: &Facts, request: &StartFailover) -> Option<Problem> {
    let asks_source = request.power_off_source != PowerOff::No || request.final_sync;
    (asks_source && !facts.vm.agent_connected).then(|| {
        Problem::new(FailureKind::Unavailable, format!("the agent of {} is not connected", facts.vm.name)).remedy(
            "mend its connection (migratekit agent list), or fail over from the last commit without touching the source",
        )
    })
}

fn of_tool(facts: &Facts, conversion: &Conversion) -> Vec<Problem> {
    if !conversion.converts {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !facts.has_conversion_tool {
        found.push(
            Problem::new(FailureKind::Conflict, "the guest is to be converted and virt-v2v-in-place is not installed")
                .evidence(conversion.reason.clone())
                .remedy(format!("{INSTALL}; or --conversion never, with emulated hardware")),
        );
    }
    if !facts.has_windows_drivers && facts.vm.guest_id.starts_with("windows") {
        found.push(
            Problem::new(FailureKind::Conflict, "Windows' virtio drivers are not on this hub")
                .evidence("without them the conversion ends well and Windows finds no disk".to_owned())
                .remedy("put virtio-win.iso into /usr/share/virtio-win; or --conversion never, with emulated hardware"),
        );
    }
    let absent = facts.disks.iter().filter(|disk| disk.volume.as_ref().is_some_and(|v| v.device_path.is_none()));
    found.extend(absent.map(|disk| {
        let detail = format!("the replica of {} has no device on this hub and cannot be converted", disk.disk_id);
        Problem::new(FailureKind::Conflict, detail).remedy("replicate once, which attaches it")
    }));
    found
}

fn of_target(target: &TargetFacts, facts: &Facts) -> Vec<Problem> {
    let mut found = Vec::new();
    if !target.capabilities.kvm_snapshot_enabled {
        found.push(
            Problem::new(FailureKind::Conflict, format!("{} takes no snapshots of attached volumes", target.name))
                .remedy("set kvm.snapshot.enabled in CloudStack's global settings"),
        );
    }
    let Some(max_gib) = target.capabilities.custom_volume_max_gib else { return found };
    let too_large = facts.disks.iter().filter(|disk| disk.capacity_bytes.div_ceil(GIB_BYTES) > max_gib);
    found.extend(too_large.map(|disk| {
        Problem::new(FailureKind::Invalid, format!("{} is larger than the zone's largest volume", disk.disk_id))
            .evidence(format!("{} GiB of at most {max_gib}", disk.capacity_bytes.div_ceil(GIB_BYTES)))
            .remedy("raise custom.diskoffering.size.max and storage.max.volume.size in CloudStack")
    }));
    found
}

fn warnings(facts: &Facts, request: &StartFailover) -> Vec<String> {
    let mut found = Vec::new();
    if request.failover_type == FailoverType::Live {
        let runs = facts.vm.power_state == "poweredOn" && request.power_off_source == PowerOff::No;
        if runs {
            found.push(format!(
                "{} was running when last seen and is not switched off: both will answer to its addresses",
                facts.vm.name
            ));
        }
        if request.final_sync && request.power_off_source == PowerOff::No {
            found.push("what the source writes after the final replication is not in the new VM".to_owned());
        }
        if let Some(point) = &request.point {
            found.push(format!("what the source wrote after {point} is not in the new VM"));
        } else if !request.final_sync {
            found.push("without a final replication the new VM begins at the last committed point in time".to_owned());
        }
    }
    found
}

/// What is wrong with a host name, if anything (RFC 1123 §2.1, and CloudStack's rule that it begins with a letter).
#[must_use]
pub(crate) fn name_trouble(name: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match name {
        "" => Some("it is empty"),
        _ if name.len() > MAX_NAME_CHARS => Some("it is longer than 63 characters"),
        _ if !name.chars().all(legal) => Some("it has characters other than letters, digits and hyphens"),
        _ if !name.starts_with(|c: char| c.is_ascii_alphabetic()) => Some("it does not begin with a letter"),
        _ if name.ends_with('-') => Some("it ends with a hyphen"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
