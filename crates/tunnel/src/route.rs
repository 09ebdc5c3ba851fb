//! Where a connection goes: decided by the protocols its ClientHello offers (ALPN, RFC 7301), before any certificate.

use crate::certificate::PeerIdentity;

/// The data plane: NBD, newstyle. The hub speaks first.
pub const ALPN_NBD: &[u8] = b"nbd";
/// The data plane, NBD in frames that may be compressed; see [`crate::frames`]. The hub speaks first.
pub const ALPN_NBD_ZSTD: &[u8] = b"nbd+zstd";
/// The control connection: HTTP/2 on which the dialling agent is the server. The hub speaks first.
pub const ALPN_AGENT: &[u8] = b"migratekit-agent/1";
/// HTTP/2 (RFC 9113) as everybody knows it.
pub const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The kinds of connection, each with its own TLS configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteClass {
    /// NBD; an agent's certificate is required.
    Nbd,
    /// An agent's control connection; its certificate is required.
    AgentControl,
    /// API and console; no certificate.
    Http,
}

impl RouteClass {
    /// The class of a connection that offers these protocols. One that offers none of ours, or nothing at all, is HTTP;
    /// TLS itself then refuses it if it cannot speak that either.
    #[must_use]
    pub fn of<'a>(offered: impl Iterator<Item = &'a [u8]>) -> Self {
        for protocol in offered {
            if protocol == ALPN_NBD || protocol == ALPN_NBD_ZSTD {
                return Self::Nbd;
            }
            if protocol == ALPN_AGENT {
                return Self::AgentControl;
            }
        }
        Self::Http
    }
}

/// Where an accepted connection goes, and who is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// NBD for the exports of this agent.
    Nbd(PeerIdentity),
    /// The control connection of this agent.
    AgentControl(PeerIdentity),
    /// HTTP of an unknown peer.
    Http,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_decides() {
        let table: [(&[&[u8]], RouteClass); 9] = [
            (&[b"nbd"], RouteClass::Nbd),
            (&[b"nbd+zstd"], RouteClass::Nbd),
            (&[b"nbd+lz4", b"nbd"], RouteClass::Nbd),
            (&[b"migratekit-agent/1"], RouteClass::AgentControl),
            (&[b"h2", b"http/1.1"], RouteClass::Http),
            (&[b"h2", b"nbd"], RouteClass::Nbd),
            (&[b"NBD"], RouteClass::Http),
            (&[b"migratekit-agent/2"], RouteClass::Http),
            (&[], RouteClass::Http),
        ];
        for (offered, class) in table {
            assert_eq!(RouteClass::of(offered.iter().copied()), class, "{offered:?}");
        }
    }
}
