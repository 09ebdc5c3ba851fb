//! The gateway's control API (Unix socket only): exports, connections, verification.

use bytes::BufMut;
use model::FailureKind;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::client::{Client, ClientError, HttpTransport, ResponseBody};
use crate::problem::Problem;

/// Size of a [`DigestRecord`] on the wire, in bytes.
pub const DIGEST_RECORD_BYTES: usize = 44;
/// In the wire's `leaf_count`: see [`DigestRecord::is_scrubbed`].
const SCRUBBED_BIT: u32 = 1 << 31;

/// "These leaves each have this BLAKE3 digest": the unit of the digest streams of agent and gateway.
///
/// On the wire: `first_leaf` u64, `leaf_count` u32 whose highest bit says `is_scrubbed`, both little-endian, then the 32
/// bytes of the digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRecord {
    /// Index of the first leaf (offset / 64 KiB).
    pub first_leaf: u64,
    /// How many leaves in a row; at least one, less than 2^31.
    pub leaf_count: u32,
    /// Whether nothing was sent: change tracking calls them unchanged.
    pub is_scrubbed: bool,
    /// The digest each of them has.
    pub digest: [u8; 32],
}

impl DigestRecord {
    /// Appends the wire form.
    pub fn encode(&self, to: &mut impl BufMut) {
        to.put_u64_le(self.first_leaf);
        to.put_u32_le(self.leaf_count | if self.is_scrubbed { SCRUBBED_BIT } else { 0 });
        to.put_slice(&self.digest);
    }

    /// Reads one record of exactly [`DIGEST_RECORD_BYTES`] bytes.
    ///
    /// # Errors
    /// A problem when no leaf is named or the last leaf's index does not fit.
    pub fn decode(bytes: &[u8; DIGEST_RECORD_BYTES]) -> Result<Self, Problem> {
        let (mut first, mut count, mut digest) = ([0; 8], [0; 4], [0; 32]);
        first.copy_from_slice(&bytes[..8]);
        count.copy_from_slice(&bytes[8..12]);
        digest.copy_from_slice(&bytes[12..]);
        let count = u32::from_le_bytes(count);
        let record = Self {
            first_leaf: u64::from_le_bytes(first),
            leaf_count: count & !SCRUBBED_BIT,
            is_scrubbed: count & SCRUBBED_BIT != 0,
            digest,
        };
        if record.leaf_count == 0 || record.first_leaf.checked_add(u64::from(record.leaf_count)).is_none() {
            return Err(Problem::new(FailureKind::Invalid, "a digest record names no leaf"));
        }
        Ok(record)
    }
}

/// What an export's NBD description says of the disk it was made for, so that a writer can prove it writes to the
/// right one before the first byte.
#[must_use]
pub fn export_description(disk_uuid: &str) -> String {
    format!("migratekit disk {disk_uuid}")
}

/// An export as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExportView {
    /// NBD export name.
    pub export_name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// The only agent that may open it.
    pub enrollment_id: Option<String>,
    /// Connections open at the moment.
    pub connections: u32,
}

/// An open NBD connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConnectionView {
    /// Number of the connection since the gateway started.
    pub id: u64,
    /// NBD export name, once chosen.
    pub export_name: Option<String>,
    /// Address of the peer.
    pub remote_address: String,
    /// The agent's enrolment; none on the local port.
    pub enrollment_id: Option<String>,
    /// Bytes written by the peer.
    pub bytes_written: u64,
    /// Bytes read by the peer.
    pub bytes_read: u64,
    /// How long the device worked for it, in milliseconds.
    #[serde(default)]
    pub device_ms: u64,
    /// When it was opened.
    #[serde(with = "time::serde::rfc3339")]
    pub opened_at: OffsetDateTime,
}

/// What the records of a verification cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Only the leaves named.
    Named,
    /// The whole disk: leaves not named must be zero.
    Full,
}

/// Query of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VerifyQuery {
    /// Size of the source disk in bytes: the replica's volume may be larger.
    pub capacity_bytes: u64,
    /// What the records cover.
    pub coverage: Coverage,
}

/// One leaf whose bytes on the device are not the source's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeafMismatch {
    /// Index of the leaf (offset / 64 KiB).
    pub leaf: u64,
    /// The source's digest, hex.
    pub expected: String,
    /// The device's digest, hex.
    pub found: String,
    /// Whether change tracking had called it unchanged.
    #[serde(default)]
    pub is_scrubbed: bool,
}

/// What the gateway found when it re-read the device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VerifyReport {
    /// Leaves of the disk.
    pub leaves_total: u64,
    /// Leaves re-read and compared.
    pub leaves_verified: u64,
    /// Bytes read from the device.
    pub bytes_read: u64,
    /// Leaves that differ.
    pub mismatch_count: u64,
    /// Those of them that change tracking had called unchanged.
    #[serde(default)]
    pub omission_count: u64,
    /// The first few that differ.
    pub mismatches: Vec<LeafMismatch>,
}

/// Query of what concerns one run of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// The replication.
    pub job_id: String,
}

/// A run that was sealed: what of it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SealReport {
    /// Whether there is a journal, which is to be committed with these lengths; else the run wrote in place, or nothing.
    pub journal: bool,
    /// Length of the index, in bytes; 0 without a journal.
    pub index_bytes: u64,
    /// Length of the data, in bytes; 0 without a journal.
    pub data_bytes: u64,
    /// How much of the disk the run has written durably, in bytes.
    pub durable_bytes: u64,
}

/// Asks to write the oldest recovery points of an export into its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MergePoints {
    /// How many of the newest are left as they are.
    pub keep: u32,
}

/// A recovery point whose journal was written into the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WrittenPoint {
    /// The recovery point.
    pub point_id: String,
    /// The replication it was committed with.
    pub job_id: String,
    /// Bytes of data written.
    pub data_bytes: u64,
    /// Bytes zeroed.
    pub zero_bytes: u64,
}

/// What a merge or an application did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PointsReport {
    /// What was written, oldest first.
    pub written: Vec<WrittenPoint>,
    /// Recovery points that are kept now.
    pub kept: u32,
}

/// Asks to write recovery points into the volume and to keep them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApplyPoints {
    /// The newest that is written (its id); all when absent.
    #[serde(default)]
    pub through: Option<String>,
}

/// What was discarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DiscardReport {
    /// Recovery points given up.
    pub discarded: u64,
}

/// What the gateway does for an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExportWork {
    /// How long its device worked for agents, in milliseconds since the gateway started: only differences mean
    /// anything.
    pub device_ms: u64,
    /// Leaves compared by the verification that is under way; none when there is none.
    pub leaves_verified: Option<u64>,
}

/// Client of the gateway's control socket.
#[derive(Clone)]
pub struct GatewayClient {
    transport: HttpTransport,
    client: Client,
}

impl GatewayClient {
    /// To the gateway behind `transport`.
    #[must_use]
    pub fn new(transport: HttpTransport) -> Self {
        let client = Client::new(std::sync::Arc::new(transport.clone()));
        Self { transport, client }
    }

    /// Re-reads the device behind an export and compares it with `digests` (a stream of [`DigestRecord`]s).
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn verify(
        &self,
        export_name: &str,
        query: VerifyQuery,
        digests: ResponseBody,
    ) -> Result<VerifyReport, ClientError> {
        let coverage = match query.coverage {
            Coverage::Named => "named",
            Coverage::Full => "full",
        };
        let path = format!("/exports/{export_name}/verify?capacity_bytes={}&coverage={coverage}", query.capacity_bytes);
        self.transport.post_stream(&path, digests).await
    }

    /// What the gateway does for an export; an export it never served has nothing done for it.
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn export_work(&self, export_name: &str) -> Result<ExportWork, ClientError> {
        self.client.get(&format!("/exports/{export_name}/work")).await
    }

    /// Closes every connection to an export, and takes back that a run of it was sealed.
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn close(&self, export_name: &str) -> Result<(), ClientError> {
        self.client.post(&format!("/exports/{export_name}/close"), &()).await
    }

    /// Makes everything a run has written durable and refuses further writes of it, until an agent opens the same
    /// generation again. May be repeated.
    ///
    /// # Errors
    /// The gateway's problem (the medium, a damaged journal), or no answer.
    pub async fn seal(&self, export_name: &str, job_id: &str) -> Result<SealReport, ClientError> {
        self.client.post(&format!("/exports/{export_name}/seal?job_id={job_id}"), &()).await
    }

    /// Deletes the journal or ledger of a run that was not committed; a committed one is left alone. May be repeated.
    ///
    /// # Errors
    /// The gateway's problem (the run is still connected: close first), or no answer.
    pub async fn forget(&self, export_name: &str, job_id: &str) -> Result<(), ClientError> {
        self.client.post(&format!("/exports/{export_name}/forget?job_id={job_id}"), &()).await
    }

    /// Writes the oldest recovery points into the volume until `keep` are left. One that takes longer than an answer may
    /// is waited for by asking again; it can be broken off anywhere and asked for again.
    ///
    /// # Errors
    /// The gateway's problem (a point below the newest to be merged is being read: unavailable), or no answer.
    pub async fn merge(&self, export_name: &str, keep: u32) -> Result<PointsReport, ClientError> {
        self.client.post(&format!("/exports/{export_name}/merge"), &MergePoints { keep }).await
    }

    /// Writes recovery points, up to `through` or all, into the volume and leaves them kept: for a failover, which has
    /// taken a volume snapshot before. May be repeated; a later point that was applied once is not taken back by this.
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn apply(&self, export_name: &str, through: Option<&str>) -> Result<PointsReport, ClientError> {
        let asked = ApplyPoints { through: through.map(str::to_owned) };
        self.client.post(&format!("/exports/{export_name}/apply"), &asked).await
    }

    /// Gives up every kept recovery point of an export, and what a run that was not committed has left: the volume stays
    /// as it is. May be repeated.
    ///
    /// # Errors
    /// The gateway's problem (a run is still connected), or no answer.
    pub async fn discard(&self, export_name: &str) -> Result<DiscardReport, ClientError> {
        self.client.post(&format!("/exports/{export_name}/discard"), &()).await
    }

    /// The open NBD connections.
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn connections(&self) -> Result<Vec<ConnectionView>, ClientError> {
        self.client.get("/connections").await
    }

    /// Closes every NBD connection of an agent.
    ///
    /// # Errors
    /// The gateway's problem, or no answer.
    pub async fn close_agent(&self, enrollment_id: &str) -> Result<(), ClientError> {
        self.client.post(&format!("/agents/{enrollment_id}/close"), &()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_record_survives_the_wire() {
        let record = DigestRecord { first_leaf: 7, leaf_count: 3, is_scrubbed: true, digest: [9; 32] };
        let mut wire = Vec::new();
        record.encode(&mut wire);
        let bytes: [u8; DIGEST_RECORD_BYTES] = wire.try_into().unwrap();
        assert_eq!(DigestRecord::decode(&bytes).unwrap(), record);
    }

    #[test]
    fn a_record_without_leaves_or_past_the_end_of_numbers_is_refused() {
        let mut wire = [0u8; DIGEST_RECORD_BYTES];
        assert!(DigestRecord::decode(&wire).is_err());
        wire[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        wire[8] = 1;
        assert!(DigestRecord::decode(&wire).is_err());
    }
}
