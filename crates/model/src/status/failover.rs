//! Statuses of failovers, and of the mappings that say which network a card goes to.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::Transitions;

/// What a failover is for (`failover_jobs.job_type`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailoverType {
    /// The VM moves: the source is switched off, the replica becomes the VM.
    Live,
    /// The replica is booted in isolation and put back afterwards.
    Test,
}

/// State of a failover (`failover_jobs.status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailoverStatus {
    /// Accepted, not begun.
    Pending,
    /// Everything is looked at; the source is switched off and copied once more where asked.
    Validating,
    /// The volumes' safety snapshots are taken.
    Snapshotting,
    /// The VM is made, without disks of its own.
    CreatingVm,
    /// The volumes change hands. In a live failover there is no way back from here but a rollback.
    SwitchingVolume,
    /// The VM starts and is probed.
    PoweringOn,
    /// The VM runs in the target cloud.
    Completed,
    /// A test is being put back.
    Cleanup,
    /// A test was put back: the replica is what it was before.
    CleanedUp,
    /// A live failover is being taken back.
    Reverting,
    /// A live failover was taken back.
    RolledBack,
    /// Ended in an error; what was done has been undone.
    Failed,
    /// Stopped on request; what was done has been undone.
    Cancelled,
}

impl Transitions for FailoverStatus {
    fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Validating, Self::Failed, Self::Cancelled],
            Self::Validating => &[Self::Snapshotting, Self::Failed, Self::Cancelled],
            Self::Snapshotting => &[Self::CreatingVm, Self::Failed, Self::Cancelled],
            Self::CreatingVm => &[Self::SwitchingVolume, Self::Failed, Self::Cancelled],
            Self::SwitchingVolume => &[Self::PoweringOn, Self::Reverting, Self::Failed, Self::Cancelled],
            Self::PoweringOn => &[Self::Completed, Self::Reverting, Self::Failed, Self::Cancelled],
            Self::Completed => &[Self::Cleanup, Self::Reverting],
            Self::Cleanup => &[Self::CleanedUp],
            Self::Reverting => &[Self::RolledBack],
            // An operator who gave one up half way may still have it put back.
            Self::Failed => &[Self::Cleanup, Self::Reverting],
            Self::CleanedUp | Self::RolledBack | Self::Cancelled => &[],
        }
    }
}

/// What a network mapping is for (`network_mappings.mapping_type`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MappingType {
    /// Live failovers.
    Live,
    /// Test failovers.
    Test,
    /// Both.
    Both,
}

/// How a network card is carried over (`network_mappings.strategy`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum NicStrategy {
    /// With its MAC address; the network gives the IP address.
    KeepMac,
    /// With a new MAC address; the network gives the IP address.
    NewMac,
    /// With its MAC address and the IP address named in the mapping.
    KeepIp,
    /// With a new MAC address, asking for an address by DHCP.
    Dhcp,
}

/// Whether a mapping can be used (`network_mappings.validation_status`).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ValidationStatus {
    /// Not looked at yet.
    Pending,
    /// The network exists in the target's zone and VMs can be deployed in it.
    Valid,
    /// It cannot be used; the row says why.
    Invalid,
}
