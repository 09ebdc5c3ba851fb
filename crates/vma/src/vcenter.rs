//! Sessions with vCenter: opened with what the hub sends, never kept longer than the work they are for.

use api::vma::{Inventory, SourceVm, VcenterConnection};
use model::id::VM_SNAPSHOT_PREFIX;
use vsphere::{ConnectionSpec, MoRef, Trust, VimSession};

use crate::describe::source_vm;
use crate::error::VmaError;
use crate::hotadd::HotAdd;
use crate::readers;
use crate::runs::Runs;

/// Opens a session.
///
/// # Errors
/// The server cannot be reached, is not trusted, or refuses the log-in.
pub async fn connect(connection: &VcenterConnection) -> Result<VimSession, VmaError> {
    let trust = match (&connection.thumbprint, &connection.ca_pem) {
        (Some(thumbprint), _) => Trust::Thumbprint(thumbprint.clone()),
        (None, Some(pem)) => Trust::CaPem(pem.clone().into_bytes()),
        (None, None) => Trust::SystemRoots,
    };
    let spec = ConnectionSpec {
        url: connection.url.clone(),
        username: connection.username.clone(),
        password: connection.password.clone(),
        trust,
    };
    VimSession::connect(spec).await.map_err(VmaError::vsphere("logging in to vCenter"))
}

/// Ends a session; one that cannot be ended expires by itself.
pub async fn disconnect(session: &VimSession) {
    if let Err(error) = session.log_out().await {
        tracing::debug!(error = &error as &dyn std::error::Error, "could not log out of vCenter");
    }
}

/// Everything there is, as the hub is told of it.
///
/// # Errors
/// As [`connect`], or vCenter refuses to tell.
pub async fn inventory(connection: &VcenterConnection, filter: Option<&str>) -> Result<Inventory, VmaError> {
    let session = connect(connection).await?;
    let vms = session.virtual_machines().await.map_err(VmaError::vsphere("reading the inventory"));
    disconnect(&session).await;
    let wanted = filter.unwrap_or_default().to_lowercase();
    let mut vms: Vec<SourceVm> = vms?.into_iter().map(source_vm).collect();
    vms.retain(|vm| vm.path.to_lowercase().contains(&wanted));
    vms.sort_by(|a, b| a.path.cmp(&b.path));
    let about = session.about();
    Ok(Inventory { vcenter_name: about.full_name.clone(), api_version: about.api_version.clone(), vms })
}

/// One VM, fresh, with how its disks could be read.
///
/// # Errors
/// As [`connect`], or there is no such VM.
pub async fn vm(connection: &VcenterConnection, moref: &str, runs: &Runs) -> Result<SourceVm, VmaError> {
    let session = connect(connection).await?;
    let reading = async {
        let vm = session.virtual_machine(&MoRef::vm(moref)).await.map_err(VmaError::vsphere("reading the VM"))?;
        let readers = readers::facts(&session, &vm, runs.hotadd(), runs.nbd_commands()).await;
        Ok(SourceVm { readers: Some(readers), ..source_vm(vm) })
    };
    let vm = reading.await;
    disconnect(&session).await;
    vm
}

/// Removes every vm_snapshot of ours on a VM and says which; before that, disks that were left added from them.
///
/// # Errors
/// As [`connect`], or one cannot be removed.
pub async fn remove_our_vm_snapshots(
    connection: &VcenterConnection,
    moref: &str,
    hotadd: &HotAdd,
) -> Result<Vec<String>, VmaError> {
    let session = connect(connection).await?;
    let vm = MoRef::vm(moref);
    let removing = async {
        hotadd.sweep(&session, &vm).await?;
        sweep(&session, &vm, |name| name.starts_with(VM_SNAPSHOT_PREFIX)).await
    };
    let removed = removing.await;
    disconnect(&session).await;
    removed
}

/// Removes the vm_snapshots of a VM whose names are `ours`, in an open session, and says which.
pub(crate) async fn sweep(
    session: &VimSession,
    vm: &MoRef,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, VmaError> {
    let listing = session.vm_snapshots_named(vm, VM_SNAPSHOT_PREFIX).await;
    let mut found = listing.map_err(VmaError::vsphere("listing the VM's vm_snapshots"))?;
    found.retain(|vm_snapshot| ours(&vm_snapshot.name));
    let mut removed = Vec::with_capacity(found.len());
    // The youngest first: removing a parent moves its children, not the other way round.
    for vm_snapshot in found.into_iter().rev() {
        let removal = session.remove_vm_snapshot(&vm_snapshot.moref).await;
        removal.map_err(VmaError::vsphere("removing a vm_snapshot that was left"))?;
        tracing::info!(vm_snapshot = vm_snapshot.name, "removed a vm_snapshot that was left");
        removed.push(vm_snapshot.name);
    }
    Ok(removed)
}
