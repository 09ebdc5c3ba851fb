//! Changed block tracking as a calculation: epochs, sequences, dirty grains, and the pages of an answer.
//!
//! Pure: no files, no clock, no randomness of its own.

use std::collections::BTreeMap;
use std::fmt;

use super::block_set::{Area, BlockSet};

/// Bytes one tracking bit stands for (64 KiB, as ESXi tracks disks of moderate size).
pub(crate) const GRAIN_BYTES: u64 = 64 << 10;
/// Areas in one answer of `QueryChangedDiskAreas`; real servers stop near 2,000.
pub(crate) const AREAS_PER_ANSWER: usize = 2_000;

/// `52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81`: a tracking epoch and a point in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrackedPoint {
    epoch: [u8; 16],
    sequence: u64,
}

impl TrackedPoint {
    /// Reads the text form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch_text, sequence) = text.split_once('/')?;
        let mut epoch = [0_u8; 16];
        let mut bytes = epoch_text.split([' ', '-']);
        for byte in &mut epoch {
            *byte = bytes.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
        }
        let point = Self { epoch, sequence: sequence.parse().ok()? };
        (bytes.next().is_none() && point.to_string() == text).then_some(point)
    }
}

impl fmt::Display for TrackedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.epoch.iter().enumerate() {
            let before = match index {
                0 => "",
                8 => "-",
                _ => " ",
            };
            write!(f, "{before}{byte:02x}")?;
        }
        write!(f, "/{}", self.sequence)
    }
}

/// Why changed areas cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrackingRefusal {
    /// The change id belongs to another epoch: tracking was reset in between.
    OtherEpoch,
    /// The change id lies after the point asked about: the VM was reverted.
    Later,
}

/// The tracking of one disk since its last reset.
#[derive(Debug, Clone)]
pub(crate) struct Tracker {
    epoch: [u8; 16],
    /// Writes happening now are filed under this number.
    sequence: u64,
    dirty: BTreeMap<u64, BlockSet>,
    /// Whether `*` may be answered exactly (tracking began without VM snapshots, on a file system that knows).
    pub(crate) allocation_known: bool,
}

impl Tracker {
    /// Starts a new epoch.
    pub(crate) fn new(epoch: [u8; 16], allocation_known: bool) -> Self {
        Self { epoch, sequence: 1, dirty: BTreeMap::new(), allocation_known }
    }

    /// Notes a write.
    pub(crate) fn record(&mut self, offset: u64, length: u64) {
        self.dirty.entry(self.sequence).or_insert_with(|| BlockSet::new(GRAIN_BYTES)).insert_bytes(offset, length);
    }

    /// Ends the current sequence and gives the point that stands for everything written so far.
    pub(crate) fn freeze(&mut self) -> TrackedPoint {
        let point = self.now();
        self.sequence += 1;
        point
    }

    /// The point that stands for everything written so far, without ending the sequence.
    pub(crate) fn now(&self) -> TrackedPoint {
        TrackedPoint { epoch: self.epoch, sequence: self.sequence }
    }

    /// Forgets everything after `point`, as a revert to a VM snapshot does.
    pub(crate) fn rewind(&mut self, point: TrackedPoint) {
        if point.epoch == self.epoch {
            self.dirty.retain(|sequence, _| *sequence <= point.sequence);
            self.sequence = point.sequence + 1;
        }
    }

    /// Grains written after `from` and not after `until`.
    ///
    /// # Errors
    /// When `from` is of another epoch or lies after `until`.
    pub(crate) fn changed(&self, from: TrackedPoint, until: TrackedPoint) -> Result<BlockSet, TrackingRefusal> {
        if from.epoch != self.epoch || until.epoch != self.epoch {
            return Err(TrackingRefusal::OtherEpoch);
        }
        if from.sequence > until.sequence {
            return Err(TrackingRefusal::Later);
        }
        let mut union = BlockSet::new(GRAIN_BYTES);
        if from.sequence < until.sequence {
            self.dirty.range(from.sequence + 1..=until.sequence).for_each(|(_, grains)| union.union_with(grains));
        }
        Ok(union)
    }
}

/// One answer: how many bytes from the start offset it covers, and the areas in them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AreaPage {
    /// Bytes covered from the start offset.
    pub(crate) length: u64,
    /// Changed areas inside, in ascending order.
    pub(crate) areas: Vec<Area>,
}

/// Cuts one answer out of ascending areas.
pub(crate) fn page(areas: &[Area], start_offset: u64, capacity: u64, limit: usize) -> AreaPage {
    let mut wanted = areas.iter().filter(|area| area.end() > start_offset).map(|area| {
        let start = area.start.max(start_offset);
        Area { start, length: area.end() - start }
    });
    let taken: Vec<Area> = wanted.by_ref().take(limit).collect();
    let covered_to = match (wanted.next(), taken.last()) {
        (Some(_), Some(last)) => last.end(),
        _ => capacity,
    };
    AreaPage { length: covered_to - start_offset, areas: taken }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: [u8; 16] =
        [0x52, 0xde, 0xc0, 0xd9, 0xb9, 0x43, 0x9d, 0x10, 0x61, 0xd5, 0x4c, 0x1b, 0xe9, 0x7b, 0x65, 0x63];

    #[test]
    fn points_have_vmwares_text_form() {
        let point = TrackedPoint { epoch: EPOCH, sequence: 81 };
        let text = "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/81";
        assert_eq!(point.to_string(), text);
        assert_eq!(TrackedPoint::parse(text), Some(point));
        for broken in ["", "*", "52/1", &text.replace('-', " "), &format!("{text}x"), &text.replace("52", "5z")] {
            assert_eq!(TrackedPoint::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn changes_between_two_points_are_the_union_of_what_lies_between() {
        let mut tracker = Tracker::new(EPOCH, true);
        tracker.record(0, 1);
        let first = tracker.freeze();
        tracker.record(GRAIN_BYTES, 1);
        let second = tracker.freeze();
        tracker.record(5 * GRAIN_BYTES, 1);
        let third = tracker.freeze();
        let starts = |from, until| -> Vec<u64> {
            tracker.changed(from, until).unwrap().areas(1 << 30).iter().map(|area| area.start).collect()
        };
        assert_eq!(starts(first, second), [GRAIN_BYTES]);
        assert_eq!(starts(first, third), [GRAIN_BYTES, 5 * GRAIN_BYTES]);
        assert!(starts(second, second).is_empty());
        assert_eq!(tracker.changed(third, first), Err(TrackingRefusal::Later));
        let other = TrackedPoint { epoch: [0; 16], sequence: 1 };
        assert_eq!(tracker.changed(other, third), Err(TrackingRefusal::OtherEpoch));
    }

    #[test]
    fn a_rewind_makes_later_points_unknown() {
        let mut tracker = Tracker::new(EPOCH, true);
        let kept = tracker.freeze();
        tracker.record(0, 1);
        let lost = tracker.freeze();
        tracker.rewind(kept);
        assert_eq!(tracker.changed(lost, kept), Err(TrackingRefusal::Later));
        assert_eq!(tracker.changed(kept, tracker.now()).unwrap().len(), 0);
    }

    #[test]
    fn pages_cover_the_disk_without_gaps() {
        let areas: Vec<Area> = (0..5).map(|index| Area { start: index * 100, length: 50 }).collect();
        let first = page(&areas, 0, 1_000, 2);
        assert_eq!((first.length, first.areas.len()), (150, 2));
        let second = page(&areas, 150, 1_000, 2);
        assert_eq!((second.length, second.areas[0].start), (200, 200));
        let last = page(&areas, 350, 1_000, 2);
        assert_eq!((last.length, last.areas.len()), (650, 1));
        let inside = page(&areas, 120, 1_000, 1);
        assert_eq!(inside.areas, [Area { start: 120, length: 30 }]);
        assert_eq!(page(&[], 10, 1_000, 2), AreaPage { length: 990, areas: Vec::new() });
    }
}
