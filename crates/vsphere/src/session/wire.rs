//! HTTP to one server: the client with its trust and limits, SOAP posts, and the session cookie, kept byte for byte.

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Response};
use url::{Host, Url};

use crate::error::VsphereError;
use crate::soap::{Answer, Element, MAX_DOCUMENT_BYTES, Request, SoapError, answer};
use crate::trust::{Refusal, Trust, client_config, refusal};

/// API version asked for: its shape is the same from vSphere 6.5 to 8.
const SOAP_ACTION: &str = "\"urn:vim25/6.5\"";
/// Name of the session cookie.
const SESSION_COOKIE: &[u8] = b"vmware_soap_session=";
/// Longest session cookie kept, in bytes; real ones have about 70.
const MAX_COOKIE_BYTES: usize = 1024;
/// How long a TCP connection and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections kept per server: one per parallel datastore read.
const MAX_IDLE_CONNECTIONS: usize = 32;
/// How long an idle connection is kept; vCenter's proxy closes them after about a minute and a half.
const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(45);

/// A server, and the client that trusts it.
pub(crate) struct Wire {
    http: reqwest::Client,
    base: Url,
    sdk: Url,
    host: String,
    trust: Trust,
}

/// The answer to a SOAP post.
pub(crate) struct Posted {
    pub(crate) response: Element,
    pub(crate) session_cookie: Option<HeaderValue>,
}

impl Wire {
    pub(crate) async fn new(url: &str, trust: &Trust) -> Result<Self, VsphereError> {
        let base = base_url(url)?;
        let host = base.host_str().unwrap_or_default().to_owned();
        let read = trust.clone();
        let tls = tokio::task::spawn_blocking(move || client_config(&read))
            .await
            .map_err(|error| VsphereError::InvalidTrust { reason: error.to_string() })??;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // Proxies between here and the datastore only slow the reads; cookies must not follow a redirect.
            .no_proxy()
            .redirect(Policy::none())
            .http1_only()
            .user_agent(concat!("migratekit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_CONNECTION_LIFE)
            .build()
            .map_err(|source| VsphereError::ClientSetup { source })?;
        let mut sdk = base.clone();
        sdk.set_path("/sdk");
        Ok(Self { http, base, sdk, host, trust: trust.clone() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What makes its certificate acceptable.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// `https://host:port/`.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Posts a call and reads its answer.
    pub(crate) async fn post(
        &self,
        request: &Request,
        cookie: Option<&HeaderValue>,
        timeout: Duration,
    ) -> Result<Posted, VsphereError> {
        let doing = request.method();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"));
        headers.insert("SOAPAction", HeaderValue::from_static(SOAP_ACTION));
        if let Some(cookie) = cookie {
            headers.insert(header::COOKIE, cookie.clone());
        }
        let post = self.http.post(self.sdk.clone()).headers(headers).timeout(timeout).body(request.envelope());
        let response = post.send().await.map_err(|error| self.failed(doing, error))?;
        let status = response.status().as_u16();
        let session_cookie = session_cookie(response.headers());
        // A fault comes with 500; whatever else is no success has no SOAP in it.
        if status != 200 && status != 500 {
            return Err(VsphereError::HttpStatus { doing, status });
        }
        let body = bounded_body(doing, response, MAX_DOCUMENT_BYTES).await?;
        match read_off_thread(body).await {
            Ok(Answer::Response(response)) if status == 200 => Ok(Posted { response, session_cookie }),
            Ok(Answer::Fault(source)) => Err(VsphereError::Refused { doing, source }),
            Ok(Answer::Response(_)) => Err(VsphereError::HttpStatus { doing, status }),
            Err(_) if status == 500 => Err(VsphereError::HttpStatus { doing, status }),
            Err(source) => Err(VsphereError::Malformed { doing, source }),
        }
    }

    /// Sends a request without a body to any URL on this server.
    pub(crate) async fn send(
        &self,
        doing: &'static str,
        method: Method,
        url: Url,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Response, VsphereError> {
        let request = self.http.request(method, url).headers(headers).timeout(timeout);
        request.send().await.map_err(|error| self.failed(doing, error))
    }

    fn failed(&self, doing: &'static str, source: reqwest::Error) -> VsphereError {
        let host = self.host.clone();
        match refusal(&source) {
            Some(Refusal::Pin { expected, found }) => VsphereError::ThumbprintMismatch { host, expected, found },
            Some(Refusal::Chain { found, reason }) => VsphereError::UntrustedCertificate { host, found, reason },
            None if source.is_connect() => VsphereError::Connect { host, source: source.without_url() },
            None => VsphereError::Transport { doing, source: source.without_url() },
        }
    }
}

/// Reads a body of at most `limit_bytes`.
pub(crate) async fn bounded_body(
    doing: &'static str,
    mut response: Response,
    limit_bytes: usize,
) -> Result<Vec<u8>, VsphereError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| VsphereError::Transport { doing, source })? {
        if body.len() + chunk.len() > limit_bytes {
            return Err(VsphereError::AnswerTooLarge { doing, limit_bytes });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Answers larger than this are parsed on a blocking thread, so that they do not hold up other tasks.
const PARSE_INLINE_BYTES: usize = 256 * 1024;

async fn read_off_thread(body: Vec<u8>) -> Result<Answer, SoapError> {
    if body.len() <= PARSE_INLINE_BYTES {
        return answer(&body);
    }
    match tokio::task::spawn_blocking(move || answer(&body)).await {
        Ok(result) => result,
        Err(stopped) if stopped.is_panic() => std::panic::resume_unwind(stopped.into_panic()),
        Err(_) => Err(SoapError::NotSoap),
    }
}

/// Whether an answer of the property collector says that there is no session: unlike other methods it answers with
/// success and a `NotAuthenticated` fault per property.
pub(crate) fn lacks_session(response: &Element) -> bool {
    let is_fault = |missing: &Element| {
        let fault = missing.at(&["fault", "fault"]).and_then(|fault| fault.xsi_type.as_deref());
        fault == Some("NotAuthenticated")
    };
    let any_missing = |object: &Element| object.all("missingSet").any(is_fault);
    response.all("returnval").any(|result| {
        result.all("objects").any(any_missing)
            || result.all("filterSet").any(|set| any_missing(set) || set.all("objectSet").any(any_missing))
    })
}

fn base_url(text: &str) -> Result<Url, VsphereError> {
    let invalid = |reason| VsphereError::InvalidUrl { url: text.chars().take(200).collect(), reason };
    let text = text.trim();
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&full).map_err(|_| invalid("it is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // The address is shown in errors; the one given here is not, because it holds a password.
        return Err(VsphereError::InvalidUrl {
            url: url.host_str().unwrap_or_default().to_owned(),
            reason: "user name and password do not belong in it",
        });
    }
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(invalid("it names no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => return Err(invalid("only https is spoken")),
    }
    if !matches!(url.path().trim_end_matches('/'), "" | "/sdk" | "/ui" | "/vsphere-client") {
        return Err(invalid("it has a path"));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// `vmware_soap_session=<value>` from the last `Set-Cookie` that has it. The value may be quoted and hold any byte.
fn session_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut cookies = headers.get_all(header::SET_COOKIE).iter();
    let own = cookies.rfind(|cookie| cookie.as_bytes().starts_with(SESSION_COOKIE))?;
    let (name, value) = own.as_bytes().split_at(SESSION_COOKIE.len());
    let end = match value.first() {
        Some(b'"') => value.iter().skip(1).position(|&byte| byte == b'"').map(|at| at + 2),
        _ => value.iter().position(|&byte| byte == b';'),
    };
    let value = value.get(..end.unwrap_or(value.len()))?;
    if value.is_empty() || value.len() > MAX_COOKIE_BYTES {
        return None;
    }
    let mut cookie = HeaderValue::from_bytes(&[name, value].concat()).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_operators_write_them() {
        for (text, expected) in [
            ("vcenter.example.org", "https://vcenter.example.org/"),
            ("https://vcenter.example.org/sdk", "https://vcenter.example.org/"),
            ("https://10.0.0.1:8443/", "https://10.0.0.1:8443/"),
            ("http://127.0.0.1:8989/sdk", "http://127.0.0.1:8989/"),
            ("[::1]:443", "https://[::1]/"),
        ] {
            assert_eq!(base_url(text).unwrap().as_str(), expected, "{text}");
        }
        for text in ["", "http://vcenter.example.org", "ftp://h", "https://h/folder", "https://u:secret@h"] {
            let error = base_url(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_cookie_is_kept_byte_for_byte() {
        for (header, expected) in [
            ("vmware_soap_session=52ab-cd; Path=/; HttpOnly; Secure;", Some("vmware_soap_session=52ab-cd")),
            ("vmware_soap_session=\"52ab;%cd\"; Path=/", Some("vmware_soap_session=\"52ab;%cd\"")),
            ("vmware_soap_session=plain", Some("vmware_soap_session=plain")),
            ("vmware_soap_session=\"open", Some("vmware_soap_session=\"open")),
            ("vmware_soap_session=; Path=/", None),
            ("other=1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(header::SET_COOKIE, HeaderValue::from_static("vmware_client=x"));
            headers.append(header::SET_COOKIE, HeaderValue::from_static(header));
            let found = session_cookie(&headers);
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), expected, "{header}");
        }
    }
}
