//! An enrolment that is not decided yet, across restarts: its id lies beside its key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use model::FailureKind;
use model::status::EnrollmentStatus;
use runtime::private_file;
use tunnel::AgentKey;

use crate::error::VmaError;
use crate::hub::Hub;

const ID_FILE: &str = "enrolment.id";

/// Notes the enrolment that has begun.
pub(super) fn note(folder: &Path, enrollment_id: &str) -> Result<(), VmaError> {
    let path = file(folder);
    private_file::write(&path, enrollment_id.as_bytes()).map_err(|source| VmaError::StateFile { path, source })
}

/// Forgets it, and its key.
pub(super) fn forget(folder: &Path) -> Result<(), VmaError> {
    let path = file(folder);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(VmaError::StateFile { path, source }),
        Ok(()) | Err(_) => {}
    }
    Ok(AgentKey::discard_pending(folder)?)
}

/// The enrolment that was begun before and can still be decided. Any other is forgotten with its key, so that a new
/// code meets a new key.
pub(super) async fn resumed(hub: &Hub, folder: &Path) -> Result<Option<String>, VmaError> {
    let path = file(folder);
    let enrollment_id = match private_file::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(VmaError::StateFile { path, source }),
    };
    let can_be_decided = match hub.enrollment(&enrollment_id).await {
        Ok(state) => matches!(state.status, EnrollmentStatus::AwaitingApproval | EnrollmentStatus::Approved),
        Err(error) if matches!(error.kind(), FailureKind::NotFound | FailureKind::Invalid) => false,
        Err(error) => return Err(error),
    };
    if can_be_decided {
        tracing::info!(enrollment_id, "going on with the enrolment that was begun before");
        return Ok(Some(enrollment_id));
    }
    forget(folder)?;
    Ok(None)
}

fn file(folder: &Path) -> PathBuf {
    folder.join(ID_FILE)
}
