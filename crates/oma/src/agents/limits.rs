//! What an agent may send, as operators said: a setting for each enrolment.

use model::BandwidthLimit;
use model::wan::MAX_BANDWIDTH_LIMITS;
use store::Store;

use crate::error::OmaError;

/// The setting's key.
fn key(enrollment_id: &str) -> String {
    format!("agent-limits/{enrollment_id}")
}

/// The limits of an agent; none when none were set.
///
/// # Errors
/// The database fails. A document this version cannot read counts as none, and is logged: copying goes on.
pub async fn of(store: &Store, enrollment_id: &str) -> Result<Vec<BandwidthLimit>, OmaError> {
    let Some(document) = store::settings::get(store, &key(enrollment_id)).await? else { return Ok(Vec::new()) };
    Ok(serde_json::from_value(document).unwrap_or_else(|error| {
        tracing::error!(%error, enrollment_id, "the limits of an agent cannot be read; set them again");
        Vec::new()
    }))
}

/// Sets the limits of an agent.
///
/// # Errors
/// There are too many, or the database fails.
pub async fn set(store: &Store, enrollment_id: &str, limits: &[BandwidthLimit]) -> Result<(), OmaError> {
    let invalid = |reason| OmaError::Invalid { what: "limits", reason };
    if limits.len() > MAX_BANDWIDTH_LIMITS {
        return Err(invalid(format!("there may be {MAX_BANDWIDTH_LIMITS} at most")));
    }
    let document = serde_json::to_value(limits).map_err(|error| invalid(error.to_string()))?;
    Ok(store::settings::put(store, &key(enrollment_id), document).await?)
}
