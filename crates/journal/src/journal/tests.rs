//! Media that are full, that fail to flush, and a barrier that waits for nobody but the medium.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use block::{BlockDevice, FaultDevice, FaultPlan, MemoryDevice};
use model::FailureKind;
use parking_lot::Mutex;

use super::*;
use crate::index::{Kind, replay};
use crate::{Direct, Ledger, Overlay};

/// A file in memory that can be told to fail; clones are the same file.
#[derive(Clone, Default)]
struct Faulty {
    bytes: Arc<Mutex<Vec<u8>>>,
    most_bytes: Option<u64>,
    /// Flushes fail when this is 1.
    sync_fails: Arc<AtomicU32>,
}

impl Medium for Faulty {
    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let (bytes, start) = (self.bytes.lock(), offset as usize);
        let found = bytes.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + data.len();
        if self.most_bytes.is_some_and(|most| end as u64 > most) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock();
        let longer = bytes.len().max(end);
        bytes.resize(longer, 0);
        bytes[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.bytes.lock().resize(length as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.sync_fails.load(Ordering::SeqCst) == 1 { Err(io::Error::other("a planned fault")) } else { Ok(()) }
    }
}

const SIZE: u64 = 1 << 20;

fn run(kind: Kind) -> Run {
    let generation = "ab".repeat(16);
    Run { kind, disk_uuid: "6000C29".to_owned(), capacity_bytes: SIZE, job_id: "job-1".to_owned(), generation }
}

fn begin(index: &Faulty, data: &Faulty) -> Overlay {
    let run = run(Kind::Journal);
    let header = run.encode().unwrap();
    index.write_at(&header, 0).unwrap();
    let media: (Box<dyn Medium>, Box<dyn Medium>) = (Box::new(index.clone()), Box::new(data.clone()));
    let journal = Journal::active(Path::new("j"), run, media, Tail::after_header(&header), Gathered::default());
    Overlay::new(Arc::new(MemoryDevice::new(SIZE)), Vec::new(), Some(Arc::new(journal)))
}

/// What a reader of the index finds.
fn entries_in(index: &Faulty, data: &Faulty) -> usize {
    let mut entries = 0;
    replay(index, u64::MAX, data.length().unwrap(), |_| entries += 1).unwrap();
    entries
}

#[test]
fn a_full_medium_is_told_and_what_was_committed_stays() {
    let (index, data) = (Faulty::default(), Faulty { most_bytes: Some(10_000), ..Faulty::default() });
    let device = begin(&index, &data);
    device.write_at(&[1; 4096], 0).unwrap();
    device.flush().unwrap();
    let error = device.write_at(&[2; 8192], 4096).unwrap_err();
    assert!(matches!(error, BlockError::JournalFull { offset: 4096, length: 8192 }), "{error:?}");
    assert_eq!(error.kind(), FailureKind::Exhausted);
    assert!(error.remedy().unwrap().contains("hub's storage"));
    let mut found = [9; 8192];
    device.read_at(&mut found, 0).unwrap();
    assert_eq!((&found[..4096], &found[4096..]), (&[1; 4096][..], &[0; 4096][..]), "nothing of it is seen");
    device.flush().unwrap();
    assert_eq!(entries_in(&index, &data), 1);
}

#[test]
fn an_index_without_room_poisons_the_journal() {
    let full = Faulty { most_bytes: Some(1100), ..Faulty::default() };
    let data = Faulty::default();
    let device = begin(&full, &data);
    for number in 0..3 {
        device.write_at(&[1; 10], number * 10).unwrap();
    }
    assert!(matches!(device.flush(), Err(BlockError::JournalFull { .. })));
    assert!(matches!(device.flush(), Err(BlockError::Poisoned)));
    assert_eq!(entries_in(&full, &data), 0, "the state before is intact");
}

#[test]
fn after_a_failed_flush_every_call_fails_until_it_is_opened_anew() {
    for data_fails in [true, false] {
        let (index, data) = (Faulty::default(), Faulty::default());
        let device = begin(&index, &data);
        device.write_at(&[1; 100], 0).unwrap();
        device.flush().unwrap();
        device.write_at(&[2; 100], 100).unwrap();
        let failing = if data_fails { &data } else { &index };
        failing.sync_fails.store(1, Ordering::SeqCst);
        assert!(matches!(device.flush(), Err(BlockError::Flush { .. })));
        failing.sync_fails.store(0, Ordering::SeqCst);
        assert!(matches!(device.flush(), Err(BlockError::Poisoned)), "the kernel may have dropped the pages");
        assert!(matches!(device.write_at(&[3; 1], 0), Err(BlockError::Poisoned)));
        assert!(matches!(device.write_zeroes(Extent::new(0, 1), true), Err(BlockError::Poisoned)));
        let durable = device.active().unwrap().durable();
        assert_eq!(durable, [Extent::new(0, 100)], "what is not sure is not told");
    }
}

#[test]
fn a_ledger_whose_volume_does_not_flush_says_nothing_more() {
    let base = FaultDevice::new(
        Arc::new(MemoryDevice::new(SIZE)),
        FaultPlan { flush_budget: Some(1), ..FaultPlan::default() },
    );
    let (run, index) = (run(Kind::Ledger), Faulty::default());
    let header = run.encode().unwrap();
    index.write_at(&header, 0).unwrap();
    let tail = Tail::after_header(&header);
    let ledger = Ledger { log: Log::new(run, Box::new(index), tail, ExtentSet::default()) };
    let device = Direct::new(Arc::new(base), ledger);
    device.write_at(&[1; 100], 0).unwrap();
    device.flush().unwrap();
    device.write_at(&[1; 100], 500).unwrap();
    assert!(matches!(device.flush(), Err(BlockError::Flush { .. })));
    assert!(matches!(device.write_at(&[1], 0), Err(BlockError::Poisoned)));
    assert_eq!(device.ledger().durable(), [Extent::new(0, 100)]);
}
