//! Opens a frozen disk on its datastore: the flat file where that is all of it, else the link with its parents.

use std::collections::HashMap;

use api::vma::RunDisk;
use mover::reader::{ChainReader, FolderReader, ReadBudget, Source};
use parking_lot::Mutex;
use vsphere::{FolderAccess, FolderDisk, VirtualDisk, VsphereError};

use super::cycle::FrozenVm;
use super::run::Run;
use crate::error::VmaError;

/// What this agent may have under way from each ESXi host, by the host's name.
#[derive(Default)]
pub(crate) struct Budgets(Mutex<HashMap<String, ReadBudget>>);

impl Budgets {
    fn of_host(&self, host: &str) -> ReadBudget {
        self.0.lock().entry(host.to_owned()).or_default().clone()
    }
}

pub(super) async fn open(
    run: &Run,
    frozen: &FrozenVm<'_>,
    disk: &VirtualDisk,
    wanted: &RunDisk,
) -> Result<Source, VmaError> {
    let host = frozen.vm.host.as_ref().map(|host| host.name.clone()).unwrap_or_default();
    let surroundings = run.surroundings();
    let budget = surroundings.budgets.of_host(&host);
    let is_direct = surroundings.config.folder.host_direct && frozen.session.about().is_vcenter() && !host.is_empty();
    let access = if is_direct { FolderAccess::HostDirect { host } } else { FolderAccess::ViaServer };
    let datacenter_path = frozen.vm.datacenter_path.clone();
    let spec = FolderDisk {
        datacenter_path: datacenter_path.clone(),
        vmdk_path: disk.vmdk_path.clone(),
        capacity_bytes: disk.capacity_bytes,
        access: access.clone(),
    };
    match frozen.session.open_folder_disk(&spec).await {
        Ok(file) => Ok(Source::remote(FolderReader::new(file, budget))),
        // A delta, or several extents: what its parents have has to be found.
        Err(VsphereError::UnsupportedDisk { reason, .. }) => {
            tracing::info!(vmdk_path = disk.vmdk_path, reason, "reading the disk with its parents");
            let store = frozen.session.folder_store(&datacenter_path, &access);
            let chain = ChainReader::open(store, &disk.vmdk_path, disk.capacity_bytes, budget).await;
            let chain = chain.map_err(|source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source })?;
            Ok(Source::remote(chain))
        }
        Err(source) => Err(VmaError::Vsphere { doing: "opening the disk on its datastore", source }),
    }
}
