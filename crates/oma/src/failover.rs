//! Failovers: a replica becomes a running VM of the target cloud, and can become a replica again.

#[allow(dead_code, reason = "the sagas run the tool")]
pub(crate) mod conversion;
#[allow(dead_code, reason = "the sagas run the probes")]
pub(crate) mod probe;
