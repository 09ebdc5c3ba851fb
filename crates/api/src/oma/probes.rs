//! Health probes of a VM that was failed over: what an operator asks for in a line of text, and what came of it. Pure.
//!
//! | text | asks |
//! |---|---|
//! | `tcp:22`, `tcp:10.0.0.5:22` | whether the port takes a connection |
//! | `http:80`, `http:8080/health`, `http://host:8080/health` | for an answer with a status of 200 to 399; `https` likewise |
//! | `icmp`, `icmp:10.0.0.5` | for an echo |
//!
//! Without a host the VM's own address is meant. IPv6 addresses stand in brackets.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// Most probes of one VM.
pub const MAX_PROBES: usize = 32;
/// Longest text of a probe, in bytes: scheme, the longest host and the longest path.
pub const MAX_PROBE_BYTES: usize = MAX_PATH_BYTES + MAX_HOST_BYTES + 32;
/// Longest path with its query, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Longest name of a host, in bytes (RFC 1035 §2.3.4).
pub const MAX_HOST_BYTES: usize = 253;
/// Longest label of such a name, in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// Most characters of a refused text that are told back.
const MAX_TOLD_CHARS: usize = 80;

/// A probe: what is asked, and of whom. Only a text makes one, so every part of it is known to be sound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbeSpec {
    kind: ProbeKind,
    host: Option<ProbeHost>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// Whether a port takes a connection.
    Tcp {
        /// The port.
        port: NonZeroU16,
    },
    /// Whether a web server answers well.
    Http {
        /// With or without TLS.
        scheme: HttpScheme,
        /// The port.
        port: NonZeroU16,
        /// Path and query; begins with `/`.
        path: String,
    },
    /// Whether the host answers an echo request.
    Icmp,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpScheme {
    /// Plain.
    Http,
    /// With TLS; whose certificate it is does not matter.
    Https,
}

impl HttpScheme {
    /// As in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> NonZeroU16 {
        match self {
            Self::Http => const { NonZeroU16::new(80).unwrap() },
            Self::Https => const { NonZeroU16::new(443).unwrap() },
        }
    }
}

/// Who is asked, when it is not the VM's own address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProbeHost {
    /// An address.
    Address(IpAddr),
    /// A name, in lower case.
    Name(String),
}

impl fmt::Display for ProbeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why a text is no probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no probe: {reason}")]
pub struct InvalidProbe {
    text: String,
    reason: &'static str,
}

impl InvalidProbe {
    /// What to write instead.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        "write tcp:PORT, tcp:HOST:PORT, http:PORT/PATH, http://HOST:PORT/PATH (or https), icmp or icmp:HOST; without HOST \
         the VM's own address is meant"
    }
}

impl ProbeSpec {
    /// What is asked.
    #[must_use]
    pub fn kind(&self) -> &ProbeKind {
        &self.kind
    }

    /// Who is asked; the VM's own address when nobody is named.
    #[must_use]
    pub fn host(&self) -> Option<&ProbeHost> {
        self.host.as_ref()
    }
}

impl FromStr for ProbeSpec {
    type Err = InvalidProbe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let told = || text.chars().take(MAX_TOLD_CHARS).collect();
        if text.len() > MAX_PROBE_BYTES {
            return Err(InvalidProbe { text: told(), reason: "it is too long" });
        }
        parse(text).map_err(|reason| InvalidProbe { text: told(), reason })
    }
}

impl fmt::Display for ProbeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.host) {
            (ProbeKind::Tcp { port }, None) => write!(f, "tcp:{port}"),
            (ProbeKind::Tcp { port }, Some(host)) => write!(f, "tcp:{host}:{port}"),
            (ProbeKind::Http { scheme, port, path }, host) => {
                let path = if path == "/" { "" } else { path };
                match host {
                    None => write!(f, "{}:{port}{path}", scheme.as_str()),
                    Some(host) => write!(f, "{}://{host}:{port}{path}", scheme.as_str()),
                }
            }
            (ProbeKind::Icmp, None) => f.write_str("icmp"),
            (ProbeKind::Icmp, Some(host)) => write!(f, "icmp:{host}"),
        }
    }
}

impl TryFrom<String> for ProbeSpec {
    type Error = InvalidProbe;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProbeSpec> for String {
    fn from(probe: ProbeSpec) -> Self {
        probe.to_string()
    }
}

impl PartialSchema for ProbeSpec {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(MAX_PROBE_BYTES))
            .description(Some(
                "`tcp:PORT`, `http:PORT/PATH`, `https:PORT/PATH` or `icmp` ask the VM's own address; `tcp:HOST:PORT`, \
                 `http://HOST:PORT/PATH`, `https://HOST:PORT/PATH` and `icmp:HOST` ask another. IPv6 addresses stand in \
                 brackets.",
            ))
            .examples(["tcp:22", "http:8080/health", "https://10.0.0.5:443/", "icmp"])
            .into()
    }
}

impl ToSchema for ProbeSpec {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ProbeSpec")
    }
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProbeResult {
    /// The probe.
    pub probe: ProbeSpec,
    /// Whether it passed.
    pub passed: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// From the first try to the end, in seconds.
    pub seconds: f64,
    /// What was answered, or what went wrong the last time.
    pub message: String,
}

type Reason = &'static str;

fn parse(text: &str) -> Result<ProbeSpec, Reason> {
    if text == "icmp" {
        return Ok(ProbeSpec { kind: ProbeKind::Icmp, host: None });
    }
    let (scheme, rest) = text.split_once(':').ok_or("it names no port")?;
    match scheme {
        "icmp" => Ok(ProbeSpec { kind: ProbeKind::Icmp, host: Some(lone_host(rest)?) }),
        "tcp" => {
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, port)) => (Some(parse_host(host)?), port),
                None => (None, rest),
            };
            Ok(ProbeSpec { kind: ProbeKind::Tcp { port: parse_port(port)? }, host })
        }
        "http" => http(HttpScheme::Http, rest),
        "https" => http(HttpScheme::Https, rest),
        _ => Err("it begins with none of tcp, http, https and icmp"),
    }
}

/// What follows `http:`: `//host[:port][/path]`, or `port[/path]`.
fn http(scheme: HttpScheme, rest: &str) -> Result<ProbeSpec, Reason> {
    let (authority, named) = rest.strip_prefix("//").map_or((rest, false), |rest| (rest, true));
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let (authority, path) = authority.split_at(end);
    let path = parse_path(path)?;
    if !named {
        return Ok(ProbeSpec { kind: ProbeKind::Http { scheme, port: parse_port(authority)?, path }, host: None });
    }
    // The colons of an IPv6 address are within its brackets.
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, parse_port(port)?),
        None => (authority, scheme.default_port()),
    };
    Ok(ProbeSpec { kind: ProbeKind::Http { scheme, port, path }, host: Some(parse_host(host)?) })
}

/// Digits alone: no sign, no leading zero, nothing an operator would read differently.
fn parse_port(text: &str) -> Result<NonZeroU16, Reason> {
    const REASON: Reason = "the port must be a number from 1 to 65535";
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return Err(REASON);
    }
    text.parse().map_err(|_| REASON)
}

/// A host that nothing follows: an IPv6 address needs no brackets there.
fn lone_host(text: &str) -> Result<ProbeHost, Reason> {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Ok(ProbeHost::Address(address.into())),
        Err(_) => parse_host(text),
    }
}

fn parse_host(text: &str) -> Result<ProbeHost, Reason> {
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.map(|address| ProbeHost::Address(address.into())).ok_or("the IPv6 address cannot be read");
    }
    if text.contains(':') {
        return Err("an IPv6 address must stand in brackets");
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(ProbeHost::Address(address));
    }
    if !is_name(text) {
        return Err("the host is neither an address nor a name");
    }
    Ok(ProbeHost::Name(text.to_ascii_lowercase()))
}

/// A name as RFC 1123 §2.1 has it; one whose last label is a number would be a mistyped address.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_HOST_BYTES && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Path and query as RFC 3986 §3.3 and §3.4 allow them.
fn parse_path(text: &str) -> Result<String, Reason> {
    if text.is_empty() {
        return Ok("/".to_owned());
    }
    if text.len() > MAX_PATH_BYTES {
        return Err("the path is too long");
    }
    if !text.starts_with('/') {
        return Err("the path must begin with a slash");
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_sound = match byte {
            b'%' => (0..2).all(|_| bytes.next().is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte),
        };
        if !is_sound {
            return Err("the path holds a character that must be written as %XX");
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
