//! Adding VMs from the last scan: their rows are written at once, with their disks, before any job exists.

use api::Problem;
use api::oma::discovery::{AddRequest, AddResult, AddedVm, RefusedVm};
use api::vma::{Inventory, SourceVm};
use model::FailureKind;
use store::vm_replication_contexts::Assignment;

use super::convert::discovered_vm;
use super::scan::recent;
use crate::error::OmaError;
use crate::state::OmaState;

/// Most VMs in one request.
const MAX_VMS: usize = 1000;

/// Adds or refreshes VMs; each one that cannot be added is refused with its reason, the others are added.
///
/// # Errors
/// Nothing could be looked at, or the target does not exist.
pub async fn add(state: &OmaState, request: &AddRequest) -> Result<AddResult, OmaError> {
    if request.vms.is_empty() || request.vms.len() > MAX_VMS {
        let reason = format!("must name 1 to {MAX_VMS} VMs");
        return Err(OmaError::Invalid { what: "vms", reason });
    }
    let ossea_config_id = match &request.ossea_config_id {
        Some(target) => Some(store::ossea_configs::find(state.store(), target).await?.id),
        None => None,
    };
    let scan = recent(state, request.credential_id.as_deref(), request.enrollment_id.as_deref()).await?;
    let assignment = Assignment {
        credential_id: Some(scan.credential_id.clone()),
        enrollment_id: Some(scan.enrollment_id.clone()),
        ossea_config_id,
    };
    let mut result = AddResult { added: Vec::new(), refused: Vec::new() };
    for wanted in &request.vms {
        let outcome = match the_one(&scan.inventory, wanted) {
            Ok(vm) => write(state, vm, &scan.vcenter_host, &assignment).await,
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(added) => result.added.push(added),
            Err(problem) => result.refused.push(RefusedVm { vm: wanted.clone(), problem }),
        }
    }
    Ok(result)
}

async fn write(state: &OmaState, vm: &SourceVm, host: &str, assignment: &Assignment) -> Result<AddedVm, Problem> {
    let upserted = store::discovery::upsert(state.store(), &discovered_vm(vm, host), assignment)
        .await
        .map_err(|error| OmaError::from(error).into_problem())?;
    for disk in &upserted.removed_disks {
        tracing::warn!(vm = vm.name, disk = disk.disk_id, volume = ?disk.volume_uuid, "the VM has this disk no more");
    }
    Ok(AddedVm { context_id: upserted.context_id, vm_name: vm.name.clone(), created: upserted.created })
}

/// The VM of that managed object id, inventory path or unique name.
fn the_one<'a>(inventory: &'a Inventory, wanted: &str) -> Result<&'a SourceVm, Problem> {
    let path = format!("/{}", wanted.trim_matches('/'));
    if let Some(vm) = inventory.vms.iter().find(|vm| vm.moref == wanted || vm.path == path) {
        return Ok(vm);
    }
    let named: Vec<&SourceVm> = inventory.vms.iter().filter(|vm| vm.name == wanted).collect();
    match named.as_slice() {
        [vm] => Ok(vm),
        [] => {
            Err(Problem::new(FailureKind::NotFound, format!("there is no VM {wanted:?} in {}", inventory.vcenter_name))
                .remedy("see `migratekit vm discover`; names are compared exactly"))
        }
        several => {
            let paths: Vec<&str> = several.iter().map(|vm| vm.path.as_str()).collect();
            Err(Problem::new(FailureKind::Invalid, format!("{} VMs are called {wanted:?}", several.len()))
                .evidence(paths.join(", "))
                .remedy("name one by its inventory path"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::convert::tests::source_vm;

    #[test]
    fn a_vm_is_found_by_id_path_or_unique_name() {
        let vm = |moref: &str, name: &str, path: &str| SourceVm {
            moref: moref.into(),
            name: name.into(),
            path: path.into(),
            ..source_vm()
        };
        let inventory = Inventory {
            vcenter_name: "vc".into(),
            api_version: "6.5".into(),
            vms: vec![
                vm("vm-1", "web", "/DC0/vm/a/web"),
                vm("vm-2", "web", "/DC0/vm/b/web"),
                vm("vm-3", "db", "/DC0/vm/db"),
            ],
        };
        for (wanted, expected) in [
            ("vm-2", Ok("vm-2")),
            ("DC0/vm/a/web", Ok("vm-1")),
            ("/DC0/vm/b/web/", Ok("vm-2")),
            ("db", Ok("vm-3")),
            ("web", Err(FailureKind::Invalid)),
            ("d", Err(FailureKind::NotFound)),
        ] {
            let found = the_one(&inventory, wanted).map(|vm| vm.moref.as_str()).map_err(|problem| problem.kind);
            assert_eq!(found, expected, "{wanted}");
        }
    }
}
