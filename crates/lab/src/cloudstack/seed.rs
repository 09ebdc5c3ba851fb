//! The worker VM that exists before anyone calls the API.
//!
//! Made once; a restarted server finds it in its state.

use std::collections::BTreeMap;

use super::catalogue::{Catalogue, SET_UP, fixed_id};
use super::config::CloudstackConfig;
use super::entities::{Attachment, Inventory, Nic, Vm, VmState, Volume, VolumeState, VolumeType};
use super::rules::GIB_BYTES;

/// Size of the worker's own root disk; it has a row and no file, for nobody reads it.
const ROOT_GIB: u64 = 16;
/// Host number of the worker in the isolated network.
const HOST_NUMBER: u32 = 10;

/// Makes the worker VM unless it is there. Returns its id.
pub(crate) fn ensure_oma_vm(config: &CloudstackConfig, catalogue: &Catalogue, inventory: &mut Inventory) -> String {
    let oma = &config.oma_vm;
    let id = oma.id.clone().unwrap_or_else(|| fixed_id("vm", &oma.name));
    if inventory.vm(&id).is_some() {
        return id;
    }
    let account_id = catalogue.account_named(&oma.account).map(|account| account.id.clone()).unwrap_or_default();
    let offering = catalogue.service_offerings.first();
    let template = catalogue.templates.first();
    let network = catalogue.networks.first();
    let (cpu_number, cpu_speed_mhz, memory_mib) = offering.and_then(|offering| offering.shape).unwrap_or((1, 500, 512));
    inventory.instances_made += 1;
    inventory.vms.push(Vm {
        id: id.clone(),
        name: oma.name.clone(),
        display_name: oma.name.clone(),
        instance_name: format!("i-2-{}-VM", inventory.instances_made),
        account_id: account_id.clone(),
        state: VmState::Running,
        service_offering_id: offering.map(|offering| offering.id.clone()).unwrap_or_default(),
        template_id: template.map(|template| template.id.clone()).unwrap_or_default(),
        os_type_id: template.map(|template| template.os_type_id.clone()).unwrap_or_default(),
        ha_enabled: false,
        details: BTreeMap::new(),
        cpu_number,
        cpu_speed_mhz,
        memory_mib,
        nics: vec![Nic {
            id: fixed_id("nic", &id),
            network_id: network.map(|network| network.id.clone()).unwrap_or_default(),
            mac: oma.mac.clone(),
            ip_address: network
                .and_then(|network| network.prefix.as_ref())
                .map(|prefix| format!("{prefix}.{HOST_NUMBER}")),
            device_id: 0,
            is_default: true,
        }],
        created: SET_UP,
        last_updated: SET_UP,
        was_started: true,
        tags: BTreeMap::new(),
    });
    inventory.volumes.push(root_volume(&id, account_id, catalogue));
    id
}

fn root_volume(vm_id: &str, account_id: String, catalogue: &Catalogue) -> Volume {
    let id = fixed_id("volume", vm_id);
    Volume {
        name: "ROOT-1".to_owned(),
        account_id,
        volume_type: VolumeType::Root,
        state: VolumeState::Ready,
        size_bytes: ROOT_GIB * GIB_BYTES,
        disk_offering_id: None,
        service_offering_id: catalogue.service_offerings.first().map(|offering| offering.id.clone()),
        template_id: catalogue.templates.first().map(|template| template.id.clone()),
        volume_snapshot_id: None,
        path: Some(id.clone()),
        placed_in: None,
        device_size_bytes: None,
        attachment: Some(Attachment { vm_id: vm_id.to_owned(), device_id: 0, since: SET_UP }),
        created: SET_UP,
        displayed: true,
        tags: BTreeMap::new(),
        id,
    }
}
