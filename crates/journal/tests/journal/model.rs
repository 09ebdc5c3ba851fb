//! Random changes, barriers and crashes against a plain vector.

use std::sync::Arc;

use block::{BlockDevice, BlockError, RegionState};
use journal::{Direct, JournalError, Kind, Overlay, merge};
use model::Extent;
use model::extent::normalise;
use proptest::prelude::*;

use crate::fixture::{EXPORT, JOB, Place, SIZE, base, base_content, content, lengths, over_base, run};

#[derive(Debug, Clone)]
enum Step {
    Write {
        offset: u64,
        length: u64,
        fill: u8,
    },
    Zero {
        offset: u64,
        length: u64,
        punch: bool,
    },
    Flush,
    /// The process dies: what no barrier covers is lost.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SIZE, 1u64..60_000).prop_map(|(offset, length)| (offset, length.min(SIZE - offset)));
    let step = prop_oneof![
        5 => (place(), 1u8..).prop_map(|((offset, length), fill)| Step::Write { offset, length, fill }),
        2 => (place(), any::<bool>()).prop_map(|((offset, length), punch)| Step::Zero { offset, length, punch }),
        2 => Just(Step::Flush),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..30)
}

/// What should be there, and what of it a crash leaves.
struct Model {
    now: Vec<u8>,
    durable: Vec<u8>,
    noted: Vec<Extent>,
    noted_durable: Vec<Extent>,
}

impl Model {
    fn new() -> Self {
        Self { now: base_content(), durable: base_content(), noted: Vec::new(), noted_durable: Vec::new() }
    }

    fn put(&mut self, offset: u64, length: u64, byte_at: impl Fn(u64) -> u8) {
        for at in offset..offset + length {
            self.now[at as usize] = byte_at(at);
        }
        self.noted.push(Extent::new(offset, length));
    }

    fn flush(&mut self) {
        self.durable.clone_from(&self.now);
        self.noted_durable.clone_from(&self.noted);
    }

    fn crash(&mut self) {
        self.now.clone_from(&self.durable);
        self.noted.clone_from(&self.noted_durable);
    }

    fn extents(&self) -> Vec<Extent> {
        normalise(self.noted_durable.clone())
    }
}

fn pattern(fill: u8, at: u64) -> u8 {
    fill.wrapping_add((at % 7) as u8)
}

/// What is called a hole reads as zeroes; the regions cover everything.
fn check_map(device: &dyn BlockDevice, now: &[u8]) {
    for limit in [1, 3, usize::MAX] {
        let regions = device.map_front(Extent::new(0, SIZE), limit).unwrap();
        assert!(regions.len() <= limit);
        let mut at = 0;
        for region in &regions {
            assert_eq!(region.extent.offset, at);
            at = region.extent.end();
            let bytes = &now[region.extent.offset as usize..at as usize];
            assert!(region.state == RegionState::Data || bytes.iter().all(|&byte| byte == 0));
        }
        assert!(at == SIZE || limit != usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_journal_holds_what_was_written_and_after_a_crash_what_was_flushed(steps in steps()) {
        let place = Place::new();
        let mut model = Model::new();
        let mut device = over_base(place.folder.begin_journal(EXPORT, &run(Kind::Journal, JOB, SIZE)).unwrap());
        for step in &steps {
            match *step {
                Step::Write { offset, length, fill } => {
                    let data: Vec<u8> = (offset..offset + length).map(|at| pattern(fill, at)).collect();
                    device.write_at(&data, offset).unwrap();
                    model.put(offset, length, |at| pattern(fill, at));
                }
                Step::Zero { offset, length, punch } => {
                    device.write_zeroes(Extent::new(offset, length), punch).unwrap();
                    model.put(offset, length, |_| 0);
                }
                Step::Flush => {
                    device.flush().unwrap();
                    model.flush();
                }
                Step::Crash => {
                    drop(device);
                    device = over_base(place.folder.resume_journal(EXPORT, JOB).unwrap());
                    model.crash();
                }
            }
            prop_assert_eq!(&content(&device), &model.now);
            prop_assert_eq!(device.active().unwrap().durable(), model.extents());
            let mut part = vec![0; 40_000];
            device.read_from_medium(&mut part, 123_456).unwrap();
            prop_assert_eq!(&part[..], &model.now[123_456..163_456]);
        }
        check_map(&device, &model.now);
        device.flush().unwrap();
        let journal = Arc::clone(device.active().unwrap());
        journal.seal();
        prop_assert!(matches!(device.write_at(&[1], 0), Err(BlockError::ReadOnly)));
        let committed = place.committed(lengths(&journal));
        let view = Overlay::new(base(), vec![Arc::clone(&committed)], None);
        prop_assert_eq!(&content(&view), &model.now);
        prop_assert!(view.is_read_only() && matches!(view.write_at(&[1], 0), Err(BlockError::ReadOnly)));
        let volume = base();
        merge(&committed, volume.as_ref()).unwrap();
        prop_assert_eq!(&content(volume.as_ref()), &model.now);
    }

    #[test]
    fn a_ledger_knows_what_is_durable_of_what_was_written_in_place(steps in steps()) {
        let place = Place::new();
        let (volume, mut model) = (base(), Model::new());
        let ledger = place.folder.begin_ledger(EXPORT, &run(Kind::Ledger, JOB, SIZE)).unwrap();
        let mut device = Direct::new(Arc::clone(&volume), ledger);
        for step in &steps {
            match *step {
                Step::Write { offset, length, fill } => {
                    device.write_at(&vec![fill; length as usize], offset).unwrap();
                    model.put(offset, length, |_| fill);
                }
                Step::Zero { offset, length, punch } => {
                    device.write_zeroes(Extent::new(offset, length), punch).unwrap();
                    model.put(offset, length, |_| 0);
                }
                Step::Flush => {
                    device.flush().unwrap();
                    model.flush();
                }
                Step::Crash => {
                    drop(device);
                    let ledger = place.folder.resume_ledger(EXPORT, JOB).unwrap();
                    device = Direct::new(Arc::clone(&volume), ledger);
                    // The volume keeps what it has; only what is known of it is less.
                    model.noted.clone_from(&model.noted_durable);
                }
            }
            prop_assert_eq!(&content(&device), &model.now);
            prop_assert_eq!(device.ledger().durable(), model.extents());
        }
    }
}

#[test]
fn points_lie_over_one_another_and_merge_oldest_first() {
    let place = Place::new();
    let volume = base();
    let mut expected = base_content();
    let (mut committed, mut states) = (Vec::new(), Vec::new());
    for number in 1..5u8 {
        let job = format!("job-{number}");
        let active = place.folder.begin_journal(EXPORT, &run(Kind::Journal, &job, SIZE)).unwrap();
        let device = Overlay::new(Arc::clone(&volume), committed.clone(), Some(Arc::new(active)));
        let offset = u64::from(number) * 30_000;
        device.write_at(&[number; 50_000], offset).unwrap();
        device.write_zeroes(Extent::new(offset + 10_000, 5_000), number.is_multiple_of(2)).unwrap();
        device.flush().unwrap();
        expected[offset as usize..offset as usize + 50_000].fill(number);
        expected[offset as usize + 10_000..offset as usize + 15_000].fill(0);
        let lengths = lengths(device.active().unwrap());
        committed.push(Arc::new(place.folder.committed(EXPORT, &job, lengths).unwrap()));
        states.push(expected.clone());
    }
    assert_eq!(place.folder.jobs(EXPORT).unwrap(), ["job-1", "job-2", "job-3", "job-4"]);
    for (count, state) in states.iter().enumerate() {
        let view = Overlay::new(Arc::clone(&volume), committed[..=count].to_vec(), None);
        assert!(content(&view) == *state, "point {count}");
        check_map(&view, state);
    }
    let newest = Overlay::new(Arc::clone(&volume), committed.clone(), None);
    for (journal, state) in committed.iter().zip(&states) {
        merge(journal, volume.as_ref()).unwrap();
        merge(journal, volume.as_ref()).unwrap();
        assert!(content(volume.as_ref()) == *state);
        assert!(content(&newest) == *states.last().unwrap(), "who reads the newest sees nothing of a merge");
    }
}

#[test]
fn names_that_leave_the_folder_and_runs_of_the_other_kind_are_refused() {
    let place = Place::new();
    for bad in ["..", "", "a/b", ".hidden", "a\0b", &"x".repeat(200)] {
        let outcome = place.folder.begin_journal(bad, &run(Kind::Journal, JOB, SIZE));
        assert!(matches!(outcome.err(), Some(JournalError::Name { .. })), "{bad:?}");
        assert!(matches!(place.folder.forget(EXPORT, bad), Err(JournalError::Name { .. })), "{bad:?}");
    }
    let mut odd = run(Kind::Journal, JOB, SIZE);
    odd.generation = "not hex".to_owned();
    assert!(matches!(place.folder.begin_journal(EXPORT, &odd).err(), Some(JournalError::Name { .. })));
    place.folder.begin_ledger(EXPORT, &run(Kind::Ledger, JOB, SIZE)).unwrap();
    assert!(matches!(place.folder.resume_journal(EXPORT, JOB).err(), Some(JournalError::Damaged { .. })));
    assert_eq!(place.folder.run_of(EXPORT, JOB).unwrap().unwrap().kind, Kind::Ledger);
    assert!(place.folder.bytes().unwrap() >= 1024);

    place.folder.forget(EXPORT, JOB).unwrap();
    place.folder.forget(EXPORT, JOB).unwrap();
    assert!(place.folder.run_of(EXPORT, JOB).unwrap().is_none());
    assert!(place.folder.exports().unwrap().is_empty());
    assert_eq!(place.folder.resume_ledger(EXPORT, JOB).err().unwrap().kind(), model::FailureKind::NotFound);
}
