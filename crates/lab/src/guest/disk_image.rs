//! Builds raw disk images with a real partition table and a real ext4 file system, by the programs Linux uses.
//!
//! The first partition holds files and is left alone afterwards, so that it stays consistent for `e2fsck`; the second
//! is raw space with awkward content and room for scattered writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::boot_image::{self, BootPlan};
use super::fill_random;
use crate::vcenter::{Area, VcenterError};

const MIB: u64 = 1 << 20;
/// Where the first partition starts, as installers do it.
const FIRST_PARTITION_BYTES: u64 = MIB;
/// Room kept at the end for the second GPT.
const TAIL_BYTES: u64 = MIB;
/// Length of each special region at the start of the raw partition.
const REGION_BYTES: u64 = 4 * MIB;
/// Regions before the free space: random, text, written zeros, hole, sampling trap.
const REGIONS: u64 = 5;
/// Smallest file system `mkfs.ext4` makes with a journal and the files put into it.
const MIN_FILESYSTEM_BYTES: u64 = 24 * MIB;
/// The same with a kernel, its initial file system and a userland.
const MIN_BOOTABLE_FILESYSTEM_BYTES: u64 = 64 * MIB;
/// Block of the file systems, and length of the marker file: it is one block, so that it can be replaced in place.
pub const MARKER_BYTES: u64 = 4096;
/// Where administrators' programs lie when `PATH` does not say.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// The file tests look for after a migration: a line of text, padded to one block.
pub const MARKER_PATH: &str = "etc/marker";
/// Label of the file system on a data disk.
const DATA_LABEL: &str = "data";

/// Kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTable {
    /// GUID partition table.
    Gpt,
    /// DOS partition table.
    Mbr,
}

/// What a disk image is to hold.
#[derive(Debug, Clone)]
pub struct DiskPlan {
    /// Size of the disk.
    pub capacity_bytes: u64,
    /// Kind of partition table.
    pub table: PartitionTable,
    /// Size of the ext4 partition, a multiple of 1 MiB.
    pub filesystem_bytes: u64,
    /// File system label.
    pub label: String,
    /// Text of the marker file.
    pub marker: String,
    /// Size of the incompressible file in the file system.
    pub payload_bytes: u64,
    /// Seed of all random content.
    pub seed: u64,
    /// Makes the disk boot; needs a DOS partition table.
    pub boot: Option<BootPlan>,
}

impl DiskPlan {
    /// A system disk with an MBR and nothing to boot.
    #[must_use]
    pub fn system(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            table: PartitionTable::Mbr,
            filesystem_bytes: half(capacity_bytes),
            label: "system".to_owned(),
            marker: "system disk of the laboratory\n".to_owned(),
            payload_bytes: 4 * MIB,
            seed: 1,
            boot: None,
        }
    }

    /// A system disk that boots a small Linux, which mounts the file system `data` of a second disk.
    #[must_use]
    pub fn bootable(capacity_bytes: u64) -> Self {
        Self {
            filesystem_bytes: half(capacity_bytes).max(MIN_BOOTABLE_FILESYSTEM_BYTES),
            boot: Some(BootPlan { data_label: Some(DATA_LABEL.to_owned()) }),
            ..Self::system(capacity_bytes)
        }
    }

    /// A data disk with a GPT.
    #[must_use]
    pub fn data(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            table: PartitionTable::Gpt,
            filesystem_bytes: half(capacity_bytes),
            label: DATA_LABEL.to_owned(),
            marker: "data disk of the laboratory\n".to_owned(),
            payload_bytes: 8 * MIB,
            seed: 2,
            boot: None,
        }
    }
}

/// Half the disk, in whole MiB.
fn half(capacity_bytes: u64) -> u64 {
    (capacity_bytes / 2 / MIB * MIB).max(MIN_FILESYSTEM_BYTES)
}

/// Where things are on a finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskLayout {
    /// The ext4 partition.
    pub filesystem: Area,
    /// The raw partition.
    pub raw: Area,
    /// Its part without special content, for scattered guest writes.
    pub scratch: Area,
    /// A mostly zero area with a few bytes set, which sampling would take for empty.
    pub trap: Area,
    /// Offsets in the disk of those bytes.
    pub trap_bytes: Vec<u64>,
    /// The block of the marker file.
    pub marker: Area,
}

/// Makes the image; an existing file is replaced.
///
/// # Errors
/// When the plan is too small, a program is missing (the error names the Debian package), or a program fails.
pub fn build(path: &Path, plan: &DiskPlan) -> Result<DiskLayout, VcenterError> {
    let mut layout = layout(plan)?;
    let file = File::create(path).map_err(VcenterError::file("make the image", path))?;
    file.set_len(plan.capacity_bytes).map_err(VcenterError::file("size the image", path))?;
    drop(file);
    partition(path, plan, &layout)?;
    make_filesystem(path, plan, &layout)?;
    layout.marker.start = marker_start(path, &layout)?;
    if plan.boot.is_some() {
        boot_image::write_loader(path, &plan.label, layout.filesystem.start)?;
    }
    fill_raw(path, plan, &layout).map_err(VcenterError::file("fill the image", path))?;
    Ok(layout)
}

fn layout(plan: &DiskPlan) -> Result<DiskLayout, VcenterError> {
    let filesystem = Area { start: FIRST_PARTITION_BYTES, length: plan.filesystem_bytes };
    let raw_end = plan.capacity_bytes.saturating_sub(TAIL_BYTES) / MIB * MIB;
    let special = REGIONS * REGION_BYTES;
    if plan.boot.is_some() && plan.table != PartitionTable::Mbr {
        return Err(VcenterError::Config("a bootable disk needs a DOS partition table".to_owned()));
    }
    if plan.marker.len() as u64 >= MARKER_BYTES {
        return Err(VcenterError::Config(format!("a marker is shorter than {MARKER_BYTES} bytes")));
    }
    if plan.filesystem_bytes < MIN_FILESYSTEM_BYTES
        || !plan.filesystem_bytes.is_multiple_of(MIB)
        || raw_end < filesystem.end() + special + MIB
    {
        return Err(VcenterError::Config(format!(
            "a disk of {} bytes does not fit a file system of {} bytes and {special} bytes of raw regions",
            plan.capacity_bytes, plan.filesystem_bytes
        )));
    }
    let raw = Area { start: filesystem.end(), length: raw_end - filesystem.end() };
    let trap = Area { start: raw.start + (REGIONS - 1) * REGION_BYTES, length: REGION_BYTES };
    let odd_places = [1, 65_539, MIB + 511, 2 * MIB - 1, 3 * MIB + 12_345, REGION_BYTES - 1];
    Ok(DiskLayout {
        filesystem,
        raw,
        scratch: Area { start: trap.end(), length: raw.end() - trap.end() },
        trap,
        trap_bytes: odd_places.iter().map(|place| trap.start + place).collect(),
        marker: Area { start: 0, length: MARKER_BYTES },
    })
}

/// Where the marker's only block lies, as `debugfs` finds it in the finished file system.
fn marker_start(path: &Path, layout: &DiskLayout) -> Result<u64, VcenterError> {
    let mut command = program("debugfs");
    command.args(["-R", &format!("blocks /{MARKER_PATH}")]);
    command.arg(format!("{}?offset={}", path.display(), layout.filesystem.start));
    let said = run(command, "debugfs", "e2fsprogs", "")?;
    let blocks: Option<Vec<u64>> = said.split_whitespace().map(|number| number.parse().ok()).collect();
    match blocks.as_deref() {
        Some([block]) if *block > 0 => Ok(layout.filesystem.start + block * MARKER_BYTES),
        _ => Err(VcenterError::Program { program: "debugfs", detail: format!("the marker is not one block: {said}") }),
    }
}

/// The text as the marker file holds it: one line, then empty ones to the end of the block.
pub(crate) fn marker_block(text: &str) -> Vec<u8> {
    let mut block = text.trim_end_matches('\n').as_bytes().to_vec();
    block.resize(usize::try_from(MARKER_BYTES).unwrap_or_default(), b'\n');
    block
}

fn partition(path: &Path, plan: &DiskPlan, layout: &DiskLayout) -> Result<(), VcenterError> {
    let line = |area: &Area, rest: &str| format!("start={}, size={}{rest}\n", area.start / 512, area.length / 512);
    let script = match plan.table {
        PartitionTable::Mbr => format!(
            "label: dos\nlabel-id: 0x4d4b{:04x}\n{}{}",
            plan.seed & 0xffff,
            line(&layout.filesystem, ", type=83, bootable"),
            line(&layout.raw, ", type=83")
        ),
        PartitionTable::Gpt => {
            format!("label: gpt\n{}{}", line(&layout.filesystem, ", type=linux"), line(&layout.raw, ", type=linux"))
        }
    };
    let mut command = program("sfdisk");
    command.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(path);
    run(command, "sfdisk", "fdisk", &script).map(drop)
}

fn make_filesystem(path: &Path, plan: &DiskPlan, layout: &DiskLayout) -> Result<(), VcenterError> {
    let tree = tempfile::tempdir().map_err(VcenterError::file("make a folder for", path))?;
    write_tree(tree.path(), plan).map_err(VcenterError::file("write the files of", path))?;
    if let Some(boot) = &plan.boot {
        boot_image::write_system(tree.path(), boot)?;
    }
    let mut command = program("mkfs.ext4");
    command
        .args(["-q", "-F", "-b", &MARKER_BYTES.to_string(), "-L", &plan.label, "-d"])
        .arg(tree.path())
        .arg("-E")
        .arg(format!("offset={}", layout.filesystem.start))
        .arg(path)
        .arg(format!("{}k", layout.filesystem.length / 1024));
    run(command, "mkfs.ext4", "e2fsprogs", "").map(drop)
}

/// The files of the file system: a marker, text, incompressible bytes, and a file with holes.
fn write_tree(root: &Path, plan: &DiskPlan) -> io::Result<()> {
    for folder in ["etc", "home", "srv", "var/lib/app", "var/log"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    std::fs::write(root.join(MARKER_PATH), marker_block(&plan.marker))?;
    std::fs::write(root.join("etc/hostname"), format!("{}\n", plan.label))?;
    std::fs::write(root.join("etc/fstab"), format!("LABEL={} / ext4 defaults 0 1\n", plan.label))?;
    std::fs::write(root.join("home/notes.txt"), "Written before the migration.\n")?;
    let line = "Jan  1 00:00:00 guest kernel: the quick brown fox jumps over the lazy dog\n";
    std::fs::write(root.join("var/log/messages"), line.repeat(16_384))?;
    let mut payload = vec![0_u8; usize::try_from(plan.payload_bytes).unwrap_or_default()];
    fill_random(&mut payload, plan.seed, 0);
    std::fs::write(root.join("var/lib/app/payload.bin"), payload)?;
    let sparse = File::create(root.join("srv/sparse.img"))?;
    sparse.set_len(8 * MIB)?;
    sparse.write_all_at(b"start of a file with holes", 0)?;
    sparse.write_all_at(b"end of a file with holes", 8 * MIB - 64)
}

fn fill_raw(path: &Path, plan: &DiskPlan, layout: &DiskLayout) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut region = vec![0_u8; usize::try_from(REGION_BYTES).unwrap_or_default()];
    fill_random(&mut region, plan.seed, layout.raw.start);
    file.write_all_at(&region, layout.raw.start)?;
    let text = b"compressible content, again and again; ";
    region.iter_mut().zip(text.iter().cycle()).for_each(|(byte, letter)| *byte = *letter);
    file.write_all_at(&region, layout.raw.start + REGION_BYTES)?;
    region.fill(0);
    file.write_all_at(&region, layout.raw.start + 2 * REGION_BYTES)?;
    for (offset, byte) in layout.trap_bytes.iter().zip(1_u8..) {
        file.write_all_at(&[byte], *offset)?;
    }
    file.sync_all()
}

/// The program from `PATH`, or from where Debian puts administrators' programs.
pub(super) fn program(name: &str) -> Command {
    let in_path = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .unwrap_or_default();
    let elsewhere = ADMIN_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    Command::new(elsewhere.filter(|_| !in_path).unwrap_or_else(|| PathBuf::from(name)))
}

/// Runs a program to its end with that input; gives what it printed.
pub(super) fn run(
    mut command: Command,
    name: &'static str,
    package: &'static str,
    input: &str,
) -> Result<String, VcenterError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => VcenterError::MissingProgram { program: name, package },
        _ => VcenterError::Program { program: name, detail: error.to_string() },
    })?;
    let failed = |detail: String| VcenterError::Program { program: name, detail };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may close it first; its exit status decides.
        if let Err(error) = stdin.write_all(input.as_bytes()) {
            tracing::debug!(%error, program = name, "input was not taken");
        }
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests;
