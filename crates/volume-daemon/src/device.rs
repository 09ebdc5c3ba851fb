//! Finding the device of a volume on this machine.
//!
//! `correlate` decides (pure), `scan` reads the links, `watch` waits for them.

pub(crate) mod correlate;
pub(crate) mod scan;
pub(crate) mod watch;
