//! Starts and stops the volume daemon: HTTP, the job log's runner, and the reconciler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

/// How long requests in flight may take to end after a shutdown was asked for; waiting ones are answered at once.
const GRACE_PERIOD: Duration = Duration::from_secs(5);

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
        let failed = |source| VolumeDaemonError::Listen { address, source };
        let daemon = Daemon::open(config, store)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
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
        let router = http::router(daemon.clone(), shutdown.clone());
        let stopping = shutdown.clone();
        let server = axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned());
        let bounded = async {
            tokio::select! {
                ended = server.into_future() => ended,
                () = overdue(&shutdown) => Ok(()),
            }
        };
        let runner = daemon.runner().run(shutdown.clone());
        let (served, (), ()) = tokio::join!(bounded, runner, reconcile_regularly(&daemon, &shutdown));
        served.map_err(|source| VolumeDaemonError::Listen { address, source })
    }
}

async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE_PERIOD).await;
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
