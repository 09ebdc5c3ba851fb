//! TLS 1.3 configurations of both sides: what is offered, who is believed. No sockets here.

pub mod client;
pub mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};

use crate::error::{BoxedError, TunnelError};

/// The only version spoken.
pub(crate) const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// For browsers and command lines: every TLS 1.3 suite.
pub(crate) fn web_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    Arc::new(provider)
}

/// Between agent and hub, both ours: AES-GCM only, which carries several times what ChaCha20 does per core, and a
/// hybrid post-quantum key exchange first, because copied disks stay worth reading for years.
pub(crate) fn agent_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1];
    Arc::new(provider)
}

pub(crate) fn failed(doing: &'static str) -> impl FnOnce(BoxedError) -> TunnelError {
    move |source| TunnelError::Crypto { doing, source }
}
