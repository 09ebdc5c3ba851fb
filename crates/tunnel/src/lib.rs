//! The one port between the two sites: identities, pairing, TLS 1.3, routing by ALPN, and the agent's reversed HTTP/2.
//!
//! Read in this order: `identity` (who the hub and an agent are), `pairing`, `challenge`, `csr`, `issue` (how an agent
//! gets its certificate), `tls` and `route` (which connections are taken), `accept` (the hub's side), `dial`, `link`
//! and `reverse` (the agent's side and the control connection), `handshake`, `channel`, `record` and `cipher` (the
//! data plane's connections), `data`, `framed`, `frames` and `judge` (what may be compressed on them), `pace` and `meter`
//! (how much is sent), `front` (the gateway's hand-over to the control plane).
//!
//! What is absent: the database, HTTP handlers and what is said in NBD. Whether an enrolment is approved or revoked is for the caller
//! to decide after [`accept::Acceptor`] has said who the peer is.

pub mod accept;
pub mod certificate;
pub mod challenge;
pub mod channel;
pub mod cipher;
pub mod csr;
pub mod data;
pub mod dial;
pub mod error;
pub mod frames;
pub mod front;
pub mod identity;
pub mod issue;
pub mod link;
pub mod meter;
pub mod pace;
pub mod pairing;
pub mod refusal;
pub mod reverse;
pub mod route;
pub mod tls;

mod abort_io;
mod framed;
mod h2_connection;
mod handshake;
mod judge;
mod pem;
mod record;
mod socket;
mod stall;
mod state_file;

pub use accept::{AcceptLimits, Accepted, AcceptedNbd, Acceptor, Incoming, TunnelStream};
pub use certificate::PeerIdentity;
pub use challenge::Challenge;
pub use channel::TlsChannel;
pub use data::{DataChannel, DataLink};
pub use dial::{Dialer, HubAddress, HubHttp, HubStream, dial_http};
pub use error::TunnelError;
pub use front::{FrontKind, FrontPreface};
pub use identity::{AgentIdentity, AgentKey, AgentPublicKey, HubCa, HubIdentity, ServerLeaf};
pub use issue::{PairingRecord, issue_agent_certificate};
pub use link::{AgentLink, LinkState};
pub use meter::{WireMeter, WireView};
pub use pace::{DiskPace, JobPace, Pacer};
pub use pairing::{CaPrefix, PairingCode};
pub use refusal::Refusal;
pub use reverse::{ControlConnection, serve_control};
pub use route::Route;
pub use tls::client::HubTrust;
pub use tls::server::ServerTls;
