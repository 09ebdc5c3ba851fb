//! What makes the laboratory's system disk boot: Debian's kernel, an initial file system, a small userland, GRUB.
//!
//! The guest says on its serial port and its screen what it sees, writes to its disks, and obeys the power button.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use super::cpio::Archive;
use super::debian::{self, GuestParts};
use super::disk_image::{program, run};
use crate::vcenter::VcenterError;

/// What starts every line the guest says.
pub const GUEST_PREFIX: &str = "migratekit-lab:";
/// First process in the initial file system.
const INITRD_SCRIPT: &str = include_str!("boot_image/initrd.sh");
/// First process in the root file system.
const INIT_SCRIPT: &str = include_str!("boot_image/init.sh");
/// Length of a sector, and of the code in the first one before partition table and disk id.
const SECTOR_BYTES: u64 = 512;
const BOOT_CODE_BYTES: usize = 440;
/// Where the modules of GRUB for BIOS machines lie.
const GRUB_FOLDER: &str = "/usr/lib/grub/i386-pc";
/// Permission bits of programs.
const PROGRAM_MODE: u32 = 0o755;

/// How a bootable system disk is to behave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootPlan {
    /// Label of the file system on another disk that the guest mounts; none = it looks for none.
    pub data_label: Option<String>,
}

/// Puts kernel, initial file system and userland into the tree of the root file system.
///
/// # Errors
/// The parts cannot be fetched, or a file cannot be written.
pub(super) fn write_system(root: &Path, plan: &BootPlan) -> Result<(), VcenterError> {
    let parts = debian::parts()?;
    let initrd = initrd(&parts)?;
    let write = || -> std::io::Result<()> {
        for folder in ["bin", "sbin", "boot", "data", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy(&parts.kernel, root.join("boot/vmlinuz"))?;
        fs::write(root.join("boot/initrd.img"), initrd)?;
        program_file(&root.join("bin/busybox"), &fs::read(&parts.busybox)?)?;
        std::os::unix::fs::symlink("busybox", root.join("bin/sh"))?;
        program_file(&root.join("sbin/init"), INIT_SCRIPT.as_bytes())?;
        match &plan.data_label {
            Some(label) => fs::write(root.join("etc/data-label"), format!("{label}\n")),
            None => Ok(()),
        }
    };
    write().map_err(VcenterError::file("write the system in", root))
}

fn program_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(PROGRAM_MODE))
}

fn initrd(parts: &GuestParts) -> Result<Vec<u8>, VcenterError> {
    let read = |path: &Path| fs::read(path).map_err(VcenterError::file("read", path));
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "newroot", "proc", "sys"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", PROGRAM_MODE, &read(&parts.busybox)?);
    archive.file("init", PROGRAM_MODE, INITRD_SCRIPT.as_bytes());
    for driver in &parts.drivers {
        let name = driver.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), 0o644, &read(driver)?);
    }
    Ok(archive.finish())
}

/// Writes the boot loader: its first stage before the partition table, the rest before the first partition.
///
/// # Errors
/// GRUB is not installed, does not fit, or the image cannot be written.
pub(super) fn write_loader(image: &Path, root_label: &str, gap_bytes: u64) -> Result<(), VcenterError> {
    let (first, core) = grub(&loader_script(root_label))?;
    if core.len() as u64 > gap_bytes - SECTOR_BYTES || first.len() < BOOT_CODE_BYTES {
        return Err(VcenterError::Config(format!("GRUB of {} bytes does not fit before the partition", core.len())));
    }
    let file = OpenOptions::new().write(true).open(image).map_err(VcenterError::file("open the image", image))?;
    file.write_all_at(&first[..BOOT_CODE_BYTES], 0)
        .and_then(|()| file.write_all_at(&core, SECTOR_BYTES))
        .map_err(VcenterError::file("write the boot loader to", image))
}

/// `quiet` leaves the kernel's own words out: writing them costs a second under emulation.
fn loader_script(root_label: &str) -> String {
    format!(
        "search.fs_label {root_label} root\n\
         linux /boot/vmlinuz root=LABEL={root_label} console=tty0 console=ttyS0,115200 quiet mitigations=off\n\
         initrd /boot/initrd.img\n\
         boot\n"
    )
}

/// The first sector of GRUB and its core with an embedded script.
fn grub(script: &str) -> Result<(Vec<u8>, Vec<u8>), VcenterError> {
    let first = Path::new(GRUB_FOLDER).join("boot.img");
    let first = fs::read(&first).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            VcenterError::MissingProgram { program: "boot.img of GRUB", package: "grub-pc-bin" }
        }
        _ => VcenterError::file("read", &first)(error),
    })?;
    let work = tempfile::tempdir().map_err(VcenterError::file("make a folder for", GRUB_FOLDER))?;
    let (config, core) = (work.path().join("grub.cfg"), work.path().join("core.img"));
    fs::write(&config, script).map_err(VcenterError::file("write", &config))?;
    let mut command = program("grub-mkimage");
    command.args(["--format=i386-pc", "--prefix=/boot/grub", "--directory", GRUB_FOLDER]);
    command.arg("--config").arg(&config).arg("--output").arg(&core);
    command.args(["biosdisk", "part_msdos", "ext2", "search_label", "linux", "boot"]);
    run(command, "grub-mkimage", "grub-common", "")?;
    Ok((first, fs::read(&core).map_err(VcenterError::file("read", &core))?))
}
