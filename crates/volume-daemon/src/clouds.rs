//! One CloudStack client per target, made when it is first needed and made anew when the target's row changes.

use std::collections::HashMap;
use std::sync::Arc;

use cloudstack::{Client, ClientOptions, ConnectionSettings, Trust, Volume, VolumeAuthority, VolumeOperations};
use model::Secret;
use runtime::sealed::SealingKey;
use store::Store;
use store::ossea_configs::{self, OsseaConfig};
use tokio::sync::Mutex;

use crate::error::VolumeDaemonError;

/// A target and the way to change volumes in it.
pub(crate) struct Cloud {
    pub(crate) config: OsseaConfig,
    pub(crate) volumes: VolumeOperations,
}

impl Cloud {
    /// For everything that changes nothing, and for waiting.
    pub(crate) fn client(&self) -> &Client {
        self.volumes.client()
    }

    /// The volume, which must be visible to this target's account.
    pub(crate) async fn volume(&self, volume_uuid: &str) -> Result<Volume, VolumeDaemonError> {
        let found = self.client().find_volume(volume_uuid).await?;
        found.ok_or_else(|| VolumeDaemonError::VolumeNotVisible {
            volume_uuid: volume_uuid.to_owned(),
            target: self.config.name.clone(),
        })
    }
}

/// Every target in use.
pub(crate) struct Clouds {
    store: Store,
    sealing: SealingKey,
    options: ClientOptions,
    open: Mutex<HashMap<String, Arc<Cloud>>>,
}

impl Clouds {
    pub(crate) fn new(store: Store, sealing: SealingKey, options: ClientOptions) -> Self {
        Self { store, sealing, options, open: Mutex::default() }
    }

    /// The target with this id, or the active one.
    pub(crate) async fn get(&self, config_id: Option<&str>) -> Result<Arc<Cloud>, VolumeDaemonError> {
        let config = match config_id {
            Some(id) => ossea_configs::by_id(&self.store, id).await?,
            None => ossea_configs::active(&self.store).await?,
        };
        let mut open = self.open.lock().await;
        if let Some(cloud) = open.get(&config.id).filter(|cloud| cloud.config == config) {
            return Ok(cloud.clone());
        }
        let cloud = Arc::new(self.connect(config)?);
        open.insert(cloud.config.id.clone(), cloud.clone());
        Ok(cloud)
    }

    fn connect(&self, config: OsseaConfig) -> Result<Cloud, VolumeDaemonError> {
        let settings = ConnectionSettings {
            api_url: config.api_url.clone(),
            api_key: self.unsealed(&config, "api_key_encrypted", &config.api_key_encrypted)?,
            secret_key: self.unsealed(&config, "secret_key_encrypted", &config.secret_key_encrypted)?,
            trust: config.tls_fingerprint.clone().map_or(Trust::System, Trust::Thumbprint),
        };
        let client = Client::with_options(&settings, self.options)?;
        let volumes = VolumeOperations::new(client, VolumeAuthority::for_volume_daemon());
        Ok(Cloud { config, volumes })
    }

    fn unsealed(&self, config: &OsseaConfig, column: &str, sealed: &str) -> Result<Secret, VolumeDaemonError> {
        let aad = format!("ossea_configs.{column}:{}", config.id);
        self.sealing.open(sealed, &aad).map_err(|source| VolumeDaemonError::Sealing {
            doing: format!("open {column} of target {}", config.name),
            source,
        })
    }
}
