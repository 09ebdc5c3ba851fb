//! Which VM this machine is: told by the target's row, else found by the MAC addresses of the network cards.

use std::io;
use std::path::Path;

use store::ossea_configs;

use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;

/// The MAC of a card without one (the loopback).
const NO_MAC: &str = "00:00:00:00:00:00";

/// The id of the VM the hub runs in; what is found by MAC is stored.
pub(crate) async fn own_vm_id(daemon: &Daemon, cloud: &Cloud) -> Result<String, VolumeDaemonError> {
    if let Some(id) = &cloud.config.oma_vm_id {
        return Ok(id.clone());
    }
    let directory = &daemon.config.interfaces_dir;
    let macs =
        mac_addresses(directory).map_err(|source| VolumeDaemonError::Folder { path: directory.clone(), source })?;
    let vm = cloud.client().find_vm_by_mac(&macs).await?;
    let vm = vm.ok_or_else(|| VolumeDaemonError::OwnVmUnknown { target: cloud.config.name.clone() })?;
    tracing::info!(target = cloud.config.name, vm_id = vm.id, "found the hub's own VM by its network card");
    ossea_configs::set_found(&daemon.store, &cloud.config.id, Some(&vm.id), None).await?;
    Ok(vm.id)
}

/// Refuses a target whose account does not see the hub's own VM: what is made there could never be attached here.
pub(crate) async fn require_own_vm(daemon: &Daemon, cloud: &Cloud) -> Result<(), VolumeDaemonError> {
    let vm_id = own_vm_id(daemon, cloud).await?;
    match cloud.client().find_virtual_machine(&vm_id).await? {
        Some(_) => Ok(()),
        None => Err(VolumeDaemonError::OwnVmNotVisible { vm_id, target: cloud.config.name.clone() }),
    }
}

fn mac_addresses(directory: &Path) -> io::Result<Vec<String>> {
    let mut macs = Vec::new();
    for card in std::fs::read_dir(directory)? {
        // A card may go away meanwhile, and some (bonding_masters) are files.
        let Ok(text) = std::fs::read_to_string(card?.path().join("address")) else { continue };
        let mac = text.trim();
        if !mac.is_empty() && mac != NO_MAC {
            macs.push(mac.to_owned());
        }
    }
    Ok(macs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_with_an_address_counts() {
        let directory = tempfile::tempdir().unwrap();
        for (name, address) in [("lo", "00:00:00:00:00:00\n"), ("ens3", "02:00:5e:10:00:01\n")] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            std::fs::write(directory.path().join(name).join("address"), address).unwrap();
        }
        std::fs::write(directory.path().join("bonding_masters"), "").unwrap();
        assert_eq!(mac_addresses(directory.path()).unwrap(), ["02:00:5e:10:00:01"]);
    }
}
