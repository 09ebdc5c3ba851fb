//! The simulated vcenter.
