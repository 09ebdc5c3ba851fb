//! The front socket between gateway and control plane: one JSON line that says what follows, then raw bytes both ways.
//!
//! The socket is local and only the service's user may open it; the line is read strictly all the same.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::certificate::{PeerIdentity, is_enrollment_id, is_fingerprint};
use crate::error::TunnelError;
use crate::route::Route;

/// Longest preface line with its line end, in bytes.
pub const MAX_PREFACE_BYTES: usize = 4096;
/// How long the other process may take for the line.
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// Buffer in front of the raw bytes, in bytes; larger reads go past it.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What follows the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrontKind {
    /// HTTP/1.1 or HTTP/2 of a browser or command line, to be served as public traffic.
    Http,
    /// An agent's reversed HTTP/2; the reader is the client.
    Agent,
}

/// The line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontPreface {
    /// What follows.
    pub kind: FrontKind,
    /// Where the connection came from.
    pub remote: SocketAddr,
    /// The agent's enrolment (`vma_enrollments.id`); only with `agent`.
    pub enrollment_id: Option<String>,
    /// The fingerprint of the agent's key (`vma_enrollments.vma_fingerprint`); only with `agent`.
    pub fingerprint: Option<String>,
}

/// Why a front connection's first line is not acceptable.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// No line end within the bound.
    #[error("the front connection's first line is longer than {MAX_PREFACE_BYTES} bytes")]
    TooLong,
    /// It ended before the line did.
    #[error("the front connection ended before its first line did")]
    Truncated,
    /// It is not the JSON of the contract.
    #[error("the front connection's first line is not understood")]
    Malformed(#[source] serde_json::Error),
    /// The fields contradict each other.
    #[error("the front connection's first line contradicts itself: {0}")]
    Contradiction(&'static str),
    /// The line did not come in time.
    #[error("the front connection's first line took longer than {} s", PREFACE_DEADLINE.as_secs())]
    Late,
    /// Reading or writing failed.
    #[error("the front connection broke at its first line")]
    Io(#[source] std::io::Error),
}

impl FrontPreface {
    /// The line for a connection of this route; `None` for NBD, which never leaves the gateway.
    #[must_use]
    pub fn for_route(route: &Route, remote: SocketAddr) -> Option<Self> {
        match route {
            Route::Nbd(_) => None,
            Route::Http => Some(Self { kind: FrontKind::Http, remote, enrollment_id: None, fingerprint: None }),
            Route::AgentControl(PeerIdentity { enrollment_id, fingerprint, .. }) => Some(Self {
                kind: FrontKind::Agent,
                remote,
                enrollment_id: Some(enrollment_id.clone()),
                fingerprint: Some(fingerprint.clone()),
            }),
        }
    }

    /// The line with its line end.
    ///
    /// # Errors
    /// When the fields contradict each other.
    pub fn encode(&self) -> Result<Vec<u8>, FrontError> {
        self.check()?;
        let mut line = serde_json::to_vec(self).map_err(FrontError::Malformed)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads the line, which must end in its only line feed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, FrontError> {
        if line.len() > MAX_PREFACE_BYTES {
            return Err(FrontError::TooLong);
        }
        let json = line.strip_suffix(b"\n").ok_or(FrontError::Truncated)?;
        let preface: Self = serde_json::from_slice(json).map_err(FrontError::Malformed)?;
        preface.check()?;
        Ok(preface)
    }

    fn check(&self) -> Result<(), FrontError> {
        let identity = (self.enrollment_id.as_deref(), self.fingerprint.as_deref());
        match (self.kind, identity) {
            (FrontKind::Http, (None, None)) => Ok(()),
            (FrontKind::Http, _) => Err(FrontError::Contradiction("public traffic has no enrolment")),
            (FrontKind::Agent, (Some(id), Some(print))) if is_enrollment_id(id) && is_fingerprint(print) => Ok(()),
            (FrontKind::Agent, _) => Err(FrontError::Contradiction("an agent has an enrolment and a fingerprint")),
        }
    }

    /// Writes the line.
    ///
    /// # Errors
    /// When the fields contradict each other or the connection broke.
    pub async fn write<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), TunnelError> {
        let line = self.encode()?;
        let written = async {
            stream.write_all(&line).await?;
            stream.flush().await
        };
        match tokio::time::timeout(PREFACE_DEADLINE, written).await {
            Ok(outcome) => outcome.map_err(|source| FrontError::Io(source).into()),
            Err(_) => Err(FrontError::Late.into()),
        }
    }

    /// Reads the line and gives back the stream at the byte after it.
    ///
    /// # Errors
    /// When there is no acceptable line within five seconds.
    pub async fn read<S: AsyncRead + Unpin>(stream: S) -> Result<(Self, BufReader<S>), TunnelError> {
        let mut stream = BufReader::with_capacity(READ_BUFFER_BYTES, stream);
        let line =
            tokio::time::timeout(PREFACE_DEADLINE, read_line(&mut stream)).await.map_err(|_| FrontError::Late)??;
        Ok((Self::parse(&line)?, stream))
    }
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Result<Vec<u8>, FrontError> {
    let bound = MAX_PREFACE_BYTES as u64;
    let mut line = Vec::new();
    stream.take(bound).read_until(b'\n', &mut line).await.map_err(FrontError::Io)?;
    if line.len() == MAX_PREFACE_BYTES && !line.ends_with(b"\n") {
        return Err(FrontError::TooLong);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn agent() -> FrontPreface {
        FrontPreface {
            kind: FrontKind::Agent,
            remote: "192.0.2.1:50000".parse().unwrap(),
            enrollment_id: Some("0198c0de-1".to_owned()),
            fingerprint: Some("a5".repeat(32)),
        }
    }

    #[test]
    fn the_line_is_the_one_of_the_contract() {
        let http = FrontPreface {
            kind: FrontKind::Http,
            remote: "[2001:db8::1]:443".parse().unwrap(),
            enrollment_id: None,
            fingerprint: None,
        };
        let expected =
            "{\"kind\":\"http\",\"remote\":\"[2001:db8::1]:443\",\"enrollment_id\":null,\"fingerprint\":null}\n";
        assert_eq!(http.encode().unwrap(), expected.as_bytes());
        assert_eq!(FrontPreface::parse(expected.as_bytes()).unwrap(), http);
        assert_eq!(FrontPreface::parse(&agent().encode().unwrap()).unwrap(), agent());
    }

    #[test]
    fn odd_lines_are_refused() {
        let good = String::from_utf8(agent().encode().unwrap()).unwrap();
        for wrong in [
            String::new(),
            "\n".to_owned(),
            "{}\n".to_owned(),
            good.trim_end().to_owned(),
            format!("{good}{good}"),
            good.replace("agent", "http"),
            good.replace("agent", "nbd"),
            good.replace("a5", "A5"),
            good.replace("0198", "../"),
            good.replace("\"remote\"", "\"extra\":1,\"remote\""),
            good.replace("50000", "0x1"),
            good.replace('}', &format!("{}}}", " ".repeat(MAX_PREFACE_BYTES))),
        ] {
            assert!(FrontPreface::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let mut contradiction = agent();
        contradiction.fingerprint = None;
        assert!(contradiction.encode().is_err());
    }

    #[tokio::test]
    async fn the_bytes_after_the_line_are_untouched() {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        agent().write(&mut near).await.unwrap();
        near.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        let (preface, mut stream) = FrontPreface::read(far).await.unwrap();
        assert_eq!(preface, agent());
        let mut rest = [0; 16];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"PRI * HTTP/2.0\r\n");
        stream.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test]
    async fn an_endless_line_and_an_early_end_are_told_apart() {
        let endless = [b'x'; 2 * MAX_PREFACE_BYTES];
        let error = FrontPreface::read(endless.as_slice()).await.unwrap_err();
        assert!(matches!(error, TunnelError::Front(FrontError::TooLong)), "{error}");
        let error = FrontPreface::read(&b"{\"kind\""[..]).await.unwrap_err();
        assert!(matches!(error, TunnelError::Front(FrontError::Truncated)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up() {
        let (_near, far) = tokio::io::duplex(64);
        let error = FrontPreface::read(far).await.unwrap_err();
        assert!(matches!(error, TunnelError::Front(FrontError::Late)), "{error}");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = FrontPreface::parse(&line);
        }

        #[test]
        fn bent_lines_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut line = agent().encode().unwrap();
            let at = at.index(line.len());
            line[at] = byte;
            if let Ok(preface) = FrontPreface::parse(&line) {
                assert!(preface.encode().is_ok());
            }
        }
    }
}
