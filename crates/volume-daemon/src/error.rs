//! What can go wrong in the volume daemon, said by what was being done.

use std::net::SocketAddr;
use std::path::PathBuf;

use api::Problem;
use cloudstack::{CloudstackError, Limit};
use joblog::{JobError, StepError};
use model::FailureKind;
use model::status::{LinuxState, OperationType};
use runtime::http::HttpError;
use store::StoreError;

use crate::device::correlate::CorrelateError;
use crate::ops::refusal::Refusal;

/// An error of the volume daemon.
#[derive(Debug, thiserror::Error)]
pub enum VolumeDaemonError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] HttpError),
    /// The address could be reached from outside, and callers are not authenticated.
    #[error("the volume daemon may only listen on a loopback address, not on {address}")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The key that seals stored passwords cannot be used, or a stored key was sealed with another.
    #[error("cannot {doing}")]
    Sealing {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: runtime::sealed::SealError,
    },
    /// A folder of this machine cannot be read.
    #[error("cannot read {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The job log.
    #[error(transparent)]
    Jobs(#[from] JobError),
    /// CloudStack.
    #[error(transparent)]
    Cloudstack(#[from] CloudstackError),
    /// The device of a volume is not the one it should be.
    #[error(transparent)]
    Correlate(#[from] CorrelateError),
    /// What was seen forbids the operation.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The target names a zone that does not exist.
    #[error("there is no zone {zone:?} in target {target}")]
    NoZone {
        /// The zone named.
        zone: String,
        /// The target.
        target: String,
    },
    /// There is no offering volumes of any size can be made of.
    #[error("target {target} has no usable custom-size disk offering{}", wanted.as_ref().map(|id| format!(" {id}")).unwrap_or_default())]
    NoDiskOffering {
        /// The target.
        target: String,
        /// The offering its settings name.
        wanted: Option<String>,
    },
    /// CloudStack does not make volumes of this size.
    #[error("a volume of {size_gib} GiB is outside what CloudStack makes: {min_gib} to {max_gib} GiB")]
    SizeOutOfRange {
        /// The size asked for, in GiB.
        size_gib: u64,
        /// Smallest, in GiB.
        min_gib: u64,
        /// Largest, in GiB.
        max_gib: u64,
    },
    /// The account has used up a limit.
    #[error("the account has {left} {what} left and {wanted} are needed")]
    LimitReached {
        /// `volumes`, `GiB of primary storage`.
        what: &'static str,
        /// What is left.
        left: Limit,
        /// What is needed.
        wanted: u64,
    },
    /// The hub's own VM cannot be told.
    #[error("target {target} has no VM with a network card of this machine")]
    OwnVmUnknown {
        /// The target.
        target: String,
    },
    /// The hub's own VM belongs to somebody else.
    #[error("the account of target {target} does not see the hub's own VM {vm_id}")]
    OwnVmNotVisible {
        /// The VM.
        vm_id: String,
        /// The target.
        target: String,
    },
    /// CloudStack does not show the volume to this account.
    #[error("CloudStack target {target} does not show volume {volume_uuid}")]
    VolumeNotVisible {
        /// The volume.
        volume_uuid: String,
        /// The target.
        target: String,
    },
    /// Another operation on the volume is under way.
    #[error("volume {volume_uuid} is busy: operation {operation_id} ({operation_type}) is under way")]
    Busy {
        /// The volume.
        volume_uuid: String,
        /// The other operation.
        operation_id: String,
        /// What it does.
        operation_type: OperationType,
    },
    /// A job of an earlier operation is still pending in CloudStack; a late detachment would clear a new attachment.
    #[error("CloudStack job {job_id} of an earlier operation on volume {volume_uuid} is still pending")]
    JobPending {
        /// The volume.
        volume_uuid: String,
        /// The job.
        job_id: String,
    },
    /// The volume is attached, and the request wants one that is not.
    #[error("volume {volume_uuid} is attached to VM {vm_id}")]
    Attached {
        /// The volume.
        volume_uuid: String,
        /// The VM.
        vm_id: String,
    },
    /// No device appeared in time.
    #[error("no device with serial {serial} appeared in {directory} within {waited_seconds} s")]
    NoDevice {
        /// The serial looked for.
        serial: String,
        /// Where.
        directory: PathBuf,
        /// How long, in seconds.
        waited_seconds: u64,
    },
    /// The volume has no device here that could be exported.
    #[error("volume {volume_uuid} has no device on this machine (it is {linux_state})")]
    NotPresent {
        /// The volume.
        volume_uuid: String,
        /// What Linux shows.
        linux_state: LinuxState,
    },
    /// The volume cannot hold the disk.
    #[error("volume {volume_uuid} has {size_bytes} bytes, the disk has {capacity_bytes}")]
    TooSmall {
        /// The volume.
        volume_uuid: String,
        /// Its size in bytes.
        size_bytes: u64,
        /// Size of the disk in bytes.
        capacity_bytes: u64,
    },
    /// The volume belongs to another VM.
    #[error("volume {volume_uuid} belongs to VM context {owner}, not to {asked}")]
    ForeignVolume {
        /// The volume.
        volume_uuid: String,
        /// The context it belongs to.
        owner: String,
        /// The context asked for.
        asked: String,
    },
    /// Something in the request cannot be used.
    #[error("{0}")]
    Request(String),
}

impl VolumeDaemonError {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Listen(error) => error.kind(),
            Self::Sealing { source, .. } => source.kind(),
            Self::Folder { .. } => FailureKind::Internal,
            Self::NotLoopback { .. }
            | Self::NoZone { .. }
            | Self::NoDiskOffering { .. }
            | Self::SizeOutOfRange { .. }
            | Self::OwnVmUnknown { .. }
            | Self::OwnVmNotVisible { .. }
            | Self::TooSmall { .. }
            | Self::Request(_) => FailureKind::Invalid,
            Self::Store(error) => error.kind(),
            Self::Jobs(error) => error.kind(),
            Self::Cloudstack(error) => error.kind(),
            Self::Correlate(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::LimitReached { .. } => FailureKind::Exhausted,
            Self::VolumeNotVisible { .. } => FailureKind::NotFound,
            // Whatever is under way ends by itself: the same request may work then.
            Self::Busy { .. } | Self::JobPending { .. } | Self::NoDevice { .. } => FailureKind::Unavailable,
            Self::Attached { .. } | Self::NotPresent { .. } | Self::ForeignVolume { .. } => FailureKind::Conflict,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        Some(match self {
            Self::Listen(error) => return error.remedy(),
            Self::NotLoopback { .. } => "set listen to an address of 127.0.0.0/8 or to [::1]",
            Self::Sealing { source, .. } => return source.remedy(),
            Self::Folder { .. } => "check the folder's permissions and the configuration",
            Self::Store(error) => return error.remedy(),
            Self::Jobs(error) => return error.remedy(),
            Self::Cloudstack(error) => return error.remedy(),
            Self::Correlate(error) => return Some(error.remedy()),
            Self::Refused(refusal) => return refusal.remedy(),
            Self::NoZone { .. } => "set the target's zone to the name or id of one that exists",
            Self::NoDiskOffering { .. } => "make a disk offering with custom size in CloudStack, or choose another",
            Self::SizeOutOfRange { .. } => {
                "raise custom.diskoffering.size.max and storage.max.volume.size in CloudStack, then repeat"
            }
            Self::LimitReached { .. } => "raise the account's limit in CloudStack or remove what is not needed",
            Self::OwnVmUnknown { .. } => "set the target's oma_vm_id to the id of the VM this hub runs in",
            Self::OwnVmNotVisible { .. } => {
                "use the keys of the account that owns the hub's VM or of a root administrator, or name the right VM"
            }
            Self::VolumeNotVisible { .. } => {
                "check that the volume exists and that the target's keys are those of the account that owns it"
            }
            Self::Busy { .. } => "wait for that operation to end, then repeat",
            Self::JobPending { .. } => "wait until that job ends in CloudStack, then repeat",
            Self::Attached { .. } => "detach the volume first",
            Self::NoDevice { .. } => "look at the VM's disks in CloudStack and at the kernel's log of this machine",
            Self::NotPresent { .. } => "attach the volume to the hub's VM first",
            Self::TooSmall { .. } => "resize the volume in CloudStack to at least the disk's size, or make a new one",
            Self::ForeignVolume { .. } => "use a volume of that VM",
            Self::Request(_) => return None,
        })
    }
}

impl From<VolumeDaemonError> for Problem {
    fn from(error: VolumeDaemonError) -> Self {
        let mut problem = Self::from_error(error.kind(), &error);
        problem.remedy = error.remedy().map(str::to_owned);
        problem
    }
}

impl From<VolumeDaemonError> for StepError {
    fn from(error: VolumeDaemonError) -> Self {
        let mut failure = Self::from_error(error.kind(), &error);
        failure.remedy = error.remedy().map(str::to_owned);
        failure
    }
}

/// A step's failure from any error this crate can wrap.
pub(crate) fn step(error: impl Into<VolumeDaemonError>) -> StepError {
    error.into().into()
}
