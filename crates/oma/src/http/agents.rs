//! `/agents`: pairing codes, who is enrolled and connected, decisions, audit.

use api::Problem;
use api::extract::{Json, Path, Query};
use api::oma::agents::{AgentAuditEntry, AgentLimits, AgentView, PairingCode};
use api::page::{Page, PageQuery};
use axum::extract::State;
use axum::http::StatusCode;
use model::status::{EnrollmentStatus, Role};

use crate::agents::limits;
use crate::auth::Operator;
use crate::enrolment::{decision, pairing, view};
use crate::error::OmaError;
use crate::origin::Origin;
use crate::state::OmaState;

/// Makes a pairing code; it is shown this once.
#[utoipa::path(
    post,
    path = "/api/v1/agents/pairing-codes",
    tag = "agents",
    responses((status = 201, body = PairingCode), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn create_pairing_code(
    State(state): State<OmaState>,
    operator: Operator,
) -> Result<(StatusCode, Json<PairingCode>), OmaError> {
    operator.require(Role::Administrator)?;
    Ok((StatusCode::CREATED, Json(pairing::create(&state, &operator.name).await?)))
}

/// Every agent that ever asked, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/agents",
    tag = "agents",
    responses((status = 200, body = Page<AgentView>), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn list(State(state): State<OmaState>) -> Result<Json<Page<AgentView>>, OmaError> {
    Ok(Json(Page { items: view::list(&state).await?, next_cursor: None }))
}

/// What happened to agents, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/agents/audit",
    tag = "agents",
    params(PageQuery),
    responses(
        (status = 200, body = Page<AgentAuditEntry>),
        (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)
    )
)]
pub async fn audit(
    State(state): State<OmaState>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<AgentAuditEntry>>, OmaError> {
    let limit = page.bounded_limit();
    let lines = store::vma_connection_audit::list(state.store(), page.cursor.as_deref(), limit).await?;
    let is_full = u32::try_from(lines.len()).is_ok_and(|count| count >= limit);
    let next_cursor = lines.last().filter(|_| is_full).map(|line| line.id.clone());
    Ok(Json(Page { items: lines.into_iter().map(view::audit_entry).collect(), next_cursor }))
}

/// Approves an agent that proved its key; it then collects its certificate.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{id}/approve",
    tag = "agents",
    params(("id" = String, Path, description = "The enrolment")),
    responses((status = 200, body = AgentView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn approve(
    State(state): State<OmaState>,
    operator: Operator,
    origin: Origin,
    Path(id): Path<String>,
) -> Result<Json<AgentView>, OmaError> {
    decide(&state, &operator, origin, &id, EnrollmentStatus::Approved).await
}

/// Refuses an agent that waits.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{id}/reject",
    tag = "agents",
    params(("id" = String, Path, description = "The enrolment")),
    responses((status = 200, body = AgentView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn reject(
    State(state): State<OmaState>,
    operator: Operator,
    origin: Origin,
    Path(id): Path<String>,
) -> Result<Json<AgentView>, OmaError> {
    decide(&state, &operator, origin, &id, EnrollmentStatus::Rejected).await
}

/// Revokes an agent: its connections are cut now and it gets no new ones.
#[utoipa::path(
    post,
    path = "/api/v1/agents/{id}/revoke",
    tag = "agents",
    params(("id" = String, Path, description = "The enrolment")),
    responses((status = 200, body = AgentView), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn revoke(
    State(state): State<OmaState>,
    operator: Operator,
    origin: Origin,
    Path(id): Path<String>,
) -> Result<Json<AgentView>, OmaError> {
    decide(&state, &operator, origin, &id, EnrollmentStatus::Revoked).await
}

/// What an agent may send.
#[utoipa::path(
    get,
    path = "/api/v1/agents/{id}/limits",
    tag = "agents",
    params(("id" = String, Path, description = "The enrolment")),
    responses((status = 200, body = AgentLimits), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn limits(State(state): State<OmaState>, Path(id): Path<String>) -> Result<Json<AgentLimits>, OmaError> {
    store::vma_enrollments::by_id(state.store(), &id).await?;
    Ok(Json(AgentLimits { limits: limits::of(state.store(), &id).await? }))
}

/// Says anew what an agent may send: runs under way keep to it within a second or two, later ones from their beginning.
#[utoipa::path(
    put,
    path = "/api/v1/agents/{id}/limits",
    tag = "agents",
    params(("id" = String, Path, description = "The enrolment")),
    request_body = AgentLimits,
    responses((status = 200, body = AgentLimits), (status = "4XX", body = Problem), (status = "5XX", body = Problem))
)]
pub async fn set_limits(
    State(state): State<OmaState>,
    operator: Operator,
    Path(id): Path<String>,
    Json(request): Json<AgentLimits>,
) -> Result<Json<AgentLimits>, OmaError> {
    operator.require(Role::Administrator)?;
    store::vma_enrollments::by_id(state.store(), &id).await?;
    limits::set(state.store(), &id, &request.limits).await?;
    tracing::info!(enrollment_id = id, by = operator.name, limits = request.limits.len(), "limits of an agent");
    Ok(Json(request))
}

async fn decide(
    state: &OmaState,
    operator: &Operator,
    origin: Origin,
    id: &str,
    to: EnrollmentStatus,
) -> Result<Json<AgentView>, OmaError> {
    operator.require(Role::Administrator)?;
    let row = decision::decide(state, id, to, &operator.name, origin.remote.ip()).await?;
    Ok(Json(view::one(state, &row).await?))
}
