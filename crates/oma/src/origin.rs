//! Where a request came from: its peer's address, and whether it came in from outside. Marks and reads; decides nothing.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::{Extension, Router};

/// For requests nobody knows the peer of.
const UNKNOWN_REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Whether it came in from outside, through the gateway.
    pub public: bool,
}

/// In the extensions of requests to the local port.
#[derive(Clone, Copy)]
struct Local;

/// The router for the local port.
pub fn locally(router: Router) -> Router {
    router.layer(Extension(Local))
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self {
            remote: peer.map_or(UNKNOWN_REMOTE, |ConnectInfo(remote)| *remote),
            // Whoever serves the router without saying where gets the stricter rules.
            public: parts.extensions.get::<Local>().is_none(),
        })
    }
}
