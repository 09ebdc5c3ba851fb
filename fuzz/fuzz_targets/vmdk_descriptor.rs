//! Texts that describe disks and appliances, and archives: parsed without a panic, into something possible.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vmdk::format::descriptor::{Descriptor, is_descriptor};
use vmdk::format::{MAX_CAPACITY_BYTES, ovf, tar};
use vmdk::{OpenOptions, ReadAt};

fuzz_target!(|data: &[u8]| {
    if let Ok(found) = Descriptor::parse(data) {
        assert!(is_descriptor(data));
        assert!(!found.extents.is_empty());
        assert!((1..=MAX_CAPACITY_BYTES).contains(&found.size_bytes()));
    }
    let mut text = b"# Disk DescriptorFile\n".to_vec();
    text.extend_from_slice(data);
    let _ = Descriptor::parse(&text);
    let _ = ovf::disks(data);
    let _ = tar::parse_extended(data);
    // The checksums of an archive are mended, so that what follows a header is reached, too.
    let mut archive = data.to_vec();
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    let bytes: Arc<dyn ReadAt> = Arc::new(archive);
    let _ = vmdk::ova::open("fuzzed.ova", &bytes, &OpenOptions::default());
});
