//! A cloud that boots, and replicas with a real system on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::cloudstack::CloudstackConfig;
use lab::guest::disk_image::{self, DiskLayout, DiskPlan};
use serde_json::Value;

use super::cloud::{Cloud, text};

/// How long a guest may take to boot on a machine that does other things, too.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(150);
/// How long something small may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);
const GIB: u64 = 1 << 30;
const FILESYSTEM_BYTES: u64 = 64 << 20;

/// A replica on a volume of the cloud.
pub(crate) struct Replica {
    pub(crate) volume_id: String,
    pub(crate) file: PathBuf,
    pub(crate) layout: DiskLayout,
}

/// Starts a cloud that boots.
pub(crate) async fn booting_cloud(change: impl FnOnce(&mut CloudstackConfig)) -> Cloud {
    Cloud::start_with(|config| {
        config.boots = true;
        change(config);
    })
    .await
}

/// A system disk with that marker.
pub(crate) fn system(marker: &str) -> DiskPlan {
    DiskPlan { marker: marker.to_owned(), filesystem_bytes: FILESYSTEM_BYTES, ..DiskPlan::bootable(GIB) }
}

/// A data disk with that marker.
pub(crate) fn data(marker: &str) -> DiskPlan {
    DiskPlan { marker: marker.to_owned(), filesystem_bytes: FILESYSTEM_BYTES, ..DiskPlan::data(GIB) }
}

/// A volume that was attached to the worker and filled there, as a replication leaves it.
pub(crate) async fn replica(cloud: &Cloud, name: &str, plan: DiskPlan) -> Replica {
    let volume_id = cloud.volume(&cloud.admin, name, 1).await;
    cloud.attach_to_worker(&volume_id).await;
    let file = cloud.sim.volume(&volume_id).and_then(|volume| volume.file).expect("a file");
    let path = file.clone();
    let built = tokio::task::spawn_blocking(move || disk_image::build(&path, &plan)).await.expect("no panic");
    let layout = built.expect("the image is built");
    cloud.admin.done("detachVolume", &[("id", &volume_id)]).await;
    Replica { volume_id, file, layout }
}

/// Deploys a stopped VM with more parameters than usual.
pub(crate) async fn shell_vm(cloud: &Cloud, name: &str, more: &[(&str, &str)]) -> String {
    let submitted = cloud.admin.ok("deployVirtualMachine", &deployment(cloud, name, more).await).await;
    let job = cloud.admin.end_of(&text(&submitted["jobid"])).await;
    assert_eq!(job["jobstatus"], 1, "{job}");
    text(&submitted["id"])
}

/// The parameters of a deployment; the VM stays stopped unless `more` says otherwise.
pub(crate) async fn deployment<'a>(
    cloud: &Cloud,
    name: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let templates = cloud.admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
    // Leaked: a test ends soon.
    let leak = |text: String| -> &'a str { Box::leak(text.into_boxed_str()) };
    let mut parameters = vec![
        ("name", name),
        ("zoneid", leak(cloud.sim.zone_id())),
        ("serviceofferingid", leak(cloud.sim.service_offering_id())),
        ("templateid", leak(text(&templates["template"][1]["id"]))),
    ];
    if !more.iter().any(|(name, _)| *name == "startvm") {
        parameters.push(("startvm", "false"));
    }
    parameters.extend(more);
    parameters
}

/// Replaces a VM's own root by a replica, and attaches others as data disks.
pub(crate) async fn swap_disks(cloud: &Cloud, vm: &str, root: &Replica, data: &[&Replica]) {
    let admin = &cloud.admin;
    let listed = admin.ok("listVolumes", &[("virtualmachineid", vm), ("type", "ROOT")]).await;
    let own_root = text(&listed["volume"][0]["id"]);
    admin.done("detachVolume", &[("id", &own_root)]).await;
    admin.ok("deleteVolume", &[("id", &own_root)]).await;
    let to_root = [("id", root.volume_id.as_str()), ("virtualmachineid", vm), ("deviceid", "0")];
    admin.done("attachVolume", &to_root).await;
    for disk in data {
        admin.done("attachVolume", &[("id", &disk.volume_id), ("virtualmachineid", vm)]).await;
    }
}

/// What became of a VM's latest start.
pub(crate) fn boot_text(cloud: &Cloud, vm: &str) -> String {
    cloud.sim.vm(vm).and_then(|vm| vm.boot).map(|boot| boot.text).unwrap_or_default()
}

/// The process of a VM's machine.
pub(crate) fn pid_of(cloud: &Cloud, vm: &str) -> u32 {
    cloud.sim.vm(vm).and_then(|vm| vm.boot?.pid).expect("a machine runs")
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    lab::world::until(SOON, what, condition).await.expect("in time");
}

/// The words after `migratekit-lab: <what> ` of every such line of a console, in order.
pub(crate) fn said(console: &str, what: &str) -> Vec<String> {
    let start = format!("{} {what} ", lab::guest::boot_image::GUEST_PREFIX);
    let lines = console.lines().filter_map(|line| line.split_once(start.as_str()));
    lines.map(|(_, words)| words.trim().to_owned()).collect()
}

/// Runs a program of e2fsprogs on the file system in a replica, where it lies.
pub(crate) fn on_filesystem(program: &str, arguments: &[&str], replica: &Replica) -> (bool, String) {
    let place = format!("{}?offset={}", replica.file.display(), replica.layout.filesystem.start);
    let path = Path::new("/usr/sbin").join(program);
    let output = std::process::Command::new(path).args(arguments).arg(place).output();
    let output = output.expect("e2fsprogs not found: apt-get install e2fsprogs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The state the API shows.
pub(crate) async fn api_state(cloud: &Cloud, vm: &str) -> Value {
    cloud.admin.ok("listVirtualMachines", &[("id", vm)]).await["virtualmachine"][0]["state"].clone()
}
