//! `/enroll`: what an agent without a certificate asks. Public, and limited per source address.

use api::Problem;
use api::extract::{Json, Path};
use api::oma::agents::{
    EnrollChallenge, EnrollRequest, EnrollVerify, EnrollmentState, RenewCertificate, RenewedCertificate,
};
use axum::extract::State;
use axum::http::StatusCode;

use crate::enrolment::{certificate, request};
use crate::error::OmaError;
use crate::origin::Origin;
use crate::state::OmaState;

/// Asks to belong to this hub; the pairing code is used up. Answers with a challenge to sign.
#[utoipa::path(
    post,
    path = "/api/v1/enroll",
    tag = "enrolment",
    security(()),
    request_body = EnrollRequest,
    responses((status = 201, body = EnrollChallenge), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn enroll(
    State(state): State<OmaState>,
    origin: Origin,
    Json(body): Json<EnrollRequest>,
) -> Result<(StatusCode, Json<EnrollChallenge>), OmaError> {
    let address = origin.remote.ip();
    state.enrolment_limits().count_enrollment(address)?;
    Ok((StatusCode::CREATED, Json(request::enroll(&state, body, address).await?)))
}

/// Proves the key by signing the challenge; three attempts. Then an operator has to approve.
#[utoipa::path(
    post,
    path = "/api/v1/enroll/verify",
    tag = "enrolment",
    security(()),
    request_body = EnrollVerify,
    responses((status = 200, body = EnrollmentState), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn verify(
    State(state): State<OmaState>,
    origin: Origin,
    Json(body): Json<EnrollVerify>,
) -> Result<Json<EnrollmentState>, OmaError> {
    let address = origin.remote.ip();
    state.enrolment_limits().count_poll(address)?;
    Ok(Json(request::verify(&state, &body, address).await?))
}

/// How far an enrolment is; once it is approved, with the certificate and the hub's CA.
#[utoipa::path(
    get,
    path = "/api/v1/enroll/{id}",
    tag = "enrolment",
    security(()),
    params(("id" = String, Path, description = "The enrolment")),
    responses((status = 200, body = EnrollmentState), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn status(
    State(state): State<OmaState>,
    origin: Origin,
    Path(id): Path<String>,
) -> Result<Json<EnrollmentState>, OmaError> {
    state.enrolment_limits().count_poll(origin.remote.ip())?;
    Ok(Json(certificate::collect(&state, &id).await?))
}

/// A fresh certificate for the enrolled key, which the signing request proves to hold.
#[utoipa::path(
    post,
    path = "/api/v1/enroll/{id}/renew",
    tag = "enrolment",
    security(()),
    params(("id" = String, Path, description = "The enrolment")),
    request_body = RenewCertificate,
    responses(
        (status = 200, body = RenewedCertificate),
        (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)
    )
)]
pub async fn renew(
    State(state): State<OmaState>,
    origin: Origin,
    Path(id): Path<String>,
    Json(body): Json<RenewCertificate>,
) -> Result<Json<RenewedCertificate>, OmaError> {
    let address = origin.remote.ip();
    state.enrolment_limits().count_poll(address)?;
    Ok(Json(certificate::renew(&state, &id, &body.csr_pem, address).await?))
}
