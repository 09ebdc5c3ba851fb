//! Authorised requests for datastore files: with the session's cookie, or with a ticket straight to a host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use tokio::sync::{Mutex, OnceCell};
use url::Url;

use super::{DatastorePath, FolderAccess};
use crate::error::VsphereError;
use crate::session::{VimSession, Wire};
use crate::soap::Request;
use crate::trust::Trust;

/// What errors call a datastore read.
pub(super) const GET: &str = "reading a datastore file";

/// How long one range may take.
const RANGE_TIMEOUT: Duration = Duration::from_secs(120);

/// Fetches files of one datacenter.
pub(super) struct Fetch {
    session: VimSession,
    route: Route,
}

enum Route {
    Server { datacenter_path: String },
    Host(Box<HostRoute>),
}

struct HostRoute {
    host: String,
    /// Made when the first ticket has told the host's certificate.
    wire: OnceCell<Wire>,
    /// The last ticket with the request it is for.
    ticket: Mutex<Option<(Method, Url, HeaderValue)>>,
    /// Set when the host refused a ticket: then each request needs its own.
    is_single_use: AtomicBool,
}

/// What `AcquireGenericServiceTicket` gives.
struct Ticket {
    cookie: HeaderValue,
    host_name: Option<String>,
    thumbprint: Option<String>,
}

impl Fetch {
    pub(super) fn new(session: VimSession, datacenter_path: &str, access: &FolderAccess) -> Self {
        let route = match access {
            FolderAccess::ViaServer => Route::Server { datacenter_path: datacenter_path.to_owned() },
            FolderAccess::HostDirect { host } => Route::Host(Box::new(HostRoute {
                host: host.clone(),
                wire: OnceCell::new(),
                ticket: Mutex::new(None),
                is_single_use: AtomicBool::new(false),
            })),
        };
        Self { session, route }
    }

    /// Sends a request; a 401 or 403 is answered with new credentials, once. Only 200 and 206 come back as a response.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &DatastorePath,
        range: Option<(u64, u64)>,
    ) -> Result<Response, VsphereError> {
        let mut headers = HeaderMap::new();
        if let Some(range) = range.and_then(|(first, last)| HeaderValue::try_from(format!("bytes={first}-{last}")).ok())
        {
            headers.insert(header::RANGE, range);
        }
        let response = match &self.route {
            Route::Server { datacenter_path } => self.via_server(method, path, datacenter_path, headers).await?,
            Route::Host(route) => self.via_host(route, method, path, headers).await?,
        };
        checked(response, path)
    }

    async fn via_server(
        &self,
        method: Method,
        path: &DatastorePath,
        datacenter_path: &str,
        headers: HeaderMap,
    ) -> Result<Response, VsphereError> {
        let wire = self.session.wire();
        let url = path.url(wire.base(), Some(datacenter_path));
        let (cookie, generation) = self.session.credentials();
        let first = wire.send(GET, method.clone(), url.clone(), with_cookie(&headers, cookie), RANGE_TIMEOUT).await?;
        if !matches!(first.status().as_u16(), 401 | 403) || !self.session.renew(generation).await? {
            return Ok(first);
        }
        let (cookie, _) = self.session.credentials();
        wire.send(GET, method, url, with_cookie(&headers, cookie), RANGE_TIMEOUT).await
    }

    async fn via_host(
        &self,
        route: &HostRoute,
        method: Method,
        path: &DatastorePath,
        headers: HeaderMap,
    ) -> Result<Response, VsphereError> {
        let base = host_url(&route.host)?;
        let url = path.url(&base, None);
        let cookie = self.ticket(route, &method, &url).await?;
        let first = self.to_host(route, &method, path, with_cookie(&headers, Some(cookie))).await?;
        if !matches!(first.status().as_u16(), 401 | 403) {
            return Ok(first);
        }
        // Even a new ticket may have been used by a request that went on beside this one.
        route.is_single_use.store(true, Ordering::Relaxed);
        let cookie = self.ticket(route, &method, &url).await?;
        self.to_host(route, &method, path, with_cookie(&headers, Some(cookie))).await
    }

    async fn to_host(
        &self,
        route: &HostRoute,
        method: &Method,
        path: &DatastorePath,
        headers: HeaderMap,
    ) -> Result<Response, VsphereError> {
        let wire = route.wire.get().ok_or_else(|| VsphereError::unexpected(GET, "there is no ticket for the host"))?;
        wire.send(GET, method.clone(), path.url(wire.base(), None), headers, RANGE_TIMEOUT).await
    }

    /// A ticket for that request: its own where each is good for one only.
    async fn ticket(&self, route: &HostRoute, method: &Method, url: &Url) -> Result<HeaderValue, VsphereError> {
        let mut kept = route.ticket.lock().await;
        if let Some((for_method, for_url, cookie)) = kept.as_ref()
            && !route.is_single_use.load(Ordering::Relaxed)
            && (for_method, for_url) == (method, url)
        {
            return Ok(cookie.clone());
        }
        let ticket = self.acquire(method, url).await?;
        route.wire.get_or_try_init(|| self.connect(route, &ticket)).await?;
        *kept = Some((method.clone(), url.clone(), ticket.cookie.clone()));
        Ok(ticket.cookie)
    }

    async fn connect(&self, route: &HostRoute, ticket: &Ticket) -> Result<Wire, VsphereError> {
        let name = ticket.host_name.as_deref().filter(|name| !name.is_empty() && *name != "*");
        let trust = match &ticket.thumbprint {
            Some(thumbprint) => Trust::Thumbprint(thumbprint.clone()),
            None => self.session.wire().trust().clone(),
        };
        // The port is part of the host we were given, never of the name in the ticket.
        let host = match (name, route.host.rsplit_once(':')) {
            (Some(name), Some((_, port))) if port.parse::<u16>().is_ok() => format!("{name}:{port}"),
            (Some(name), _) => name.to_owned(),
            (None, _) => route.host.clone(),
        };
        Wire::new(host_url(&host)?.as_str(), &trust).await
    }

    async fn acquire(&self, method: &Method, url: &Url) -> Result<Ticket, VsphereError> {
        const METHOD: &str = "AcquireGenericServiceTicket";
        let request = ticket_request(METHOD, &self.session, method, url);
        let response = self.session.call(request).await?;
        let ticket =
            response.child("returnval").ok_or_else(|| VsphereError::unexpected(METHOD, "there is no ticket"))?;
        let id = ticket.text_of("id").unwrap_or_default();
        let mut cookie = HeaderValue::try_from(format!("vmware_cgi_ticket={id}"))
            .map_err(|_| VsphereError::unexpected(METHOD, "the ticket cannot be sent"))?;
        cookie.set_sensitive(true);
        let text = |name: &str| ticket.text_of(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Ticket { cookie, host_name: text("hostName"), thumbprint: text("sslThumbprint") })
    }
}

fn ticket_request(name: &'static str, session: &VimSession, method: &Method, url: &Url) -> Request {
    Request::new(name, &session.service().session_manager)
        .open_as("spec", "SessionManagerHttpServiceRequestSpec")
        .text("method", if *method == Method::HEAD { "httpHead" } else { "httpGet" })
        .text("url", url.as_str())
        .close()
}

fn host_url(host: &str) -> Result<Url, VsphereError> {
    let is_bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let text = if is_bare_v6 { format!("https://[{host}]/") } else { format!("https://{host}/") };
    Url::parse(&text).map_err(|_| VsphereError::InvalidUrl { url: text, reason: "it is no host name or address" })
}

fn with_cookie(headers: &HeaderMap, cookie: Option<HeaderValue>) -> HeaderMap {
    let mut headers = headers.clone();
    if let Some(cookie) = cookie {
        headers.insert(header::COOKIE, cookie);
    }
    headers
}

fn checked(response: Response, path: &DatastorePath) -> Result<Response, VsphereError> {
    let path = || path.to_string();
    match response.status().as_u16() {
        200 | 206 => Ok(response),
        404 => Err(VsphereError::FileNotFound { path: path() }),
        // What a server answers when the file is open for writing elsewhere.
        500 => Err(VsphereError::FileLocked { path: path() }),
        416 => Err(VsphereError::WrongRange { path: path(), reason: "it is beyond the end of the file".to_owned() }),
        status => Err(VsphereError::HttpStatus { doing: GET, status }),
    }
}
