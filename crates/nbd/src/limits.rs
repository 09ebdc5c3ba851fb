//! What a server grants one connection. Every number is a bound on memory, threads or time.

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

/// Bounds of one connection of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest payload of a request or a read, in bytes; at most 32 MiB.
    pub max_payload_bytes: u32,
    /// Requests carried out or waiting at a time.
    pub requests_in_flight: u32,
    /// Bytes of payloads held at a time; one request longer than this is carried out alone.
    pub bytes_in_flight: u32,
    /// Threads working for one connection at a time.
    pub workers: usize,
    /// How long the handshake may take.
    pub handshake_timeout: Duration,
    /// How long requests already accepted may take after a shutdown was asked for.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload_bytes: MAX_PAYLOAD_BYTES,
            // nbdcopy keeps 64 requests under way.
            requests_in_flight: 64,
            // 64 requests of 256 KiB.
            bytes_in_flight: 16 << 20,
            workers: 4,
            handshake_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
