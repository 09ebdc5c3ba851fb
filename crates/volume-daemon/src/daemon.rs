//! What every handler, saga and task of the volume daemon shares. Holds; does nothing.

use std::sync::{Arc, OnceLock};

use joblog::{JobError, Runner, RunnerConfig};
use runtime::sealed::SealingKey;
use store::Store;
use tokio::sync::Mutex;

use crate::clouds::Clouds;
use crate::config::VolumeDaemonConfig;
use crate::error::VolumeDaemonError;
use crate::ops;

/// File of the key that seals stored passwords, in the state folder.
const SEALING_KEY_FILE: &str = "sealing.key";

/// The shared state.
pub(crate) struct Daemon {
    pub(crate) config: VolumeDaemonConfig,
    pub(crate) store: Store,
    pub(crate) clouds: Clouds,
    /// Held while an operation is accepted, an export is made, or the reconciler writes: each looks first whether the
    /// volume is busy.
    pub(crate) accepting: Mutex<()>,
    /// Held for one reconcile pass.
    pub(crate) reconciling: Mutex<()>,
    runner: OnceLock<Runner>,
}

impl Daemon {
    /// Opens keys and registers the operations; nothing runs yet.
    pub(crate) fn open(config: VolumeDaemonConfig, store: Store) -> Result<Arc<Self>, VolumeDaemonError> {
        let sealing = SealingKey::load_or_create(&config.state_dir.join(SEALING_KEY_FILE)).map_err(|source| {
            VolumeDaemonError::Sealing {
                doing: format!("use {SEALING_KEY_FILE} in {}", config.state_dir.display()),
                source,
            }
        })?;
        let daemon = Arc::new(Self {
            clouds: Clouds::new(store.clone(), sealing, config.client_options()),
            config,
            store,
            accepting: Mutex::default(),
            reconciling: Mutex::default(),
            runner: OnceLock::new(),
        });
        let runner = Self::registered(&daemon)?;
        daemon.runner.get_or_init(|| runner);
        Ok(daemon)
    }

    fn registered(daemon: &Arc<Self>) -> Result<Runner, JobError> {
        let mut builder = Self::builder(daemon);
        for saga in ops::SAGAS {
            builder = builder.register(saga, daemon.clone())?;
        }
        Ok(builder.build())
    }

    fn builder(&self) -> joblog::RunnerBuilder {
        Runner::builder(Arc::new(self.store.clone()), RunnerConfig::new(self.config.instance_name.clone()))
    }

    /// The job log's runner.
    pub(crate) fn runner(&self) -> &Runner {
        // Set before anybody else gets the daemon; one without sagas starts nothing.
        self.runner.get_or_init(|| self.builder().build())
    }
}
