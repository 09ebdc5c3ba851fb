//! Virtual machines: listed, deployed, changed, started, stopped, destroyed.
//!
//! Whoever destroys a VM must have detached its replicated root first: the server erases whatever is root then.

use std::collections::BTreeMap;

use model::FailureKind;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::async_job::JobHandle;
use crate::client::{Client, decode_entity};
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::tags::ResourceTag;
use crate::wire;

/// State of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(from = "String", into = "String")]
pub enum VmState {
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped.
    Stopped,
    /// Marked for deletion; its name and addresses stay taken.
    Destroyed,
    /// Being erased.
    Expunging,
    /// Moving to another host.
    Migrating,
    /// Could not be made.
    Error,
    /// Nobody knows.
    #[default]
    #[strum(serialize = "Unknown", serialize = "")]
    Unknown,
    /// A state this version does not know.
    #[strum(default)]
    Other(String),
}

impl From<String> for VmState {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Other(text))
    }
}

impl From<VmState> for String {
    fn from(state: VmState) -> Self {
        state.to_string()
    }
}

/// A network card of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Network.
    #[serde(alias = "networkid", default, deserialize_with = "wire::text")]
    pub network_id: Option<String>,
    /// Network's name.
    #[serde(alias = "networkname", default, deserialize_with = "wire::text")]
    pub network_name: Option<String>,
    /// MAC address.
    #[serde(alias = "macaddress", default, deserialize_with = "wire::text")]
    pub mac_address: Option<String>,
    /// IPv4 address; absent in L2 networks.
    #[serde(alias = "ipaddress", default, deserialize_with = "wire::text")]
    pub ip_address: Option<String>,
    /// Whether it is the default one.
    #[serde(alias = "isdefault", default, deserialize_with = "wire::truth")]
    pub is_default: bool,
}

/// A VM. Job results may lack most of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualMachine {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Host name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// Name people gave it.
    #[serde(alias = "displayname", default, deserialize_with = "wire::text")]
    pub display_name: Option<String>,
    /// `i-2-683-VM`, shown to administrators.
    #[serde(alias = "instancename", default, deserialize_with = "wire::text")]
    pub instance_name: Option<String>,
    /// State.
    #[serde(default)]
    pub state: VmState,
    /// Owner.
    #[serde(default, deserialize_with = "wire::text")]
    pub account: Option<String>,
    /// Owner's domain.
    #[serde(alias = "domainid", default, deserialize_with = "wire::text")]
    pub domain_id: Option<String>,
    /// Zone.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Host it runs on, shown to administrators.
    #[serde(alias = "hostid", default, deserialize_with = "wire::text")]
    pub host_id: Option<String>,
    /// Hypervisor.
    #[serde(default, deserialize_with = "wire::text")]
    pub hypervisor: Option<String>,
    /// Template it was made of.
    #[serde(alias = "templateid", default, deserialize_with = "wire::text")]
    pub template_id: Option<String>,
    /// Service offering.
    #[serde(alias = "serviceofferingid", default, deserialize_with = "wire::text")]
    pub service_offering_id: Option<String>,
    /// CPUs.
    #[serde(alias = "cpunumber", default, deserialize_with = "wire::count")]
    pub cpu_count: Option<u64>,
    /// Memory in MiB.
    #[serde(alias = "memory", default, deserialize_with = "wire::count")]
    pub memory_mib: Option<u64>,
    /// Guest OS type.
    #[serde(alias = "ostypeid", default, deserialize_with = "wire::text")]
    pub os_type_id: Option<String>,
    /// Device id of its root; absent while it has none.
    #[serde(alias = "rootdeviceid", default, deserialize_with = "wire::count")]
    pub root_device_id: Option<u64>,
    /// `Bios` or `Uefi`, when told.
    #[serde(alias = "boottype", default, deserialize_with = "wire::text")]
    pub boot_type: Option<String>,
    /// `legacy` or `secure`, when told.
    #[serde(alias = "bootmode", default, deserialize_with = "wire::text")]
    pub boot_mode: Option<String>,
    /// Settings the caller may see.
    #[serde(default, deserialize_with = "wire::text_map")]
    pub details: BTreeMap<String, String>,
    /// Network cards.
    #[serde(alias = "nic", default, deserialize_with = "wire::rows")]
    pub nics: Vec<Nic>,
    /// When it was made.
    #[serde(default, deserialize_with = "wire::moment", serialize_with = "time::serde::rfc3339::option::serialize")]
    pub created: Option<OffsetDateTime>,
    /// Tags.
    #[serde(default, deserialize_with = "wire::rows")]
    pub tags: Vec<ResourceTag>,
}

impl Listed for VirtualMachine {
    const OBJECT: &'static str = "virtualmachine";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

/// Which VMs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only these.
    pub ids: Vec<String>,
    /// Only those whose name begins like this.
    pub name: Option<String>,
    /// Only those in this zone.
    pub zone_id: Option<String>,
    /// Only those in this network.
    pub network_id: Option<String>,
    /// Only those in this state; `Present` is every state but destroyed.
    pub state: Option<String>,
    /// Which parts of a VM are read (`nics`, `volume`, …); all of them when empty.
    pub details: Vec<String>,
    /// Only those that carry all these tags.
    pub tags: BTreeMap<String, String>,
}

/// How a VM boots. Both halves are always sent: one alone fails on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFirmware {
    /// BIOS.
    Bios,
    /// UEFI without Secure Boot.
    Uefi,
    /// UEFI with Secure Boot.
    UefiSecure,
}

impl BootFirmware {
    fn type_and_mode(self) -> (&'static str, &'static str) {
        match self {
            Self::Bios => ("BIOS", "LEGACY"),
            Self::Uefi => ("UEFI", "LEGACY"),
            Self::UefiSecure => ("UEFI", "SECURE"),
        }
    }
}

/// A network card to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewNic {
    /// Network.
    pub network_id: String,
    /// IPv4 address wanted.
    pub ip_address: Option<String>,
    /// MAC address wanted. The server silently replaces an invalid one: look at the result.
    pub mac_address: Option<String>,
}

/// A VM to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewVirtualMachine {
    /// Zone.
    pub zone_id: String,
    /// Service offering.
    pub service_offering_id: String,
    /// Template.
    pub template_id: String,
    /// Host name: a label of RFC 1123 that begins with a letter.
    pub name: String,
    /// Name people see.
    pub display_name: Option<String>,
    /// Network cards; the first is the default one.
    pub nics: Vec<NewNic>,
    /// Whether it is started at once. Not started, its root has no disk yet and can be replaced.
    pub start: bool,
    /// How it boots; the template's way when absent.
    pub firmware: Option<BootFirmware>,
    /// Settings (`rootDiskController`, `cpuNumber`, `memory`, …).
    pub details: BTreeMap<String, String>,
    /// The id it shall have, a lower-case UUID: only a root administrator may choose it.
    pub custom_id: Option<String>,
    /// Owner, as account name and domain id; the caller when absent.
    pub owner: Option<(String, String)>,
}

/// A change of a VM. What is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmChange {
    /// Name people see.
    pub display_name: Option<String>,
    /// Guest OS type; takes effect only on a stopped VM.
    pub os_type_id: Option<String>,
    /// Settings to set, or to take away (`None`); the others stay.
    pub details: BTreeMap<String, Option<String>>,
}

/// How a VM is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmDestruction {
    /// Erase it at once instead of after the cloud's delay.
    pub expunge: bool,
    /// Data volumes to delete with it; the others are detached and kept.
    pub volume_ids: Vec<String>,
}

impl Client {
    /// `listVirtualMachines`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_virtual_machines(&self, query: &VmQuery) -> Result<Vec<VirtualMachine>, CloudstackError> {
        let params = Params::new("listVirtualMachines")
            .set("listall", true)
            .maybe("id", query.id.as_ref())
            .list("ids", &query.ids)
            .maybe("name", query.name.as_ref())
            .maybe("zoneid", query.zone_id.as_ref())
            .maybe("networkid", query.network_id.as_ref())
            .maybe("state", query.state.as_ref())
            .list("details", &query.details)
            .tags(&query.tags);
        self.list(params).await
    }

    /// One VM, or nothing when it does not exist. A destroyed one is still found.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_virtual_machine(&self, id: &str) -> Result<Option<VirtualMachine>, CloudstackError> {
        let query = VmQuery { id: Some(id.to_owned()), ..VmQuery::default() };
        match self.list_virtual_machines(&query).await {
            Ok(found) => Ok(found.into_iter().find(|vm| vm.id == id)),
            Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One VM.
    ///
    /// # Errors
    /// [`CloudstackError::Missing`] when it does not exist, and those of any read.
    pub async fn virtual_machine(&self, id: &str) -> Result<VirtualMachine, CloudstackError> {
        let found = self.find_virtual_machine(id).await?;
        found.ok_or_else(|| CloudstackError::Missing { what: "virtual machine", id: id.to_owned() })
    }

    /// `deployVirtualMachine`. The VM exists under the handle's `entity_id` even when the job fails.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn deploy_virtual_machine(&self, new: &NewVirtualMachine) -> Result<JobHandle, CloudstackError> {
        self.submit(&deployment(new)).await
    }

    /// `startVirtualMachine`.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn start_virtual_machine(&self, id: &str) -> Result<JobHandle, CloudstackError> {
        self.submit(&starting(id)).await
    }

    /// `stopVirtualMachine`: asks the guest to shut down; `forced` cuts the power.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn stop_virtual_machine(&self, id: &str, forced: bool) -> Result<JobHandle, CloudstackError> {
        self.submit(&stopping(id, forced)).await
    }

    /// `destroyVirtualMachine`: whatever is its root is erased with it.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn destroy_virtual_machine(&self, id: &str, how: &VmDestruction) -> Result<JobHandle, CloudstackError> {
        self.submit(&destruction(id, how)).await
    }

    /// `updateVirtualMachine`. The server replaces all settings by those sent, so they are read and merged first;
    /// somebody who changes them in between is overwritten.
    ///
    /// # Errors
    /// [`CloudstackError::Missing`] when it does not exist, and those of any write.
    pub async fn update_virtual_machine(&self, id: &str, change: &VmChange) -> Result<VirtualMachine, CloudstackError> {
        let mut params = Params::new("updateVirtualMachine")
            .set("id", id)
            .maybe("displayname", change.display_name.as_ref())
            .maybe("ostypeid", change.os_type_id.as_ref());
        if !change.details.is_empty() {
            let merged = merged_details(self.virtual_machine(id).await?.details, &change.details);
            // An empty map cannot be sent; there is a parameter for that.
            params =
                if merged.is_empty() { params.set("cleanupdetails", true) } else { params.details("details", &merged) };
        }
        decode_entity(params.command(), "virtualmachine", self.write_payload(&params).await?)
    }

    /// `addNicToVirtualMachine`. Refused while the VM has VM snapshots or a card in the same network.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn add_nic(&self, virtual_machine_id: &str, nic: &NewNic) -> Result<JobHandle, CloudstackError> {
        let params = Params::new("addNicToVirtualMachine")
            .set("virtualmachineid", virtual_machine_id)
            .set("networkid", &nic.network_id)
            .maybe("ipaddress", nic.ip_address.as_ref())
            .maybe("macaddress", nic.mac_address.as_ref());
        self.submit(&params).await
    }
}

pub(crate) fn starting(id: &str) -> Params {
    Params::new("startVirtualMachine").set("id", id)
}

pub(crate) fn stopping(id: &str, forced: bool) -> Params {
    Params::new("stopVirtualMachine").set("id", id).set("forced", forced)
}

pub(crate) fn destruction(id: &str, how: &VmDestruction) -> Params {
    Params::new("destroyVirtualMachine")
        .set("id", id)
        .maybe("expunge", how.expunge.then_some(true))
        .list("volumeids", &how.volume_ids)
}

pub(crate) fn deployment(new: &NewVirtualMachine) -> Params {
    let mut params = Params::new("deployVirtualMachine")
        .set("zoneid", &new.zone_id)
        .set("serviceofferingid", &new.service_offering_id)
        .set("templateid", &new.template_id)
        .set("name", &new.name)
        .maybe("displayname", new.display_name.as_ref())
        .set("startvm", new.start)
        .details("details", &new.details)
        .maybe("customid", new.custom_id.as_ref().map(|id| id.to_ascii_lowercase()))
        .maybe("account", new.owner.as_ref().map(|(account, _)| account))
        .maybe("domainid", new.owner.as_ref().map(|(_, domain)| domain));
    if let Some((boot_type, boot_mode)) = new.firmware.map(BootFirmware::type_and_mode) {
        params = params.set("boottype", boot_type).set("bootmode", boot_mode);
    }
    // The two ways to name networks exclude each other; the plain list is the older one.
    if new.nics.iter().all(|nic| nic.ip_address.is_none() && nic.mac_address.is_none()) {
        let ids: Vec<String> = new.nics.iter().map(|nic| nic.network_id.clone()).collect();
        return params.list("networkids", &ids);
    }
    for (index, nic) in new.nics.iter().enumerate() {
        let name = |part: &str| format!("iptonetworklist[{index}].{part}");
        params = params
            .set(&name("networkid"), &nic.network_id)
            .maybe(&name("ip"), nic.ip_address.as_ref())
            .maybe(&name("mac"), nic.mac_address.as_ref());
    }
    params
}

fn merged_details(
    mut present: BTreeMap<String, String>,
    change: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, String> {
    for (key, value) in change {
        match value {
            Some(value) => present.insert(key.clone(), value.clone()),
            None => present.remove(key),
        };
    }
    present
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(params: &Params) -> Vec<(String, String)> {
        params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn networks_go_as_a_list_or_as_a_map_but_never_as_both() {
        let plain = NewNic { network_id: "n1".into(), ..NewNic::default() };
        let fixed = NewNic { network_id: "n2".into(), mac_address: Some("02:00".into()), ip_address: None };
        let listed = NewVirtualMachine { nics: vec![plain.clone(), plain.clone()], ..NewVirtualMachine::default() };
        let listed = pairs(&deployment(&listed));
        assert!(listed.contains(&("networkids".into(), "n1,n1".into())));
        let mapped = NewVirtualMachine { nics: vec![plain, fixed], ..NewVirtualMachine::default() };
        let mapped = pairs(&deployment(&mapped));
        assert!(mapped.contains(&("iptonetworklist[1].mac".into(), "02:00".into())));
        assert!(mapped.contains(&("iptonetworklist[0].networkid".into(), "n1".into())));
        assert!(!mapped.iter().any(|(name, _)| name == "networkids"));
    }

    #[test]
    fn both_halves_of_the_boot_firmware_are_sent() {
        let new = NewVirtualMachine { firmware: Some(BootFirmware::Bios), ..NewVirtualMachine::default() };
        let sent = pairs(&deployment(&new));
        for pair in [("boottype", "BIOS"), ("bootmode", "LEGACY"), ("startvm", "false")] {
            assert!(sent.contains(&(pair.0.into(), pair.1.into())), "{pair:?}");
        }
    }

    #[test]
    fn settings_are_merged() {
        let present = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let change = BTreeMap::from([("a".to_owned(), None), ("c".to_owned(), Some("3".to_owned()))]);
        let expected = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())]);
        assert_eq!(merged_details(present, &change), expected);
    }

    #[test]
    fn a_vm_from_a_job_may_be_nearly_empty() {
        let text = r#"{"id":"9156","nic":[{"id":"n","macaddress":"02:00:34:fb:00:01","isdefault":true,"deviceid":"0"}],
            "details":[],"jobstatus":0}"#;
        let vm: VirtualMachine = serde_json::from_str(text).unwrap();
        assert_eq!((vm.state, vm.nics.len(), vm.details.len()), (VmState::Unknown, 1, 0));
    }
}
