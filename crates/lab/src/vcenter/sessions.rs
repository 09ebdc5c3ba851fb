//! Logged-in sessions: the cookie, idle expiry, and the views, filters and page tokens that die with them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::updates::Collector;
use super::value::{MoRef, Object};

/// Views a session may hold; a client that leaks them is told.
const MAX_VIEWS: usize = 1_000;
/// Unfinished pagings a session may hold.
const MAX_TOKENS: usize = 100;

/// A container view.
#[derive(Debug, Clone)]
pub(crate) struct ContainerView {
    pub(crate) container: MoRef,
    pub(crate) types: Vec<String>,
    pub(crate) recursive: bool,
}

/// What a session created and takes with it.
#[derive(Debug, Default)]
pub(crate) struct SessionObjects {
    pub(crate) views: HashMap<String, ContainerView>,
    /// Property collectors by id, the default one included once used.
    pub(crate) collectors: HashMap<String, Arc<Collector>>,
    /// Rendered objects still to be fetched, by token.
    pub(crate) pages: HashMap<String, Vec<String>>,
    counter: u64,
}

impl SessionObjects {
    /// A number no other object of the session has.
    pub(crate) fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether another view or page token may be made.
    pub(crate) fn has_room(&self) -> bool {
        self.views.len() < MAX_VIEWS && self.pages.len() < MAX_TOKENS
    }
}

/// One logged-in session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) key: String,
    pub(crate) user: String,
    pub(crate) user_agent: String,
    pub(crate) login_time: OffsetDateTime,
    /// Time of the last call and number of calls.
    last_active: Mutex<(OffsetDateTime, i64)>,
    pub(crate) objects: Mutex<SessionObjects>,
}

impl Session {
    /// The session as `UserSession`.
    pub(crate) fn to_object(&self) -> Object {
        let (last, calls) = *self.last_active.lock();
        Object::new("UserSession")
            .with("key", self.key.clone())
            .with("userName", self.user.clone())
            .with("fullName", self.user.clone())
            .with("loginTime", self.login_time)
            .with("lastActiveTime", last)
            .with("locale", "en")
            .with("messageLocale", "en")
            .with("extensionSession", false)
            .with("ipAddress", "127.0.0.1")
            .with("userAgent", self.user_agent.clone())
            .with("callCount", calls)
    }
}

/// All sessions by cookie value.
#[derive(Debug)]
pub(crate) struct Sessions {
    idle: Duration,
    by_cookie: Mutex<HashMap<String, Arc<Session>>>,
    tickets: Mutex<HashMap<String, String>>,
}

impl Sessions {
    /// No sessions; one that is idle for `idle` is gone.
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, by_cookie: Mutex::new(HashMap::new()), tickets: Mutex::new(HashMap::new()) }
    }

    /// Opens a session and gives its cookie value, which holds double quotes as on real servers.
    pub(crate) fn open(&self, user: &str, user_agent: &str, now: OffsetDateTime) -> (String, Arc<Session>) {
        let secret: [u8; 20] = rand::random();
        let cookie = format!("\"{}\"", hex::encode(secret));
        let session = Arc::new(Session {
            key: uuid::Uuid::new_v4().to_string(),
            user: user.to_owned(),
            user_agent: user_agent.to_owned(),
            login_time: now,
            last_active: Mutex::new((now, 0)),
            objects: Mutex::new(SessionObjects::default()),
        });
        self.by_cookie.lock().insert(cookie.clone(), Arc::clone(&session));
        (cookie, session)
    }

    /// The live session of a cookie; a call through `/sdk` keeps it alive (`renew`), reading files does not.
    pub(crate) fn find(&self, cookie: &str, renew: bool, now: OffsetDateTime) -> Option<Arc<Session>> {
        let mut sessions = self.by_cookie.lock();
        let session = Arc::clone(sessions.get(cookie)?);
        let mut active = session.last_active.lock();
        if now - active.0 > self.idle {
            sessions.remove(cookie);
            return None;
        }
        if renew {
            *active = (now, active.1 + 1);
        }
        drop(active);
        Some(session)
    }

    /// Ends a session.
    pub(crate) fn close(&self, key: &str) {
        self.by_cookie.lock().retain(|_, session| session.key != key);
    }

    /// Ends all sessions, as a restart of vCenter does.
    pub(crate) fn expire_all(&self) -> usize {
        let mut sessions = self.by_cookie.lock();
        for session in sessions.values() {
            session.objects.lock().collectors.values().for_each(|collector| collector.cancel());
        }
        let count = sessions.len();
        sessions.clear();
        count
    }

    /// Number of sessions nobody ended yet.
    pub(crate) fn count(&self) -> usize {
        self.by_cookie.lock().len()
    }

    /// Issues a ticket for one read of `url`.
    pub(crate) fn issue_ticket(&self, url: &str) -> String {
        let ticket = hex::encode(rand::random::<[u8; 16]>());
        self.tickets.lock().insert(ticket.clone(), url.to_owned());
        ticket
    }

    /// The URL a ticket was issued for; `once` uses it up.
    pub(crate) fn ticket_url(&self, ticket: &str, once: bool) -> Option<String> {
        let mut tickets = self.tickets.lock();
        if once { tickets.remove(ticket) } else { tickets.get(ticket).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_sessions_expire_and_reading_files_does_not_renew_them() {
        let sessions = Sessions::new(Duration::from_secs(60));
        let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let (cookie, _) = sessions.open("u", "test", at(0));
        assert!(cookie.starts_with('"') && cookie.ends_with('"'));
        assert!(sessions.find(&cookie, true, at(40)).is_some());
        assert!(sessions.find(&cookie, false, at(80)).is_some());
        assert!(sessions.find(&cookie, true, at(120)).is_none());
        assert_eq!(sessions.count(), 0);
    }
}
