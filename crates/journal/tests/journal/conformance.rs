//! The rules of a block device, for a volume with a journal over it and for one that is written in place.

use std::sync::Arc;

use block::{BlockDevice, BlockError, MemoryDevice};
use journal::{Direct, Kind, Overlay};
use model::Extent;

use crate::fixture::{EXPORT, JOB, Place, run};
use crate::rules::{SIZE_BYTES, conforms};

fn empty() -> Arc<dyn BlockDevice> {
    Arc::new(MemoryDevice::new(SIZE_BYTES))
}

#[test]
fn a_volume_with_a_journal_over_it_conforms() {
    let place = Place::new();
    let journal = place.folder.begin_journal(EXPORT, &run(Kind::Journal, JOB, SIZE_BYTES)).unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(Overlay::new(empty(), Vec::new(), Some(Arc::new(journal))));
    conforms(&device);
}

#[test]
fn a_volume_with_a_ledger_conforms() {
    let place = Place::new();
    let ledger = place.folder.begin_ledger(EXPORT, &run(Kind::Ledger, JOB, SIZE_BYTES)).unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(Direct::new(empty(), ledger));
    conforms(&device);
}

#[test]
fn without_a_journal_to_write_every_change_is_refused() {
    let device = Overlay::new(empty(), Vec::new(), None);
    let extent = Extent::new(0, 1);
    assert!(device.is_read_only());
    assert!(matches!(device.write_at(&[1], 0), Err(BlockError::ReadOnly)));
    assert!(matches!(device.write_zeroes(extent, true), Err(BlockError::ReadOnly)));
    assert!(matches!(device.trim(extent), Err(BlockError::ReadOnly)));
    device.flush().unwrap();
}
