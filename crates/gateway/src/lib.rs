//! The gateway: the hub's data plane. It terminates TLS on the one public port, serves every NBD export, and hands
//! API, console and agent control over to the control plane. Restarting the control plane never touches a transfer.
//!
//! It decides nothing: which exports there are and who may open them is asked of the database at connection time.

pub mod config;
mod connections;
mod control;
pub mod error;
mod exports;
mod forward;
mod listener;
mod names;
mod replicas;
mod room;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;

use store::Store;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tunnel::{AcceptLimits, Acceptor, HubIdentity, ServerTls};

pub use config::GatewayConfig;
pub use error::GatewayError;

use connections::Connections;
use control::Control;
use listener::Listener;
use replicas::Replicas;
use room::Room;

/// Runs the gateway until shutdown.
///
/// # Errors
/// When an address cannot be listened on, or the hub's identity cannot be opened.
pub async fn run(config: GatewayConfig, store: Store, shutdown: CancellationToken) -> Result<(), GatewayError> {
    let tunnel = |source| GatewayError::Tunnel { source };
    let now = OffsetDateTime::now_utc();
    let identity = HubIdentity::open(&config.state_dir, &config.server_names, now).map_err(tunnel)?;
    let leaf = identity.server_leaf(now).map_err(tunnel)?;
    let tls = Arc::new(ServerTls::new(identity.ca(), &leaf).map_err(tunnel)?);
    let public = bind(config.listen).await?;
    let local = bind(config.local_nbd_listen).await?;
    let connections = Arc::new(Connections::default());
    let replicas = Arc::new(Replicas::new(store.clone(), &config.state_dir)?);
    if let Err(error) = replicas.sweep().await {
        tracing::error!(error = &error as &dyn std::error::Error, "journals that are not needed stay for now");
    }
    let control = control::router(Control {
        store: store.clone(),
        connections: Arc::clone(&connections),
        replicas: Arc::clone(&replicas),
        verifications: Arc::default(),
    });
    let control_socket = config.control_socket();
    let public_room = Arc::new(Room::default());
    let listener =
        Listener { config: Arc::new(config), store, connections, replicas, public_room, shutdown: shutdown.clone() };
    let acceptor = Arc::new(Acceptor::new(Arc::clone(&tls), AcceptLimits::default()));
    tracing::info!(listen = %listener.config.listen, "gateway is up");
    let public_listener = listener.clone();
    let handle = move |accepted| {
        let listener = public_listener.clone();
        async move { listener.handle(accepted).await }
    };
    // A part that fails takes the others with it.
    let controlled = async {
        let served = runtime::http::serve_unix(control, &control_socket, shutdown.clone()).await;
        shutdown.cancel();
        served.map_err(|source| GatewayError::Control { source })
    };
    let ((), (), (), served) = tokio::join!(
        acceptor.serve(public, handle, shutdown.clone()),
        listener.serve_local(local),
        tls.keep_renewed(&identity, shutdown.clone()),
        controlled,
    );
    served
}

async fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| GatewayError::Listen { address: address.to_string(), source })
}

#[cfg(test)]
mod tests;
