//! What CloudStack shows of a VM whose root is to be changed. Changes nothing.

use cloudstack::{VirtualMachine, VmState, Volume, VolumeKind, VolumeQuery};

use super::refusal::Refusal;
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;
use crate::own_vm::own_vm_id;

/// A VM and its root.
#[derive(Debug)]
pub(super) struct VmRoot {
    pub(super) vm: VirtualMachine,
    pub(super) root: Option<Volume>,
}

/// A stopped VM that is not the hub's own, and its root. Two lists must agree on whether it has one.
pub(super) async fn of_stopped_vm(daemon: &Daemon, cloud: &Cloud, vm_id: &str) -> Result<VmRoot, VolumeDaemonError> {
    if own_vm_id(daemon, cloud).await? == vm_id {
        return Err(Refusal::OwnVm { vm_id: vm_id.to_owned() }.into());
    }
    let found = cloud.client().find_virtual_machine(vm_id).await?;
    let invisible = || Refusal::VmNotVisible { vm_id: vm_id.to_owned(), target: cloud.config.name.clone() };
    let vm = found.ok_or_else(invisible)?;
    if vm.state != VmState::Stopped {
        return Err(Refusal::VmNotStopped { vm_id: vm.id, state: vm.state }.into());
    }
    let query = VolumeQuery { virtual_machine_id: Some(vm_id.to_owned()), ..VolumeQuery::default() };
    let volumes = cloud.client().list_volumes(&query).await?;
    let root = volumes.into_iter().find(|volume| is_root_of(volume, vm_id));
    if root.is_some() != vm.root_device_id.is_some() {
        return Err(Refusal::RootUnclear { vm_id: vm.id }.into());
    }
    Ok(VmRoot { vm, root })
}

fn is_root_of(volume: &Volume, vm_id: &str) -> bool {
    volume.virtual_machine_id.as_deref() == Some(vm_id)
        && (volume.kind == VolumeKind::Root || volume.device_id == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_told_by_kind_or_device() {
        for (text, expected) in [
            (r#"{"id":"v","type":"ROOT","deviceid":0,"virtualmachineid":"m"}"#, true),
            (r#"{"id":"v","type":"ROOT","virtualmachineid":"m"}"#, true),
            (r#"{"id":"v","type":"DATADISK","deviceid":0,"virtualmachineid":"m"}"#, true),
            (r#"{"id":"v","type":"DATADISK","deviceid":1,"virtualmachineid":"m"}"#, false),
            (r#"{"id":"v","type":"ROOT","deviceid":0,"virtualmachineid":"other"}"#, false),
            (r#"{"id":"v","type":"ROOT"}"#, false),
        ] {
            assert_eq!(is_root_of(&serde_json::from_str(text).unwrap(), "m"), expected, "{text}");
        }
    }
}
