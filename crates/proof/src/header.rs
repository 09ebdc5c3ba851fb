//! The first block of a digest file: which disk it is of. Pure: values in, bytes out, and back.

use block::digest::leaf_count;
use model::LEAF_SIZE_BYTES;
use serde::{Deserialize, Serialize};

/// Size of the header in bytes; the entries begin after it.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Size of the digest of one leaf in the file, in bytes.
pub(crate) const ENTRY_BYTES: u64 = 32;
/// First bytes of every digest file.
const MAGIC: &[u8; 8] = b"MKLEAVES";
/// The only version there is.
const VERSION: u32 = 1;
/// Where the checksum (BLAKE3 of everything after it) ends; then comes the length of the text, u32 little-endian.
const CHECKSUM_END: usize = MAGIC.len() + 32;
/// Where the text begins.
const TEXT_BEGIN: usize = CHECKSUM_END + 4;

/// What the absence of an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Every leaf is known: one without an entry is zero.
    Full,
    /// Only the leaves with an entry are known.
    Named,
}

/// The disk a digest file is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskName {
    /// The hub's row of the disk.
    pub vm_disk_id: String,
    /// The VMDK's uuid.
    pub disk_uuid: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
}

/// What a digest file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) vm_disk_id: String,
    pub(crate) disk_uuid: String,
    pub(crate) capacity_bytes: u64,
    pub(crate) leaf_size_bytes: u64,
    pub(crate) coverage: Coverage,
    /// The replication that began the file.
    pub(crate) job_id: String,
}

impl Header {
    pub(crate) fn new(disk: &DiskName, job_id: &str, coverage: Coverage) -> Self {
        Self {
            version: VERSION,
            vm_disk_id: disk.vm_disk_id.clone(),
            disk_uuid: disk.disk_uuid.clone(),
            capacity_bytes: disk.capacity_bytes,
            leaf_size_bytes: LEAF_SIZE_BYTES,
            coverage,
            job_id: job_id.to_owned(),
        }
    }

    /// How long the file is, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + leaf_count(self.capacity_bytes) * ENTRY_BYTES
    }

    /// The bytes of the header; the reason when the names are too long for it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        if TEXT_BEGIN + text.len() > HEADER_BYTES {
            return Err("its names do not fit into the header".to_owned());
        }
        let mut block = vec![0; HEADER_BYTES];
        block[..MAGIC.len()].copy_from_slice(MAGIC);
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        block[CHECKSUM_END..TEXT_BEGIN].copy_from_slice(&length.to_le_bytes());
        block[TEXT_BEGIN..TEXT_BEGIN + text.len()].copy_from_slice(&text);
        let checksum = blake3::hash(&block[CHECKSUM_END..]);
        block[MAGIC.len()..CHECKSUM_END].copy_from_slice(checksum.as_bytes());
        Ok(block)
    }

    /// Reads a header; the reason when it is none.
    pub(crate) fn decode(block: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if &block[..MAGIC.len()] != MAGIC {
            return Err("it does not begin like one".to_owned());
        }
        if blake3::hash(&block[CHECKSUM_END..]).as_bytes() != &block[MAGIC.len()..CHECKSUM_END] {
            return Err("the checksum of its header is wrong".to_owned());
        }
        let mut length = [0; 4];
        length.copy_from_slice(&block[CHECKSUM_END..TEXT_BEGIN]);
        let end = TEXT_BEGIN.saturating_add(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX));
        let text = block.get(TEXT_BEGIN..end).ok_or_else(|| "its header is longer than it can be".to_owned())?;
        let header: Self = serde_json::from_slice(text).map_err(|error| format!("its header says nothing: {error}"))?;
        if header.version != VERSION || header.leaf_size_bytes != LEAF_SIZE_BYTES {
            let found = (header.version, header.leaf_size_bytes);
            return Err(format!("version {} with leaves of {} bytes is not known here", found.0, found.1));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        let disk = DiskName { vm_disk_id: "d-1".to_owned(), disk_uuid: "6000C29".to_owned(), capacity_bytes: 70_000 };
        Header::new(&disk, "job-1", Coverage::Named)
    }

    #[test]
    fn a_header_survives_and_gives_the_length_of_its_file() {
        let block: [u8; HEADER_BYTES] = header().encode().unwrap().try_into().unwrap();
        assert_eq!(Header::decode(&block).unwrap(), header());
        assert_eq!(header().file_bytes(), 4096 + 2 * 32, "the last leaf is short");
        let long = Header { job_id: "j".repeat(HEADER_BYTES), ..header() };
        assert!(long.encode().is_err());
    }

    #[test]
    fn another_version_is_told() {
        let block: [u8; HEADER_BYTES] = Header { version: 2, ..header() }.encode().unwrap().try_into().unwrap();
        assert!(Header::decode(&block).unwrap_err().contains("version 2"));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0..HEADER_BYTES, change in 1u8..) {
            let mut block: [u8; HEADER_BYTES] = header().encode().unwrap().try_into().unwrap();
            block[at] ^= change;
            prop_assert!(Header::decode(&block).is_err());
        }
    }
}
