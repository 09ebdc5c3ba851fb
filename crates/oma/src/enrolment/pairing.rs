//! Making pairing codes. The code is shown once; only the hash of its secret part is kept.

use api::oma::agents::{PAIRING_CODE_MINUTES, PairingCode};
use store::vma_pairing_codes as codes;
use time::{Duration, OffsetDateTime};

use crate::error::OmaError;
use crate::state::OmaState;

/// Makes a code for whoever asked.
///
/// # Errors
/// When the system gives no randomness or the database fails.
pub async fn create(state: &OmaState, generated_by: &str) -> Result<PairingCode, OmaError> {
    let ca = state.identity().ca();
    let code = tunnel::PairingCode::generate(ca.certificate())?;
    let expires_at = OffsetDateTime::now_utc() + Duration::minutes(PAIRING_CODE_MINUTES);
    let row = codes::create(state.store(), &code.secret_hash(), generated_by, expires_at).await?;
    tracing::info!(code_id = row.id, generated_by, "made a pairing code");
    Ok(PairingCode { code: code.text(), expires_at: *row.expires_at, ca_fingerprint: ca.fingerprint() })
}
