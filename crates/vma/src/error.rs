//! What can go wrong in the agent, and how it is told over HTTP.

use std::path::PathBuf;

use api::{ClientError, Problem};
use axum::response::{IntoResponse, Response};
use model::FailureKind;
use mover::MoverError;
use tunnel::TunnelError;
use vsphere::VsphereError;

use crate::hotadd::HotAddError;

/// An error of the agent.
#[derive(Debug, thiserror::Error)]
pub enum VmaError {
    /// vCenter or the ESXi host.
    #[error("{doing} failed")]
    Vsphere {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        #[source]
        source: VsphereError,
    },
    /// A disk could not be added to the agent's own VM, or not be removed from it.
    #[error(transparent)]
    HotAdd(#[from] HotAddError),
    /// A part of the agent ended without a result.
    #[error("{doing} ended unexpectedly")]
    Interrupted {
        /// What was being done.
        doing: &'static str,
        /// How it ended.
        #[source]
        source: tokio::task::JoinError,
    },
    /// A disk could not be copied.
    #[error("copying {disk_id} failed")]
    Copy {
        /// Which disk.
        disk_id: String,
        /// What the copy engine said.
        #[source]
        source: MoverError,
    },
    /// The hub's address, certificates or connection.
    #[error("the connection to the hub failed")]
    Tunnel(#[from] TunnelError),
    /// The hub answered with an error.
    #[error(transparent)]
    Hub(#[from] ClientError),
    /// The pairing code cannot be right.
    #[error("this pairing code cannot be used")]
    PairingCode(#[source] tunnel::pairing::PairingCodeError),
    /// The operator did not approve this agent.
    #[error("the hub says that this enrolment is {status}")]
    NotApproved {
        /// How it stands.
        status: model::status::EnrollmentStatus,
    },
    /// There is no identity yet.
    #[error("this agent belongs to no hub yet")]
    NotEnrolled,
    /// The local status cannot be served.
    #[error("the local status cannot be served")]
    Listen(#[source] runtime::http::HttpError),
    /// A file of the state folder cannot be used.
    #[error("cannot use {}", path.display())]
    StateFile {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A disk of the request is not the one vCenter shows.
    #[error("{disk_id} is not what the hub expects: {reason}")]
    OtherDisk {
        /// Which.
        disk_id: String,
        /// What differs.
        reason: String,
    },
    /// The vm_snapshot was removed by somebody else while it was read.
    #[error("vm_snapshot {vm_snapshot} was removed while the disks were read from it")]
    VmSnapshotGone {
        /// Its managed object id.
        vm_snapshot: String,
    },
    /// The VM is not the one the hub means.
    #[error("{moref} is another VM than the hub means")]
    OtherVm {
        /// Its managed object id.
        moref: String,
    },
    /// The guest cannot be asked to shut down.
    #[error("the guest of {moref} cannot be asked to shut down: VMware Tools do not run in it")]
    NoGuestTools {
        /// The VM's managed object id.
        moref: String,
        /// What vCenter said.
        #[source]
        source: VsphereError,
    },
    /// The export on the hub was made for another disk.
    #[error("export {export} was made for another disk than {disk_id}")]
    OtherExport {
        /// Its name.
        export: String,
        /// The disk.
        disk_id: String,
    },
    /// The VM is being copied already.
    #[error("{moref} is being copied by {job_id}")]
    Busy {
        /// Its managed object id.
        moref: String,
        /// The job.
        job_id: String,
    },
    /// There is no such run.
    #[error("there is no run {job_id}")]
    NoRun {
        /// The job.
        job_id: String,
    },
    /// The run is not in a phase that allows this.
    #[error("run {job_id} is {phase}")]
    WrongPhase {
        /// The job.
        job_id: String,
        /// Its phase.
        phase: &'static str,
    },
    /// Something in the request cannot be right.
    #[error("{what} {reason}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("the run was cancelled")]
    Cancelled,
}

impl VmaError {
    /// Wraps an error of vSphere with what was being done.
    pub(crate) fn vsphere(doing: &'static str) -> impl FnOnce(VsphereError) -> Self {
        move |source| Self::Vsphere { doing, source }
    }

    /// The kind that decides on status codes and retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Vsphere { source, .. } => source.kind(),
            Self::Copy { source, .. } => source.kind(),
            Self::HotAdd(source) => source.kind(),
            Self::Tunnel(source) => source.kind(),
            Self::Hub(source) => source.kind(),
            Self::PairingCode(_) | Self::Invalid { .. } => FailureKind::Invalid,
            Self::NotApproved { .. } => FailureKind::Forbidden,
            Self::NoRun { .. } => FailureKind::NotFound,
            Self::StateFile { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                FailureKind::Exhausted
            }
            Self::StateFile { .. } | Self::Interrupted { .. } => FailureKind::Internal,
            Self::NotEnrolled
            | Self::Listen(_)
            | Self::OtherDisk { .. }
            | Self::OtherVm { .. }
            | Self::NoGuestTools { .. }
            | Self::VmSnapshotGone { .. }
            | Self::OtherExport { .. }
            | Self::Busy { .. }
            | Self::WrongPhase { .. }
            | Self::Cancelled => FailureKind::Conflict,
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Vsphere { source, .. } => source.remedy(),
            Self::Copy { source, .. } => source.remedy(),
            Self::HotAdd(source) => source.remedy(),
            Self::Tunnel(source) => source.remedy(),
            Self::Hub(ClientError::Problem(problem)) => problem.remedy.as_deref(),
            Self::PairingCode(source) => Some(source.remedy()),
            Self::NotApproved { .. } => Some("pair it again with a new code: migratekit agent pair"),
            Self::NotEnrolled => {
                Some("get a code with `migratekit agent pair` on the hub, then run `migratekit enroll`")
            }
            Self::Listen(_) => Some("stop the other process on that port, or change `listen` in the configuration"),
            Self::StateFile { .. } => {
                Some("check that the service's user may write the state folder, and its free space")
            }
            Self::OtherDisk { .. } | Self::OtherVm { .. } => {
                Some("refresh the VM on the hub: migratekit vm discover, then migratekit vm add")
            }
            Self::VmSnapshotGone { .. } => Some(
                "what was read is of no single moment; find out what removes vm_snapshots of this VM, then replicate again",
            ),
            Self::NoGuestTools { .. } => Some(
                "start VMware Tools in the guest, or shut it down by hand; to cut its power instead, which loses what the guest has not written yet, needs an operator's word",
            ),
            Self::OtherExport { .. } => Some("nothing was written; start the replication again"),
            Self::Interrupted { .. } => Some("the log has the details; start it again"),
            Self::Hub(_) | Self::Busy { .. } | Self::NoRun { .. } | Self::WrongPhase { .. } | Self::Invalid { .. } => {
                None
            }
            Self::Cancelled => None,
        }
    }

    /// The error as it is told over HTTP and kept with a run.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let mut problem = match self {
            Self::Hub(ClientError::Problem(problem)) => (**problem).clone(),
            other => Problem::from_error(other.kind(), other),
        };
        problem.remedy = self.remedy().map(str::to_owned).or(problem.remedy);
        problem
    }
}

impl IntoResponse for VmaError {
    fn into_response(self) -> Response {
        self.to_problem().into_response()
    }
}
