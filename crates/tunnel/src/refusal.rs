//! How the hub tells an authenticated agent that it may not come in, before the first byte of the real protocol.
//!
//! One text line, `migratekit-refused: <reason>`. NBD opens with `NBDMAGIC` and HTTP/2 with `PRI`, so the first byte
//! tells the two apart. It is sent only to peers that hold a certificate of our CA.

use std::fmt;
use std::time::Duration;

use model::FailureKind;
use nbd::channel::Channel;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::data::DataChannel;

/// What a refusal line begins with.
pub const REFUSAL_PREFIX: &str = "migratekit-refused: ";
/// Longest refusal line read, in bytes.
pub const MAX_REFUSAL_BYTES: usize = 64;
/// How long a refused peer may take to read the reason.
const REFUSE_DEADLINE: Duration = Duration::from_secs(5);

/// Why the hub turns an authenticated agent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No enrolment of this id and key.
    Unknown,
    /// The enrolment waits for an operator.
    NotApproved,
    /// The enrolment was revoked.
    Revoked,
    /// The hub cannot serve it at the moment.
    Busy,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Unknown, Self::NotApproved, Self::Revoked, Self::Busy];

    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotApproved => "not-approved",
            Self::Revoked => "revoked",
            Self::Busy => "busy",
        }
    }

    /// The line as it goes over the wire.
    #[must_use]
    pub fn line(self) -> String {
        format!("{REFUSAL_PREFIX}{}\n", self.word())
    }

    /// Reads a refusal from the line a hub sent; a reason this version does not know counts as [`Refusal::Busy`].
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let word = line.strip_prefix(REFUSAL_PREFIX.as_bytes())?.strip_suffix(b"\n")?;
        Some(Self::ALL.into_iter().find(|reason| reason.word().as_bytes() == word).unwrap_or(Self::Busy))
    }

    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(self) -> FailureKind {
        match self {
            Self::Unknown | Self::NotApproved | Self::Revoked => FailureKind::Forbidden,
            Self::Busy => FailureKind::Unavailable,
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unknown => {
                "The hub no longer knows this agent. Pair it again with a new code (`migratekit agent pair`)."
            }
            Self::NotApproved => "An operator must approve this agent on the hub (`migratekit agent approve`).",
            Self::Revoked => "The agent was revoked on the hub. To use it again, pair it with a new code.",
            Self::Busy => "The connection is tried again by itself; look at the hub's log if it lasts.",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its enrolment is not known",
            Self::NotApproved => "its enrolment is not approved",
            Self::Revoked => "its enrolment was revoked",
            Self::Busy => "it cannot serve it at the moment",
        })
    }
}

/// Tells the peer why, and closes. A peer that is gone or does not read is given up on; there is nothing to report.
pub async fn refuse<S: AsyncWrite + Unpin>(mut stream: S, reason: Refusal) {
    let farewell = async {
        stream.write_all(reason.line().as_bytes()).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(REFUSE_DEADLINE, farewell).await {
        Ok(Ok(())) => tracing::debug!(%reason, "peer refused"),
        Ok(Err(error)) => tracing::debug!(%reason, %error, "peer refused, and gone before it could read why"),
        Err(_) => tracing::debug!(%reason, "peer refused, and did not read why"),
    }
}

/// The same on a connection of the data plane, where it stands before any frame.
pub async fn refuse_channel(channel: DataChannel, reason: Refusal) {
    let mut channel = channel.into_tls();
    let Ok(hangup) = channel.hangup() else { return };
    let farewell = tokio::task::spawn_blocking(move || {
        if let Err(error) = channel.send(&[reason.line().as_bytes()]) {
            tracing::debug!(%reason, %error, "peer refused, and gone before it could read why");
        }
        channel.finish();
    });
    if tokio::time::timeout(REFUSE_DEADLINE, farewell).await.is_err() {
        tracing::debug!(%reason, "peer refused, and did not read why");
        hangup.cut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire() {
        for reason in Refusal::ALL {
            assert_eq!(Refusal::parse(reason.line().as_bytes()), Some(reason));
            assert!(reason.line().len() <= MAX_REFUSAL_BYTES);
        }
    }

    #[test]
    fn other_protocols_are_not_refusals() {
        assert_eq!(Refusal::parse(b"NBDMAGICIHAVEOPT\n"), None);
        assert_eq!(Refusal::parse(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(Refusal::parse(b"migratekit-refused: revoked"), None);
        assert_eq!(Refusal::parse(b"migratekit-refused: of a later version\n"), Some(Refusal::Busy));
    }
}
