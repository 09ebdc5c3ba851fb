//! One VM with two disks behind a simulated vCenter, an agent, and the hub it belongs to.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::gateway::{DIGEST_RECORD_BYTES, DigestRecord};
use api::vma::{
    ReaderSpec, RunDisk, RunLimits, RunPhase, RunView, SourceVm, StartRun, VcenterConnection, VmRequest, VmaClient,
};
use block::{BlockDevice, MemoryDevice};
use futures::StreamExt;
use lab::guest::{Guest, Scatter};
use lab::vcenter::{DiskSpec, VcenterConfig, VcenterSim, VmSpec};
use model::status::ChangeSource;
use model::{ChangeId, LEAF_SIZE_BYTES, Secret};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vma::config::{FolderConfig, HotAddConfig, NbdCommand, WanConfig};
use vma::{VmaConfig, VmaError};

use crate::hub::Hub;

/// Name of the VM.
pub(crate) const VM: &str = "web01";
/// Name of the VM the agent runs in.
pub(crate) const AGENT_VM: &str = "agent01";
/// Sizes of its disks: the second ends inside a leaf.
pub(crate) const SIZES: [u64; 2] = [24 << 20, (6 << 20) + 3 * 512];
/// Longest anything may take here.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a run is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Everything a test needs.
pub(crate) struct Site {
    pub(crate) sim: VcenterSim,
    pub(crate) hub: Hub,
    pub(crate) client: VmaClient,
    pub(crate) shutdown: CancellationToken,
    pub(crate) agent: JoinHandle<Result<(), VmaError>>,
    pub(crate) config: VmaConfig,
    pub(crate) folder: tempfile::TempDir,
}

/// Waits for what must come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// The VM of these tests.
pub(crate) fn web_server() -> VmSpec {
    SIZES.iter().fold(VmSpec::named(VM), |vm, size| vm.with_disk(DiskSpec::empty(*size)))
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(web_server()).await
    }

    pub(crate) async fn with(vm: VmSpec) -> Self {
        Self::with_command(vm, |_| None).await
    }

    /// With the NBD command `serve` that is made for a folder.
    pub(crate) async fn with_command(vm: VmSpec, command: impl FnOnce(&Path) -> Option<NbdCommand>) -> Self {
        Self::configured(vec![vm], |folder, _, config| {
            config.nbd_commands = command(folder).map(|command| ("serve".to_owned(), command)).into_iter().collect();
        })
        .await
    }

    /// With an agent that runs in a VM of the vCenter.
    pub(crate) async fn with_agent_vm() -> Self {
        Self::configured(
            vec![web_server(), VmSpec::named(AGENT_VM).with_disk(DiskSpec::empty(1 << 20))],
            |_, sim, config| {
                config.hotadd.vm_uuid = Some(sim.bios_uuid(AGENT_VM).unwrap());
                config.hotadd.device_dir = sim.device_dir(AGENT_VM);
            },
        )
        .await
    }

    /// With those VMs, and a configuration changed for a folder and a vCenter.
    pub(crate) async fn configured(
        vms: Vec<VmSpec>,
        configure: impl FnOnce(&Path, &VcenterSim, &mut VmaConfig),
    ) -> Self {
        Self::built(VcenterConfig { vms, ..VcenterConfig::default() }, configure).await
    }

    /// With that vCenter, and a configuration changed for a folder and it.
    pub(crate) async fn built(
        vcenter: VcenterConfig,
        configure: impl FnOnce(&Path, &VcenterSim, &mut VmaConfig),
    ) -> Self {
        let hub = Hub::start().await;
        let address = hub.address();
        Self::placed(hub, &address, vcenter, configure).await
    }

    /// With an agent that reaches the hub at `address`.
    #[allow(dead_code, reason = "the tests of a wide-area link are the ones that need it")]
    pub(crate) async fn beside(hub: Hub, address: &str, vm: VmSpec, wan: WanConfig) -> Self {
        let vcenter = VcenterConfig { vms: vec![vm], ..VcenterConfig::default() };
        Self::placed(hub, address, vcenter, |_, _, config| config.wan = wan).await
    }

    async fn placed(
        mut hub: Hub,
        address: &str,
        vcenter: VcenterConfig,
        configure: impl FnOnce(&Path, &VcenterSim, &mut VmaConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vcenter = VcenterConfig { state_dir: folder.path().join("vcenter"), ..vcenter };
        let sim = VcenterSim::start(vcenter).await.unwrap();
        let state_dir = folder.path().join("agent");
        std::fs::create_dir(&state_dir).unwrap();
        hub.enrol(&state_dir);
        let mut config = VmaConfig {
            hub: address.to_owned(),
            state_dir,
            listen: ([127, 0, 0, 1], 0).into(),
            file_roots: Vec::new(),
            resume_patience_minutes: vma::config::DEFAULT_RESUME_PATIENCE_MINUTES,
            folder: FolderConfig::default(),
            hotadd: HotAddConfig::default(),
            nbd_commands: BTreeMap::new(),
            wan: WanConfig::default(),
        };
        configure(folder.path(), &sim, &mut config);
        let shutdown = CancellationToken::new();
        let agent = tokio::spawn(vma::run(config.clone(), shutdown.clone()));
        let control = soon("the control connection", hub.control()).await;
        let client = VmaClient::new(api::Client::new(Arc::new(control)));
        Self { sim, hub, client, shutdown, agent, config, folder }
    }

    pub(crate) fn guest(&self) -> Guest {
        self.sim.guest(VM).unwrap()
    }

    pub(crate) fn vcenter(&self) -> VcenterConnection {
        let defaults = VcenterConfig::default();
        VcenterConnection {
            url: self.sim.url(),
            username: defaults.username,
            password: defaults.password,
            thumbprint: Some(self.sim.sha1_thumbprint().to_owned()),
            ca_pem: None,
        }
    }

    pub(crate) async fn vm(&self) -> SourceVm {
        let moref = self.sim.moref(VM).unwrap();
        self.client.vm(&moref, &VmRequest { vcenter: self.vcenter() }).await.unwrap()
    }

    /// A request that copies every disk for the first time, and its exports: dirty devices, so that nothing is right
    /// by chance.
    pub(crate) async fn first_run(&self, job_id: &str) -> (StartRun, Vec<Arc<dyn BlockDevice>>) {
        let vm = self.vm().await;
        let mut devices: Vec<Arc<dyn BlockDevice>> = Vec::new();
        for disk in &vm.disks {
            let device = dirty(disk.capacity_bytes);
            self.hub.export(&export_name(&disk.disk_id), &disk.disk_uuid, Arc::clone(&device));
            devices.push(device);
        }
        let disks = vm.disks.iter().map(|disk| RunDisk {
            scrub: None,
            disk_id: disk.disk_id.clone(),
            disk_uuid: disk.disk_uuid.clone(),
            capacity_bytes: disk.capacity_bytes,
            export_name: export_name(&disk.disk_id),
            previous_change_id: None,
            reader: ReaderSpec::Folder,
            reader_reason: None,
            change_source: ChangeSource::Cbt,
        });
        let request = StartRun {
            job_id: job_id.to_owned(),
            moref: vm.moref.clone(),
            instance_uuid: vm.instance_uuid.clone(),
            vcenter: self.vcenter(),
            quiesce: false,
            connections_per_disk: 2,
            disks: disks.collect(),
            compression: None,
            limits: RunLimits::default(),
        };
        (request, devices)
    }

    /// Starts a run and waits until it is in `phase`.
    pub(crate) async fn start_until(&self, request: &StartRun, phase: RunPhase) -> RunView {
        self.client.start_run(request).await.unwrap();
        self.until(&request.job_id, phase).await
    }

    /// Waits until a run is in `phase`; one that ends otherwise is a failure.
    pub(crate) async fn until(&self, job_id: &str, phase: RunPhase) -> RunView {
        let watched = async {
            loop {
                let run = self.client.run(job_id).await.unwrap();
                let has_ended = matches!(run.phase, RunPhase::Failed | RunPhase::Cancelled | RunPhase::Released);
                if run.phase == phase {
                    return run;
                }
                assert!(!has_ended, "the run is {:?}: {:?}", run.phase, run.error);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        soon("the phase of the run", watched).await
    }

    /// Waits until what is said of a run is as wanted.
    pub(crate) async fn until_run(&self, job_id: &str, wanted: impl Fn(&RunView) -> bool) -> RunView {
        let watched = async {
            loop {
                let run = self.client.run(job_id).await.unwrap();
                if wanted(&run) {
                    return run;
                }
                assert!(run.error.is_none(), "{run:?}");
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        soon("what is said of the run", watched).await
    }

    /// Starts a run and waits until it is interrupted.
    pub(crate) async fn start_until_waiting(&self, request: &StartRun) -> RunView {
        self.client.start_run(request).await.unwrap();
        self.until_run(&request.job_id, |run| run.waiting_for_hub).await
    }

    /// Stops the agent and starts it again, as systemd does.
    pub(crate) async fn restarted(mut self) -> Self {
        self.shutdown.cancel();
        soon("the end of the agent", self.agent).await.unwrap().unwrap();
        self.shutdown = CancellationToken::new();
        self.agent = tokio::spawn(vma::run(self.config.clone(), self.shutdown.clone()));
        let control = soon("the control connection", self.hub.control()).await;
        self.client = VmaClient::new(api::Client::new(Arc::new(control)));
        self
    }

    /// With an agent that waits so long for the hub.
    pub(crate) async fn with_patience(mut self, minutes: u32) -> Self {
        self.config.resume_patience_minutes = minutes;
        self.restarted().await
    }

    /// Waits until vCenter was asked `method` that often.
    pub(crate) async fn until_called(&self, method: &str, times: u64) {
        let called = async {
            while self.sim.calls().get(method).copied().unwrap_or_default() < times {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        soon(method, called).await;
    }

    /// Fills the disks with some blocks, a few bytes and much nothing.
    pub(crate) fn write_everywhere(&self, seed: u64) {
        let guest = self.guest();
        for (key, size) in keys().zip(SIZES) {
            let scatter = Scatter { count: 12, seed, range_start_bytes: 0, range_length_bytes: size };
            guest.scatter(key, scatter).unwrap();
        }
        guest.write(2000, (4 << 20) + 12_345, b"one small note").unwrap();
        guest.write(2001, SIZES[1] - 1, b"!").unwrap();
    }

    /// What a disk held when the run's vm_snapshot froze it.
    pub(crate) fn frozen(&self, run: &RunView, disk: usize) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(SIZES[disk]).unwrap()];
        let key = keys().nth(disk).unwrap();
        self.guest().read(key, 0, &mut bytes, run.vm_snapshot.as_deref()).unwrap();
        bytes
    }

    /// Every replica is what the vm_snapshot froze.
    pub(crate) fn assert_equal(&self, run: &RunView, devices: &[Arc<dyn BlockDevice>]) {
        for (disk, device) in devices.iter().enumerate() {
            assert!(content(&**device) == self.frozen(run, disk), "replica {disk} differs");
        }
    }

    pub(crate) fn vm_snapshot_names(&self) -> Vec<String> {
        self.sim.vm_snapshots(VM).unwrap().into_iter().map(|vm_snapshot| vm_snapshot.name).collect()
    }

    /// The digests of a copied disk, by leaf.
    pub(crate) async fn digests(&self, job_id: &str, disk_id: &str) -> Vec<(u64, [u8; 32])> {
        let mut body = self.client.digests(job_id, disk_id).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        let mut leaves = Vec::new();
        for record in bytes.chunks(DIGEST_RECORD_BYTES) {
            let record = DigestRecord::decode(record.try_into().unwrap()).unwrap();
            let named = record.first_leaf..record.first_leaf + u64::from(record.leaf_count);
            leaves.extend(named.map(|leaf| (leaf, record.digest)));
        }
        leaves.sort_unstable();
        leaves
    }

    /// The agent stops and everything it had open at vCenter is closed.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("the end of the agent", self.agent).await.unwrap().unwrap();
        assert_eq!(self.sim.session_count(), 0, "sessions are left open");
    }
}

/// The request of the next cycle, after the commit of `run`.
pub(crate) fn next_run(request: &StartRun, run: &RunView, job_id: &str) -> StartRun {
    let mut next = request.clone();
    next.job_id = job_id.to_owned();
    for (disk, view) in next.disks.iter_mut().zip(&run.disks) {
        disk.previous_change_id = view.change_id.clone();
        assert!(disk.previous_change_id.is_some(), "{} is not tracked", disk.disk_id);
    }
    next
}

/// The digests of these leaves, computed from the bytes by themselves.
pub(crate) fn digests_of(bytes: &[u8], leaves: impl Iterator<Item = u64>) -> Vec<(u64, [u8; 32])> {
    let leaf_bytes = usize::try_from(LEAF_SIZE_BYTES).unwrap();
    let all: Vec<&[u8]> = bytes.chunks(leaf_bytes).collect();
    leaves.map(|leaf| (leaf, *blake3::hash(all[usize::try_from(leaf).unwrap()]).as_bytes())).collect()
}

pub(crate) fn change_ids(run: &RunView) -> Vec<Option<ChangeId>> {
    run.disks.iter().map(|disk| disk.change_id.clone()).collect()
}

pub(crate) fn export_name(disk_id: &str) -> String {
    format!("migration-vol-{disk_id}")
}

pub(crate) fn dirty(size_bytes: u64) -> Arc<dyn BlockDevice> {
    Arc::new(MemoryDevice::from_bytes(&vec![0xFF; usize::try_from(size_bytes).unwrap()]))
}

pub(crate) fn is_untouched(device: &dyn BlockDevice) -> bool {
    content(device).iter().all(|byte| *byte == 0xFF)
}

pub(crate) fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(device.size_bytes()).unwrap()];
    device.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn wrong_password() -> Secret {
    Secret::new("not the password")
}

pub(crate) fn keys() -> impl Iterator<Item = i32> {
    2000..
}
