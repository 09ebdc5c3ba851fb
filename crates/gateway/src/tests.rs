//! The gateway as agents, tools and the control plane see it: over NBD and its control socket, with rows in a database.

#[allow(dead_code, unreachable_pub, reason = "shared with the store's tests, which use more of it")]
#[path = "../../store/tests/store/fixture.rs"]
mod fixture;

mod hub;
mod points;
mod runs;
