//! Resource tags: how we mark what is ours where ids cannot be chosen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::async_job::JobHandle;
use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// What a tag hangs on (`resourcetype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
pub enum TaggedKind {
    /// A virtual machine.
    #[strum(serialize = "UserVm")]
    VirtualMachine,
    /// A volume.
    #[strum(serialize = "Volume")]
    Volume,
    /// A volume snapshot.
    #[strum(serialize = "Snapshot")]
    VolumeSnapshot,
    /// A VM snapshot.
    #[strum(serialize = "VMSnapshot")]
    VmSnapshot,
}

/// One tag of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceTag {
    /// Key.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub key: String,
    /// Value.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub value: String,
    /// `UserVm`, `Volume`, …
    #[serde(alias = "resourcetype", default, deserialize_with = "wire::text")]
    pub resource_type: Option<String>,
    /// What it hangs on.
    #[serde(alias = "resourceid", default, deserialize_with = "wire::text")]
    pub resource_id: Option<String>,
}

/// Which tags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagQuery {
    /// On what kind.
    pub kind: Option<TaggedKind>,
    /// On this resource.
    pub resource_id: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// With this value.
    pub value: Option<String>,
}

impl Listed for ResourceTag {
    const OBJECT: &'static str = "tag";

    fn identity(&self) -> String {
        format!("{}/{}", self.resource_id.as_deref().unwrap_or_default(), self.key)
    }
}

impl Client {
    /// `listTags`: also the way to find everything that carries a tag.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_tags(&self, query: &TagQuery) -> Result<Vec<ResourceTag>, CloudstackError> {
        let kind: Option<&'static str> = query.kind.map(Into::into);
        let params = Params::new("listTags")
            .set("listall", true)
            .maybe("resourcetype", kind)
            .maybe("resourceid", query.resource_id.as_ref())
            .maybe("key", query.key.as_ref())
            .maybe("value", query.value.as_ref());
        self.list(params).await
    }

    /// `createTags` on one resource. The server refuses a key the resource has already.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn create_tags(
        &self,
        kind: TaggedKind,
        resource_id: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<JobHandle, CloudstackError> {
        self.submit(&change("createTags", kind, resource_id, tags)).await
    }

    /// `deleteTags` of one resource; only those whose key and value both match.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn delete_tags(
        &self,
        kind: TaggedKind,
        resource_id: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<JobHandle, CloudstackError> {
        self.submit(&change("deleteTags", kind, resource_id, tags)).await
    }
}

pub(crate) fn change(
    command: &'static str,
    kind: TaggedKind,
    resource_id: &str,
    tags: &BTreeMap<String, String>,
) -> Params {
    let kind: &'static str = kind.into();
    Params::new(command).set("resourceids", resource_id).set("resourcetype", kind).tags(tags)
}
