//! A hub without its other parts: a simulated CloudStack, a database with one VM, and a volume daemon that can be killed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::volume::{AttachVolume, CreateExport, CreateVolume, OperationView, VolumeClient};
use api::{Client, ClientError, HttpTransport, Problem};
use lab::cloudstack::{AccountConfig, CloudstackConfig, CloudstackHandle, CloudstackSim};
use model::Secret;
use model::status::{ExportKind, Firmware, OperationStatus, OperationType, VolumeType};
use runtime::sealed::SealingKey;
use store::discovery::{DiscoveredDisk, DiscoveredVm};
use store::ossea_configs::OsseaConfigFields;
use store::vm_replication_contexts::Assignment;
use store::{DatabaseConfig, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use volume_daemon::{VolumeDaemon, VolumeDaemonConfig};

use super::signed_client::SignedClient;

pub(crate) const GIB: u64 = 1 << 30;
/// Longest any test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Id of the target.
pub(crate) const TARGET: &str = "target-1";
/// Uuid of the one disk.
pub(crate) const DISK_UUID: &str = "6000C29a-1b2c-3d4e-5f60-718293a4b5c6";

/// The keys of an account of the simulated CloudStack.
#[derive(Clone, Copy)]
pub(crate) enum Keys {
    Admin,
    Tenant,
}

/// Everything but the daemon's process.
pub(crate) struct Hub {
    pub(crate) folder: TempDir,
    pub(crate) sim: CloudstackHandle,
    pub(crate) store: Store,
    pub(crate) context_id: String,
    pub(crate) vm_disk_id: String,
    pub(crate) daemon: Option<Process>,
    pub(crate) api: VolumeClient,
    pub(crate) http: Client,
    config: VolumeDaemonConfig,
}

/// A daemon in a runtime of its own: ending that drops every task wherever it is, as a kill does.
pub(crate) struct Process {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Hub {
    /// With the defaults.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}, |_| {}).await
    }

    /// With changed configurations of CloudStack and daemon.
    pub(crate) async fn start_with(
        cloud: impl FnOnce(&mut CloudstackConfig),
        daemon: impl FnOnce(&mut VolumeDaemonConfig),
    ) -> Self {
        // Reqwest needs a provider; a second installation is refused and does not matter.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let sim = simulated(&folder, cloud).await;
        let store = opened(&folder).await;
        store.migrate().await.expect("the schema");
        let mut config = VolumeDaemonConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            state_dir: folder.path().to_owned(),
            by_id_dir: folder.path().join("by-id"),
            device_wait_seconds: 20,
            // Passes of the reconciler are asked for by the tests that mean them.
            reconcile_interval_seconds: 3600,
            ..VolumeDaemonConfig::default()
        };
        daemon(&mut config);
        let mut hub = Self {
            context_id: String::new(),
            vm_disk_id: String::new(),
            daemon: None,
            api: client("http://127.0.0.1:1").0,
            http: client("http://127.0.0.1:1").1,
            folder,
            sim,
            store,
            config,
        };
        hub.set_target(Keys::Admin, Some(hub.sim.oma_vm_id())).await;
        hub.discover().await;
        hub.restart().await;
        hub
    }

    /// Makes or replaces the one target.
    pub(crate) async fn set_target(&self, keys: Keys, oma_vm_id: Option<String>) {
        let (api_key, secret_key) = match keys {
            Keys::Admin => ("admin-KEY", "admin-SECRET"),
            Keys::Tenant => ("user-KEY", "user-SECRET"),
        };
        let sealing = SealingKey::load_or_create(&self.folder.path().join("sealing.key")).expect("a key");
        let sealed = |column: &str, text: &str| {
            sealing.seal(&Secret::new(text), &format!("ossea_configs.{column}:{TARGET}")).expect("sealed")
        };
        let fields = OsseaConfigFields {
            name: "cloud".to_owned(),
            api_url: self.sim.url.clone(),
            api_key_encrypted: sealed("api_key_encrypted", api_key),
            secret_key_encrypted: sealed("secret_key_encrypted", secret_key),
            zone: self.sim.zone_id(),
            oma_vm_id,
            is_active: true,
            ..OsseaConfigFields::default()
        };
        match store::ossea_configs::by_id(&self.store, TARGET).await {
            Ok(_) => store::ossea_configs::replace(&self.store, TARGET, &fields).await,
            Err(_) => store::ossea_configs::create(&self.store, TARGET, &fields).await,
        }
        .expect("the target");
    }

    async fn discover(&mut self) {
        let vm = discovered();
        let upserted = store::discovery::upsert(&self.store, &vm, &Assignment::default()).await.expect("the VM");
        self.context_id = upserted.context_id;
        let disk = store::vm_disks::get(&self.store, &self.context_id, "disk-2000").await.expect("the disk");
        self.vm_disk_id = disk.id;
    }

    /// Starts the daemon (again) on the same folders and database.
    pub(crate) async fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let shutdown = CancellationToken::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (config, database, stop) = (self.config.clone(), database(&self.folder), shutdown.clone());
        let serving = runtime.spawn(async move {
            let store = Store::connect(&database).await.expect("the database");
            let daemon = VolumeDaemon::bind(config, store).await.expect("the daemon listens");
            tell.send(daemon.local_addr()).expect("somebody waits");
            daemon.serve(stop).await.expect("the daemon serves");
        });
        let address = told.await.expect("an address");
        (self.api, self.http) = client(&format!("http://{address}"));
        self.daemon = Some(Process { runtime: Some(runtime), shutdown, serving });
    }

    /// Kills the daemon where it is.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.daemon.take().expect("a running daemon");
        let runtime = process.runtime.take().expect("its runtime");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.expect("the daemon is gone");
    }

    /// Tells the daemon to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        let process = self.daemon.as_mut().expect("a running daemon");
        process.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, &mut process.serving).await;
        ended.expect("the daemon stops").expect("and does not panic");
        self.kill().await;
    }

    pub(crate) fn create_request(&self, name: &str, size_bytes: u64) -> CreateVolume {
        CreateVolume {
            vm_context_id: self.context_id.clone(),
            name: name.to_owned(),
            size_bytes,
            ossea_config_id: None,
            volume_type: VolumeType::Root,
        }
    }

    pub(crate) fn export_request(&self, volume_uuid: &str, capacity_bytes: u64) -> CreateExport {
        CreateExport {
            vm_context_id: self.context_id.clone(),
            job_id: None,
            vm_disk_id: self.vm_disk_id.clone(),
            volume_uuid: volume_uuid.to_owned(),
            kind: ExportKind::Volume,
            enrollment_id: None,
            read_only: false,
            disk_uuid: DISK_UUID.to_owned(),
            capacity_bytes,
            journal: false,
        }
    }

    /// The operation when it has ended.
    pub(crate) async fn end_of(&self, operation: &OperationView) -> OperationView {
        let waiting = async {
            loop {
                let now = self.api.operation(&operation.id, 25).await.expect("the operation");
                if !matches!(now.status, OperationStatus::Pending | OperationStatus::Executing) {
                    return now;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("an end of the operation")
    }

    /// The operation, which must succeed.
    pub(crate) async fn done(&self, operation: Result<OperationView, ClientError>) -> OperationView {
        let ended = self.end_of(&operation.expect("accepted")).await;
        assert_eq!(ended.status, OperationStatus::Completed, "{:?}", ended.error);
        ended
    }

    /// The problem of an operation, which must fail.
    pub(crate) async fn failed(&self, operation: Result<OperationView, ClientError>) -> Problem {
        let ended = self.end_of(&operation.expect("accepted")).await;
        assert_eq!(ended.status, OperationStatus::Failed);
        ended.error.expect("a reason")
    }

    /// A new volume of 2 GiB, not attached.
    pub(crate) async fn volume(&self, key: &str) -> String {
        let made = self.done(self.api.create(&self.create_request(key, 2 * GIB), key).await).await;
        made.volume_id.expect("the volume's id")
    }

    /// A new volume of 2 GiB that is a device here.
    pub(crate) async fn attached_volume(&self, key: &str) -> String {
        let volume = self.volume(key).await;
        self.done(self.api.attach(&volume, &here(), &format!("{key}-attach")).await).await;
        volume
    }

    /// Waits until CloudStack was asked for a command at least so often.
    pub(crate) async fn asked(&self, command: &str, times: u64) {
        self.until(command, async || self.sim.requests(command) >= times).await;
    }

    /// Waits for a condition nobody tells of.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        let waiting = async {
            while !condition().await {
                looks.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
    }

    /// Somebody who changes things in CloudStack without asking us.
    pub(crate) fn operator(&self) -> SignedClient {
        SignedClient::new(&self.sim.url, "admin-KEY", "admin-SECRET")
    }

    /// Waits until a step of an operation's job has failed for the moment, saying `what`.
    pub(crate) async fn stumbles(&self, operation: &OperationView, step: usize, what: &str) {
        self.until(what, async || {
            let job = joblog::JobStore::load(&self.store, &operation.correlation_id).await.expect("read");
            let stumbled = job.expect("the job").steps[step].error.clone();
            stumbled.is_some_and(|error| error.kind.is_transient() && error.message.contains(what))
        })
        .await;
    }

    /// Records an operation that failed although its CloudStack job goes on.
    pub(crate) async fn record_given_up(
        &self,
        operation_type: OperationType,
        volume_uuid: &str,
        cloudstack_job_id: &str,
    ) {
        use store::volume_operations::{Learnt, NewOperation, OperationEnd, begin, finish, record, submit};
        let operation = NewOperation {
            operation_type,
            volume_id: Some(volume_uuid.to_owned()),
            vm_id: None,
            request: serde_json::json!({}),
            correlation_id: model::id::new_id(),
            idempotency_key: "given up".to_owned(),
        };
        let operation = submit(&self.store, &operation).await.expect("accepted").operation;
        let lease = begin(&self.store, &operation.id).await.expect("begun");
        let learnt = Learnt { cloudstack_job_id: Some(cloudstack_job_id.to_owned()), ..Learnt::default() };
        record(&self.store, &lease, &learnt).await.expect("recorded");
        finish(&self.store, &lease, &OperationEnd::Failed("given up".to_owned())).await.expect("ended");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// To the hub's own VM.
pub(crate) fn here() -> AttachVolume {
    AttachVolume { vm_id: None, device_id: None }
}

/// The problem a request was refused with.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    answer.expect_err("a refusal").into_problem()
}

async fn simulated(folder: &TempDir, change: impl FnOnce(&mut CloudstackConfig)) -> CloudstackHandle {
    let (state, by_id) = (folder.path().join("cloudstack"), folder.path().join("by-id"));
    let mut config = CloudstackConfig::new(state, by_id, "admin-KEY", "admin-SECRET");
    config.accounts.push(AccountConfig {
        name: "tenant".to_owned(),
        api_key: "user-KEY".to_owned(),
        secret_key: Secret::new("user-SECRET"),
        root_admin: false,
    });
    change(&mut config);
    CloudstackSim::start(config).await.expect("the simulator starts")
}

fn database(folder: &TempDir) -> DatabaseConfig {
    DatabaseConfig::Sqlite { path: PathBuf::from(folder.path()).join("migratekit.db") }
}

async fn opened(folder: &TempDir) -> Store {
    Store::connect(&database(folder)).await.expect("the database")
}

fn client(base_url: &str) -> (VolumeClient, Client) {
    let transport = HttpTransport::tcp(base_url, None, None).expect("a client");
    let client = Client::new(Arc::new(transport));
    (VolumeClient::new(client.clone()), client)
}

fn discovered() -> DiscoveredVm {
    let text = str::to_owned;
    DiscoveredVm {
        vm_name: text("web-01"),
        vmware_vm_id: text("5030a1b2-c3d4-e5f6-0718-293a4b5c6d7e"),
        vmware_moref: text("vm-42"),
        vm_path: text("/DC/vm/web-01"),
        vcenter_host: text("vcenter.example"),
        datacenter: text("DC"),
        cpu_count: 2,
        memory_mb: 2048,
        os_type: text("linux"),
        guest_id: text("debian12_64Guest"),
        firmware: Firmware::Bios,
        secure_boot: false,
        power_state: text("poweredOn"),
        vm_tools_version: String::new(),
        networks: serde_json::json!([]),
        disks: vec![DiscoveredDisk {
            disk_id: text("disk-2000"),
            disk_uuid: text(DISK_UUID),
            vmdk_path: text("[store] web-01/web-01.vmdk"),
            datastore: text("store"),
            label: text("Hard disk 1"),
            capacity_bytes: 2 * GIB,
            controller_type: text("pvscsi"),
            controller_bus: 0,
            unit_number: 0,
            provisioning_type: text("thin"),
            disk_mode: text("persistent"),
            sharing: text("sharingNone"),
            is_boot_disk: Some(true),
        }],
    }
}
