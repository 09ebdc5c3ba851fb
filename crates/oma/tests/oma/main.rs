//! The control plane over its real sockets: a SQLite store in a temporary folder, the front socket, the local port.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod agent;
mod enrolment;
mod events;
mod ghosts;
mod groups;
mod hub;
mod jobs;
mod networks;
mod openapi;
