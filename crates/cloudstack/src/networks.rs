//! Networks VMs can be put into.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// Which networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those in this zone.
    pub zone_id: Option<String>,
    /// Only those a VM can be deployed into.
    pub usable_for_deploy: bool,
}

/// A guest network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// `Isolated`, `Shared` or `L2`.
    #[serde(alias = "type", default, deserialize_with = "wire::text")]
    pub network_type: Option<String>,
    /// `Allocated`, `Setup`, `Implementing`, `Implemented`, `Shutdown` or `Destroy`.
    #[serde(default, deserialize_with = "wire::text")]
    pub state: Option<String>,
    /// Zone.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Zone's name.
    #[serde(alias = "zonename", default, deserialize_with = "wire::text")]
    pub zone_name: Option<String>,
    /// IPv4 range.
    #[serde(default, deserialize_with = "wire::text")]
    pub cidr: Option<String>,
    /// IPv4 gateway.
    #[serde(default, deserialize_with = "wire::text")]
    pub gateway: Option<String>,
    /// IPv4 netmask.
    #[serde(default, deserialize_with = "wire::text")]
    pub netmask: Option<String>,
    /// VLAN, shown to administrators.
    #[serde(default, deserialize_with = "wire::text")]
    pub vlan: Option<String>,
    /// Owner, when one account owns it.
    #[serde(default, deserialize_with = "wire::text")]
    pub account: Option<String>,
    /// Owner's domain.
    #[serde(alias = "domainpath", default, deserialize_with = "wire::text")]
    pub domain_path: Option<String>,
    /// VPC it is a tier of.
    #[serde(alias = "vpcid", default, deserialize_with = "wire::text")]
    pub vpc_id: Option<String>,
    /// Whether VMs can be deployed into it.
    #[serde(alias = "canusefordeploy", default, deserialize_with = "wire::truth")]
    pub usable_for_deploy: bool,
}

impl Listed for Network {
    const OBJECT: &'static str = "network";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Client {
    /// `listNetworks`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_networks(&self, query: &NetworkQuery) -> Result<Vec<Network>, CloudstackError> {
        let params = Params::new("listNetworks")
            .set("listall", true)
            .maybe("id", query.id.as_ref())
            .maybe("zoneid", query.zone_id.as_ref())
            .maybe("canusefordeploy", query.usable_for_deploy.then_some(true));
        self.list(params).await
    }
}
