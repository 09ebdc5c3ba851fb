//! Who the two ends are, and the files that say so.
//!
//! Hub, in its state folder: `hub-ca.key` (0600), `hub-ca.crt`, `server.pem` (0600: key and certificate).
//! Agent, in its state folder: `enrolment.key` (0600, only while it enrols) and then `agent.pem` (0600: key,
//! certificate and the hub's CA in one file, so that they can never disagree after a crash).

mod agent;
mod hub_ca;
mod server_leaf;

pub use agent::{AGENT_VALIDITY, AgentIdentity, AgentKey, AgentPublicKey};
pub use hub_ca::HubCa;
pub use server_leaf::{HubIdentity, SERVER_VALIDITY, ServerLeaf};

use rcgen::SerialNumber;
use time::Duration;

use crate::error::TunnelError;

/// How far certificates are dated back, for peers whose clock is behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::hours(1);
/// Bytes of a certificate's serial number (RFC 5280 §4.1.2.2 allows 20).
const SERIAL_BYTES: usize = 16;

/// A random, positive serial number.
pub(crate) fn random_serial() -> Result<SerialNumber, TunnelError> {
    let mut bytes: [u8; SERIAL_BYTES] = random_bytes()?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Random bytes for keys, codes and nonces.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], TunnelError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|source| TunnelError::Crypto { doing: "drawing random bytes", source: source.into() })?;
    Ok(bytes)
}
