//! NBD, the network block device protocol: a pure core, a server whose connections each have a thread, clients, URIs.
//!
//! It knows nothing of TLS, agents or volumes: whoever listens hands in a channel and says which exports there are.

mod bounds;
pub mod channel;
pub mod client;
pub mod error;
mod frame;
pub mod lane;
pub mod limits;
pub mod proto;
pub mod server;
pub mod uri;

pub use client::Client;
pub use error::NbdError;
pub use lane::Lane;
pub use uri::NbdUri;
