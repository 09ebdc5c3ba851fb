//! A kernel with its drivers and a static busybox from Debian's archive, fetched once and kept beside the build.
//!
//! Nothing is installed into the machine: packages are downloaded by `apt-get download` and unpacked by `dpkg-deb -x`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::disk_image::run;
use crate::vcenter::VcenterError;

/// Package that names the newest kernel for virtual machines.
const KERNEL_META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Package with a busybox that needs no libraries.
const BUSYBOX_PACKAGE: &str = "busybox-static";
/// Folder of the finished parts; a change of what is kept is a new name.
const PARTS_FOLDER: &str = "parts-1";
/// What marks cargo's target folder.
const TARGET_MARK: &str = "CACHEDIR.TAG";
/// Drivers without which no disk of the laboratory is seen.
const NEEDED_DRIVERS: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "ata_piix", "ext4"];
/// Drivers taken when the kernel brings them.
const WELCOME_DRIVERS: [&str; 9] =
    ["ata_generic", "ahci", "button", "evdev", "virtio_net", "vmxnet3", "e1000", "e1000e", "8139cp"];

/// The parts a guest is made of.
#[derive(Debug, Clone)]
pub(crate) struct GuestParts {
    /// The kernel, a `bzImage`.
    pub(crate) kernel: PathBuf,
    /// The static busybox.
    pub(crate) busybox: PathBuf,
    /// Drivers in the order they are to be loaded in.
    pub(crate) drivers: Vec<PathBuf>,
}

/// The parts, fetched if they are not there yet.
///
/// # Errors
/// Debian's archive cannot be asked, or a program is missing; the error names package or remedy.
pub(crate) fn parts() -> Result<GuestParts, VcenterError> {
    let cache = cache_folder();
    fs::create_dir_all(&cache).map_err(VcenterError::file("make the folder", &cache))?;
    let lock_path = cache.join("lock");
    let lock = File::create(&lock_path).map_err(VcenterError::file("open", &lock_path))?;
    // Tests are processes of their own: only one of them fetches.
    flock(&lock, FlockOperation::LockExclusive)
        .map_err(|errno| VcenterError::file("lock", &lock_path)(errno.into()))?;
    let folder = cache.join(PARTS_FOLDER);
    if !folder.exists() {
        fetch(&cache, &folder)?;
    }
    read_parts(&folder)
}

/// `target/lab-guest` of the build this program is from.
fn cache_folder() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let target = own.ancestors().find(|folder| folder.join(TARGET_MARK).exists());
    target.map_or_else(|| std::env::temp_dir().join("migratekit-lab-guest"), |target| target.join("lab-guest"))
}

fn fetch(cache: &Path, folder: &Path) -> Result<(), VcenterError> {
    let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache);
    let work = work.map_err(VcenterError::file("make a folder in", cache))?;
    let kernel_package = newest_kernel()?;
    tracing::info!(package = kernel_package, "fetching the laboratory's guest from Debian's archive");
    let mut download = Command::new("apt-get");
    download.current_dir(work.path()).args(["--quiet", "download", &kernel_package, BUSYBOX_PACKAGE]);
    run(download, "apt-get", "apt", "").map_err(with_remedy)?;
    let unpacked = work.path().join("unpacked");
    for package in files_below(work.path(), ".deb")? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package).arg(&unpacked);
        run(unpack, "dpkg-deb", "dpkg", "")?;
    }
    let fresh = work.path().join("fresh");
    keep_parts(&unpacked, &fresh)?;
    fs::rename(&fresh, folder).map_err(VcenterError::file("keep the guest's parts in", folder))
}

/// The package the newest kernel is in, as the meta package's first dependency says.
fn newest_kernel() -> Result<String, VcenterError> {
    let failed = |detail: String| with_remedy(VcenterError::Program { program: "apt-cache", detail });
    let output = Command::new("apt-cache")
        .args(["show", "--no-all-versions", KERNEL_META_PACKAGE])
        .output()
        .map_err(|_| VcenterError::MissingProgram { program: "apt-cache", package: "apt" })?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    dependency(&text).map(str::to_owned).ok_or_else(|| failed(format!("{KERNEL_META_PACKAGE} names no kernel")))
}

fn dependency(description: &str) -> Option<&str> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends.split([' ', ',']).find(|word| word.starts_with("linux-image-"))
}

fn with_remedy(error: VcenterError) -> VcenterError {
    match error {
        VcenterError::Program { program, detail } => {
            let detail = format!("{detail} (the lists of packages may be missing or old: apt-get update)");
            VcenterError::Program { program, detail }
        }
        other => other,
    }
}

/// Copies what is needed out of the unpacked packages.
fn keep_parts(unpacked: &Path, fresh: &Path) -> Result<(), VcenterError> {
    let missing = |what: &str| VcenterError::Program {
        program: "dpkg-deb",
        detail: format!("Debian's packages hold no {what}; the laboratory needs those of Debian 12"),
    };
    let drivers = fresh.join("drivers");
    fs::create_dir_all(&drivers).map_err(VcenterError::file("make the folder", &drivers))?;
    let copy = |from: &Path, to: PathBuf| {
        fs::copy(from, &to).map(drop).map_err(VcenterError::file("copy a part of the guest to", to))
    };
    let kernel = files_below(&unpacked.join("boot"), "")?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    copy(&kernel.ok_or_else(|| missing("kernel"))?, fresh.join("vmlinuz"))?;
    let busybox = ["bin/busybox", "usr/bin/busybox"].iter().map(|place| unpacked.join(place)).find(|p| p.is_file());
    copy(&busybox.ok_or_else(|| missing("busybox"))?, fresh.join("busybox"))?;

    let modules = ["lib/modules", "usr/lib/modules"].iter().map(|place| unpacked.join(place)).find(|p| p.is_dir());
    let modules = modules.ok_or_else(|| missing("drivers"))?;
    let available = files_below(&modules, ".ko")?;
    let built_in: Vec<String> = files_below(&modules, "modules.builtin")?
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().map(|line| driver_name(Path::new(line))).collect::<Vec<_>>())
        .collect();
    let mut order = LoadOrder::new(available);
    for driver in NEEDED_DRIVERS {
        let there = order.add(driver)? || built_in.iter().any(|known| known == driver);
        there.then_some(()).ok_or_else(|| missing(driver))?;
    }
    for driver in WELCOME_DRIVERS {
        order.add(driver)?;
    }
    for (number, path) in order.chosen.iter().enumerate() {
        copy(path, drivers.join(format!("{number:02}-{}.ko", driver_name(path))))?;
    }
    Ok(())
}

fn read_parts(folder: &Path) -> Result<GuestParts, VcenterError> {
    let mut drivers = files_below(&folder.join("drivers"), ".ko")?;
    drivers.sort();
    Ok(GuestParts { kernel: folder.join("vmlinuz"), busybox: folder.join("busybox"), drivers })
}

/// Name of a driver as the kernel spells it, from its file.
fn driver_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    name.trim_end_matches(".ko").to_owned()
}

/// Every file in a folder and below whose name ends so.
fn files_below(folder: &Path, end: &str) -> Result<Vec<PathBuf>, VcenterError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(VcenterError::file("list", &folder))? {
            let path = entry.map_err(VcenterError::file("list", &folder))?.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Drivers in an order in which each comes after those it depends on.
struct LoadOrder {
    available: BTreeMap<String, PathBuf>,
    chosen: Vec<PathBuf>,
}

impl LoadOrder {
    fn new(available: Vec<PathBuf>) -> Self {
        let available = available.into_iter().map(|path| (driver_name(&path), path)).collect();
        Self { available, chosen: Vec::new() }
    }

    /// Adds a driver after its dependencies; whether the package has it.
    fn add(&mut self, driver: &str) -> Result<bool, VcenterError> {
        let Some(path) = self.available.get(driver).cloned() else { return Ok(false) };
        if self.chosen.contains(&path) {
            return Ok(true);
        }
        let bytes = fs::read(&path).map_err(VcenterError::file("read", &path))?;
        for needed in dependencies(&bytes) {
            self.add(&needed)?;
        }
        self.chosen.push(path);
        Ok(true)
    }
}

/// What a driver's `.modinfo` section says it depends on: `depends=a,b` between zero bytes.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_package_names_the_kernel() {
        let text = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\n\
                    Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(dependency(text), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("Package: x\nDepends: linux-base (>= 4)\n"), None);
    }

    #[test]
    fn drivers_load_after_those_they_depend_on() {
        let folder = tempfile::tempdir().unwrap();
        let module = |name: &str, depends: &str| {
            let path = folder.path().join(format!("{name}.ko"));
            fs::write(&path, format!("ELF\0license=GPL\0depends={depends}\0name={name}\0")).unwrap();
            path
        };
        let files =
            vec![module("virtio-scsi", "scsi_mod,virtio"), module("scsi_mod", "scsi-common"), module("virtio", "")];
        let mut order = LoadOrder::new(files);
        assert!(order.add("virtio_scsi").unwrap());
        assert!(!order.add("ahci").unwrap(), "what the package lacks is built in or not there");
        let names: Vec<String> = order.chosen.iter().map(|path| driver_name(path)).collect();
        assert_eq!(names, ["scsi_mod", "virtio", "virtio_scsi"]);
    }
}
