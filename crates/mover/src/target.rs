//! The replica's side of a copy: one NBD export over several TLS connections of the agent's identity.

use model::Extent;
use nbd::client::Client;

use crate::error::MoverError;

/// Longest zeroing request, in bytes: bounded so that progress and cancellation are seen.
const MAX_ZERO_BYTES: u64 = 1 << 30;

/// The export a disk is written to.
pub struct Target {
    connections: Vec<Client>,
}

impl Target {
    /// Uses `connections` (at least one) that were all opened on the same export.
    ///
    /// # Errors
    /// When there is none, when they disagree on the size, or when the export cannot be written.
    pub fn new(connections: Vec<Client>, export_name: &str, capacity_bytes: u64) -> Result<Self, MoverError> {
        let Some(first) = connections.first() else {
            return Err(MoverError::NoConnection { export: export_name.to_owned() });
        };
        let size_bytes = first.size_bytes();
        if connections.iter().any(|other| other.size_bytes() != size_bytes) {
            return Err(MoverError::SizesDiffer { export: export_name.to_owned() });
        }
        if size_bytes < capacity_bytes {
            return Err(MoverError::TargetTooSmall { export: export_name.to_owned(), size_bytes, capacity_bytes });
        }
        if first.is_read_only() {
            return Err(MoverError::TargetReadOnly { export: export_name.to_owned() });
        }
        Ok(Self { connections })
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The connection a worker uses.
    pub(crate) fn connection(&self, worker: usize) -> &Client {
        &self.connections[worker % self.connections.len()]
    }

    /// Makes an extent zero without sending bytes.
    ///
    /// # Errors
    /// When the gateway cannot do it.
    pub(crate) async fn zero(&self, extent: Extent) -> Result<(), MoverError> {
        let mut at = extent.offset;
        while at < extent.end() {
            let length = MAX_ZERO_BYTES.min(extent.end() - at);
            self.connection(0)
                .write_zeroes(Extent::new(at, length), true)
                .await
                .map_err(|source| MoverError::write_target(at, source))?;
            at += length;
        }
        Ok(())
    }

    /// Everything written over any of the connections is durable when this returns.
    ///
    /// # Errors
    /// When a flush fails: nothing may be called done then.
    pub async fn flush(&self) -> Result<(), MoverError> {
        for connection in &self.connections {
            connection.flush().await.map_err(|source| MoverError::Flush { source })?;
        }
        Ok(())
    }
}
