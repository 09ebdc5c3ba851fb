//! Files that are cut off or changed anywhere: what is read is exactly some barrier, or an error.

use std::fs;
use std::sync::Arc;

use block::{BlockDevice, BlockError, Fault, FaultDevice, FaultPlan};
use journal::index::HEADER_BYTES;
use journal::{JournalError, Kind, Lengths, Overlay, merge};
use model::{Extent, FailureKind};

use crate::fixture::{EXPORT, JOB, Place, SIZE, base, base_content, content, lengths, over_base, run};

/// A journal of five barriers: the folder, and lengths and content at each.
fn five_barriers() -> (Place, Vec<(Lengths, Vec<u8>)>) {
    let place = Place::new();
    let device = over_base(place.folder.begin_journal(EXPORT, &run(Kind::Journal, JOB, SIZE)).unwrap());
    let mut states = vec![(lengths(device.active().unwrap()), base_content())];
    for number in 1..6u8 {
        let offset = u64::from(number) * 37_000;
        device.write_at(&vec![number; 9_000], offset).unwrap();
        device.write_at(&[number + 100; 700], offset + 8_500).unwrap();
        device.write_zeroes(Extent::new(offset - 2_000, 3_000), true).unwrap();
        device.flush().unwrap();
        states.push((lengths(device.active().unwrap()), content(&device)));
    }
    // What no barrier covers lies behind the data.
    device.write_at(&[77; 5_000], 0).unwrap();
    (place, states)
}

/// Puts the files as they were before a trial.
struct Files {
    index: Vec<u8>,
    data: Vec<u8>,
}

impl Files {
    fn of(place: &Place) -> Self {
        Self { index: fs::read(place.path("index")).unwrap(), data: fs::read(place.path("data")).unwrap() }
    }

    fn put(&self, place: &Place) {
        fs::write(place.path("index"), &self.index).unwrap();
        fs::write(place.path("data"), &self.data).unwrap();
    }
}

/// The state that a resumed journal must have when the frames end at `index_bytes` and the data at `data_bytes`.
fn expected(states: &[(Lengths, Vec<u8>)], index_bytes: u64, data_bytes: u64) -> &(Lengths, Vec<u8>) {
    let fits =
        |(lengths, _): &&(Lengths, Vec<u8>)| lengths.index_bytes <= index_bytes && lengths.data_bytes <= data_bytes;
    states.iter().rfind(fits).unwrap()
}

fn assert_resumed(place: &Place, (lengths_then, state): &(Lengths, Vec<u8>), what: &str) {
    let device = over_base(place.folder.resume_journal(EXPORT, JOB).unwrap());
    assert!(content(&device) == *state, "{what}");
    assert_eq!(lengths(device.active().unwrap()), *lengths_then, "{what}");
    assert_eq!(fs::metadata(place.path("index")).unwrap().len(), lengths_then.index_bytes, "{what}");
    assert_eq!(fs::metadata(place.path("data")).unwrap().len(), lengths_then.data_bytes, "{what}");
}

fn assert_not_committed(place: &Place, whole: Lengths, what: &str) {
    let error = place.folder.committed(EXPORT, JOB, whole).err().unwrap_or_else(|| panic!("{what}"));
    assert!(matches!(error, JournalError::Damaged { .. }), "{what}: {error:?}");
    assert_eq!((error.kind(), error.remedy().is_some()), (FailureKind::Internal, true));
}

#[test]
fn an_index_cut_off_anywhere_is_the_last_whole_barrier() {
    let (place, states) = five_barriers();
    let (files, whole) = (Files::of(&place), states.last().unwrap().0);
    for length in 0..files.index.len() {
        files.put(&place);
        fs::write(place.path("index"), &files.index[..length]).unwrap();
        assert_not_committed(&place, whole, &format!("cut to {length}"));
        if length < HEADER_BYTES {
            let error = place.folder.resume_journal(EXPORT, JOB).err().unwrap();
            assert!(matches!(error, JournalError::Damaged { .. }), "{error:?}");
            continue;
        }
        assert_resumed(&place, expected(&states, length as u64, u64::MAX), &format!("cut to {length}"));
    }
    files.put(&place);
    assert_resumed(&place, states.last().unwrap(), "not cut at all");
    // A journal that was cut is written on like any other.
    let device = over_base(place.folder.resume_journal(EXPORT, JOB).unwrap());
    device.write_at(&[9; 100], 5).unwrap();
    device.flush().unwrap();
    let after = content(&device);
    drop(device);
    let device = over_base(place.folder.resume_journal(EXPORT, JOB).unwrap());
    assert!(content(&device) == after);
    assert!(content(&Overlay::new(base(), vec![place.committed(whole)], None)) == states.last().unwrap().1);
}

#[test]
fn a_flipped_bit_of_an_index_ends_the_log_before_it() {
    let (place, states) = five_barriers();
    let (files, whole) = (Files::of(&place), states.last().unwrap().0);
    for at in 0..files.index.len() {
        files.put(&place);
        let mut index = files.index.clone();
        index[at] ^= 1 << (at % 8);
        fs::write(place.path("index"), &index).unwrap();
        assert_not_committed(&place, whole, &format!("flipped at {at}"));
        if at < HEADER_BYTES {
            assert!(place.folder.resume_journal(EXPORT, JOB).is_err(), "flipped at {at}");
        } else {
            assert_resumed(&place, expected(&states, at as u64, u64::MAX), &format!("flipped at {at}"));
        }
    }
}

#[test]
fn data_that_is_torn_ends_the_log_where_it_is_missing() {
    let (place, states) = five_barriers();
    let (files, whole) = (Files::of(&place), states.last().unwrap().0);
    for length in (0..whole.data_bytes).step_by(509) {
        files.put(&place);
        fs::write(place.path("data"), &files.data[..usize::try_from(length).unwrap()]).unwrap();
        assert_not_committed(&place, whole, &format!("data cut to {length}"));
        assert_resumed(&place, expected(&states, u64::MAX, length), &format!("data cut to {length}"));
    }
    files.put(&place);
    fs::remove_file(place.path("data")).unwrap();
    assert!(matches!(place.folder.resume_journal(EXPORT, JOB).err(), Some(JournalError::Damaged { .. })));
    assert_not_committed(&place, whole, "without data");
}

#[test]
fn a_payload_that_changed_is_never_read_whole_nor_merged() {
    let (place, states) = five_barriers();
    let (mut files, whole) = (Files::of(&place), states.last().unwrap().0);
    files.data[4_000] ^= 4;
    files.put(&place);
    let committed = place.committed(whole);
    let volume = base();
    let error = merge(&committed, volume.as_ref()).unwrap_err();
    assert!(matches!(&error, BlockError::Image { kind: FailureKind::Internal, remedy: Some(_), .. }), "{error:?}");
    assert!(content(volume.as_ref())[41_000..45_000] == base_content()[41_000..45_000], "nothing of it was written");
}

#[test]
fn a_merge_that_breaks_off_after_any_write_is_completed_by_the_next() {
    let (place, states) = five_barriers();
    let (whole, merged) = states.last().unwrap();
    let committed = place.committed(*whole);
    let volume = base();
    let mut interruptions = 0;
    for budget in (0..60_000).step_by(997) {
        for fault in [Fault::Io, Fault::Full] {
            let plan = FaultPlan { write_budget_bytes: Some((budget, fault)), ..FaultPlan::default() };
            let failing = FaultDevice::new(Arc::clone(&volume), plan);
            interruptions += u32::from(merge(&committed, &failing).is_err());
            let over = Overlay::new(Arc::clone(&volume), vec![Arc::clone(&committed)], None);
            assert!(content(&over) == *merged, "readers see the point whatever the merge has done");
        }
    }
    assert!(interruptions > 40, "{interruptions}");
    let unflushed = FaultDevice::new(Arc::clone(&volume), FaultPlan { flush_budget: Some(0), ..FaultPlan::default() });
    assert!(matches!(merge(&committed, &unflushed), Err(BlockError::Flush { .. })));
    merge(&committed, volume.as_ref()).unwrap();
    assert!(content(volume.as_ref()) == *merged);
}
