//! `/target/…`: what a CloudStack target offers, read now.

use api::Problem;
use api::extract::{Json, Query};
use api::oma::target_listings::{
    DiskOfferingView, Listing, NetworkView, ServiceOfferingView, TargetQuery, TemplateView, ZoneView,
};
use axum::extract::State;

use crate::error::OmaError;
use crate::state::OmaState;
use crate::target_listings as listings;

/// The zones a target's account sees.
#[utoipa::path(get, path = "/api/v1/target/zones", tag = "target", params(TargetQuery),
    responses((status = 200, body = Listing<ZoneView>), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn zones(
    State(state): State<OmaState>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<Listing<ZoneView>>, OmaError> {
    Ok(Json(listings::zones(&state, query.target.as_deref()).await?))
}

/// The networks it sees, with what makes one unusable for a failover.
#[utoipa::path(get, path = "/api/v1/target/networks", tag = "target", params(TargetQuery),
    responses((status = 200, body = Listing<NetworkView>), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn networks(
    State(state): State<OmaState>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<Listing<NetworkView>>, OmaError> {
    Ok(Json(listings::networks(&state, query.target.as_deref()).await?))
}

/// The compute offerings of its zone.
#[utoipa::path(get, path = "/api/v1/target/service-offerings", tag = "target", params(TargetQuery),
    responses((status = 200, body = Listing<ServiceOfferingView>), (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)))]
pub(crate) async fn service_offerings(
    State(state): State<OmaState>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<Listing<ServiceOfferingView>>, OmaError> {
    Ok(Json(listings::service_offerings(&state, query.target.as_deref()).await?))
}

/// The disk offerings of its zone.
#[utoipa::path(get, path = "/api/v1/target/disk-offerings", tag = "target", params(TargetQuery),
    responses((status = 200, body = Listing<DiskOfferingView>), (status = "4XX", body = Problem),
        (status = "5XX", body = Problem)))]
pub(crate) async fn disk_offerings(
    State(state): State<OmaState>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<Listing<DiskOfferingView>>, OmaError> {
    Ok(Json(listings::disk_offerings(&state, query.target.as_deref()).await?))
}

/// The templates of its zone.
#[utoipa::path(get, path = "/api/v1/target/templates", tag = "target", params(TargetQuery),
    responses((status = 200, body = Listing<TemplateView>), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(crate) async fn templates(
    State(state): State<OmaState>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<Listing<TemplateView>>, OmaError> {
    Ok(Json(listings::templates(&state, query.target.as_deref()).await?))
}
