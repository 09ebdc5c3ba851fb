//! One vim25 session, shared by everybody who talks to that server: log in, call, log in again when it ended, log out.
//!
//! A call is repeated at most once, only after the server said the session is gone, and only when sending it twice
//! does no harm. Everything else is the caller's decision.

mod service;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::Secret;
use parking_lot::RwLock;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;

pub use service::About;
use service::ServiceContent;
pub(crate) use wire::Wire;
use wire::lacks_session;

use crate::error::VsphereError;
use crate::fault::Fault;
use crate::moref::MoRef;
use crate::soap::{Element, Request};
use crate::trust::Trust;

/// How long an ordinary call may take; `QueryChangedDiskAreas` on a large disk takes minutes.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// How often an idle session should be kept alive: servers end it after 30 minutes without a call.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Whom to connect to, as whom, and why to trust it.
#[derive(Debug, Clone)]
pub struct ConnectionSpec {
    /// `https://host[:port]` of a vCenter or an ESXi host; plain `host` is taken as HTTPS.
    pub url: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// What makes the server's certificate acceptable.
    pub trust: Trust,
}

/// A session with a vCenter or an ESXi host. Clones share it.
#[derive(Clone)]
pub struct VimSession {
    inner: Arc<Inner>,
}

struct Inner {
    wire: Wire,
    username: String,
    password: Secret,
    service: ServiceContent,
    state: RwLock<State>,
    login: Mutex<()>,
}

/// What changes at every login.
#[derive(Default)]
struct State {
    cookie: Option<HeaderValue>,
    generation: u64,
    /// Logged out, or the password stopped working: repeated logins would lock the user.
    is_closed: bool,
}

impl fmt::Debug for VimSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VimSession({} as {})", self.inner.wire.host(), self.inner.username)
    }
}

impl VimSession {
    /// Connects, reads what the server is, and logs in.
    ///
    /// # Errors
    /// A typed error for a bad address, an untrusted or unexpected certificate, and wrong credentials.
    pub async fn connect(spec: ConnectionSpec) -> Result<Self, VsphereError> {
        let wire = Wire::new(&spec.url, &spec.trust).await?;
        let instance = MoRef::new("ServiceInstance", "ServiceInstance");
        let request = Request::new("RetrieveServiceContent", &instance);
        let service = ServiceContent::read(&wire.post(&request, None, CALL_TIMEOUT).await?.response)?;
        let inner = Inner {
            wire,
            username: spec.username,
            password: spec.password,
            service,
            state: RwLock::default(),
            login: Mutex::new(()),
        };
        let session = Self { inner: Arc::new(inner) };
        session.log_in().await?;
        Ok(session)
    }

    /// What the server says about itself.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.inner.service.about
    }

    /// Host name or address of the server, without port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.inner.wire.host()
    }

    /// Keeps an idle session from ending, and opens a new one when it has ended.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses the credentials.
    pub async fn keep_alive(&self) -> Result<(), VsphereError> {
        let instance = MoRef::new("ServiceInstance", "ServiceInstance");
        self.call(Request::new("CurrentTime", &instance)).await.map(drop)
    }

    /// Ends the session; ESXi hosts have few, so it should always be called. A session that is gone already is fine.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn log_out(&self) -> Result<(), VsphereError> {
        let cookie = {
            let mut state = self.inner.state.write();
            state.is_closed = true;
            state.cookie.take()
        };
        let Some(cookie) = cookie else { return Ok(()) };
        let request = Request::new("Logout", &self.inner.service.session_manager);
        match self.inner.wire.post(&request, Some(&cookie), CALL_TIMEOUT).await {
            Err(error) if error.is_fault("NotAuthenticated") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The session cookie as the server set it, `name=value`, for programs that take it (nbdkit's VDDK `cookie=`).
    #[must_use]
    pub fn cookie(&self) -> Option<Secret> {
        let state = self.inner.state.read();
        state.cookie.as_ref().and_then(|cookie| cookie.to_str().ok()).map(Secret::new)
    }

    pub(crate) fn service(&self) -> &ServiceContent {
        &self.inner.service
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    /// The cookie to send, and which login it comes from.
    pub(crate) fn credentials(&self) -> (Option<HeaderValue>, u64) {
        let state = self.inner.state.read();
        (state.cookie.clone(), state.generation)
    }

    /// Sends a call; see [`Self::call_within`].
    pub(crate) async fn call(&self, request: Request) -> Result<Element, VsphereError> {
        self.call_within(request, CALL_TIMEOUT).await
    }

    /// Sends a call, logging in once more when the session is gone.
    ///
    /// # Errors
    /// `SessionExpired` when there is a new session but the call may not be repeated.
    pub(crate) async fn call_within(&self, request: Request, timeout: Duration) -> Result<Element, VsphereError> {
        let (cookie, generation) = self.credentials();
        let first = self.post_once(&request, cookie.as_ref(), timeout).await;
        if !first.as_ref().is_err_and(|error| error.is_fault("NotAuthenticated")) {
            return first;
        }
        tracing::info!(
            host = self.host(),
            method = request.method(),
            "the vSphere session had ended; logging in again"
        );
        if !self.renew(generation).await? {
            return first;
        }
        if !request.is_repeatable() {
            return Err(VsphereError::SessionExpired { doing: request.method() });
        }
        let (cookie, _) = self.credentials();
        self.post_once(&request, cookie.as_ref(), timeout).await
    }

    async fn post_once(
        &self,
        request: &Request,
        cookie: Option<&HeaderValue>,
        timeout: Duration,
    ) -> Result<Element, VsphereError> {
        let response = self.inner.wire.post(request, cookie, timeout).await?.response;
        if lacks_session(&response) {
            let fault = Fault { type_name: "NotAuthenticated".to_owned(), message: String::new(), fields: Vec::new() };
            return Err(VsphereError::Refused { doing: request.method(), source: fault });
        }
        Ok(response)
    }

    /// Logs in unless somebody else did since `generation`; `false` when this session may not log in any more.
    pub(crate) async fn renew(&self, generation: u64) -> Result<bool, VsphereError> {
        let _one_at_a_time = self.inner.login.lock().await;
        {
            let state = self.inner.state.read();
            if state.is_closed {
                return Ok(false);
            }
            if state.generation != generation {
                return Ok(true);
            }
        }
        self.log_in().await.map(|()| true)
    }

    async fn log_in(&self) -> Result<(), VsphereError> {
        let inner = &*self.inner;
        let request = Request::new("Login", &inner.service.session_manager)
            .text("userName", &inner.username)
            .text("password", inner.password.expose());
        let posted = inner.wire.post(&request, None, CALL_TIMEOUT).await.map_err(|error| {
            if error.is_fault("InvalidLogin") {
                inner.state.write().is_closed = true;
                return VsphereError::WrongCredentials {
                    host: inner.wire.host().to_owned(),
                    username: inner.username.clone(),
                };
            }
            error
        })?;
        let cookie = posted
            .session_cookie
            .ok_or_else(|| VsphereError::unexpected("Login", "the server set no session cookie"))?;
        let mut state = inner.state.write();
        state.cookie = Some(cookie);
        state.generation += 1;
        Ok(())
    }
}
