//! Certificates of equality as the API shows them; they are made in `replication`.

use api::oma::certificates::{CertificateFile, CertificateView};
use store::equality_certificates::{self, EqualityCertificate};
use store::vm_replication_contexts;

use crate::error::OmaError;
use crate::state::OmaState;

/// A row as the API lists it.
#[must_use]
pub(crate) fn certificate_view(row: EqualityCertificate) -> CertificateView {
    CertificateView {
        id: row.id,
        vm_context_id: row.vm_context_id,
        job_id: row.job_id,
        disk_id: row.disk_id,
        change_id: row.change_id,
        capacity_bytes: *row.capacity_bytes,
        leaves_total: *row.leaves_total,
        leaves_verified: *row.leaves_verified,
        sync_type: *row.sync_type,
        root: row.root_digest,
        previous_certificate_id: row.previous_certificate_id,
        public_key: row.public_key,
        created_at: *row.created_at,
    }
}

/// Certificates, of one VM (name or id) or of all, newest first.
///
/// # Errors
/// There is no such VM, or the database fails.
pub(crate) async fn list(
    state: &OmaState,
    vm: Option<&str>,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<CertificateView>, OmaError> {
    let vm = match vm {
        Some(vm) => Some(vm_replication_contexts::find(state.store(), vm).await?.context_id),
        None => None,
    };
    let rows = equality_certificates::list(state.store(), vm.as_deref(), before, limit).await?;
    Ok(rows.into_iter().map(certificate_view).collect())
}

/// One certificate, whole: what is verified without this hub.
///
/// # Errors
/// There is none with that id, or the database fails.
pub(crate) async fn get(state: &OmaState, id: &str) -> Result<CertificateFile, OmaError> {
    let row = equality_certificates::by_id(state.store(), id).await?;
    Ok(CertificateFile { document: row.document, signature: row.signature, public_key: row.public_key })
}
