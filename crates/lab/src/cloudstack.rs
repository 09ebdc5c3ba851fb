//! The simulated cloudstack.
