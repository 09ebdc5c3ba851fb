//! What every handler, saga and task of the control plane shares. Holds; does nothing.

use std::sync::{Arc, OnceLock};

use api::gateway::GatewayClient;
use api::volume::VolumeClient;
use api::{Client, HttpTransport};
use joblog::{Events, JobError, Runner, RunnerBuilder, RunnerConfig};
use proof::{CertificateKey, DigestFolder};
use runtime::sealed::SealingKey;
use store::Store;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tunnel::HubIdentity;

use crate::agents::AgentRegistry;
use crate::auth::AuthLimits;
use crate::config::OmaConfig;
use crate::enrolment::EnrolmentLimits;
use crate::error::OmaError;
use crate::ghosts::Reports;
use crate::http::events::Listeners;
use crate::inventory::ScanCache;
use crate::progress::Board;

/// File of the key that seals stored passwords, in the state folder.
const SEALING_KEY_FILE: &str = "sealing.key";
/// File of the key that signs certificates of equality, in the state folder.
const CERTIFICATE_KEY_FILE: &str = "certificate.key";

/// The shared state. Clones are the same.
#[derive(Clone)]
pub struct OmaState(Arc<Inner>);

struct Inner {
    config: OmaConfig,
    store: Store,
    events: Events,
    /// Set right after the sagas, whose steps are given this state, were registered.
    runner: OnceLock<Runner>,
    agents: AgentRegistry,
    volumes: VolumeClient,
    gateway: GatewayClient,
    sealing: SealingKey,
    certificate_key: CertificateKey,
    digests: DigestFolder,
    identity: HubIdentity,
    auth_limits: AuthLimits,
    enrolment_limits: EnrolmentLimits,
    listeners: Listeners,
    scans: ScanCache,
    progress: Board,
    ghosts: Reports,
    stopping: CancellationToken,
}

impl OmaState {
    /// Opens identity and keys in the state folder (making them at the first start) and the clients of the other
    /// processes; nothing is connected yet. `sagas` registers the jobs this process runs, with this state as their
    /// context; `events` is where whoever stores the log publishes, too.
    ///
    /// # Errors
    /// When the state folder cannot be used or a saga is not well formed.
    pub fn open(
        config: OmaConfig,
        store: Store,
        events: Events,
        sagas: impl FnOnce(RunnerBuilder, &Self) -> Result<RunnerBuilder, JobError>,
    ) -> Result<Self, OmaError> {
        let now = OffsetDateTime::now_utc();
        // Only the CA is used here; the server certificate and its names are the gateway's.
        let identity = HubIdentity::open(&config.state_dir, &[], now)?;
        let sealing =
            SealingKey::load_or_create(&config.state_dir.join(SEALING_KEY_FILE)).map_err(OmaError::Sealing)?;
        let certificate_key = CertificateKey::load_or_create(&config.state_dir.join(CERTIFICATE_KEY_FILE))?;
        let digests = DigestFolder::open(&config.state_dir)?;
        let volumes = HttpTransport::tcp(&config.volume_daemon_url, None, None)
            .map_err(|source| OmaError::Peer { peer: "the volume daemon", source })?;
        let gateway = HttpTransport::unix(config.gateway_socket())
            .map_err(|source| OmaError::Peer { peer: "the gateway", source })?;
        let state = Self(Arc::new(Inner {
            config,
            store,
            events,
            runner: OnceLock::new(),
            agents: AgentRegistry::default(),
            volumes: VolumeClient::new(Client::new(Arc::new(volumes))),
            gateway: GatewayClient::new(gateway),
            sealing,
            certificate_key,
            digests,
            identity,
            auth_limits: AuthLimits::default(),
            enrolment_limits: EnrolmentLimits::default(),
            listeners: Listeners::default(),
            scans: ScanCache::default(),
            progress: Board::default(),
            ghosts: Reports::default(),
            stopping: CancellationToken::new(),
        }));
        let runner = sagas(state.runner_builder(), &state)?.build();
        state.0.runner.get_or_init(|| runner);
        Ok(state)
    }

    fn runner_builder(&self) -> RunnerBuilder {
        let config = RunnerConfig::new(self.0.config.instance_name.clone());
        Runner::builder(Arc::new(self.0.store.clone()), config).events(self.0.events.clone())
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The job log's runner.
    #[must_use]
    pub fn runner(&self) -> &Runner {
        // Only while the sagas are being registered is there none yet; one without sagas starts nothing.
        self.0.runner.get_or_init(|| self.runner_builder().build())
    }

    /// The agents that are connected.
    #[must_use]
    pub fn agents(&self) -> &AgentRegistry {
        &self.0.agents
    }

    /// The volume daemon.
    #[must_use]
    pub fn volumes(&self) -> &VolumeClient {
        &self.0.volumes
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &GatewayClient {
        &self.0.gateway
    }

    /// The key for passwords in the database.
    #[must_use]
    pub fn sealing(&self) -> &SealingKey {
        &self.0.sealing
    }

    /// The key that signs certificates of equality.
    #[must_use]
    pub fn certificate_key(&self) -> &CertificateKey {
        &self.0.certificate_key
    }

    /// The digest files of the disks.
    #[must_use]
    pub fn digests(&self) -> &DigestFolder {
        &self.0.digests
    }

    /// The hub's CA and server identity.
    #[must_use]
    pub fn identity(&self) -> &HubIdentity {
        &self.0.identity
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &OmaConfig {
        &self.0.config
    }

    /// Limits on failed authentication.
    pub(crate) fn auth_limits(&self) -> &AuthLimits {
        &self.0.auth_limits
    }

    /// Limits on enrolling.
    pub(crate) fn enrolment_limits(&self) -> &EnrolmentLimits {
        &self.0.enrolment_limits
    }

    /// How many may listen to events.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.0.listeners
    }

    /// What was last seen of each vCenter.
    pub(crate) fn scans(&self) -> &ScanCache {
        &self.0.scans
    }

    /// How far running replications are.
    #[must_use]
    pub fn progress(&self) -> &Board {
        &self.0.progress
    }

    /// What was last seen of ghosts.
    pub(crate) fn ghosts(&self) -> &Reports {
        &self.0.ghosts
    }

    /// Cancelled when the process stops: answers without an end, end then.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }
}
