//! Volumes. Anybody may list them; every change needs a [`VolumeAuthority`], which only the Volume Daemon makes.
//!
//! Asynchronous changes answer with a [`JobHandle`]; store it, wait for it with [`Client::wait`], then read the volume
//! again: job results lack fields, and a failed job may have changed something.

use std::collections::BTreeMap;
use std::time::Duration;

use model::FailureKind;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::async_job::JobHandle;
use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::refusal::RefusalClass;
use crate::tags::ResourceTag;
use crate::wire;

/// The device id CloudStack keeps for the CD-ROM.
const CD_ROM_DEVICE_ID: u32 = 3;
/// Highest device id on KVM.
const MAX_DEVICE_ID: u32 = 33;

/// What a volume is to its VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(from = "String", into = "String")]
pub enum VolumeKind {
    /// The disk a VM boots from.
    #[strum(serialize = "ROOT")]
    Root,
    /// Every other, and every detached one.
    #[strum(serialize = "DATADISK")]
    DataDisk,
    /// Not told.
    #[default]
    #[strum(serialize = "")]
    Unknown,
    /// A kind this version does not know.
    #[strum(default)]
    Other(String),
}

impl From<String> for VolumeKind {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Other(text))
    }
}

impl From<VolumeKind> for String {
    fn from(kind: VolumeKind) -> Self {
        kind.to_string()
    }
}

/// State of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(from = "String", into = "String")]
pub enum VolumeState {
    /// A row only: the disk comes into being when it is first attached.
    Allocated,
    /// Being made.
    Creating,
    /// Usable.
    Ready,
    /// Being moved.
    Migrating,
    /// A volume snapshot of it is being taken.
    Snapshotting,
    /// Being reverted.
    RevertSnapshotting,
    /// Being resized.
    Resizing,
    /// Being attached.
    Attaching,
    /// Being copied.
    Copying,
    /// Marked for deletion.
    Destroy,
    /// Being deleted.
    Destroying,
    /// Being erased.
    Expunging,
    /// Gone.
    Expunged,
    /// Uploaded and not used yet.
    Uploaded,
    /// Not told.
    #[default]
    #[strum(serialize = "")]
    Unknown,
    /// A state this version does not know.
    #[strum(default)]
    Other(String),
}

impl VolumeState {
    /// Whether the volume is on its way out or gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Destroy | Self::Destroying | Self::Expunging | Self::Expunged)
    }
}

impl From<String> for VolumeState {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Other(text))
    }
}

impl From<VolumeState> for String {
    fn from(state: VolumeState) -> Self {
        state.to_string()
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// UUID; its first 20 hexadecimal digits are the serial a guest sees.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// Root or data.
    #[serde(alias = "type", default)]
    pub kind: VolumeKind,
    /// State.
    #[serde(default)]
    pub state: VolumeState,
    /// Size in bytes.
    #[serde(alias = "size", default, deserialize_with = "wire::count")]
    pub size_bytes: Option<u64>,
    /// Device id at its VM; absent when detached.
    #[serde(alias = "deviceid", default, deserialize_with = "wire::count")]
    pub device_id: Option<u64>,
    /// The VM it is attached to.
    #[serde(alias = "virtualmachineid", default, deserialize_with = "wire::text")]
    pub virtual_machine_id: Option<String>,
    /// State of that VM.
    #[serde(alias = "vmstate", default, deserialize_with = "wire::text")]
    pub vm_state: Option<String>,
    /// Zone.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Disk offering; absent for a root of a compute offering.
    #[serde(alias = "diskofferingid", default, deserialize_with = "wire::text")]
    pub disk_offering_id: Option<String>,
    /// Owner.
    #[serde(default, deserialize_with = "wire::text")]
    pub account: Option<String>,
    /// Owner's domain.
    #[serde(alias = "domainid", default, deserialize_with = "wire::text")]
    pub domain_id: Option<String>,
    /// Hypervisor of its pool; `None` (the word) without one.
    #[serde(default, deserialize_with = "wire::text")]
    pub hypervisor: Option<String>,
    /// Pool, shown to administrators.
    #[serde(alias = "storageid", default, deserialize_with = "wire::text")]
    pub storage_id: Option<String>,
    /// Name of the pool; `none` without one.
    #[serde(default, deserialize_with = "wire::text")]
    pub storage: Option<String>,
    /// File name in the pool, shown to administrators.
    #[serde(default, deserialize_with = "wire::text")]
    pub path: Option<String>,
    /// When it was made.
    #[serde(default, deserialize_with = "wire::moment", serialize_with = "time::serde::rfc3339::option::serialize")]
    pub created: Option<OffsetDateTime>,
    /// When it was attached.
    #[serde(default, deserialize_with = "wire::moment", serialize_with = "time::serde::rfc3339::option::serialize")]
    pub attached: Option<OffsetDateTime>,
    /// Tags.
    #[serde(default, deserialize_with = "wire::rows")]
    pub tags: Vec<ResourceTag>,
}

impl Volume {
    /// Whether a VM holds it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.virtual_machine_id.is_some()
    }
}

impl Listed for Volume {
    const OBJECT: &'static str = "volume";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

/// Which volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those with this name.
    pub name: Option<String>,
    /// Only those of this VM.
    pub virtual_machine_id: Option<String>,
    /// Only root or only data volumes.
    pub kind: Option<VolumeKind>,
    /// Only those in this zone.
    pub zone_id: Option<String>,
    /// Only those that carry all these tags.
    pub tags: BTreeMap<String, String>,
}

/// Whether a data or root volume can be attached with this device id on KVM: 0 (root), 1, 2, 4 to 33.
#[must_use]
pub fn is_attachable_device_id(device_id: u32) -> bool {
    device_id != CD_ROM_DEVICE_ID && device_id <= MAX_DEVICE_ID
}

impl Client {
    /// `listVolumes`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_volumes(&self, query: &VolumeQuery) -> Result<Vec<Volume>, CloudstackError> {
        let params = Params::new("listVolumes")
            .set("listall", true)
            .maybe("id", query.id.as_ref())
            .maybe("name", query.name.as_ref())
            .maybe("virtualmachineid", query.virtual_machine_id.as_ref())
            .maybe("type", query.kind.as_ref())
            .maybe("zoneid", query.zone_id.as_ref())
            .tags(&query.tags);
        self.list(params).await
    }

    /// One volume, or nothing when it does not exist or is gone.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn find_volume(&self, id: &str) -> Result<Option<Volume>, CloudstackError> {
        let query = VolumeQuery { id: Some(id.to_owned()), ..VolumeQuery::default() };
        match self.list_volumes(&query).await {
            Ok(volumes) => Ok(volumes.into_iter().find(|volume| volume.id == id && !volume.state.is_gone())),
            // An id that never existed is refused instead of answered with an empty list.
            Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One volume.
    ///
    /// # Errors
    /// [`CloudstackError::Missing`] when it does not exist or is gone, and those of any read.
    pub async fn volume(&self, id: &str) -> Result<Volume, CloudstackError> {
        let found = self.find_volume(id).await?;
        found.ok_or_else(|| CloudstackError::Missing { what: "volume", id: id.to_owned() })
    }
}

/// The right to change volumes. There is one owner of every volume in this system, the Volume Daemon; the repository's
/// checks refuse the constructor's name anywhere else.
#[derive(Debug)]
pub struct VolumeAuthority(());

impl VolumeAuthority {
    /// Only the Volume Daemon calls this.
    #[must_use]
    pub fn for_volume_daemon() -> Self {
        Self(())
    }
}

/// Every change to volumes and volume snapshots.
#[derive(Debug, Clone)]
pub struct VolumeOperations {
    client: Client,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// Name.
    pub name: String,
    /// Zone.
    pub zone_id: String,
    /// A custom-size disk offering.
    pub disk_offering_id: String,
    /// Size in whole GiB; see `model::size::gib_rounded_up`.
    pub size_gib: u64,
    /// The id it shall have, a lower-case UUID: only a root administrator may choose it. With it a repeat after a crash
    /// finds the volume of the first attempt.
    pub custom_id: Option<String>,
    /// Owner, as account name and domain id; the caller when absent.
    pub owner: Option<(String, String)>,
}

/// What came of a submission with a chosen id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// Submitted now.
    Submitted(JobHandle),
    /// There already, from an earlier attempt.
    Existing(Box<Volume>),
}

/// What came of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Deleted now.
    Deleted,
    /// There was nothing to delete.
    AlreadyGone,
}

/// A change of size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeResize {
    /// New size in whole GiB.
    pub size_gib: u64,
    /// Whether it may become smaller, which cuts data off.
    pub shrink: bool,
}

impl VolumeOperations {
    /// Volume changes through `client`, for whoever holds the authority.
    #[must_use]
    pub fn new(client: Client, _authority: VolumeAuthority) -> Self {
        Self { client }
    }

    /// The client, for lists and for waiting.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `createVolume`. The volume is `Allocated` and has no disk before its first attachment.
    ///
    /// # Errors
    /// Class [`RefusalClass::AlreadyExists`] when the chosen id is taken, and those of any write.
    pub async fn create(&self, new: &NewVolume) -> Result<JobHandle, CloudstackError> {
        self.client.submit(&creation(new)).await
    }

    /// As [`Self::create`], but a volume that has the chosen id already, the same zone and at least the size is taken
    /// for the result of an earlier attempt.
    ///
    /// # Errors
    /// Those of [`Self::create`].
    pub async fn create_or_adopt(&self, new: &NewVolume) -> Result<Submission, CloudstackError> {
        let refused = match self.create(new).await {
            Ok(handle) => return Ok(Submission::Submitted(handle)),
            Err(error) => error,
        };
        let taken = refused.refusal_class() == Some(RefusalClass::AlreadyExists);
        let Some(id) = new.custom_id.as_deref().filter(|_| taken) else { return Err(refused) };
        match self.client.find_volume(&id.to_ascii_lowercase()).await? {
            Some(volume) if is_of_this_order(&volume, new) => Ok(Submission::Existing(Box::new(volume))),
            _ => Err(refused),
        }
    }

    /// `attachVolume`. Device id 0 makes it the VM's root; without one the lowest free id from 1 is taken.
    ///
    /// # Errors
    /// [`CloudstackError::Request`] for a device id no volume can have, and those of any write; most refusals come
    /// only from the job.
    pub async fn attach(
        &self,
        volume_id: &str,
        virtual_machine_id: &str,
        device_id: Option<u32>,
    ) -> Result<JobHandle, CloudstackError> {
        if let Some(wrong) = device_id.filter(|&id| !is_attachable_device_id(id)) {
            return Err(CloudstackError::Request(format!("device id {wrong} cannot be used: 0, 1, 2, 4 to 33 can")));
        }
        self.client.submit(&attachment(volume_id, virtual_machine_id, device_id)).await
    }

    /// `detachVolume`. Never attach it elsewhere while this job is pending: a late detach clears the new attachment.
    ///
    /// # Errors
    /// Those of any write; most refusals come only from the job.
    pub async fn detach(&self, volume_id: &str) -> Result<JobHandle, CloudstackError> {
        self.client.submit(&detachment(volume_id)).await
    }

    /// `deleteVolume`: synchronous, erases the disk within the call, which may take minutes.
    ///
    /// # Errors
    /// Class [`RefusalClass::Attached`] for an attached volume; [`CloudstackError::OutcomeUnknown`] when the call broke
    /// off: read the volume, then repeat.
    pub async fn delete(&self, volume_id: &str) -> Result<Deletion, CloudstackError> {
        self.delete_within(volume_id, self.client.transport.options.delete_timeout).await
    }

    /// The same for a volume that was never on any storage (state `Allocated`): there is nothing to erase, so an answer
    /// that takes longer than that of any other call is lost.
    ///
    /// # Errors
    /// As for [`delete`](Self::delete).
    pub async fn delete_allocated(&self, volume_id: &str) -> Result<Deletion, CloudstackError> {
        self.delete_within(volume_id, self.client.transport.options.call_timeout).await
    }

    async fn delete_within(&self, volume_id: &str, timeout: Duration) -> Result<Deletion, CloudstackError> {
        match self.client.write_success(&deletion(volume_id), timeout).await {
            Ok(()) => Ok(Deletion::Deleted),
            Err(error) if error.refusal_class() == Some(RefusalClass::NotFound) => Ok(Deletion::AlreadyGone),
            Err(error) => Err(error),
        }
    }

    /// `resizeVolume`.
    ///
    /// # Errors
    /// Those of any write.
    pub async fn resize(&self, volume_id: &str, resize: VolumeResize) -> Result<JobHandle, CloudstackError> {
        let params = Params::new("resizeVolume")
            .set("id", volume_id)
            .set("size", resize.size_gib)
            .set("shrinkok", resize.shrink);
        self.client.submit(&params).await
    }
}

pub(crate) fn attachment(volume_id: &str, virtual_machine_id: &str, device_id: Option<u32>) -> Params {
    Params::new("attachVolume")
        .set("id", volume_id)
        .set("virtualmachineid", virtual_machine_id)
        .maybe("deviceid", device_id)
}

pub(crate) fn detachment(volume_id: &str) -> Params {
    Params::new("detachVolume").set("id", volume_id)
}

pub(crate) fn deletion(volume_id: &str) -> Params {
    Params::new("deleteVolume").set("id", volume_id)
}

fn creation(new: &NewVolume) -> Params {
    Params::new("createVolume")
        .set("name", &new.name)
        .set("zoneid", &new.zone_id)
        .set("diskofferingid", &new.disk_offering_id)
        .set("size", new.size_gib)
        .maybe("customid", new.custom_id.as_ref().map(|id| id.to_ascii_lowercase()))
        .maybe("account", new.owner.as_ref().map(|(account, _)| account))
        .maybe("domainid", new.owner.as_ref().map(|(_, domain)| domain))
}

fn is_of_this_order(volume: &Volume, new: &NewVolume) -> bool {
    let large_enough = volume.size_bytes.is_none_or(|size| size >= new.size_gib.saturating_mul(model::size::GIB_BYTES));
    let zone = volume.zone_id.as_deref().is_none_or(|zone| zone == new.zone_id);
    large_enough && zone && !volume.state.is_gone()
}

#[cfg(test)]
mod tests;
