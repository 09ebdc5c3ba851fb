//! The hub's server configurations, one per class of connection, exchanged while connections come in.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::{VERSIONS, agent_provider, failed, web_provider};
use crate::error::TunnelError;
use crate::identity::{HubCa, HubIdentity, ServerLeaf};
use crate::route::{ALPN_AGENT, ALPN_HTTP1, ALPN_HTTP2, ALPN_NBD, ALPN_NBD_ZSTD, RouteClass};

/// How often the server certificate's age is looked at; it has weeks left when it becomes due.
const RENEWAL_CHECK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(3600);

struct Configs {
    nbd: Arc<ServerConfig>,
    agent: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    leaf_expires_at: OffsetDateTime,
}

/// The configurations in force.
pub struct ServerTls {
    configs: ArcSwap<Configs>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("leaf_expires_at", &self.leaf_expires_at()).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Configurations that show `leaf` and take agents' certificates of `ca`.
    ///
    /// # Errors
    /// When rustls does not take the key or the CA.
    pub fn new(ca: &HubCa, leaf: &ServerLeaf) -> Result<Self, TunnelError> {
        Ok(Self { configs: ArcSwap::from_pointee(configs(ca, leaf)?) })
    }

    /// Puts a renewed certificate in force for every handshake that begins from now on.
    ///
    /// # Errors
    /// See [`ServerTls::new`]; the old ones then stay in force.
    pub fn replace(&self, ca: &HubCa, leaf: &ServerLeaf) -> Result<(), TunnelError> {
        self.configs.store(Arc::new(configs(ca, leaf)?));
        Ok(())
    }

    /// Until when the certificate in force is valid.
    #[must_use]
    pub fn leaf_expires_at(&self) -> OffsetDateTime {
        self.configs.load().leaf_expires_at
    }

    /// The configuration for one class of connection.
    #[must_use]
    pub fn config(&self, class: RouteClass) -> Arc<ServerConfig> {
        let configs = self.configs.load();
        Arc::clone(match class {
            RouteClass::Nbd => &configs.nbd,
            RouteClass::AgentControl => &configs.agent,
            RouteClass::Http => &configs.http,
        })
    }

    /// Looks once whether the certificate is due, and puts its successor in force. `true` when it did.
    ///
    /// # Errors
    /// When no new certificate can be made or stored; the old one stays in force.
    pub fn renew_if_due(&self, hub: &HubIdentity, now: OffsetDateTime) -> Result<bool, TunnelError> {
        let leaf = hub.server_leaf(now)?;
        if *leaf.certificate() == self.configs.load().leaf {
            return Ok(false);
        }
        self.replace(hub.ca(), &leaf)?;
        Ok(true)
    }

    /// Renews the certificate whenever it is due, until shutdown.
    pub async fn keep_renewed(&self, hub: &HubIdentity, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(RENEWAL_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.renew_if_due(hub, OffsetDateTime::now_utc()) {
                Ok(true) => tracing::info!(expires_at = %self.leaf_expires_at(), "renewed the server certificate"),
                Ok(false) => {}
                Err(error) => {
                    let ends = self.leaf_expires_at();
                    tracing::error!(error = &error as &dyn std::error::Error, %ends, "cannot renew the server certificate");
                }
            }
        }
    }
}

fn configs(ca: &HubCa, leaf: &ServerLeaf) -> Result<Configs, TunnelError> {
    Ok(Configs {
        nbd: Arc::new(for_agents(ca, leaf, &[ALPN_NBD_ZSTD, ALPN_NBD])?),
        agent: Arc::new(for_agents(ca, leaf, &[ALPN_AGENT])?),
        http: Arc::new(for_everybody(ca, leaf)?),
        leaf: leaf.certificate().clone(),
        leaf_expires_at: leaf.expires_at(),
    })
}

/// The first of the protocols that the client offers, too, is spoken. A client certificate of our CA is required. Sessions are never resumed: every connection proves its certificate.
fn for_agents(ca: &HubCa, leaf: &ServerLeaf, alpn: &[&[u8]]) -> Result<ServerConfig, TunnelError> {
    const DOING: &str = "preparing TLS for agents";
    let provider = agent_provider();
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).map_err(|e| failed(DOING)(e.into()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| failed(DOING)(e.into()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(|e| failed(DOING)(e.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(ca, leaf), leaf.key().into())
        .map_err(|e| failed(DOING)(e.into()))?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // The data plane seals its own records; see `channel`.
    config.enable_secret_extraction = !alpn.contains(&ALPN_AGENT);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn for_everybody(ca: &HubCa, leaf: &ServerLeaf) -> Result<ServerConfig, TunnelError> {
    const DOING: &str = "preparing TLS for HTTP";
    let mut config = ServerConfig::builder_with_provider(web_provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|e| failed(DOING)(e.into()))?
        .with_no_client_auth()
        .with_single_cert(chain(ca, leaf), leaf.key().into())
        .map_err(|e| failed(DOING)(e.into()))?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// The CA is part of the chain, because an enrolling agent knows only 80 bits of it.
fn chain(ca: &HubCa, leaf: &ServerLeaf) -> Vec<CertificateDer<'static>> {
    vec![leaf.certificate().clone(), ca.certificate().clone()]
}
