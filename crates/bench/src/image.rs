//! The source disk: the same bytes on every machine and in every run. Any leaf can be made again by itself.
//!
//! Of every 40 MiB, in an order that differs from one to the next: 20 incompressible, 8 text, 6 not allocated, 5 of
//! written zeroes, and 1 that is a trap for whoever samples: leaves that are zero but for one byte at a varying place.

use std::os::unix::fs::FileExt;
use std::path::Path;

use block::{BlockDevice, FileDevice};
use model::{Extent, LEAF_SIZE_BYTES};

use crate::error::BenchError;

/// [`LEAF_SIZE_BYTES`] as a length in memory.
pub const LEAF: usize = LEAF_SIZE_BYTES as usize;
/// Length of a run of one kind, in leaves (1 MiB).
const RUN_LEAVES: u64 = 16;
/// Runs in which the composition is exact.
const CYCLE_RUNS: usize = 40;
/// How many runs of each kind there are in a cycle.
const COMPOSITION: [(Kind, usize); 5] =
    [(Kind::Noise, 20), (Kind::Text, 8), (Kind::Hole, 6), (Kind::Zeroes, 5), (Kind::Trap, 1)];
/// Words of the text.
const WORDS: [&str; 16] = [
    "the ",
    "disk ",
    "of ",
    "a ",
    "virtual ",
    "machine ",
    "holds ",
    "logs, ",
    "pages ",
    "and ",
    "indexes; ",
    "most ",
    "compress ",
    "well.\n",
    "INFO ",
    "2026-11-28T12:00:00Z ",
];

/// What a leaf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes no compressor makes smaller.
    Noise,
    /// Words: about a third after compression.
    Text,
    /// Nothing was ever written.
    Hole,
    /// Zeroes that were written.
    Zeroes,
    /// Zeroes but for one byte.
    Trap,
}

/// What a leaf of the source holds.
#[must_use]
pub fn kind_of(leaf: u64) -> Kind {
    let run = leaf / RUN_LEAVES;
    let (cycle, place) = (run / CYCLE_RUNS as u64, (run % CYCLE_RUNS as u64) as usize);
    order_of(cycle)[place]
}

/// The kinds of one cycle in their order.
fn order_of(cycle: u64) -> Vec<Kind> {
    let mut order: Vec<Kind> = COMPOSITION.iter().flat_map(|&(kind, runs)| std::iter::repeat_n(kind, runs)).collect();
    let mut dice = Dice::new(cycle ^ 0x5eed);
    for last in (1..order.len()).rev() {
        order.swap(last, dice.below(last as u64 + 1) as usize);
    }
    order
}

/// Fills a leaf (or, at the end of a disk, the front of one) with what belongs there in `generation` 0 or a later one.
pub fn fill_leaf(leaf: u64, kind: Kind, generation: u64, into: &mut [u8]) {
    let seed = leaf ^ (generation << 48);
    match kind {
        Kind::Noise => {
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(into);
        }
        Kind::Text => fill_text(seed, into),
        Kind::Hole | Kind::Zeroes => into.fill(0),
        Kind::Trap => {
            into.fill(0);
            let at = Dice::new(seed).below(into.len() as u64) as usize;
            if let Some(byte) = into.get_mut(at) {
                *byte = 1 + (seed % 255) as u8;
            }
        }
    }
}

fn fill_text(seed: u64, into: &mut [u8]) {
    let mut dice = Dice::new(seed);
    let mut rest = into;
    while !rest.is_empty() {
        let word = WORDS[dice.below(WORDS.len() as u64) as usize].as_bytes();
        let length = word.len().min(rest.len());
        rest[..length].copy_from_slice(&word[..length]);
        rest = &mut rest[length..];
    }
}

/// Writes the source disk.
///
/// # Errors
/// When it cannot be written.
pub fn write_source(path: &Path, size_bytes: u64) -> Result<(), BenchError> {
    let failed = |source| BenchError::Io { doing: format!("writing the source {}", path.display()), source };
    let file = std::fs::File::create(path).map_err(failed)?;
    file.set_len(size_bytes).map_err(failed)?;
    let mut buffer = vec![0; LEAF];
    for leaf in 0..size_bytes.div_ceil(LEAF_SIZE_BYTES) {
        let kind = kind_of(leaf);
        if kind != Kind::Hole {
            let bytes = &mut buffer[..length_of(leaf, size_bytes)];
            fill_leaf(leaf, kind, 0, bytes);
            file.write_all_at(bytes, leaf * LEAF_SIZE_BYTES).map_err(failed)?;
        }
    }
    Ok(())
}

fn length_of(leaf: u64, size_bytes: u64) -> usize {
    (size_bytes - leaf * LEAF_SIZE_BYTES).min(LEAF_SIZE_BYTES) as usize
}

/// One change of the source in sixteen makes a leaf zero: whoever only sends data loses it.
const ZEROED_ONE_IN: u64 = 16;

/// A change of the source as a guest would make it between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The leaves, in order.
    leaves: Vec<u64>,
    generation: u64,
}

impl Changes {
    /// One leaf in a hundred, scattered; another choice in every generation (from 1 on).
    #[must_use]
    pub fn scattered(size_bytes: u64, generation: u64) -> Self {
        let mut dice = Dice::new(generation.wrapping_mul(0x1_0001));
        let whole = size_bytes / LEAF_SIZE_BYTES;
        let strides = whole / 100;
        let leaves = (0..strides).map(|stride| stride * 100 + dice.below(100)).collect();
        Self { leaves, generation }
    }

    fn kind(&self, place: usize) -> Kind {
        if place as u64 % ZEROED_ONE_IN == ZEROED_ONE_IN - 1 { Kind::Zeroes } else { Kind::Noise }
    }

    /// The changed areas, as change tracking would name them.
    #[must_use]
    pub fn extents(&self) -> Vec<Extent> {
        self.leaves.iter().map(|leaf| Extent::new(leaf * LEAF_SIZE_BYTES, LEAF_SIZE_BYTES)).collect()
    }

    /// Bytes of changed areas that hold data now: what has to be sent at least.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let data = (0..self.leaves.len()).filter(|place| self.kind(*place) == Kind::Noise).count();
        data as u64 * LEAF_SIZE_BYTES
    }

    /// Makes the changes on the source.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn apply(&self, source: &Path) -> Result<(), BenchError> {
        self.rewrite(source, |place, leaf, buffer| {
            fill_leaf(leaf, self.kind(place), self.generation, buffer);
            self.kind(place)
        })
    }

    /// Makes the source again what it was.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn revert(&self, source: &Path) -> Result<(), BenchError> {
        self.rewrite(source, |_, leaf, buffer| {
            fill_leaf(leaf, kind_of(leaf), 0, buffer);
            kind_of(leaf)
        })
    }

    fn rewrite(&self, source: &Path, fill: impl Fn(usize, u64, &mut [u8]) -> Kind) -> Result<(), BenchError> {
        let device = FileDevice::open(source, false).map_err(BenchError::product("opening the source"))?;
        let mut buffer = vec![0; LEAF];
        for (place, &leaf) in self.leaves.iter().enumerate() {
            let extent = Extent::new(leaf * LEAF_SIZE_BYTES, LEAF_SIZE_BYTES);
            let written = match fill(place, leaf, &mut buffer) {
                Kind::Hole => device.write_zeroes(extent, true),
                _ => device.write_at(&buffer, extent.offset),
            };
            written.map_err(BenchError::product("changing the source"))?;
        }
        Ok(())
    }
}

/// Writes a disk that is nearly empty: `pieces` of 256 KiB scattered over all of it.
///
/// # Errors
/// When it cannot be written.
pub fn write_sparse(path: &Path, size_bytes: u64, pieces: u64) -> Result<(), BenchError> {
    const PIECE_LEAVES: u64 = 4;
    let failed = |source| BenchError::Io { doing: format!("writing the source {}", path.display()), source };
    let file = std::fs::File::create(path).map_err(failed)?;
    file.set_len(size_bytes).map_err(failed)?;
    let stride = size_bytes / LEAF_SIZE_BYTES / pieces.max(1);
    let mut dice = Dice::new(size_bytes);
    let mut buffer = vec![0; LEAF];
    for piece in 0..pieces {
        let first = piece * stride + dice.below(stride.saturating_sub(PIECE_LEAVES).max(1));
        for leaf in first..first + PIECE_LEAVES {
            fill_leaf(leaf, Kind::Noise, 0, &mut buffer);
            file.write_all_at(&buffer, leaf * LEAF_SIZE_BYTES).map_err(failed)?;
        }
    }
    Ok(())
}

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_cycle_has_the_composition_it_is_said_to_have() {
        for cycle in 0..5 {
            let mut counted: HashMap<Kind, usize> = HashMap::new();
            let leaves = CYCLE_RUNS as u64 * RUN_LEAVES;
            for leaf in cycle * leaves..(cycle + 1) * leaves {
                *counted.entry(kind_of(leaf)).or_default() += 1;
            }
            let share = |kind: Kind| counted[&kind] as f64 / leaves as f64;
            assert_eq!((share(Kind::Noise), share(Kind::Text)), (0.5, 0.2));
            let empty = share(Kind::Hole) + share(Kind::Zeroes) + share(Kind::Trap);
            assert!((empty - 0.3).abs() < 1e-9 && share(Kind::Trap) > 0.02);
        }
        assert_ne!(order_of(0), order_of(1));
    }

    #[test]
    fn a_trap_has_one_byte_and_not_always_at_the_same_place() {
        let mut places = std::collections::HashSet::new();
        let mut buffer = vec![7; LEAF];
        for leaf in 0..32 {
            fill_leaf(leaf, Kind::Trap, 0, &mut buffer);
            let set: Vec<usize> = (0..LEAF).filter(|&at| buffer[at] != 0).collect();
            assert_eq!(set.len(), 1);
            places.insert(set[0]);
        }
        assert!(places.len() > 16);
    }

    #[test]
    fn the_source_is_the_same_every_time_and_can_be_changed_and_changed_back() {
        let folder = tempfile::tempdir().unwrap();
        let size_bytes = 40 << 20;
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        write_source(&one, size_bytes).unwrap();
        write_source(&other, size_bytes).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap());
        let changes = Changes::scattered(size_bytes, 1);
        assert_eq!(changes.extents().len(), 6);
        assert_ne!(changes.extents(), Changes::scattered(size_bytes, 2).extents());
        changes.apply(&one).unwrap();
        assert!(std::fs::read(&one).unwrap() != std::fs::read(&other).unwrap());
        changes.revert(&one).unwrap();
        assert!(std::fs::read(&one).unwrap() == std::fs::read(&other).unwrap());
    }

    #[test]
    fn one_change_in_sixteen_becomes_zero_and_is_not_counted_as_data() {
        let changes = Changes::scattered(100 * 32 * LEAF_SIZE_BYTES, 3);
        assert_eq!((changes.extents().len(), changes.data_bytes()), (32, 30 * LEAF_SIZE_BYTES));
    }
}
