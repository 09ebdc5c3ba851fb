//! The signed Apache CloudStack API (4.18 and later) and its asynchronous jobs; nothing of MigrateKit's own.
//!
//! Read in this order: `sign` (pure), `answer` and `wire` (pure: what servers send back), `refusal` (pure: what a
//! refusal means), `transport` (HTTP), `client`, `paging`, `async_job`, `change`, then one file per resource. Everything that
//! changes a volume or a volume snapshot needs a [`VolumeAuthority`], which only the Volume Daemon makes.

mod accounts;
mod answer;
mod async_job;
pub mod calls;
mod capabilities;
mod change;
mod client;
mod error;
mod networks;
mod offerings;
mod paging;
mod params;
mod prerequisites;
mod probe;
mod refusal;
pub mod sign;
mod tags;
mod templates;
mod tls;
mod transport;
mod vm_snapshots;
mod vms;
mod volume_snapshots;
mod volumes;
mod wire;
mod zones;

pub use accounts::{Account, AccountQuery, AccountUser, ResourceKind, ResourceLimit};
pub use async_job::{JobHandle, JobOutcome, JobProgress, JobReport, JobSuccess, WaitPolicy};
pub use calls::ApiCall;
pub use capabilities::Capabilities;
pub use change::{Change, PursuitError, Trace, pursue};
pub use client::Client;
pub use error::CloudstackError;
pub use networks::{Network, NetworkQuery};
pub use offerings::{DiskOffering, OfferingQuery, ServiceOffering};
pub use prerequisites::{CheckOutcome, PrerequisiteCheck, PrerequisiteReport, ProbeFacts, SizeRequest, evaluate};
pub use probe::{LimitsView, OwnVm, ProbeFailure, ProbeOptions, ProbeReport, UsageLimit, probe};
pub use refusal::{Refusal, RefusalClass};
pub use tags::{ResourceTag, TagQuery, TaggedKind};
pub use templates::{OsType, OsTypeQuery, Template, TemplateFilter, TemplateQuery};
pub use tls::Trust;
pub use transport::{ClientOptions, ConnectionSettings};
pub use vm_snapshots::VmSnapshot;
pub use vms::{
    BootFirmware, NewNic, NewVirtualMachine, Nic, VirtualMachine, VmChange, VmDestruction, VmQuery, VmState,
};
pub use volume_snapshots::{NewVolumeSnapshot, VolumeSnapshot, VolumeSnapshotQuery, VolumeSnapshotState};
pub use volumes::{
    Deletion, NewVolume, Submission, Volume, VolumeAuthority, VolumeKind, VolumeOperations, VolumeQuery, VolumeResize,
    VolumeState, is_attachable_device_id,
};
pub use wire::Limit;
pub use zones::Zone;
