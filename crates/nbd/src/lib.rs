//! NBD, the network block device protocol: a pure core, an asynchronous server and client on any stream, URIs.
//!
//! It knows nothing of TLS, agents or volumes: whoever listens hands in a stream and says which exports there are.

pub mod client;
pub mod error;
mod frame;
pub mod limits;
pub mod proto;
pub mod server;
pub mod uri;

pub use client::Client;
pub use error::NbdError;
pub use uri::NbdUri;
