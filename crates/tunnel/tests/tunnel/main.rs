//! The tunnel over real loopback TCP: who gets in by which route, enrolment, the reversed connection, and OpenSSL.

#[cfg(test)]
mod control;
mod data_plane;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod interop_openssl;
#[cfg(test)]
mod link;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trust;
