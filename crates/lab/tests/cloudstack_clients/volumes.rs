//! Volumes: life, device ids, bytes, snapshots, placement, loop devices.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use lab::cloudstack::{VolumeSelector, disk_serial};

use super::cloud::{Cloud, text};

const GIB: u64 = 1 << 30;

fn write(path: &Path, byte: u8) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the device opens");
    file.write_all_at(&[byte; 4096], 1 << 20).expect("a write");
}

fn read(path: &Path) -> u8 {
    let mut byte = [0];
    fs::File::open(path).expect("the device opens").read_exact_at(&mut byte, (1 << 20) + 77).expect("a read");
    byte[0]
}

#[tokio::test]
async fn a_volume_gets_its_file_at_the_first_attach() {
    let cloud = Cloud::start().await;
    let id = cloud.volume(&cloud.admin, "disk-0", 7).await;
    let link = cloud.by_id().join(format!("virtio-{}", disk_serial(&id)));
    assert_eq!(cloud.sim.volume(&id).and_then(|volume| volume.file), None);
    cloud.attach_to_worker(&id).await;
    let volume = cloud.sim.volume(&id).expect("the volume");
    let file = volume.file.expect("its file");
    assert_eq!(fs::read_link(&link).expect("the link"), file);
    let data = fs::metadata(&file).expect("its data");
    assert_eq!((data.len(), data.blocks()), (7 * GIB, 0), "exact and sparse");
    write(&link, 9);
    cloud.admin.done("detachVolume", &[("id", &id)]).await;
    assert!(!link.is_symlink());
    let again = cloud.attach_to_worker(&id).await;
    assert_eq!((&again["volume"]["type"], &again["volume"]["state"]), (&"DATADISK".into(), &"Ready".into()));
    assert_eq!(read(&link), 9, "a second attach keeps the bytes");
    let larger = cloud.admin.done("resizeVolume", &[("id", &id), ("size", "9")]).await;
    assert_eq!(larger["volume"]["size"], 9 * GIB);
    assert_eq!(fs::metadata(&link).expect("the device").len(), 9 * GIB);
    let (code, refusal) = cloud.admin.fails("resizeVolume", &[("id", &id), ("size", "8")]).await;
    assert_eq!(code, 432, "{refusal}");
    cloud.admin.done("detachVolume", &[("virtualmachineid", &cloud.sim.oma_vm_id()), ("deviceid", "1")]).await;
    cloud.admin.ok("deleteVolume", &[("id", &id)]).await;
    assert!(!file.exists());
}

#[tokio::test]
async fn device_ids_and_the_queue_of_a_vm() {
    let cloud = Cloud::start().await;
    let worker = cloud.sim.oma_vm_id();
    let mut ids = Vec::new();
    for (name, device) in [("a", 1), ("b", 2), ("c", 4)] {
        let id = cloud.volume(&cloud.admin, name, 1).await;
        assert_eq!(cloud.attach_to_worker(&id).await["volume"]["deviceid"], device);
        ids.push(id);
    }
    let spare = cloud.volume(&cloud.admin, "d", 1).await;
    for (device, code, expected) in
        [("3", 530, "deviceId should be 0,1,2,4-33"), ("2", 530, "deviceId 2 is used"), ("0", 431, "Root volume")]
    {
        let parameters = [("id", spare.as_str()), ("virtualmachineid", &worker), ("deviceid", device)];
        let (found, text) = cloud.admin.fails("attachVolume", &parameters).await;
        assert!(found == code && text.contains(expected), "{device}: {found} {text}");
    }
    let (code, twice) = cloud.admin.fails("attachVolume", &[("id", &ids[0]), ("virtualmachineid", &worker)]).await;
    assert!(code == 431 && twice.contains("not attached to any VM"), "{twice}");
    let attach = cloud.admin.ok("attachVolume", &[("id", &spare), ("virtualmachineid", &worker)]).await;
    let blocked = cloud.admin.ok("attachVolume", &[("id", &spare), ("virtualmachineid", &worker)]).await;
    assert_eq!(cloud.admin.end_of(&text(&attach["jobid"])).await["jobstatus"], 1);
    assert_eq!(cloud.admin.end_of(&text(&blocked["jobid"])).await["jobstatus"], 2, "the second waited for the first");
    assert_eq!(cloud.sim.counts().attached_to_oma, 4);
}

#[tokio::test]
async fn volume_snapshots_hold_and_give_back_the_bytes() {
    let cloud = Cloud::start().await;
    let id = cloud.volume(&cloud.admin, "data", 2).await;
    let fresh = cloud.admin.refused("createSnapshot", &[("volumeid", &id)]).await;
    assert_eq!(fresh.0, 431, "an Allocated volume has nothing to copy: {}", fresh.1);
    cloud.attach_to_worker(&id).await;
    let link = cloud.by_id().join(format!("virtio-{}", disk_serial(&id)));
    write(&link, 1);
    let made = cloud.admin.done("createSnapshot", &[("volumeid", &id), ("name", "rp-1")]).await;
    let snapshot = text(&made["snapshot"]["id"]);
    assert_eq!(made["snapshot"]["state"], "BackedUp");
    write(&link, 2);
    let (_, refusal) = cloud.admin.fails("revertSnapshot", &[("id", &snapshot)]).await;
    assert!(refusal.contains("not in the shutdown state"), "{refusal}");
    cloud.admin.done("detachVolume", &[("id", &id)]).await;
    cloud.admin.done("revertSnapshot", &[("id", &snapshot)]).await;
    let file = cloud.sim.volume(&id).and_then(|volume| volume.file).expect("the file");
    assert_eq!((read(&file), fs::metadata(&file).expect("its data").len()), (1, 2 * GIB));
    let copy = cloud.admin.done("createVolume", &[("snapshotid", &snapshot), ("name", "copy")]).await;
    let copy_id = text(&copy["volume"]["id"]);
    assert_eq!(copy["volume"]["state"], "Ready");
    assert_eq!(cloud.sim.volume(&copy_id).and_then(|volume| volume.file).map(|file| read(&file)), Some(1));
    assert_eq!(cloud.admin.ok("listSnapshots", &[("volumeid", &id)]).await["count"], 1);
    cloud.admin.done("deleteSnapshot", &[("id", &snapshot)]).await;
    assert_eq!(cloud.sim.counts().volume_snapshots, 0);
}

#[tokio::test]
async fn files_can_lie_elsewhere_and_devices_have_the_wrong_size() {
    let cloud = Cloud::start_with(|config| config.device_delay_ms = 60).await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    cloud.sim.place_volumes(VolumeSelector::NameContains("small-space".to_owned()), elsewhere.path());
    cloud.sim.set_device_size(VolumeSelector::NameContains("wrong-size".to_owned()), 4096);
    let id = cloud.volume(&cloud.admin, "on-small-space-wrong-size", 1).await;
    cloud.attach_to_worker(&id).await;
    let link = cloud.by_id().join(format!("virtio-{}", disk_serial(&id)));
    let appears = cloud.sim.wait_for(|_| link.is_symlink());
    tokio::time::timeout(Duration::from_secs(10), appears).await.expect("the late link");
    assert_eq!(fs::metadata(&link).expect("the device").len(), 4096);
    assert_eq!(fs::metadata(elsewhere.path().join(&id)).expect("the file").len(), GIB);
    cloud.admin.done("detachVolume", &[("id", &id)]).await;
    assert_eq!(fs::read_dir(cloud.by_id()).expect("the folder").count(), 0);
    cloud.admin.ok("deleteVolume", &[("id", &id)]).await;
    assert_eq!(fs::read_dir(elsewhere.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn volumes_can_be_loop_devices() {
    let cloud = Cloud::start_with(|config| config.loop_devices = true).await;
    let id = cloud.volume(&cloud.admin, "looped", 1).await;
    cloud.attach_to_worker(&id).await;
    let link = cloud.by_id().join(format!("virtio-{}", disk_serial(&id)));
    let device = fs::read_link(&link).expect("the link");
    assert!(device.starts_with("/dev"), "{}", device.display());
    let name = device.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let sectors = fs::read_to_string(format!("/sys/block/{name}/size")).expect("its size");
    assert_eq!(sectors.trim().parse::<u64>().expect("a number") * 512, GIB);
    write(&link, 5);
    assert_eq!(read(&link), 5);
    cloud.admin.done("detachVolume", &[("id", &id)]).await;
    assert!(!link.is_symlink());
    let file = cloud.sim.volume(&id).and_then(|volume| volume.file).expect("the file");
    assert_eq!(read(&file), 5);
}
