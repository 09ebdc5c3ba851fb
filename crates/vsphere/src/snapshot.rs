//! vm_snapshots: take, remove, list, and read the disks as they were frozen.
//!
//! No policy: whether to quiesce, when to fall back and what to remove is decided above.

use crate::error::VsphereError;
use crate::inventory::{VirtualDisk, VmSnapshot, escaped_name, read_disks, snapshot_tree};
use crate::moref::MoRef;
use crate::properties::retrieve_one;
use crate::session::VimSession;
use crate::soap::Request;
use crate::task::Task;

/// A vm_snapshot to take. Memory is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSnapshotSpec {
    /// Name, by which it is found again.
    pub name: String,
    /// Description, for people.
    pub description: String,
    /// Whether the guest's file systems are quiesced. Without running VMware Tools the server ignores this and says so
    /// in [`VmSnapshot::is_quiesced`]; when the guest fails to, the task ends in a fault of which
    /// [`crate::Fault::is_quiesce_failure`] is true.
    pub quiesce: bool,
}

impl VimSession {
    /// Starts taking a vm_snapshot (`CreateSnapshot_Task`, which every version from 6.5 on has).
    ///
    /// # Errors
    /// `SessionExpired` when the session had ended: look whether it was taken before repeating.
    pub async fn start_vm_snapshot(&self, vm: &MoRef, spec: &VmSnapshotSpec) -> Result<Task, VsphereError> {
        const METHOD: &str = "CreateSnapshot_Task";
        Task::from_response(METHOD, &self.call(create_request(METHOD, vm, spec)).await?)
    }

    /// Takes a vm_snapshot and waits for it.
    ///
    /// # Errors
    /// As [`Self::start_vm_snapshot`] and [`Self::wait_for_task`].
    pub async fn create_vm_snapshot(&self, vm: &MoRef, spec: &VmSnapshotSpec) -> Result<MoRef, VsphereError> {
        let task = self.start_vm_snapshot(vm, spec).await?;
        let outcome = self.wait_for_task(&task, |_| {}).await?;
        outcome.result.ok_or_else(|| VsphereError::unexpected(task.doing, "the task names no vm_snapshot"))
    }

    /// Starts removing one vm_snapshot, consolidating its disks; its children stay.
    ///
    /// # Errors
    /// When the server refuses; a vm_snapshot that is gone is `ManagedObjectNotFound`.
    pub async fn start_vm_snapshot_removal(&self, vm_snapshot: &MoRef) -> Result<Task, VsphereError> {
        const METHOD: &str = "RemoveSnapshot_Task";
        Task::from_response(METHOD, &self.call(remove_request(METHOD, vm_snapshot)).await?)
    }

    /// Removes one vm_snapshot and waits until its disks are consolidated. One that is gone already is fine.
    ///
    /// # Errors
    /// As [`Self::start_vm_snapshot_removal`] and [`Self::wait_for_task`].
    pub async fn remove_vm_snapshot(&self, vm_snapshot: &MoRef) -> Result<(), VsphereError> {
        let removed = match self.start_vm_snapshot_removal(vm_snapshot).await {
            Ok(task) => self.wait_for_task(&task, |_| {}).await.map(drop),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.is_fault("ManagedObjectNotFound") => Ok(()),
            other => other,
        }
    }

    /// Every vm_snapshot of a VM, parents before children.
    ///
    /// # Errors
    /// When the server refuses or the VM is gone.
    pub async fn vm_snapshots(&self, vm: &MoRef) -> Result<Vec<VmSnapshot>, VsphereError> {
        let content = retrieve_one(self, vm, &["snapshot"]).await?;
        Ok(content.get("snapshot").map(snapshot_tree).unwrap_or_default())
    }

    /// The vm_snapshots of a VM whose name starts with `prefix`.
    ///
    /// # Errors
    /// As [`Self::vm_snapshots`].
    pub async fn vm_snapshots_named(&self, vm: &MoRef, prefix: &str) -> Result<Vec<VmSnapshot>, VsphereError> {
        let mut list = self.vm_snapshots(vm).await?;
        list.retain(|vm_snapshot| vm_snapshot.name.starts_with(prefix));
        Ok(list)
    }

    /// The disks as a vm_snapshot froze them: their paths are the links that nobody writes any more, and their change
    /// ids are those to store. Independent disks are not among them.
    ///
    /// # Errors
    /// When the server refuses or the vm_snapshot is gone.
    pub async fn vm_snapshot_disks(&self, vm_snapshot: &MoRef) -> Result<Vec<VirtualDisk>, VsphereError> {
        let paths = ["config.hardware.device", "config.extraConfig"];
        let content = retrieve_one(self, vm_snapshot, &paths).await?;
        Ok(read_disks(content.items(paths[0]), content.items(paths[1]), &[]))
    }

    /// Starts consolidating disks that still depend on removed vm_snapshots (`ConsolidateVMDisks_Task`).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn start_consolidation(&self, vm: &MoRef) -> Result<Task, VsphereError> {
        const METHOD: &str = "ConsolidateVMDisks_Task";
        Task::from_response(METHOD, &self.call(Request::new(METHOD, vm)).await?)
    }
}

fn create_request(method: &'static str, vm: &MoRef, spec: &VmSnapshotSpec) -> Request {
    Request::new(method, vm)
        .text("name", &escaped_name(&spec.name))
        .text("description", &spec.description)
        .flag("memory", false)
        .flag("quiesce", spec.quiesce)
        .once_only()
}

fn remove_request(method: &'static str, vm_snapshot: &MoRef) -> Request {
    Request::new(method, vm_snapshot).flag("removeChildren", false).flag("consolidate", true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soap::parse;

    fn order(request: &Request) -> Vec<String> {
        let envelope = parse(request.envelope().as_bytes()).unwrap();
        envelope.children[0].children[0].children.iter().map(|child| child.name.clone()).collect()
    }

    #[test]
    fn requests_follow_the_wsdl_and_only_the_harmless_one_is_repeatable() {
        let spec =
            VmSnapshotSpec { name: "migratekit-50% a/b".to_owned(), description: "<x>".to_owned(), quiesce: true };
        let create = create_request("CreateSnapshot_Task", &MoRef::vm("vm-1"), &spec);
        assert_eq!(order(&create), ["_this", "name", "description", "memory", "quiesce"]);
        assert!(create.envelope().contains("<name>migratekit-50%25 a%2fb</name><description>&lt;x&gt;</description>"));
        let remove = remove_request("RemoveSnapshot_Task", &MoRef::vm_snapshot("snapshot-1"));
        assert_eq!(order(&remove), ["_this", "removeChildren", "consolidate"]);
        assert_eq!((create.is_repeatable(), remove.is_repeatable()), (false, true));
    }
}
