//! Runs that end well: full, incremental, compared, released.

use std::sync::Arc;

use api::vma::{DiscoverRequest, ReaderSpec, RunPhase, StartRun, SyncMode};
use block::{BlockDevice, MemoryDevice};
use lab::guest::Scatter;
use lab::vcenter::{DiskSpec, Effect, FaultRule, VmSpec};
use model::LEAF_SIZE_BYTES;
use vma::config::NbdCommand;

use crate::site::{SIZES, Site, VM, change_ids, digests_of, next_run, web_server};

fn rule(method: &str, what: Effect) -> FaultRule {
    FaultRule { method: method.to_owned(), what, count: 1, skip: 0 }
}

fn fault(name: &str) -> Effect {
    Effect::Fault { fault: name.to_owned(), message: String::new() }
}

/// A first copy, committed: the request, the devices, and the run that is copied and released.
async fn committed(site: &Site) -> (StartRun, Vec<Arc<dyn BlockDevice>>, api::vma::RunView) {
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    let run = site.start_until(&request, RunPhase::Copied).await;
    site.client.release_run("job-1").await.unwrap();
    (request, devices, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_is_told() {
    let site = Site::start().await;
    let request = DiscoverRequest { vcenter: site.vcenter(), filter: Some("WEB".to_owned()) };
    let inventory = site.client.discover(&request).await.unwrap();
    assert_eq!(inventory.vms.len(), 1);
    let vm = &inventory.vms[0];
    assert_eq!((vm.name.as_str(), vm.cbt_enabled), (VM, false));
    assert_eq!(vm.disks.iter().map(|disk| disk.capacity_bytes).collect::<Vec<_>>(), SIZES);
    assert_eq!(vm.disks[0].disk_id, "disk-2000");
    let other = DiscoverRequest { filter: Some("nothing of that name".to_owned()), ..request };
    assert!(site.client.discover(&other).await.unwrap().vms.is_empty());
    let health = site.client.health().await.unwrap();
    assert_eq!((health.protocol_version.as_str(), health.active_runs), ("1", 0));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_and_an_incremental_make_replicas_equal() {
    let site = Site::start().await;
    site.write_everywhere(1);
    let (request, devices) = site.first_run("job-1").await;
    let first = site.start_until(&request, RunPhase::Copied).await;
    assert!(site.vm().await.cbt_enabled, "change tracking was switched on");
    assert_eq!(site.vm_snapshot_names(), ["migratekit-job-1"]);
    // What the guest writes now belongs to the next cycle.
    site.guest().write(2000, 9 << 20, b"written after the vm_snapshot").unwrap();
    site.assert_equal(&first, &devices);
    for (index, disk) in first.disks.iter().enumerate() {
        assert_eq!((disk.sync_mode, disk.durable), (Some(SyncMode::Full), true));
        assert!(disk.bytes_read < SIZES[index], "what is not allocated was read: {disk:?}");
        assert_eq!((disk.bytes_done, disk.bytes_read), (disk.bytes_total, disk.bytes_total));
        assert!(disk.reason.as_deref().is_some_and(|reason| reason.contains("folder")), "{:?}", disk.reason);
        let digests = site.digests("job-1", &disk.disk_id).await;
        assert!(!digests.is_empty());
        let leaves = digests.iter().map(|(leaf, _)| *leaf);
        assert_eq!(digests, digests_of(&site.frozen(&first, index), leaves.clone()));
    }
    let released = site.client.release_run("job-1").await.unwrap();
    assert_eq!((released.phase, site.vm_snapshot_names().len()), (RunPhase::Released, 0));
    assert!(site.client.digests("job-1", "disk-2000").await.is_err(), "its digests are gone");
    assert_eq!(site.client.release_run("job-1").await.unwrap().phase, RunPhase::Released, "it may be repeated");

    site.guest().zero(2000, 4 << 20, 1 << 20).unwrap();
    let second_request = next_run(&request, &first, "job-2");
    let second = site.start_until(&second_request, RunPhase::Copied).await;
    site.assert_equal(&second, &devices);
    let changed = &second.disks[0];
    assert_eq!(changed.sync_mode, Some(SyncMode::Incremental));
    assert!(changed.bytes_read >= LEAF_SIZE_BYTES && changed.bytes_read <= 2 << 20, "{changed:?}");
    assert_eq!((second.disks[1].sync_mode, second.disks[1].bytes_read), (Some(SyncMode::Incremental), 0));
    assert_ne!(change_ids(&first)[0], change_ids(&second)[0]);
    site.client.release_run("job-2").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_of_change_tracking_leads_to_a_comparison() {
    let site = Site::start().await;
    let (request, devices, first) = committed(&site).await;
    site.guest().write(2000, 11 << 20, &[7; 70_000]).unwrap();
    assert_eq!(site.sim.reset_change_tracking(VM, None).unwrap(), 2);
    site.guest().write(2001, 5 << 20, b"after the reset").unwrap();
    let second = site.start_until(&next_run(&request, &first, "job-2"), RunPhase::Copied).await;
    site.assert_equal(&second, &devices);
    for (index, disk) in second.disks.iter().enumerate() {
        assert_eq!(disk.sync_mode, Some(SyncMode::Compare));
        assert_eq!(disk.bytes_read, SIZES[index]);
        assert!(disk.bytes_sent <= 3 * LEAF_SIZE_BYTES, "more was sent than differs: {disk:?}");
        assert!(disk.reason.as_deref().is_some_and(|reason| reason.contains("reset")), "{:?}", disk.reason);
    }
    site.client.release_run("job-2").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_question_about_changes_leads_to_a_comparison() {
    let site = Site::start().await;
    let (request, devices, first) = committed(&site).await;
    site.guest().write(2000, 11 << 20, &[7; 70_000]).unwrap();
    site.sim.inject(FaultRule { count: 2, ..rule("QueryChangedDiskAreas", fault("FileFault")) });
    let second = site.start_until(&next_run(&request, &first, "job-2"), RunPhase::Copied).await;
    assert!(second.disks.iter().all(|disk| disk.sync_mode == Some(SyncMode::Compare)));
    site.assert_equal(&second, &devices);
    site.client.release_run("job-2").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_removed_first() {
    let left = vec!["migratekit-job-0".to_owned(), "migratekit-cbt-job-0".to_owned()];
    let site = Site::with(VmSpec { existing_vm_snapshots: left.clone(), ..web_server() }).await;
    let seen = site.vm().await;
    assert_eq!(seen.vm_snapshots, left);
    let of_vm_snapshots = seen.findings.iter().find(|finding| finding.code == "vm_snapshots_exist");
    assert!(of_vm_snapshots.is_none(), "our own are no finding for the operator: {of_vm_snapshots:?}");
    site.write_everywhere(3);
    let (request, devices) = site.first_run("job-1").await;
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert_eq!(site.vm_snapshot_names(), ["migratekit-job-1"]);
    site.assert_equal(&run, &devices);
    site.client.release_run("job-1").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_can_have_everything_of_ours_removed_from_a_vm() {
    let left = vec!["before the upgrade".to_owned(), "migratekit-job-0".to_owned()];
    let site = Site::with(VmSpec { existing_vm_snapshots: left, ..web_server() }).await;
    let moref = site.sim.moref(VM).unwrap();
    let request = api::vma::VmRequest { vcenter: site.vcenter() };
    let removed = site.client.remove_vm_snapshots(&moref, &request).await.unwrap();
    assert_eq!(removed, ["migratekit-job-0"]);
    assert_eq!(site.vm_snapshot_names(), ["before the upgrade"]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_cannot_be_quiesced_is_copied_crash_consistent() {
    let site = Site::start().await;
    let (mut request, devices) = site.first_run("job-1").await;
    request.quiesce = true;
    let good = site.start_until(&request, RunPhase::Copied).await;
    assert!(good.quiesced);
    site.client.release_run("job-1").await.unwrap();

    let refused = Effect::TaskFault { fault: "ApplicationQuiesceFault".to_owned(), message: String::new() };
    site.sim.inject(rule("CreateSnapshot_Task", refused));
    request.job_id = "job-2".to_owned();
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert!(!run.quiesced);
    site.assert_equal(&run, &devices);
    site.client.release_run("job-2").await.unwrap();
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_vcenter_refuses_is_repeated() {
    let site = Site::start().await;
    let (request, _devices) = site.first_run("job-1").await;
    site.start_until(&request, RunPhase::Copied).await;
    site.sim.inject(rule("RemoveSnapshot_Task", fault("TaskInProgress")));
    let error = site.client.release_run("job-1").await.unwrap_err();
    assert_eq!(error.kind(), model::FailureKind::Unavailable, "{error:?}");
    assert_eq!(site.client.run("job-1").await.unwrap().phase, RunPhase::Copied);
    assert_eq!(site.client.release_run("job-1").await.unwrap().phase, RunPhase::Released);
    assert!(site.vm_snapshot_names().is_empty());
    site.stop().await;
}

/// Ends unless the password file holds the password and is private, then serves a copy of the disk.
const SERVE: &str = r#"test "$(cat "$1")" = 'VMware1!' && test "$(stat -c %a "$1")" = 600 &&
    exec nbdkit --foreground --exit-with-parent --readonly --unix "$0" file "$2""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_agents_configuration_serves_the_disks() {
    let paths = std::env::var_os("PATH").unwrap();
    let is_installed = std::env::split_paths(&paths).any(|folder| folder.join("nbdkit").is_file());
    assert!(is_installed, "nbdkit not found: apt-get install nbdkit");
    let site = Site::with_command(web_server(), |folder| {
        let image = folder.join("{disk_id}.raw").display().to_string();
        let arguments = ["-c", SERVE, "{socket}", "{password_file}", &image];
        Some(NbdCommand { program: "sh".to_owned(), arguments: arguments.map(str::to_owned).to_vec() })
    })
    .await;
    site.write_everywhere(1);
    let (mut request, devices) = site.first_run("job-1").await;
    for (disk, key) in request.disks.iter_mut().zip(2000..) {
        disk.reader = ReaderSpec::NbdCommand { name: "serve".to_owned() };
        let image = site.folder.path().join(format!("{}.raw", disk.disk_id));
        site.guest().materialise(key, None, &image).unwrap();
    }
    let run = site.start_until(&request, RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    assert_eq!(site.sim.folder_bytes(), 0, "nothing was read from the datastore");
    assert!(run.disks[0].reason.as_deref().is_some_and(|reason| reason.contains("nbd")));
    site.client.release_run("job-1").await.unwrap();
    assert!(!site.config.run_folder("job-1").exists(), "the password file is gone");
    assert_eq!(site.client.health().await.unwrap().nbd_commands, ["serve"]);
    site.stop().await;
}

/// Stands in for nbdkit with its VDDK plugin: checks what it is given, then serves a copy of the disk.
const STAND_IN: &str = r#"#!/bin/sh
folder="$(dirname "$0")"
for argument in "$@"; do
    case "$argument" in
        *'VMware1!'*) exit 9 ;;
        password=+*) test "$(cat "${argument#password=+}")" = 'VMware1!' || exit 8 ;;
        file=*) case "$argument" in *_1*.vmdk) disk=disk-2001 ;; *) disk=disk-2000 ;; esac ;;
        /*.sock) socket="$argument" ;;
    esac
done
printf '%s\n' "$@" > "$folder/$disk.arguments"
exec nbdkit --foreground --exit-with-parent --readonly --unix "$socket" --filter=retry file "$folder/$disk.raw"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_vddk_preset_gives_nbdkit_what_it_wants_and_no_password() {
    let site = Site::configured(vec![web_server()], |folder, _, config| {
        let program = folder.join("nbdkit");
        std::fs::write(&program, STAND_IN).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let written = format!(
            "preset = \"vddk\"\nlibdir = \"/opt/vddk\"\ntransports = \"nbdssl\"\nprogram = \"{}\"",
            program.display()
        );
        config.nbd_commands.insert("vddk".to_owned(), toml::from_str(&written).unwrap());
    })
    .await;
    site.write_everywhere(1);
    let (mut request, devices) = site.first_run("job-1").await;
    for (disk, key) in request.disks.iter_mut().zip(2000..) {
        disk.reader = ReaderSpec::NbdCommand { name: "vddk".to_owned() };
        let image = site.folder.path().join(format!("{}.raw", disk.disk_id));
        site.guest().materialise(key, None, &image).unwrap();
    }
    let run = site.start_until(&request, RunPhase::Copied).await;
    site.assert_equal(&run, &devices);
    let given = std::fs::read_to_string(site.folder.path().join("disk-2000.arguments")).unwrap();
    for line in [
        "vddk".to_owned(),
        "libdir=/opt/vddk".to_owned(),
        "server=127.0.0.1".to_owned(),
        format!("thumbprint={}", site.sim.sha1_thumbprint()),
        format!("vm=moref={}", request.moref),
        format!("snapshot={}", run.vm_snapshot.as_deref().unwrap()),
        "transports=nbdssl".to_owned(),
        "file=[datastore1] web01/web01.vmdk".to_owned(),
    ] {
        assert!(given.lines().any(|argument| argument == line), "{line} is not in {given}");
    }
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_empty_disk_takes_little_memory_and_time() {
    const SIZE_BYTES: u64 = 100 << 30;
    let site = Site::with(VmSpec::named(VM).with_disk(DiskSpec::empty(SIZE_BYTES))).await;
    let scatter = Scatter { count: 64, seed: 5, range_start_bytes: 0, range_length_bytes: SIZE_BYTES };
    let written = site.guest().scatter(2000, scatter).unwrap();
    let vm = site.vm().await;
    let replica = Arc::new(MemoryDevice::new(SIZE_BYTES));
    let device: Arc<dyn BlockDevice> = Arc::clone(&replica) as Arc<dyn BlockDevice>;
    let disk = &vm.disks[0];
    site.hub.export("huge", &disk.disk_uuid, device);
    let request = StartRun {
        job_id: "job-1".to_owned(),
        moref: vm.moref.clone(),
        instance_uuid: vm.instance_uuid.clone(),
        vcenter: site.vcenter(),
        quiesce: false,
        connections_per_disk: 2,
        disks: vec![api::vma::RunDisk {
            scrub: None,
            disk_id: disk.disk_id.clone(),
            disk_uuid: disk.disk_uuid.clone(),
            capacity_bytes: SIZE_BYTES,
            export_name: "huge".to_owned(),
            previous_change_id: None,
            reader: ReaderSpec::Folder,
            reader_reason: None,
            change_source: model::status::ChangeSource::Cbt,
        }],
        compression: None,
        limits: api::vma::RunLimits::default(),
    };
    let run = site.start_until(&request, RunPhase::Copied).await;
    assert!(run.disks[0].bytes_read < 1 << 30, "{:?}", run.disks[0]);
    let (mut ours, mut theirs) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    for offset in written {
        replica.read_at(&mut ours, offset).unwrap();
        site.guest().read(2000, offset, &mut theirs, None).unwrap();
        assert!(ours == theirs, "the block at {offset} differs");
    }
    assert!(replica.allocated_bytes() < 64 << 20, "{} bytes were sent", replica.allocated_bytes());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 400 * 1024, "the whole laboratory took {peak_kib} KiB");
    site.client.release_run("job-1").await.unwrap();
    site.stop().await;
}
