//! An arbitrary index of a journal: read without a panic and without more memory than it is long; what is read lies on
//! the disk.

#![no_main]

use journal::index::{framed, read_any};
use journal::{Kind, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = read_any(data, u64::MAX);
    // Behind checksums that are right, so that what follows them is reached, too.
    let run = Run {
        kind: if data.first().is_some_and(|byte| byte & 1 == 1) { Kind::Ledger } else { Kind::Journal },
        disk_uuid: "6000C29".to_owned(),
        capacity_bytes: 1 << 40,
        job_id: "job-1".to_owned(),
        generation: "ab".repeat(16),
    };
    let index = framed(&run, data.get(1..).unwrap_or_default(), 1 << 40).expect("short names");
    let (found, extents) = read_any(&index, 1 << 40).expect("its header is right");
    assert_eq!(found, run);
    assert!(extents.iter().all(|extent| extent.length > 0 && extent.end() <= run.capacity_bytes));
});
