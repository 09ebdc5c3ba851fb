//! The codec of the transmission phase: tables, round trips, noise.
