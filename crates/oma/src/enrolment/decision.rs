//! What operators decide about agents: approve, reject, revoke.

use std::net::IpAddr;

use model::status::{EnrollmentStatus, Transitions};
use store::vma_enrollments::{self as enrollments, Decision, Enrollment};
use time::OffsetDateTime;

use crate::enrolment::request::find;
use crate::error::OmaError;
use crate::state::OmaState;

/// Moves an enrolment to `approved`, `rejected` or `revoked`. A revoked agent's connections are cut at once.
///
/// # Errors
/// [`OmaError::NotFound`]; the enrolment's status does not allow it.
pub async fn decide(
    state: &OmaState,
    enrollment_id: &str,
    to: EnrollmentStatus,
    operator: &str,
    address: IpAddr,
) -> Result<Enrollment, OmaError> {
    let known = find(state, enrollment_id).await?;
    if !known.status.may_become(to) {
        let reason = "what was decided about it cannot be changed like this";
        return Err(OmaError::EnrollmentState { enrollment_id: known.id, status: *known.status, reason });
    }
    let decision = Decision { to, by: operator.to_owned(), source_ip: address.to_string() };
    let row = enrollments::decide(state.store(), enrollment_id, &decision, OffsetDateTime::now_utc()).await?;
    tracing::info!(enrollment_id, vma_name = row.vma_name, status = %to, operator, "decided about an agent");
    if to == EnrollmentStatus::Revoked {
        cut(state, enrollment_id).await;
    }
    Ok(row)
}

/// The control connection is ours. The NBD connections are the gateway's; it asks the database about every new one, so
/// a gateway that does not answer now can only leave those open that are.
async fn cut(state: &OmaState, enrollment_id: &str) {
    state.agents().cut(enrollment_id).await;
    if let Err(error) = state.gateway().close_agent(enrollment_id).await {
        tracing::error!(
            enrollment_id,
            error = &error as &dyn std::error::Error,
            "the revoked agent's open NBD connections could not be cut; restart the gateway to cut them"
        );
    }
}
