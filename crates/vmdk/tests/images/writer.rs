//! Writers of the formats that qemu-img only reads, after their published layouts: `COWD` and seSparse redo logs, and
//! stream-optimized extents whose directory is named by a footer, as vCenter exports them.

use std::collections::BTreeMap;
use std::io::Write;

/// What a grain of an extent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grain {
    /// These bytes, a whole grain of them.
    Data(Vec<u8>),
    /// Zeroes, by the table (seSparse: type 2).
    Zero,
    /// Zeroes, given back (seSparse: type 1).
    Unmapped,
}

/// Grains by their number.
pub type Grains = BTreeMap<u64, Grain>;

fn put32(file: &mut [u8], at: usize, number: u32) {
    file[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn put64(file: &mut [u8], at: usize, number: u64) {
    file[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap()
}

/// A `COWD` extent (VDF "ESXi Host Sparse Extents") with grains of `grain_sectors`.
pub fn cowd(capacity_sectors: u32, grain_sectors: u32, grains: &Grains) -> Vec<u8> {
    let tables = capacity_sectors.div_ceil(grain_sectors * 4096) as usize;
    let directory_sectors = (tables * 4).div_ceil(512);
    let mut file = vec![0; (4 + directory_sectors) * 512];
    file[..4].copy_from_slice(b"COWD");
    let numbers = [1, 3, capacity_sectors, grain_sectors, 4, small(tables)];
    for (index, number) in numbers.iter().enumerate() {
        put32(&mut file, 4 + 4 * index, *number);
    }
    let grain_bytes = grain_sectors as usize * 512;
    for (number, grain) in grains {
        let (table, index) = ((number / 4096) as usize, (number % 4096) as usize);
        let at = u32::from_le_bytes(file[2048 + 4 * table..][..4].try_into().unwrap()) as usize * 512;
        let at = if at == 0 {
            let at = file.len();
            file.resize(at + 4096 * 4, 0);
            put32(&mut file, 2048 + 4 * table, small(at / 512));
            at
        } else {
            at
        };
        let Grain::Data(bytes) = grain else { panic!("COWD knows data only") };
        assert_eq!(bytes.len(), grain_bytes);
        let sector = small(file.len() / 512);
        put32(&mut file, at + 4 * index, sector);
        file.extend_from_slice(bytes);
    }
    let free = small(file.len() / 512);
    put32(&mut file, 28, free);
    file
}

/// A seSparse extent; the grains begin with number `first_grain`, so that numbers of more than 12 bits can be had.
pub fn sesparse(capacity_sectors: u64, first_grain: u64, grains: &Grains) -> Vec<u8> {
    let tables = capacity_sectors.div_ceil(8 * 4096);
    let directory_sectors = (tables * 8).div_ceil(512);
    let used: Vec<u64> = grains.keys().map(|number| number / 4096).collect();
    let used: BTreeMap<u64, u64> =
        used.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().zip(0..).collect();
    let tables_at = 5 + directory_sectors;
    let tables_sectors = 64 * (used.len() as u64 + 1);
    let grains_at = (tables_at + tables_sectors + 4).next_multiple_of(8);
    let stored = grains.values().filter(|grain| matches!(grain, Grain::Data(_))).count() as u64;
    let mut file = vec![0; usize::try_from((grains_at + (first_grain + stored) * 8) * 512).unwrap()];
    let header = [
        0xcafe_babe,
        0x2_0000_0001,
        capacity_sectors,
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
        2,
        5,
        directory_sectors,
        tables_at,
        tables_sectors,
        tables_at + tables_sectors,
        2,
        tables_at + tables_sectors + 2,
        2,
        grains_at,
        (first_grain + stored) * 8,
    ];
    for (index, number) in header.iter().enumerate() {
        put64(&mut file, 8 * index, *number);
    }
    put64(&mut file, 512, 0xcafe_cafe);
    for (table, place) in &used {
        put64(&mut file, usize::try_from(5 * 512 + table * 8).unwrap(), 0x1000_0000_0000_0000 | place);
    }
    let mut next = first_grain;
    for (number, grain) in grains {
        let entry_at = tables_at * 512 + used[&(number / 4096)] * 32_768 + number % 4096 * 8;
        let entry = match grain {
            Grain::Unmapped => 1 << 60,
            Grain::Zero => 2 << 60,
            Grain::Data(bytes) => {
                let at = usize::try_from((grains_at + next * 8) * 512).unwrap();
                file[at..at + 4096].copy_from_slice(bytes);
                next += 1;
                3 << 60 | ((next - 1) & 0xfff) << 48 | (next - 1) >> 12
            }
        };
        put64(&mut file, usize::try_from(entry_at).unwrap(), entry);
    }
    file
}

/// A zlib stream.
pub fn deflated(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn to_sector_end(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(512), 0);
}

fn metadata_marker(file: &mut Vec<u8>, sectors: u64, kind: u32) {
    to_sector_end(file);
    let at = file.len();
    file.resize(at + 512, 0);
    put64(file, at, sectors);
    put32(file, at + 12, kind);
}

/// A hosted header with the embedded descriptor at sectors 1 to 20.
fn hosted_header(capacity_sectors: u64, directory: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"KDMV");
    put32(&mut header, 4, 3);
    put32(&mut header, 8, 1 | 1 << 16 | 1 << 17);
    put64(&mut header, 12, capacity_sectors);
    put64(&mut header, 20, 128);
    put64(&mut header, 28, 1);
    put64(&mut header, 36, 20);
    put32(&mut header, 44, 512);
    put64(&mut header, 56, directory);
    put64(&mut header, 64, 128);
    header[73..77].copy_from_slice(b"\n \r\n");
    header[77] = 1;
    header
}

/// A stream-optimized extent as vCenter exports it: the grains in order, each table after its grains, footer at the end.
pub fn stream(capacity_sectors: u64, grains: &BTreeMap<u64, Vec<u8>>) -> Vec<u8> {
    let mut file = hosted_header(capacity_sectors, u64::MAX);
    let text =
        descriptor("streamOptimized", 0x1234_5678, None, &format!("RDONLY {capacity_sectors} SPARSE \"s.vmdk\""));
    file.extend_from_slice(text.as_bytes());
    file.resize(128 * 512, 0);
    let tables = usize::try_from(capacity_sectors.div_ceil(65_536)).unwrap();
    let mut directory = vec![0; (tables * 4).next_multiple_of(512)];
    for table in 0..tables {
        let mut entries = vec![0; 2048];
        let first = table as u64 * 512;
        for (number, content) in grains.range(first..first + 512) {
            to_sector_end(&mut file);
            let sector = small(file.len() / 512);
            put32(&mut entries, usize::try_from(number - first).unwrap() * 4, sector);
            let packed = deflated(content);
            file.extend_from_slice(&(number * 128).to_le_bytes());
            file.extend_from_slice(&small(packed.len()).to_le_bytes());
            file.extend_from_slice(&packed);
        }
        if entries.iter().any(|byte| *byte != 0) {
            metadata_marker(&mut file, 4, 1);
            put32(&mut directory, table * 4, small(file.len() / 512));
            file.extend_from_slice(&entries);
        }
    }
    metadata_marker(&mut file, directory.len() as u64 / 512, 2);
    let directory_sector = file.len() as u64 / 512;
    file.extend_from_slice(&directory);
    metadata_marker(&mut file, 1, 3);
    file.extend_from_slice(&hosted_header(capacity_sectors, directory_sector));
    metadata_marker(&mut file, 0, 0);
    file
}

/// A descriptor with one or more extent lines, and a parent: its content id and its name.
pub fn descriptor(create_type: &str, cid: u32, parent: Option<(u32, &str)>, extents: &str) -> String {
    let (parent_cid, hint) = match parent {
        Some((cid, name)) => (cid, format!("parentFileNameHint=\"{name}\"\n")),
        None => (u32::MAX, String::new()),
    };
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={cid:08x}\nparentCID={parent_cid:08x}\n\
         createType=\"{create_type}\"\n{hint}\n# Extent description\n{extents}\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"16\"\n\
         ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"13\"\n"
    )
}
