//! What the connections of one disk sent: on the wire, and of what was compressed. Counters only.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that several connections share, all in bytes sent.
#[derive(Debug, Default)]
pub struct WireMeter {
    wire: AtomicU64,
    raw: AtomicU64,
    unpacked: AtomicU64,
    packed: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireView {
    /// Bytes given to TCP: compressed, encrypted, with everything around them.
    pub bytes_on_wire: u64,
    /// Bytes of NBD that went as they are where they could have been compressed.
    pub bytes_raw: u64,
    /// Bytes of NBD that were compressed, before that.
    pub bytes_unpacked: u64,
    /// The same, after it.
    pub bytes_packed: u64,
}

impl WireMeter {
    pub(crate) fn add_wire(&self, length: usize) {
        self.wire.fetch_add(length as u64, Relaxed);
    }

    pub(crate) fn add_raw(&self, length: usize) {
        self.raw.fetch_add(length as u64, Relaxed);
    }

    pub(crate) fn add_packed(&self, plain: usize, packed: usize) {
        self.unpacked.fetch_add(plain as u64, Relaxed);
        self.packed.fetch_add(packed as u64, Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn view(&self) -> WireView {
        WireView {
            bytes_on_wire: self.wire.load(Relaxed),
            bytes_raw: self.raw.load(Relaxed),
            bytes_unpacked: self.unpacked.load(Relaxed),
            bytes_packed: self.packed.load(Relaxed),
        }
    }
}

impl WireView {
    /// How much of what could be compressed was, in percent; none where nothing could be.
    #[must_use]
    pub fn compressed_share_percent(&self) -> Option<u32> {
        percent(self.bytes_unpacked, self.bytes_unpacked.saturating_add(self.bytes_raw))
    }

    /// What was left of what was compressed, in percent; none where nothing was.
    #[must_use]
    pub fn compression_ratio_percent(&self) -> Option<u32> {
        percent(self.bytes_packed, self.bytes_unpacked)
    }
}

fn percent(part: u64, whole: u64) -> Option<u32> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u32::try_from(percent).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_could_be_compressed_and_none_of_nothing() {
        let meter = WireMeter::default();
        meter.add_wire(1000);
        assert_eq!(meter.view().compressed_share_percent(), None);
        assert_eq!(meter.view().compression_ratio_percent(), None);
        meter.add_raw(300);
        meter.add_packed(900, 225);
        let view = meter.view();
        assert_eq!(view.bytes_on_wire, 1000);
        assert_eq!((view.compressed_share_percent(), view.compression_ratio_percent()), (Some(75), Some(25)));
    }
}
