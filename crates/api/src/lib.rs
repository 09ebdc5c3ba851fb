//! The wire contract of our own HTTP APIs: the DTOs of every process, problem+json, and typed clients.
//!
//! No handler and no state: who serves a DTO lives in its process' crate.

pub mod client;
pub mod extract;
pub mod gateway;
pub mod oma;
pub mod page;
pub mod problem;
pub mod progress;
pub mod sse;
pub mod vma;
pub mod volume;

pub use client::{Client, ClientError, HttpTransport, ResponseBody, Transport, TransportError};
pub use problem::Problem;
