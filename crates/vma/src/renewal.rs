//! Keeps the agent's certificate fresh: the same key, a new certificate, long before the old one ends.

use std::path::Path;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tunnel::{AgentIdentity, Dialer, HubTrust};

use crate::error::VmaError;
use crate::hub::{Hub, csr_pem};

/// Between two looks at the certificate; ten days are left when it is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Renews the certificate whenever it is due, until shutdown; connections opened from then on use the new one.
pub(crate) async fn keep_renewed(
    state_dir: &Path,
    mut identity: AgentIdentity,
    dialer: &Dialer,
    shutdown: CancellationToken,
) {
    loop {
        if identity.needs_renewal(OffsetDateTime::now_utc()) {
            match renewed(state_dir, &identity, dialer).await {
                Ok(fresh) => identity = fresh,
                Err(error) => {
                    let (error, ends) = (&error as &dyn std::error::Error, identity.facts().expires_at);
                    tracing::warn!(error, %ends, "the agent's certificate could not be renewed yet");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
    }
}

/// Gets, stores and puts in force a new certificate.
///
/// # Errors
/// The hub cannot be reached or refuses, or what it sends does not fit: the old certificate stays then.
pub(crate) async fn renewed(
    state_dir: &Path,
    identity: &AgentIdentity,
    dialer: &Dialer,
) -> Result<AgentIdentity, VmaError> {
    let enrollment_id = &identity.facts().enrollment_id;
    let hub = Hub::new(dialer.hub().clone(), HubTrust::Ca(identity.hub_ca().clone()));
    let answer = hub.renew(enrollment_id, csr_pem(identity.key(), enrollment_id)?).await?;
    let (key, hub_ca) = (identity.clone_key()?, identity.hub_ca_pem());
    let fresh = AgentIdentity::install(state_dir, key, &answer.certificate_pem, &hub_ca, None)?;
    dialer.replace_identity(&fresh)?;
    tracing::info!(expires_at = %fresh.facts().expires_at, "renewed the agent's certificate");
    Ok(fresh)
}
