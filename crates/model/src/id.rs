//! Identifiers: UUIDv7 text for rows, readable ids for jobs that people quote.

use rand::Rng;
use time::OffsetDateTime;
use uuid::Uuid;

/// A new row id: UUIDv7 text, so that rows sort by the time they were made.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// `job-YYYYMMDD-HHMMSS-<6 hex>`: the id of a replication.
#[must_use]
pub fn replication_job_id(now: OffsetDateTime) -> String {
    readable_id("job", now)
}

/// `failover-YYYYMMDD-HHMMSS-<6 hex>`: the id of a failover.
#[must_use]
pub fn failover_job_id(now: OffsetDateTime) -> String {
    readable_id("failover", now)
}

fn readable_id(prefix: &str, now: OffsetDateTime) -> String {
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second) = (now.hour(), now.minute(), now.second());
    let tail: u32 = rand::rng().random_range(0..0x0100_0000);
    format!("{prefix}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{tail:06x}")
}

/// The name of what a vm_snapshot froze, as whoever writes it somewhere calls it: 32 hex digits left to chance.
#[must_use]
pub fn generation() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The name of a VM snapshot taken for a job; the prefix marks it as ours for the reconciler.
pub const VM_SNAPSHOT_PREFIX: &str = "migratekit-";

/// `migratekit-<job id>`: see [`VM_SNAPSHOT_PREFIX`].
#[must_use]
pub fn vm_snapshot_name(job_id: &str) -> String {
    format!("{VM_SNAPSHOT_PREFIX}{job_id}")
}

/// The NBD export of a replica volume: `migration-vol-<volume uuid>`.
#[must_use]
pub fn volume_export_name(volume_uuid: &str) -> String {
    format!("migration-vol-{volume_uuid}")
}

/// Length of the disk serial CloudStack gives a volume, in characters.
pub const VOLUME_SERIAL_CHARS: usize = 20;

/// The serial a KVM guest sees for a CloudStack volume: the first 20 characters of its uuid without hyphens.
#[must_use]
pub fn volume_serial(volume_uuid: &str) -> String {
    volume_uuid.chars().filter(|c| *c != '-').take(VOLUME_SERIAL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_readable_and_sort_by_time() {
        let id = replication_job_id(time::macros::datetime!(2026-03-04 05:06:07 UTC));
        assert!(id.starts_with("job-20260304-050607-"), "{id}");
        assert_eq!(id.len(), "job-20260304-050607-".len() + 6);
    }

    #[test]
    fn the_serial_is_the_one_the_guest_sees() {
        assert_eq!(volume_serial("1d8d87d4-1425-459c-8d81-c6f57dca2bd2"), "1d8d87d41425459c8d81");
    }
}
