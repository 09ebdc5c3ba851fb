//! A small site to talk to: one running VM with a built system disk and an empty data disk, and a stopped one.

use std::path::Path;

use lab::guest::disk_image::{self, DiskLayout, DiskPlan};
use lab::vcenter::{ControllerKind, DiskSpec, Firmware, NicKind, NicSpec, Tools, VcenterConfig, VcenterSim, VmSpec};
use model::Secret;

/// Password of the site's account.
pub(crate) const PASSWORD: &str = "correct horse & <staple>";
/// Account name.
pub(crate) const USER: &str = "backup@vsphere.local";
/// Size of the system disk.
pub(crate) const SYSTEM_BYTES: u64 = 96 << 20;
/// Size of the data disk.
pub(crate) const DATA_BYTES: u64 = 2 << 30;

/// A running site with its folder.
pub(crate) struct Site {
    pub(crate) sim: VcenterSim,
    pub(crate) layout: DiskLayout,
    pub(crate) folder: tempfile::TempDir,
}

/// The configuration of the site, for tests that change it.
pub(crate) fn config(folder: &Path, image: &Path) -> VcenterConfig {
    let web = VmSpec {
        folder: "prod/web tier".to_owned(),
        firmware: Firmware::Efi,
        secure_boot: true,
        cpu_count: 4,
        memory_mib: 8192,
        ..VmSpec::named("web01")
    }
    .with_disk(DiskSpec::from_image(image))
    .with_disk(DiskSpec { controller: ControllerKind::LsiLogic, bus: 1, ..DiskSpec::empty(DATA_BYTES) })
    .with_nic(NicSpec { ip_addresses: vec!["192.0.2.10".to_owned()], ..NicSpec::on("VM Network") })
    .with_nic(NicSpec { kind: NicKind::E1000, ..NicSpec::on("dv-production") })
    .with_nic(NicSpec { mac_address: Some("00:50:56:aa:bb:cc".to_owned()), ..NicSpec::on("nsx-backend") });
    let idle = VmSpec { powered_on: false, tools: Tools::Absent, ..VmSpec::named("idle/1") }
        .with_disk(DiskSpec::empty(16 << 20));
    VcenterConfig {
        state_dir: folder.join("state"),
        username: USER.to_owned(),
        password: Secret::new(PASSWORD),
        vms: vec![web, idle],
        ..VcenterConfig::default()
    }
}

/// Builds the image and starts the site with a changed configuration.
pub(crate) async fn start_with(change: impl FnOnce(&mut VcenterConfig)) -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = folder.path().join("system.raw");
    let layout = disk_image::build(&image, &DiskPlan::system(SYSTEM_BYTES)).expect("the image is built");
    let mut config = config(folder.path(), &image);
    config.vms[0].disks[0].marker_start_bytes = Some(layout.marker.start);
    change(&mut config);
    let sim = VcenterSim::start(config).await.expect("the site starts");
    Site { sim, layout, folder }
}

/// Starts the site as it is.
pub(crate) async fn start() -> Site {
    start_with(|_| {}).await
}
