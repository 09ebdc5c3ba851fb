//! Which datastores a host has, and of what type they are. No policy: what a type is good for is decided above.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::VsphereError;
use crate::inventory::plain_name;
use crate::moref::MoRef;
use crate::properties::{Among, Wanted, retrieve, retrieve_one};
use crate::session::VimSession;
use crate::soap::Element;

/// A datastore as a host has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Datastore {
    /// Name, as in `[name] folder/file.vmdk`.
    pub name: String,
    /// `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL`, …
    pub kind: String,
}

impl VimSession {
    /// The accessible datastores of a host.
    ///
    /// # Errors
    /// When the server refuses, or the host is gone.
    pub async fn host_datastores(&self, host: &MoRef) -> Result<BTreeSet<Datastore>, VsphereError> {
        let content = retrieve_one(self, host, &["datastore"]).await?;
        let references: Vec<MoRef> = content.items("datastore").iter().filter_map(Element::reference).collect();
        let mut found = BTreeSet::new();
        if references.is_empty() {
            return Ok(found);
        }
        let wanted = Wanted { kind: "Datastore", paths: &["name", "summary.type", "summary.accessible"] };
        retrieve(self, wanted, Among::Objects(&references), |datastore| {
            let text = |path: &str| datastore.text(path).unwrap_or_default().trim().to_owned();
            if datastore.flag("summary.accessible").unwrap_or(true) {
                found.insert(Datastore { name: plain_name(&text("name")), kind: text("summary.type") });
            }
        })
        .await?;
        Ok(found)
    }
}
