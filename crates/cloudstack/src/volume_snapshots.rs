//! Volume snapshots: taken, reverted and deleted by the Volume Daemon only; listed by anybody.

use std::collections::BTreeMap;

use model::FailureKind;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::async_job::JobHandle;
use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::tags::ResourceTag;
use crate::volumes::VolumeOperations;
use crate::wire;

/// State of a volume snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(from = "String", into = "String")]
pub enum VolumeSnapshotState {
    /// Noted, nothing done.
    Allocated,
    /// Being taken.
    Creating,
    /// Taken, on primary storage only.
    CreatedOnPrimary,
    /// Being copied to secondary storage.
    BackingUp,
    /// Usable.
    BackedUp,
    /// Being copied elsewhere.
    Copying,
    /// Being deleted.
    Destroying,
    /// Deleted.
    Destroyed,
    /// Failed.
    Error,
    /// Not told.
    #[default]
    #[strum(serialize = "")]
    Unknown,
    /// A state this version does not know.
    #[strum(default)]
    Other(String),
}

impl VolumeSnapshotState {
    /// Whether the snapshot is on its way out or gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Destroying | Self::Destroyed)
    }

    /// Whether it is still being made.
    #[must_use]
    pub fn is_being_made(&self) -> bool {
        matches!(self, Self::Allocated | Self::Creating | Self::CreatedOnPrimary | Self::BackingUp | Self::Copying)
    }
}

impl From<String> for VolumeSnapshotState {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Other(text))
    }
}

impl From<VolumeSnapshotState> for String {
    fn from(state: VolumeSnapshotState) -> Self {
        state.to_string()
    }
}

/// A snapshot of one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshot {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// Volume.
    #[serde(alias = "volumeid", default, deserialize_with = "wire::text")]
    pub volume_id: Option<String>,
    /// State.
    #[serde(default)]
    pub state: VolumeSnapshotState,
    /// `MANUAL`, or the kind of schedule.
    #[serde(alias = "snapshottype", default, deserialize_with = "wire::text")]
    pub snapshot_type: Option<String>,
    /// Whether the volume can be reverted to it.
    #[serde(default, deserialize_with = "wire::truth")]
    pub revertable: bool,
    /// Size of the volume then, in bytes.
    #[serde(alias = "virtualsize", default, deserialize_with = "wire::count")]
    pub virtual_size_bytes: Option<u64>,
    /// Space it takes, in bytes.
    #[serde(alias = "physicalsize", default, deserialize_with = "wire::count")]
    pub physical_size_bytes: Option<u64>,
    /// Zone.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// When it was taken.
    #[serde(default, deserialize_with = "wire::moment", serialize_with = "time::serde::rfc3339::option::serialize")]
    pub created: Option<OffsetDateTime>,
    /// Tags.
    #[serde(default, deserialize_with = "wire::rows")]
    pub tags: Vec<ResourceTag>,
}

impl Listed for VolumeSnapshot {
    const OBJECT: &'static str = "snapshot";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

/// Which volume snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeSnapshotQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those of this volume.
    pub volume_id: Option<String>,
    /// Only those that carry all these tags.
    pub tags: BTreeMap<String, String>,
}

/// A volume snapshot to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewVolumeSnapshot {
    /// The volume, which must be `Ready`.
    pub volume_id: String,
    /// Name.
    pub name: String,
    /// Tags, set in the same call.
    pub tags: BTreeMap<String, String>,
}

impl Client {
    /// `listSnapshots`, one row for each snapshot.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_volume_snapshots(
        &self,
        query: &VolumeSnapshotQuery,
    ) -> Result<Vec<VolumeSnapshot>, CloudstackError> {
        let params = Params::new("listSnapshots")
            .set("listall", true)
            // Since 4.19 there is one row for each store otherwise; older servers ignore it.
            .set("showunique", true)
            .maybe("id", query.id.as_ref())
            .maybe("volumeid", query.volume_id.as_ref())
            .tags(&query.tags);
        self.list(params).await
    }

    /// One volume snapshot, or nothing when it does not exist or is deleted.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_volume_snapshot(&self, id: &str) -> Result<Option<VolumeSnapshot>, CloudstackError> {
        let query = VolumeSnapshotQuery { id: Some(id.to_owned()), ..VolumeSnapshotQuery::default() };
        match self.list_volume_snapshots(&query).await {
            Ok(found) => Ok(found.into_iter().find(|snapshot| snapshot.id == id && !snapshot.state.is_gone())),
            // An id that never existed is refused instead of answered with an empty list.
            Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One volume snapshot.
    ///
    /// # Errors
    /// [`CloudstackError::Missing`] when it does not exist or is deleted, and those of any read.
    pub async fn volume_snapshot(&self, id: &str) -> Result<VolumeSnapshot, CloudstackError> {
        let found = self.find_volume_snapshot(id).await?;
        found.ok_or_else(|| CloudstackError::Missing { what: "volume snapshot", id: id.to_owned() })
    }
}

impl VolumeOperations {
    /// `createSnapshot`. The snapshot exists under the handle's `entity_id` even when the job fails.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn create_volume_snapshot(&self, new: &NewVolumeSnapshot) -> Result<JobHandle, CloudstackError> {
        self.client().submit(&creation(new)).await
    }

    /// `revertSnapshot`: the volume's VM must be stopped and without VM snapshots.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn revert_volume_snapshot(&self, id: &str) -> Result<JobHandle, CloudstackError> {
        self.client().submit(&reversion(id)).await
    }

    /// `deleteSnapshot`.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn delete_volume_snapshot(&self, id: &str) -> Result<JobHandle, CloudstackError> {
        self.client().submit(&deletion(id)).await
    }
}

pub(crate) fn creation(new: &NewVolumeSnapshot) -> Params {
    Params::new("createSnapshot").set("volumeid", &new.volume_id).set("name", &new.name).tags(&new.tags)
}

pub(crate) fn reversion(id: &str) -> Params {
    Params::new("revertSnapshot").set("id", id)
}

pub(crate) fn deletion(id: &str) -> Params {
    Params::new("deleteSnapshot").set("id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_composed_snapshot() {
        let text = r#"{"id":"s","snapshottype":"MANUAL","volumeid":"v","created":"2026-01-02T03:04:05+0000",
            "name":"rp-0001","state":"BackedUp","physicalsize":196928,"revertable":true,"virtualsize":21474836480}"#;
        let snapshot: VolumeSnapshot = serde_json::from_str(text).unwrap();
        assert_eq!(snapshot.state, VolumeSnapshotState::BackedUp);
        assert_eq!(snapshot.virtual_size_bytes, Some(21_474_836_480));
        assert_eq!(snapshot.created, Some(time::macros::datetime!(2026-01-02 03:04:05 UTC)));
    }
}
