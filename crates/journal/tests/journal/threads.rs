//! Several writers at once, and the barriers that are made by themselves.

use std::sync::Arc;

use block::{BlockDevice, MemoryDevice};
use journal::{Direct, Kind, MAX_UNSETTLED_BYTES, Overlay};
use model::Extent;
use model::extent::total_bytes;

use crate::fixture::{EXPORT, JOB, Place, run};

const WRITERS: u64 = 4;
const PIECE: u64 = 256 * 1024;
/// Enough for several barriers.
const EACH: u64 = 48 << 20;

fn byte_of(offset: u64) -> u8 {
    (offset / PIECE % 250) as u8 + 1
}

/// Every writer writes its own part, piece by piece, and a place that all of them write.
fn write_from_all(device: &dyn BlockDevice) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for piece in 0..EACH / PIECE {
                    let offset = writer * EACH + piece * PIECE;
                    device.write_at(&vec![byte_of(offset); PIECE as usize], offset).unwrap();
                    device.write_zeroes(Extent::new(WRITERS * EACH, PIECE), true).unwrap();
                }
            });
        }
    });
}

/// At most what may be unsettled is missing; what is there is right.
fn check_durable(device: &dyn BlockDevice, durable: &[Extent]) {
    let written = Extent::new(0, WRITERS * EACH);
    let parts: Vec<_> = durable.iter().filter_map(|extent| extent.clamp_to(written.end())).collect();
    let missing = written.length - total_bytes(&parts);
    assert!(missing <= MAX_UNSETTLED_BYTES + WRITERS * PIECE, "{missing} bytes would be sent again");
    for part in parts {
        assert!(part.offset.is_multiple_of(PIECE) && part.length.is_multiple_of(PIECE), "{part:?}");
        let mut bytes = vec![0; PIECE as usize];
        for offset in (part.offset..part.end()).step_by(PIECE as usize) {
            device.read_at(&mut bytes, offset).unwrap();
            assert!(bytes == vec![byte_of(offset); PIECE as usize], "at {offset}");
        }
    }
}

#[test]
fn a_journal_makes_its_barriers_by_itself() {
    let (place, size) = (Place::new(), WRITERS * EACH + PIECE);
    let base: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(size));
    let journal = place.folder.begin_journal(EXPORT, &run(Kind::Journal, JOB, size)).unwrap();
    let device = Overlay::new(Arc::clone(&base), Vec::new(), Some(Arc::new(journal)));
    write_from_all(&device);
    drop(device);
    let journal = Arc::new(place.folder.resume_journal(EXPORT, JOB).unwrap());
    let device = Overlay::new(base, Vec::new(), Some(Arc::clone(&journal)));
    check_durable(&device, &journal.durable());
}

#[test]
fn a_ledger_makes_its_barriers_by_itself() {
    let (place, size) = (Place::new(), WRITERS * EACH + PIECE);
    let base: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(size));
    let ledger = place.folder.begin_ledger(EXPORT, &run(Kind::Ledger, JOB, size)).unwrap();
    let device = Direct::new(Arc::clone(&base), ledger);
    write_from_all(&device);
    drop(device);
    let ledger = place.folder.resume_ledger(EXPORT, JOB).unwrap();
    check_durable(base.as_ref(), &ledger.durable());
}

#[test]
fn many_runs_of_zeroes_make_barriers_though_they_carry_no_bytes() {
    let (place, size) = (Place::new(), 1 << 30);
    let base: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(size));
    let journal = Arc::new(place.folder.begin_journal(EXPORT, &run(Kind::Journal, JOB, size)).unwrap());
    let device = Overlay::new(base, Vec::new(), Some(Arc::clone(&journal)));
    for number in 0..20_000 {
        device.write_zeroes(Extent::new(number * 8192, 4096), false).unwrap();
    }
    assert!(journal.durable().len() >= 16_384, "{}", journal.durable().len());
}
