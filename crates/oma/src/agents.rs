//! The agents that are connected: who, since when, and a client for each. Rows and audit are written by `session`;
//! what an agent may send is in `limits`.

pub mod limits;
pub mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Client;
use api::vma::VmaClient;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tunnel::ControlConnection;

use crate::error::OmaError;

/// An open control connection.
pub(crate) struct LiveAgent {
    number: u64,
    connection: Arc<ControlConnection>,
    remote: SocketAddr,
}

impl LiveAgent {
    fn client(&self) -> VmaClient {
        VmaClient::new(Client::new(Arc::clone(&self.connection) as Arc<dyn api::Transport>))
    }
}

/// Which agents are connected. An agent has at most one connection: a newer one replaces the older.
#[derive(Default)]
pub struct AgentRegistry {
    live: Mutex<HashMap<String, Arc<LiveAgent>>>,
    next_number: AtomicU64,
    changed: Notify,
    /// Held while a connection's beginning or end is written, so that rows follow the registry's order.
    records: tokio::sync::Mutex<()>,
}

impl AgentRegistry {
    /// A client of an agent.
    ///
    /// # Errors
    /// [`OmaError::AgentNotConnected`].
    pub fn client(&self, enrollment_id: &str) -> Result<VmaClient, OmaError> {
        self.find(enrollment_id)
            .map(|agent| agent.client())
            .ok_or_else(|| OmaError::AgentNotConnected { enrollment_id: enrollment_id.to_owned() })
    }

    /// The enrolments of the agents that are connected, sorted.
    #[must_use]
    pub fn connected(&self) -> Vec<String> {
        let open = |(id, agent): (&String, &Arc<LiveAgent>)| (!agent.connection.is_closed()).then(|| id.clone());
        let mut ids: Vec<String> = self.live.lock().iter().filter_map(open).collect();
        ids.sort();
        ids
    }

    /// Whether an agent is connected.
    #[must_use]
    pub fn is_connected(&self, enrollment_id: &str) -> bool {
        self.find(enrollment_id).is_some()
    }

    /// Where a connected agent calls from.
    #[must_use]
    pub fn remote_address(&self, enrollment_id: &str) -> Option<SocketAddr> {
        self.find(enrollment_id).map(|agent| agent.remote)
    }

    /// The one agent that is connected: its enrolment and a client.
    ///
    /// # Errors
    /// [`OmaError::NoAgent`] or [`OmaError::SeveralAgents`].
    pub fn only_connected(&self) -> Result<(String, VmaClient), OmaError> {
        let connected = self.connected();
        match connected.as_slice() {
            [] => Err(OmaError::NoAgent),
            [id] => Ok((id.clone(), self.client(id)?)),
            several => Err(OmaError::SeveralAgents { count: several.len() }),
        }
    }

    /// A client of the agent a row names; where it names none, of the one that is connected.
    ///
    /// # Errors
    /// As [`AgentRegistry::client`] or [`AgentRegistry::only_connected`].
    pub fn client_of(&self, enrollment_id: Option<&str>) -> Result<VmaClient, OmaError> {
        match enrollment_id {
            Some(id) => self.client(id),
            None => Ok(self.only_connected()?.1),
        }
    }

    /// Waits until an agent is connected.
    ///
    /// # Errors
    /// [`OmaError::AgentNotConnected`] when it still is not after `limit`.
    pub async fn wait_connected(&self, enrollment_id: &str, limit: Duration) -> Result<VmaClient, OmaError> {
        let deadline = Instant::now() + limit;
        loop {
            let changed = self.changed.notified();
            if let Ok(client) = self.client(enrollment_id) {
                return Ok(client);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return self.client(enrollment_id);
            }
        }
    }

    fn find(&self, enrollment_id: &str) -> Option<Arc<LiveAgent>> {
        let agent = self.live.lock().get(enrollment_id).cloned()?;
        (!agent.connection.is_closed()).then_some(agent)
    }

    /// Enters a connection; an older one of the same agent is cut.
    fn enter(&self, enrollment_id: &str, connection: Arc<ControlConnection>, remote: SocketAddr) -> Arc<LiveAgent> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let agent = Arc::new(LiveAgent { number, connection, remote });
        let older = self.live.lock().insert(enrollment_id.to_owned(), Arc::clone(&agent));
        if let Some(older) = older {
            tracing::info!(enrollment_id, "an agent connected again; its older connection ends");
            older.connection.close();
        }
        self.changed.notify_waiters();
        agent
    }

    /// Takes a connection out, unless a newer one took its place: says which.
    fn leave(&self, enrollment_id: &str, agent: &LiveAgent) -> bool {
        let mut live = self.live.lock();
        let is_current = live.get(enrollment_id).is_some_and(|current| current.number == agent.number);
        if is_current {
            live.remove(enrollment_id);
        }
        drop(live);
        self.changed.notify_waiters();
        is_current
    }

    /// Cuts the connection of an agent that may not be connected any more.
    pub(crate) async fn cut(&self, enrollment_id: &str) {
        let _in_order = self.records.lock().await;
        let cut = self.live.lock().remove(enrollment_id);
        if let Some(agent) = cut {
            agent.connection.close();
        }
        self.changed.notify_waiters();
    }
}
