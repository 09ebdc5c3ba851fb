//! The control plane over its real sockets: a SQLite store in a temporary folder, the front socket, the local port.

mod access;
mod agent;
mod enrolment;
mod events;
mod hub;
mod jobs;
mod openapi;
