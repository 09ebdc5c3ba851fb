//! What can go wrong in the tunnel, in the words of the operator who must mend it. No behaviour beyond describing.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::FailureKind;

use crate::front::FrontError;
use crate::pairing::PairingCodeError;
use crate::refusal::Refusal;

/// A lower error whose type is of no interest to callers.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Why something in the tunnel failed. `Display` never repeats the source.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// A file of the identity cannot be read.
    #[error("cannot read {}", path.display())]
    ReadState {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the identity cannot be written.
    #[error("cannot write {}", path.display())]
    WriteState {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the identity is there but cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    DamagedState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What the hub sent at the end of an enrolment or renewal does not belong together; nothing was stored.
    #[error("the certificate sent by the hub cannot be used: {reason}")]
    IdentityRejected {
        /// What does not belong together.
        reason: String,
    },
    /// A key, a certificate or a TLS configuration could not be made.
    #[error("{doing} failed")]
    Crypto {
        /// What was being made.
        doing: &'static str,
        /// What the library said.
        #[source]
        source: BoxedError,
    },
    /// A pairing code that cannot be one.
    #[error(transparent)]
    PairingCode(#[from] PairingCodeError),
    /// A certificate signing request that is not acceptable.
    #[error("the certificate request is not acceptable: {reason}")]
    InvalidCsr {
        /// What is wrong with it.
        reason: String,
    },
    /// An enrolment's record from which no certificate may be issued.
    #[error("no certificate can be issued for this enrolment: {reason}")]
    InvalidRecord {
        /// What is wrong with it.
        reason: String,
    },
    /// The answer to the challenge was not made with the enrolled key.
    #[error("the challenge was not signed with the key that is being enrolled")]
    ChallengeFailed,
    /// A hub address that is none.
    #[error("`{text}` is not a hub address: {reason}")]
    HubAddress {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No TCP connection to the hub.
    #[error("the hub {hub} cannot be reached")]
    HubUnreachable {
        /// Host and port.
        hub: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The hub did not answer in time.
    #[error("the hub {hub} did not answer within {} s while {doing}", after.as_secs())]
    HubSilent {
        /// Host and port.
        hub: String,
        /// What was being waited for.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// What answered is not the hub this agent was paired with.
    #[error("what answers at {hub} does not hold a certificate of the hub this agent is paired with")]
    NotThePinnedHub {
        /// Host and port.
        hub: String,
        /// What the verification said.
        #[source]
        source: BoxedError,
    },
    /// The hub's certificate is outside its validity.
    #[error("the certificate of the hub {hub} is not valid at this time")]
    HubCertificateExpired {
        /// Host and port.
        hub: String,
        /// What the verification said.
        #[source]
        source: BoxedError,
    },
    /// This agent's own certificate is outside its validity.
    #[error("the hub {hub} says this agent's certificate has expired")]
    AgentCertificateExpired {
        /// Host and port.
        hub: String,
    },
    /// The hub does not take this agent's certificate.
    #[error("the hub {hub} does not accept this agent's certificate")]
    AgentCertificateRefused {
        /// Host and port.
        hub: String,
        /// What the hub said.
        #[source]
        source: BoxedError,
    },
    /// The hub knows who we are and said no.
    #[error("the hub {hub} refused this agent: {reason}")]
    Refused {
        /// Host and port.
        hub: String,
        /// Its reason.
        reason: Refusal,
    },
    /// TLS with the hub failed in some other way.
    #[error("TLS with the hub {hub} failed")]
    HubHandshake {
        /// Host and port.
        hub: String,
        /// What was seen.
        #[source]
        source: io::Error,
    },
    /// The hub closed a fresh connection without a word.
    #[error("the hub {hub} closed the connection before it said anything")]
    HubClosedEarly {
        /// Host and port.
        hub: String,
    },
    /// A connecting peer failed in TLS.
    #[error("TLS with {remote} failed")]
    PeerHandshake {
        /// Where it came from.
        remote: SocketAddr,
        /// What was seen.
        #[source]
        source: io::Error,
    },
    /// A connecting peer took too long.
    #[error("{remote} did not finish its TLS handshake within {} ms", after.as_millis())]
    HandshakeTimeout {
        /// Where it came from.
        remote: SocketAddr,
        /// The deadline.
        after: Duration,
    },
    /// One address has too many unfinished handshakes.
    #[error("{remote} has too many unfinished TLS handshakes")]
    TooManyHandshakes {
        /// Where it came from.
        remote: SocketAddr,
    },
    /// A certificate of our CA that names no enrolment.
    #[error("the certificate of {remote} names no enrolment: {reason}")]
    PeerCertificate {
        /// Where it came from.
        remote: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP/2 connection to or from a peer broke.
    #[error("the HTTP/2 connection with {peer} broke")]
    Http2 {
        /// The other side.
        peer: String,
        /// What was seen.
        #[source]
        source: hyper::Error,
    },
    /// A front connection did not begin as it must.
    #[error(transparent)]
    Front(#[from] FrontError),
}

impl TunnelError {
    /// The kind that decides on retries and status codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::HubUnreachable { .. }
            | Self::HubSilent { .. }
            | Self::HubClosedEarly { .. }
            | Self::HubHandshake { .. }
            | Self::Http2 { .. } => FailureKind::Unavailable,
            Self::NotThePinnedHub { .. }
            | Self::HubCertificateExpired { .. }
            | Self::AgentCertificateExpired { .. }
            | Self::AgentCertificateRefused { .. }
            | Self::ChallengeFailed
            | Self::PeerHandshake { .. }
            | Self::HandshakeTimeout { .. }
            | Self::PeerCertificate { .. } => FailureKind::Unauthenticated,
            Self::Refused { reason, .. } => reason.kind(),
            Self::PairingCode(_)
            | Self::InvalidCsr { .. }
            | Self::InvalidRecord { .. }
            | Self::IdentityRejected { .. }
            | Self::HubAddress { .. }
            | Self::Front(_) => FailureKind::Invalid,
            Self::TooManyHandshakes { .. } => FailureKind::Exhausted,
            Self::ReadState { .. } | Self::WriteState { .. } | Self::DamagedState { .. } | Self::Crypto { .. } => {
                FailureKind::Internal
            }
        }
    }

    /// What the operator can do about it, when there is something.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::HubUnreachable { .. } => Some(
                "Check the hub's address, that the gateway is running, and that TCP port 443 is open from this machine to the hub.",
            ),
            Self::HubSilent { .. } => Some(
                "Check that the hub's services are running and that nothing between the two sites holds the connection back.",
            ),
            Self::NotThePinnedHub { .. } => Some(
                "Something else answers at this address, a TLS-inspecting proxy sits in between, or the hub was reinstalled. Exempt the hub from inspection; if the hub has a new identity, pair this agent again with a new code.",
            ),
            Self::HubCertificateExpired { .. } => Some(
                "Compare the clocks of this machine and of the hub; the hub renews its certificate by itself while its gateway runs.",
            ),
            Self::AgentCertificateExpired { .. } => Some(
                "Compare the clocks of both machines; if they agree, renew the certificate or pair this agent again.",
            ),
            Self::HubClosedEarly { .. } => Some(
                "The hub's control plane may be restarting; the connection is tried again. If it lasts, look at the gateway's log.",
            ),
            Self::HubHandshake { .. } => Some(
                "Check that the address and port are those of the hub's gateway and that no proxy changes the connection.",
            ),
            Self::Refused { reason, .. } => Some(reason.remedy()),
            Self::PairingCode(error) => Some(error.remedy()),
            Self::ReadState { .. } | Self::WriteState { .. } => {
                Some("Check that the state folder exists, has free space and belongs to the service's user.")
            }
            Self::DamagedState { .. } => Some(
                "Restore the file from a backup. On an agent it may be deleted instead; the agent must then be paired again.",
            ),
            Self::AgentCertificateRefused { .. } | Self::IdentityRejected { .. } => {
                Some("Pair this agent again with a new code from the hub (`migratekit agent pair`).")
            }
            Self::HubAddress { .. } => Some("Give it as `host`, `host:port` or `[ipv6]:port`."),
            _ => None,
        }
    }
}
