//! Starts and stops the volume daemon: HTTP, the job log's runner, and the reconciler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::http::{HttpError, bind, serve_tcp};
use store::Store;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::VolumeDaemonConfig;
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;
use crate::http;
use crate::ops;
use crate::reconcile::reconcile;

/// Runs the volume daemon until `shutdown`. The store must be migrated.
///
/// # Errors
/// The configuration cannot be used, or the address cannot be listened on.
pub async fn run(
    config: VolumeDaemonConfig,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(), VolumeDaemonError> {
    VolumeDaemon::bind(config, store).await?.serve(shutdown).await
}

/// A volume daemon that listens and does not work yet.
pub struct VolumeDaemon {
    daemon: Arc<Daemon>,
    listener: TcpListener,
    address: SocketAddr,
}

impl VolumeDaemon {
    /// Opens the keys and listens.
    ///
    /// # Errors
    /// The configuration cannot be used, or the address cannot be listened on.
    pub async fn bind(config: VolumeDaemonConfig, store: Store) -> Result<Self, VolumeDaemonError> {
        let address = config.listen;
        if !address.ip().is_loopback() {
            return Err(VolumeDaemonError::NotLoopback { address });
        }
        let daemon = Daemon::open(config, store)?;
        let listener = bind(address).await?;
        let bound = |source| HttpError::Listen { address: address.to_string(), source };
        let address = listener.local_addr().map_err(bound)?;
        Ok(Self { daemon, listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Works until `shutdown`: first continues what was left unfinished.
    ///
    /// # Errors
    /// The database cannot be read at the start, or the listener fails.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), VolumeDaemonError> {
        let Self { daemon, listener, address } = self;
        ops::resume_accepted(&daemon).await?;
        tracing::info!(%address, "the volume daemon serves");
        // A listener that fails ends the rest as well.
        let stopping = shutdown.child_token();
        let router = http::router(daemon.clone(), stopping.clone());
        let server = async {
            let _ends_the_rest = stopping.clone().drop_guard();
            serve_tcp(router, listener, stopping.clone()).await
        };
        let runner = daemon.runner().run(stopping.clone());
        let (served, (), ()) = tokio::join!(server, runner, reconcile_regularly(&daemon, &stopping));
        Ok(served?)
    }
}

/// Compares at once and then again and again; a pass that fails is said and the next one tries again.
async fn reconcile_regularly(daemon: &Daemon, shutdown: &CancellationToken) {
    let interval = Duration::from_secs(daemon.config.reconcile_interval_seconds.max(1).into());
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let pass = tokio::select! {
            () = shutdown.cancelled() => return,
            pass = reconcile(daemon) => pass,
        };
        if let Err(error) = pass {
            tracing::warn!(error = &error as &dyn std::error::Error, "rows, devices and CloudStack cannot be compared");
        }
    }
}
