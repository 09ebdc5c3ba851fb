//! VM snapshots: only listed, because while a VM has one, nothing can be attached to it or detached from it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// A snapshot of a whole VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSnapshot {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Internal name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// Name people gave it.
    #[serde(alias = "displayname", default, deserialize_with = "wire::text")]
    pub display_name: Option<String>,
    /// `Ready`, `Creating`, `Error`, …
    #[serde(default, deserialize_with = "wire::text")]
    pub state: Option<String>,
    /// `Disk` or `DiskAndMemory`.
    #[serde(alias = "type", default, deserialize_with = "wire::text")]
    pub snapshot_type: Option<String>,
    /// The VM.
    #[serde(alias = "virtualmachineid", default, deserialize_with = "wire::text")]
    pub virtual_machine_id: Option<String>,
    /// Whether the VM descends from it.
    #[serde(default, deserialize_with = "wire::truth")]
    pub current: bool,
    /// When it was taken.
    #[serde(default, deserialize_with = "wire::moment", serialize_with = "time::serde::rfc3339::option::serialize")]
    pub created: Option<OffsetDateTime>,
}

impl Listed for VmSnapshot {
    // `vmSnapshot` in this list, `vmsnapshot` in job results.
    const OBJECT: &'static str = "vmSnapshot";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Client {
    /// The snapshots of a VM (`listVMSnapshot`).
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_vm_snapshots(&self, virtual_machine_id: &str) -> Result<Vec<VmSnapshot>, CloudstackError> {
        let params = Params::new("listVMSnapshot").set("listall", true).set("virtualmachineid", virtual_machine_id);
        self.list(params).await
    }
}
