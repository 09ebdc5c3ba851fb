//! Service offerings (CPU and memory of VMs) and disk offerings (of volumes).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// Which offerings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfferingQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those usable in this zone.
    pub zone_id: Option<String>,
}

/// A compute offering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOffering {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// `Active` or `Inactive`; absent before 4.19.
    #[serde(default, deserialize_with = "wire::text")]
    pub state: Option<String>,
    /// Whether CPU count, speed and memory are given when the VM is made.
    #[serde(alias = "iscustomized", default, deserialize_with = "wire::truth")]
    pub is_customized: bool,
    /// CPUs; absent when customised.
    #[serde(alias = "cpunumber", default, deserialize_with = "wire::count")]
    pub cpu_count: Option<u64>,
    /// Speed of a CPU in MHz; absent when customised without a fixed speed.
    #[serde(alias = "cpuspeed", default, deserialize_with = "wire::count")]
    pub cpu_speed_mhz: Option<u64>,
    /// Memory in MiB; absent when customised.
    #[serde(alias = "memory", default, deserialize_with = "wire::count")]
    pub memory_mib: Option<u64>,
    /// Bounds of a customised offering (`mincpunumber`, `maxcpunumber`, `minmemory`, `maxmemory`).
    #[serde(alias = "serviceofferingdetails", default, deserialize_with = "wire::text_map")]
    pub bounds: BTreeMap<String, String>,
    /// `shared` or `local`.
    #[serde(alias = "storagetype", default, deserialize_with = "wire::text")]
    pub storage_type: Option<String>,
    /// Zones it is limited to, separated by commas.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Whether later changes of the root volume's offering are refused.
    #[serde(alias = "diskofferingstrictness", default, deserialize_with = "wire::truth")]
    pub disk_offering_strict: bool,
}

impl ServiceOffering {
    /// Whether new VMs may use it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        is_active(self.state.as_deref())
    }
}

/// A disk offering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOffering {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// `Active` or `Inactive`; absent before 4.19.
    #[serde(default, deserialize_with = "wire::text")]
    pub state: Option<String>,
    /// Whether the size is given when the volume is made.
    #[serde(alias = "iscustomized", default, deserialize_with = "wire::truth")]
    pub is_customized: bool,
    /// Fixed size in GiB; 0 when customised.
    #[serde(alias = "disksize", default, deserialize_with = "wire::count")]
    pub size_gib: Option<u64>,
    /// `shared` or `local`.
    #[serde(alias = "storagetype", default, deserialize_with = "wire::text")]
    pub storage_type: Option<String>,
    /// `thin`, `sparse` or `fat`.
    #[serde(alias = "provisioningtype", default, deserialize_with = "wire::text")]
    pub provisioning_type: Option<String>,
    /// Storage tags, separated by commas.
    #[serde(alias = "tags", default, deserialize_with = "wire::text")]
    pub storage_tags: Option<String>,
    /// Zones it is limited to, separated by commas.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Whether volumes of it are encrypted.
    #[serde(default, deserialize_with = "wire::truth")]
    pub encrypt: bool,
    /// Whether volumes of it can never be resized.
    #[serde(alias = "disksizestrictness", default, deserialize_with = "wire::truth")]
    pub size_strict: bool,
}

impl DiskOffering {
    /// Whether replica volumes of any size can be made of it in the zone.
    #[must_use]
    pub fn takes_any_size(&self, zone_id: Option<&str>) -> bool {
        self.is_customized && is_active(self.state.as_deref()) && in_zone(self.zone_id.as_deref(), zone_id)
    }
}

fn is_active(state: Option<&str>) -> bool {
    state.is_none_or(|state| state.eq_ignore_ascii_case("active"))
}

/// Whether an offering limited to `zones` may be used in `wanted`; no limit means everywhere.
fn in_zone(zones: Option<&str>, wanted: Option<&str>) -> bool {
    match (zones, wanted) {
        (Some(zones), Some(wanted)) => zones.split(',').any(|zone| zone.trim().eq_ignore_ascii_case(wanted)),
        _ => true,
    }
}

impl Listed for ServiceOffering {
    const OBJECT: &'static str = "serviceoffering";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Listed for DiskOffering {
    const OBJECT: &'static str = "diskoffering";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Client {
    /// `listServiceOfferings`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_service_offerings(&self, query: &OfferingQuery) -> Result<Vec<ServiceOffering>, CloudstackError> {
        self.list(offering_params("listServiceOfferings", query)).await
    }

    /// `listDiskOfferings`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_disk_offerings(&self, query: &OfferingQuery) -> Result<Vec<DiskOffering>, CloudstackError> {
        self.list(offering_params("listDiskOfferings", query)).await
    }
}

fn offering_params(command: &'static str, query: &OfferingQuery) -> Params {
    Params::new(command).set("listall", true).maybe("id", query.id.as_ref()).maybe("zoneid", query.zone_id.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_disk_offering() {
        let text = r#"{"id":"7662b6ae-f00b-4268-973f-f3f87eaf82c5","name":"test","displaytext":"test","disksize":0,
            "created":"2021-10-02T15:19:25+0000","iscustomized":true,"storagetype":"shared","provisioningtype":"thin",
            "cacheMode":"none","displayoffering":true,"zoneid":"z1,z2"}"#;
        let offering: DiskOffering = serde_json::from_str(text).unwrap();
        assert!(offering.takes_any_size(Some("z2")) && offering.takes_any_size(None));
        assert!(!offering.takes_any_size(Some("z3")));
        let inactive = DiskOffering { state: Some("Inactive".into()), ..offering };
        assert!(!inactive.takes_any_size(None));
    }
}
