//! The protocol without sockets or clocks: bytes in, values out. Follows `doc/proto.md` of NetworkBlockDevice/nbd.

pub mod handshake;
pub mod transmission;
pub mod wire;
