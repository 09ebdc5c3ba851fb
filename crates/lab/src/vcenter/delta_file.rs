//! The files a host keeps deltas in, made from a delta's blocks: `COWD` redo logs and seSparse.
//!
//! Written from the formats' descriptions alone; whole files in memory, because the laboratory's deltas are small.

use serde::{Deserialize, Serialize};

/// Sectors of all VMDK numbers.
const SECTOR_BYTES: u64 = 512;
/// Size of a block of a delta, which is a grain of a seSparse file.
const BLOCK_BYTES: u64 = 4096;

/// How a datastore keeps deltas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaFormat {
    /// VMFS 6.
    #[default]
    SeSparse,
    /// VMFS 5, for disks below 2 TiB.
    Cowd,
}

impl DeltaFormat {
    /// `createType` of the descriptor, the kind of its extent, and how the extent's file name ends.
    pub(crate) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::SeSparse => ("seSparse", "SESPARSE", "-sesparse.vmdk"),
            Self::Cowd => ("vmfsSparse", "VMFSSPARSE", "-delta.vmdk"),
        }
    }

    /// A file for a disk of `capacity` bytes with these blocks: offset in the disk and 4096 bytes each, in order.
    pub(crate) fn file(self, capacity: u64, blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
        match self {
            Self::SeSparse => se_sparse(capacity, blocks),
            Self::Cowd => cowd(capacity, blocks),
        }
    }
}

/// Bytes one seSparse table is for, and one of `COWD`.
const SE_TABLE_COVERS: u64 = 16 << 20;
const COWD_TABLE_COVERS: u64 = 4096 * SECTOR_BYTES;

fn se_sparse(capacity: u64, blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut tables: Vec<u64> = blocks.iter().map(|(offset, _)| offset / SE_TABLE_COVERS).collect();
    tables.dedup();
    let directory_sectors = (capacity.div_ceil(SE_TABLE_COVERS) * 8).div_ceil(SECTOR_BYTES).max(1);
    let table_sectors = tables.len() as u64 * 64;
    let (directory, first_table) = (4, 4 + directory_sectors);
    let (bitmap, back_map) = (first_table + table_sectors, first_table + table_sectors + 1);
    let grains = (back_map + 1).next_multiple_of(8);
    let header = [
        0xcafe_babe,
        0x0000_0002_0000_0001,
        capacity.div_ceil(SECTOR_BYTES),
        8,
        64,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
        1,
        3,
        1,
        directory,
        directory_sectors,
        first_table,
        table_sectors,
        bitmap,
        1,
        back_map,
        1,
        grains,
        blocks.len() as u64 * 8,
    ];
    let mut file = vec![0; to_usize((grains + blocks.len() as u64 * 8) * SECTOR_BYTES)];
    header.iter().zip(0..).for_each(|(word, index)| put_u64(&mut file, index * 8, *word));
    put_u64(&mut file, SECTOR_BYTES, 0xcafe_cafe);
    for (index, table) in (0_u64..).zip(&tables) {
        put_u64(&mut file, directory * SECTOR_BYTES + table * 8, 0x1000_0000_0000_0000 | index);
    }
    for (grain, (offset, bytes)) in (0_u64..).zip(blocks) {
        let table = tables.iter().position(|table| *table == offset / SE_TABLE_COVERS).unwrap_or_default() as u64;
        let entry = first_table * SECTOR_BYTES + table * 64 * SECTOR_BYTES + offset % SE_TABLE_COVERS / BLOCK_BYTES * 8;
        let is_zero = bytes.iter().all(|byte| *byte == 0);
        let stored = 0x3000_0000_0000_0000 | ((grain & 0xfff) << 48) | (grain >> 12);
        put_u64(&mut file, entry, if is_zero { 0x2000_0000_0000_0000 } else { stored });
        put(&mut file, grains * SECTOR_BYTES + grain * BLOCK_BYTES, bytes);
    }
    file
}

fn cowd(capacity: u64, blocks: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let sectors = capacity.div_ceil(SECTOR_BYTES);
    let directory_entries = capacity.div_ceil(COWD_TABLE_COVERS);
    let mut tables: Vec<u64> = blocks.iter().map(|(offset, _)| offset / COWD_TABLE_COVERS).collect();
    tables.dedup();
    let first_table = 4 + (directory_entries * 4).div_ceil(SECTOR_BYTES);
    let grains = first_table + tables.len() as u64 * 32;
    let end = grains + blocks.len() as u64 * BLOCK_BYTES / SECTOR_BYTES;
    let mut file = vec![0; to_usize(end * SECTOR_BYTES)];
    put(&mut file, 0, b"COWD");
    let header = [1, 3, sectors, 1, 4, directory_entries, end];
    header.iter().zip(1..).for_each(|(word, index)| put_u32(&mut file, index * 4, *word));
    for (index, table) in (0_u64..).zip(&tables) {
        put_u32(&mut file, 4 * SECTOR_BYTES + table * 4, first_table + index * 32);
    }
    for (index, (offset, bytes)) in (0_u64..).zip(blocks) {
        let table = tables.iter().position(|table| *table == offset / COWD_TABLE_COVERS).unwrap_or_default() as u64;
        let data = grains + index * BLOCK_BYTES / SECTOR_BYTES;
        for sector in 0..BLOCK_BYTES / SECTOR_BYTES {
            let place = offset % COWD_TABLE_COVERS / SECTOR_BYTES + sector;
            // The last block of a disk may be longer than the disk.
            if offset / SECTOR_BYTES + sector < sectors {
                put_u32(&mut file, (first_table + table * 32) * SECTOR_BYTES + place * 4, data + sector);
            }
        }
        put(&mut file, data * SECTOR_BYTES, bytes);
    }
    file
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn put(file: &mut [u8], at: u64, bytes: &[u8]) {
    let at = to_usize(at);
    if let Some(room) = file.get_mut(at..at + bytes.len()) {
        room.copy_from_slice(bytes);
    }
}

fn put_u64(file: &mut [u8], at: u64, value: u64) {
    put(file, at, &value.to_le_bytes());
}

fn put_u32(file: &mut [u8], at: u64, value: u64) {
    put(file, at, &u32::try_from(value).unwrap_or_default().to_le_bytes());
}
