//! cloudstack
