//! What the cloud says of itself: version, limits of custom volumes, snapshot ability.

use serde::{Deserialize, Serialize};

use crate::client::{Client, decode_entity};
use crate::error::CloudstackError;
use crate::params::Params;
use crate::wire;

/// `listCapabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Such as `4.19.1.0`.
    #[serde(alias = "cloudstackversion", default, deserialize_with = "wire::text")]
    pub cloudstack_version: Option<String>,
    /// Smallest volume of a custom-size offering, in GiB.
    #[serde(alias = "customdiskofferingminsize", default, deserialize_with = "wire::count")]
    pub custom_volume_min_gib: Option<u64>,
    /// Largest volume of a custom-size offering, in GiB (`custom.diskoffering.size.max`).
    #[serde(alias = "customdiskofferingmaxsize", default, deserialize_with = "wire::count")]
    pub custom_volume_max_gib: Option<u64>,
    /// Whether volumes of running KVM VMs can be snapshotted.
    #[serde(alias = "kvmsnapshotenabled", default, deserialize_with = "wire::truth")]
    pub kvm_snapshot_enabled: bool,
    /// Whether ordinary users may expunge VMs.
    #[serde(alias = "allowuserexpungerecovervm", default, deserialize_with = "wire::truth")]
    pub user_may_expunge_vm: bool,
    /// Whether ordinary users may expunge volumes.
    #[serde(alias = "allowuserexpungerecovervolume", default, deserialize_with = "wire::truth")]
    pub user_may_expunge_volume: bool,
    /// Whether ordinary users may stop VMs by force; absent before 4.20.
    #[serde(alias = "allowuserforcestopvm", default, deserialize_with = "wire::text")]
    pub user_may_force_stop_vm: Option<String>,
    /// Requests allowed per interval, when the rate limit is on.
    #[serde(alias = "apilimitmax", default, deserialize_with = "wire::count")]
    pub rate_limit_requests: Option<u64>,
    /// The rate limit's interval, in seconds.
    #[serde(alias = "apilimitinterval", default, deserialize_with = "wire::count")]
    pub rate_limit_interval_seconds: Option<u64>,
}

impl Capabilities {
    /// Major and minor version, when they can be read.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.cloudstack_version.as_deref()?.split('.');
        let mut next = || {
            let digits: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        Some((next()?, next()?))
    }
}

impl Client {
    /// `listCapabilities`: also the cheapest proof that the keys are right.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn capabilities(&self) -> Result<Capabilities, CloudstackError> {
        let params = Params::new("listCapabilities");
        decode_entity(params.command(), "capability", self.read_payload(&params).await?)
    }
}
