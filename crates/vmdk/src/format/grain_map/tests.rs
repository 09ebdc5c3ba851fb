//! Shapes that are possible and those that are not, and what entries mean.

use super::*;

const HOSTED: Coding = Coding::Hosted { zero_grains: false, packed: false };

fn shape(capacity_bytes: u64, grain_sectors: u64, entries_per_table: u64, coding: Coding) -> Shape {
    Shape { capacity_bytes, grain_sectors, entries_per_table, directory_at: 512, directory_entries: None, coding }
}

#[test]
fn a_map_covers_its_disk_with_whole_tables() {
    let map = GrainMap::new(shape((32 << 20) + 512, 128, 512, HOSTED), 4096).unwrap();
    assert_eq!((map.directory_entries(), map.table_coverage_bytes(), map.grain_bytes()), (2, 32 << 20, 65536));
}

#[test]
fn impossible_shapes_are_refused() {
    let packed = Coding::Hosted { zero_grains: false, packed: true };
    let cases = [
        shape(1 << 30, 0, 512, HOSTED),
        shape(1 << 30, 3, 512, HOSTED),
        shape(1 << 30, 1 << 22, 512, HOSTED),
        shape(1 << 30, u64::MAX, 512, HOSTED),
        shape(1 << 30, 1 << 63, 512, HOSTED),
        shape(1 << 30, 1 << 14, 512, packed),
        shape(1 << 30, 128, 0, HOSTED),
        shape(1 << 30, 128, 4097, HOSTED),
        // A directory of 62 TiB in sectors is not inside 1 MiB of file.
        shape(62 << 40, 1, 1, HOSTED),
        Shape { directory_at: 0, ..shape(1 << 30, 128, 512, HOSTED) },
        Shape { directory_at: (1 << 20) - 4, ..shape(1 << 30, 128, 512, HOSTED) },
        Shape { directory_at: u64::MAX, ..shape(1 << 30, 128, 512, HOSTED) },
        Shape { directory_entries: Some(31), ..shape(1 << 30, 128, 512, HOSTED) },
    ];
    for case in cases {
        assert!(GrainMap::new(case, 1 << 20).is_err(), "{case:?}");
    }
    let fitting = Shape { directory_entries: Some(32), ..shape(1 << 30, 128, 512, HOSTED) };
    assert!(GrainMap::new(fitting, 1 << 20).is_ok());
}

#[test]
fn entries_of_sectors() {
    let plain = GrainMap::new(shape(1 << 30, 128, 512, HOSTED), 1 << 20).unwrap();
    let zeroing = Coding::Hosted { zero_grains: true, packed: false };
    let zeroing = GrainMap::new(shape(1 << 30, 128, 512, zeroing), 1 << 20).unwrap();
    let cowd = GrainMap::new(shape(1 << 30, 1, 4096, Coding::Cowd), 1 << 20).unwrap();
    assert_eq!(plain.slot_of(0), Ok(Slot::Missing));
    assert_eq!(plain.slot_of(0xffff_ffff), Ok(Slot::At(0x1ff_ffff_fe00)));
    assert!(plain.slot_of(1).is_err());
    assert_eq!(zeroing.slot_of(1), Ok(Slot::Zero));
    assert!(zeroing.table_of(1).is_err());
    assert!(cowd.slot_of(3).is_err());
    assert_eq!(cowd.slot_of(4), Ok(Slot::At(2048)));
    assert_eq!((plain.table_of(0), plain.table_of(26)), (Ok(None), Ok(Some(26 * 512))));
}

#[test]
fn entries_with_a_type() {
    let coding = Coding::SeSparse { tables_at: 1 << 20, table_count: 5, grains_at: 1 << 30 };
    let map = GrainMap::new(shape(1 << 30, 8, 4096, coding), 1 << 20).unwrap();
    assert_eq!(map.table_of(0), Ok(None));
    assert_eq!(map.table_of(0x1000_0000_0000_0004), Ok(Some((1 << 20) + 4 * 32768)));
    for wrong in [0x1000_0000_0000_0005, 4, 0x2000_0000_0000_0000, 0x1000_0001_0000_0000] {
        assert!(map.table_of(wrong).is_err(), "{wrong:#x}");
    }
    assert_eq!(map.slot_of(0), Ok(Slot::Missing));
    for zero in [0x1000_0000_0000_0000, 0x2000_0000_0000_0000, 0x1fff_0000_0000_0000] {
        assert_eq!(map.slot_of(zero), Ok(Slot::Zero), "{zero:#x}");
    }
    // Grain 0x5_0abc: its low 12 bits stand above, the others below.
    assert_eq!(map.slot_of(0x3abc_0000_0000_0050), Ok(Slot::At((1 << 30) + 0x5_0abc * 4096)));
    for wrong in [5, 0x4000_0000_0000_0000, u64::MAX, 0x3fff_ffff_ffff_ffff] {
        assert!(map.slot_of(wrong).is_err(), "{wrong:#x}");
    }
}
