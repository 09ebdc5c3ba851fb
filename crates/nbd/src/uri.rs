//! NBD URIs: `nbd://host:port/export` and `nbd+unix:///export?socket=/path` (doc/uri.md of NetworkBlockDevice/nbd).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::error::NbdError;

/// The port IANA gave NBD.
pub const DEFAULT_PORT: u16 = 10809;
/// What has to be escaped in an export name or a path.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'&');

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// Name or IP address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}

/// A server and an export of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NbdUri {
    /// Where the server listens.
    pub address: Address,
    /// The export; empty is the server's default.
    pub export: String,
}

impl NbdUri {
    /// An export of a server on a TCP port.
    #[must_use]
    pub fn tcp(host: &str, port: u16, export: &str) -> Self {
        Self { address: Address::Tcp { host: host.to_owned(), port }, export: export.to_owned() }
    }

    /// An export of a server on a Unix socket.
    #[must_use]
    pub fn unix(socket: &Path, export: &str) -> Self {
        Self { address: Address::Unix { path: socket.to_owned() }, export: export.to_owned() }
    }
}

impl FromStr for NbdUri {
    type Err = NbdError;

    fn from_str(text: &str) -> Result<Self, NbdError> {
        parse(text).map_err(|reason| NbdError::Uri { uri: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<NbdUri, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name has no meaning here".into());
    }
    if url.fragment().is_some() {
        return Err("a fragment has no meaning here".into());
    }
    let export = decoded(url.path().strip_prefix('/').unwrap_or(url.path()))?;
    match url.scheme() {
        "nbd" => {
            let host = url.host_str().filter(|host| !host.is_empty()).ok_or("a host is missing")?;
            if url.query().is_some() {
                return Err("a TCP address has no parameters".into());
            }
            let host = decoded(host.trim_start_matches('[').trim_end_matches(']'))?;
            Ok(NbdUri { address: Address::Tcp { host, port: url.port().unwrap_or(DEFAULT_PORT) }, export })
        }
        "nbd+unix" => {
            if url.host_str().is_some_and(|host| !host.is_empty()) {
                return Err("a Unix socket has no host: three slashes follow the colon".into());
            }
            let mut socket = None;
            for parameter in url.query().unwrap_or_default().split('&').filter(|text| !text.is_empty()) {
                match parameter.split_once('=') {
                    // Not as a form: a plus sign in a path is a plus sign.
                    Some(("socket", path)) if socket.is_none() => socket = Some(decoded(path)?),
                    _ => return Err(format!("parameter {parameter:?} is unknown")),
                }
            }
            let path = socket.filter(|path| !path.is_empty()).ok_or("the parameter socket=/PATH is missing")?;
            Ok(NbdUri { address: Address::Unix { path: path.into() }, export })
        }
        "nbds" | "nbds+unix" => Err("TLS inside NBD is not supported".into()),
        other => Err(format!("the scheme {other:?} is neither nbd nor nbd+unix")),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_not_utf8| "it is not UTF-8".to_owned())?;
    if decoded.contains('\0') { Err("it holds a NUL".into()) } else { Ok(decoded.into_owned()) }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let export = utf8_percent_encode(&self.export, ESCAPED);
        match &self.address {
            Address::Tcp { .. } => write!(f, "nbd://{}/{export}", self.address),
            Address::Unix { path } => {
                let path = path.to_string_lossy();
                write!(f, "nbd+unix:///{export}?socket={}", utf8_percent_encode(&path, ESCAPED))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_and_written() {
        let cases = [
            ("nbd://host/", NbdUri::tcp("host", 10809, ""), "nbd://host:10809/"),
            ("nbd://host", NbdUri::tcp("host", 10809, ""), "nbd://host:10809/"),
            (
                "nbd://10.0.0.1:1234/disk%20one",
                NbdUri::tcp("10.0.0.1", 1234, "disk one"),
                "nbd://10.0.0.1:1234/disk%20one",
            ),
            ("nbd://[::1]:10/a/b", NbdUri::tcp("::1", 10, "a/b"), "nbd://[::1]:10/a/b"),
            (
                "nbd+unix:///?socket=/run/a.sock",
                NbdUri::unix(Path::new("/run/a.sock"), ""),
                "nbd+unix:///?socket=/run/a.sock",
            ),
            (
                "nbd+unix:///x%3F?socket=/run/a%26+b",
                NbdUri::unix(Path::new("/run/a&+b"), "x?"),
                "nbd+unix:///x%3F?socket=/run/a%26+b",
            ),
        ];
        for (text, uri, canonical) in cases {
            assert_eq!(text.parse::<NbdUri>().unwrap(), uri, "{text}");
            assert_eq!(uri.to_string(), canonical);
            assert_eq!(canonical.parse::<NbdUri>().unwrap(), uri);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused_with_a_reason() {
        for (text, reason) in [
            ("host:10809", "scheme"),
            ("http://host/", "scheme"),
            ("nbds://host/", "TLS"),
            ("nbd:///export", "host"),
            ("nbd://user@host/", "user"),
            ("nbd://host/x#y", "fragment"),
            ("nbd://host/?socket=/x", "parameters"),
            ("nbd+unix:///x", "socket"),
            ("nbd+unix:///x?socket=", "socket"),
            ("nbd+unix:///x?socket=/a&tls=1", "unknown"),
            ("nbd+unix://host/x?socket=/a", "slashes"),
            ("nbd://host/%ff", "UTF-8"),
            ("nbd://host/%00", "NUL"),
            ("/dev/sda", "relative"),
        ] {
            let error = text.parse::<NbdUri>().unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert!(error.remedy().is_some());
        }
    }
}
