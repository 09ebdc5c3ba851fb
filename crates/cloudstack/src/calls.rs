//! Calls described without being sent, for whoever shows beforehand what will be done: command and parameters, made by
//! the very functions that make what is sent. Describing needs no client and no right to change volumes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::params::Params;
use crate::tags::{self, TaggedKind};
use crate::vms::{self, NewVirtualMachine, VmDestruction};
use crate::volume_snapshots::{self, NewVolumeSnapshot};
use crate::volumes;

/// One call: what would be sent, without key, time and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiCall {
    /// The command, as CloudStack spells it.
    pub command: &'static str,
    /// Names and values, by name.
    pub params: Vec<(String, String)>,
}

impl From<Params> for ApiCall {
    fn from(params: Params) -> Self {
        let pairs = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { command: params.command(), params: pairs.collect() }
    }
}

/// `deployVirtualMachine`.
#[must_use]
pub fn deploy(new: &NewVirtualMachine) -> ApiCall {
    vms::deployment(new).into()
}

/// `startVirtualMachine`.
#[must_use]
pub fn start(vm_id: &str) -> ApiCall {
    vms::starting(vm_id).into()
}

/// `stopVirtualMachine`.
#[must_use]
pub fn stop(vm_id: &str, forced: bool) -> ApiCall {
    vms::stopping(vm_id, forced).into()
}

/// `destroyVirtualMachine`.
#[must_use]
pub fn destroy(vm_id: &str, how: &VmDestruction) -> ApiCall {
    vms::destruction(vm_id, how).into()
}

/// `createTags` on one resource.
#[must_use]
pub fn create_tags(kind: TaggedKind, resource_id: &str, tags: &BTreeMap<String, String>) -> ApiCall {
    tags::change("createTags", kind, resource_id, tags).into()
}

/// `attachVolume`; device id 0 makes it the VM's root.
#[must_use]
pub fn attach_volume(volume_id: &str, vm_id: &str, device_id: Option<u32>) -> ApiCall {
    volumes::attachment(volume_id, vm_id, device_id).into()
}

/// `detachVolume`.
#[must_use]
pub fn detach_volume(volume_id: &str) -> ApiCall {
    volumes::detachment(volume_id).into()
}

/// `deleteVolume`.
#[must_use]
pub fn delete_volume(volume_id: &str) -> ApiCall {
    volumes::deletion(volume_id).into()
}

/// `createSnapshot`.
#[must_use]
pub fn create_volume_snapshot(new: &NewVolumeSnapshot) -> ApiCall {
    volume_snapshots::creation(new).into()
}

/// `revertSnapshot`.
#[must_use]
pub fn revert_volume_snapshot(snapshot_id: &str) -> ApiCall {
    volume_snapshots::reversion(snapshot_id).into()
}

/// `deleteSnapshot`.
#[must_use]
pub fn delete_volume_snapshot(snapshot_id: &str) -> ApiCall {
    volume_snapshots::deletion(snapshot_id).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_the_command_and_every_parameter() {
        let call = attach_volume("v", "m", Some(0));
        let params = [("deviceid", "0"), ("id", "v"), ("virtualmachineid", "m")];
        let expected = params.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(call, ApiCall { command: "attachVolume", params: expected });
        let destroyed = destroy("m", &VmDestruction { expunge: true, volume_ids: vec![] });
        assert_eq!(destroyed.params, [("expunge".to_owned(), "true".to_owned()), ("id".to_owned(), "m".to_owned())]);
        assert_eq!(stop("m", false).params[0], ("forced".to_owned(), "false".to_owned()));
    }
}
