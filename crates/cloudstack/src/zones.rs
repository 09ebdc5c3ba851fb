//! Zones.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// `Advanced` or `Basic`.
    #[serde(alias = "networktype", default, deserialize_with = "wire::text")]
    pub network_type: Option<String>,
    /// `Enabled` or `Disabled`.
    #[serde(alias = "allocationstate", default, deserialize_with = "wire::text")]
    pub allocation_state: Option<String>,
    /// Whether security groups are used.
    #[serde(alias = "securitygroupsenabled", default, deserialize_with = "wire::truth")]
    pub security_groups: bool,
    /// Whether local storage is used.
    #[serde(alias = "localstorageenabled", default, deserialize_with = "wire::truth")]
    pub local_storage: bool,
}

impl Zone {
    /// Whether VMs and volumes may be made in it. Ordinary users are shown no state and only usable zones.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.allocation_state.as_deref().is_none_or(|state| state.eq_ignore_ascii_case("enabled"))
    }

    /// Whether an operator's text means this zone: its id or its name.
    #[must_use]
    pub fn is_called(&self, id_or_name: &str) -> bool {
        self.id.eq_ignore_ascii_case(id_or_name) || self.name.eq_ignore_ascii_case(id_or_name)
    }
}

impl Listed for Zone {
    const OBJECT: &'static str = "zone";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Client {
    /// All zones this account sees (`listZones`).
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_zones(&self) -> Result<Vec<Zone>, CloudstackError> {
        self.list(Params::new("listZones")).await
    }
}
