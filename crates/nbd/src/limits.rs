//! What a server grants one connection. Every number is a bound on memory or time.

use std::time::Duration;

use crate::proto::wire::MAX_PAYLOAD_BYTES;

/// Largest data of an option that is read, in bytes: a longest name with some queries.
pub(crate) const MAX_OPTION_BYTES: u32 = 64 * 1024;
/// Largest data of an option that is read past to refuse it, in bytes; beyond, the connection is closed.
pub(crate) const MAX_SKIPPED_OPTION_BYTES: u32 = 1 << 20;
/// Options in one handshake: a client that describes every export of a long list needs two for each.
pub(crate) const MAX_OPTIONS: u32 = 20_000;
/// Regions in one answer to `BLOCK_STATUS`: 64 KiB of descriptors.
pub(crate) const MAX_STATUS_REGIONS: usize = 8192;

/// Room a channel needs to receive into, in bytes: one TLS record with its inner content type (RFC 8446 section 5.2).
pub const MIN_SPARE_BYTES: usize = 16 * 1024 + 1;
/// Longest piece of a payload handed to the device at once, in bytes: it is still in the processor's cache then.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;
/// Bytes a server's connection keeps of what it received: a piece, its head, and most of the next.
pub(crate) const INTAKE_BYTES: usize = 2 * PIECE_BYTES + 4 * MIN_SPARE_BYTES;

/// Bounds of one connection of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest payload of a request or a read, in bytes; at most 32 MiB.
    pub max_payload_bytes: u32,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// How long the request under way may take after a shutdown was asked for.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload_bytes: MAX_PAYLOAD_BYTES,
            handshake_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
