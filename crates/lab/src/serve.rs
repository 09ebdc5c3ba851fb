//! `lab serve`: both simulators in one process, so that the product meets them as it meets the real ones: by address.

use std::path::Path;

use runtime::shutdown::on_signals;
use serde::{Deserialize, Serialize};

use crate::cloudstack::{CloudstackConfig, CloudstackSim};
use crate::vcenter::{VcenterConfig, VcenterSim};
use crate::world::WorldError;

/// What to simulate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// The vCenter.
    pub vcenter: VcenterConfig,
    /// The CloudStack.
    pub cloudstack: CloudstackConfig,
}

/// Where the simulators are and how they are trusted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Addresses {
    /// `https://127.0.0.1:port` of the vCenter.
    pub vcenter_url: String,
    /// SHA-256 of its certificate.
    pub vcenter_thumbprint: String,
    /// Its laboratory endpoint.
    pub vcenter_admin: String,
    /// API endpoint of the CloudStack.
    pub cloudstack_url: String,
    /// Its laboratory endpoint.
    pub cloudstack_admin: String,
    /// CloudStack id of the VM that plays the hub's own.
    pub oma_vm_id: String,
    /// CloudStack id of the zone.
    pub zone_id: String,
}

/// Serves until interrupted; `ready` is written when both are up.
///
/// # Errors
/// The configuration cannot be read, or a simulator cannot start.
pub async fn run(config: &Path, ready: &Path) -> Result<(), WorldError> {
    runtime::telemetry::init(None);
    let shutdown = on_signals();
    let text = std::fs::read(config).map_err(WorldError::file("read", config))?;
    let config: ServeConfig = serde_json::from_slice(&text).map_err(|source| WorldError::Answer {
        what: "the laboratory's configuration".to_owned(),
        reason: source.to_string(),
    })?;
    let vcenter = VcenterSim::start(config.vcenter).await.map_err(WorldError::simulator("vCenter"))?;
    let cloudstack = CloudstackSim::start(config.cloudstack).await.map_err(WorldError::simulator("CloudStack"))?;
    let addresses = Addresses {
        vcenter_url: vcenter.url(),
        vcenter_thumbprint: vcenter.sha256_thumbprint().to_owned(),
        vcenter_admin: vcenter.admin_url(),
        cloudstack_url: cloudstack.url.clone(),
        cloudstack_admin: cloudstack.admin_url.clone(),
        oma_vm_id: cloudstack.oma_vm_id(),
        zone_id: cloudstack.zone_id(),
    };
    let json = serde_json::to_vec_pretty(&addresses).unwrap_or_default();
    runtime::private_file::write(ready, &json).map_err(WorldError::file("write", ready))?;
    shutdown.cancelled().await;
    cloudstack.shutdown().await;
    vcenter.shutdown().await;
    Ok(())
}
