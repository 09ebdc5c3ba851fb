//! The questions: all VMs, or one by reference, by path or by uuid.

use std::collections::BTreeSet;

use super::VirtualMachine;
use super::machine::{Draft, VM_PATHS};
use super::names::Names;
use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::properties::{Among, ObjectContent, Wanted, retrieve};
use crate::session::VimSession;
use crate::soap::Request;

/// Most VMs taken from one server; vCenter's own limit is 40,000.
const MAX_VMS: usize = 100_000;

impl VimSession {
    /// Every VM and template the user may see, in no particular order.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn virtual_machines(&self) -> Result<Vec<VirtualMachine>, VsphereError> {
        let drafts = match self.drafts().await {
            // A new session does not know the view of the old one: start over, once.
            Err(VsphereError::SessionExpired { .. }) => self.drafts().await?,
            other => other?,
        };
        self.resolve(drafts).await
    }

    /// One VM by its reference.
    ///
    /// # Errors
    /// `VmNotFound` when there is none.
    pub async fn virtual_machine(&self, vm: &MoRef) -> Result<VirtualMachine, VsphereError> {
        let missing = || VsphereError::VmNotFound { what: vm.id().to_owned() };
        if vm.kind() != "VirtualMachine" {
            return Err(missing());
        }
        let mut drafts = Vec::new();
        let wanted = Wanted { kind: "VirtualMachine", paths: VM_PATHS };
        let among = Among::Objects(std::slice::from_ref(vm));
        let asked = retrieve(self, wanted, among, |content| drafts.push(Draft::read(&content))).await;
        match asked {
            Err(error) if error.is_fault("ManagedObjectNotFound") => return Err(missing()),
            other => other?,
        }
        self.resolve(drafts).await?.pop().ok_or_else(missing)
    }

    /// One VM by its inventory path `/Datacenter/vm/folder/name`; a `/` within a name is `%2f`.
    ///
    /// # Errors
    /// `VmNotFound` when there is none.
    pub async fn virtual_machine_by_path(&self, path: &str) -> Result<VirtualMachine, VsphereError> {
        let request = Request::new("FindByInventoryPath", &self.service().search_index)
            .text("inventoryPath", path.trim_matches('/'));
        self.found(request, path).await
    }

    /// One VM by its instance uuid, the only key that survives a move to another server.
    ///
    /// # Errors
    /// `VmNotFound` when there is none.
    pub async fn virtual_machine_by_instance_uuid(&self, uuid: &str) -> Result<VirtualMachine, VsphereError> {
        let request = Request::new("FindByUuid", &self.service().search_index)
            .text("uuid", uuid)
            .flag("vmSearch", true)
            .flag("instanceUuid", true);
        self.found(request, uuid).await
    }

    /// One VM by its BIOS uuid, which is what a guest sees of itself (`/sys/class/dmi/id`). Copies of a VM may share it.
    ///
    /// # Errors
    /// `VmNotFound` when there is none.
    pub async fn virtual_machine_by_bios_uuid(&self, uuid: &str) -> Result<VirtualMachine, VsphereError> {
        let request = Request::new("FindByUuid", &self.service().search_index)
            .text("uuid", uuid)
            .flag("vmSearch", true)
            .flag("instanceUuid", false);
        self.found(request, uuid).await
    }

    async fn found(&self, request: Request, what: &str) -> Result<VirtualMachine, VsphereError> {
        let response = self.call(request).await?;
        match response.reference_of("returnval").filter(|moref| moref.kind() == "VirtualMachine") {
            Some(vm) => self.virtual_machine(&vm).await,
            None => Err(VsphereError::VmNotFound { what: what.to_owned() }),
        }
    }

    async fn drafts(&self) -> Result<Vec<Draft>, VsphereError> {
        let view = self.create_view().await?;
        let mut drafts = Vec::new();
        let mut is_complete = true;
        let take = |content: ObjectContent| {
            if drafts.len() < MAX_VMS {
                drafts.push(Draft::read(&content));
            } else {
                is_complete = false;
            }
        };
        let wanted = Wanted { kind: "VirtualMachine", paths: VM_PATHS };
        let asked = retrieve(self, wanted, Among::View(&view), take).await;
        if !matches!(asked, Err(VsphereError::SessionExpired { .. })) {
            let destroyed = self.call(Request::new("DestroyView", &view).once_only()).await;
            if let Err(error) = destroyed {
                tracing::debug!(%error, "the container view stays until the session ends");
            }
        }
        asked?;
        if is_complete {
            Ok(drafts)
        } else {
            Err(VsphereError::unexpected("RetrievePropertiesEx", "there are too many VMs"))
        }
    }

    async fn create_view(&self) -> Result<MoRef, VsphereError> {
        let service = self.service();
        let request = Request::new("CreateContainerView", &service.view_manager)
            .reference("container", &service.root_folder)
            .text("type", "VirtualMachine")
            .flag("recursive", true);
        let response = self.call(request).await?;
        response
            .reference_of("returnval")
            .ok_or_else(|| VsphereError::unexpected("CreateContainerView", "it does not name the view"))
    }

    async fn resolve(&self, drafts: Vec<Draft>) -> Result<Vec<VirtualMachine>, VsphereError> {
        let mut references = BTreeSet::new();
        drafts.iter().for_each(|draft| draft.references(&mut references));
        let names = Names::gather(self, references).await?;
        Ok(drafts.into_iter().map(|draft| draft.resolve(&names)).collect())
    }
}
