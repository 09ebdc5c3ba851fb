//! Whether the next block is worth compressing: the time it would take against the time it would save on the link. Pure:
//! whoever sends measures.
//!
//! How fast the link is, is only seen while the link is what is waited for: bytes that fit into the system's buffers are
//! gone at once, however slow it is. So compression is on at first; it is given up when so much went out that no buffer
//! can have held it, and the link was still fast.

use std::time::Duration;

use model::CompressionMode;

/// Sent before the link's speed is believed, in bytes: more than the system's buffers of a connection hold.
const KNOWN_AFTER_BYTES: u64 = 4 << 20;
/// Compressed before the link's speed is believed, in bytes before compression: bounds what a fast link pays at first.
const TRIED_AFTER_BYTES: u64 = 16 << 20;
/// Compressed without the link being waited for, in bytes before compression, after which it is measured anew.
const STALE_AFTER_BYTES: u64 = 256 << 20;
/// A link this fast is never worth a look: 400 MB/s on one connection.
const FAST_PS_PER_BYTE: u64 = 2_500;
/// A link this slow leaves time for a higher level: 25 MB/s on one connection.
const SLOW_PS_PER_BYTE: u64 = 40_000;
/// The time saved on the link must be so many times the compressor's: the other side decompresses, and the processor may
/// be what is short.
const MARGIN: u64 = 2;
/// Looking whether it would pay may take one part in so many of the time.
const LOOK_SHARE: u64 = 100;
/// zstd's level where the compressor should not be the bottleneck.
const QUICK_LEVEL: i32 = 1;
/// zstd's level where there is time.
const THOROUGH_LEVEL: i32 = 3;

/// What is to be done with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it as it is.
    Raw,
    /// Compress a part of it, and ask again with what that showed.
    Look,
    /// Compress it.
    Pack,
}

/// What compressing some bytes was like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) plain: usize,
    /// As long as before where nothing was gained.
    pub(crate) packed: usize,
    pub(crate) took: Duration,
}

/// Decides for one direction of one connection.
#[derive(Debug)]
pub(crate) struct Judge {
    mode: CompressionMode,
    is_on: bool,
    /// Of late: bytes that went out, and the time that was waited for them.
    wire_bytes: u64,
    wire_ns: u64,
    is_known: bool,
    tried_bytes: u64,
    /// Compressed since the link was last what was waited for.
    unseen_bytes: u64,
    look_ns: u64,
    since_look_ns: u64,
    last_pack_ns: u64,
}

impl Judge {
    pub(crate) fn new(mode: CompressionMode) -> Self {
        Self {
            mode,
            is_on: true,
            wire_bytes: 0,
            wire_ns: 0,
            is_known: false,
            tried_bytes: 0,
            unseen_bytes: 0,
            look_ns: 0,
            since_look_ns: 0,
            last_pack_ns: 0,
        }
    }

    /// What to do with the next block.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.mode {
            CompressionMode::Off => Verdict::Raw,
            CompressionMode::On => Verdict::Pack,
            CompressionMode::Auto if self.is_on => Verdict::Pack,
            CompressionMode::Auto if self.is_known && self.ps_per_byte() < FAST_PS_PER_BYTE => Verdict::Raw,
            CompressionMode::Auto if self.since_look_ns >= self.look_ns.saturating_mul(LOOK_SHARE) => Verdict::Look,
            CompressionMode::Auto => Verdict::Raw,
        }
    }

    /// zstd's level for it.
    pub(crate) fn level(&self) -> i32 {
        let is_slow = self.is_known && self.ps_per_byte() > SLOW_PS_PER_BYTE;
        if is_slow { THOROUGH_LEVEL } else { QUICK_LEVEL }
    }

    /// A part of a block was compressed to see what that would bring; the verdict on the whole.
    pub(crate) fn looked(&mut self, trial: Trial) -> Verdict {
        self.look_ns = nanoseconds(trial.took);
        self.since_look_ns = 0;
        self.is_on = self.pays(trial);
        if self.is_on { Verdict::Pack } else { Verdict::Raw }
    }

    /// A block was compressed.
    pub(crate) fn packed(&mut self, trial: Trial) {
        self.last_pack_ns = nanoseconds(trial.took);
        self.tried_bytes = self.tried_bytes.saturating_add(trial.plain as u64);
        self.unseen_bytes = self.unseen_bytes.saturating_add(trial.plain as u64);
        if !self.is_known && self.tried_bytes >= TRIED_AFTER_BYTES {
            self.is_known = true;
        }
        if self.unseen_bytes >= STALE_AFTER_BYTES {
            // The compressor is the bottleneck: the link may have become faster than it.
            (self.is_on, self.is_known) = (false, false);
            (self.wire_bytes, self.wire_ns, self.unseen_bytes, self.since_look_ns) = (0, 0, 0, 0);
            self.look_ns = self.look_ns.max(1);
            return;
        }
        self.is_on = !self.is_known || self.pays(trial);
    }

    /// Bytes went out, or were waited for: `bytes` may be 0.
    pub(crate) fn waited(&mut self, bytes: usize, time: Duration) {
        let ns = nanoseconds(time);
        self.since_look_ns = self.since_look_ns.saturating_add(ns);
        let is_packing = std::mem::take(&mut self.last_pack_ns);
        if is_packing > ns && self.is_known {
            // The compressor was slower than the link: this says nothing about how fast the link would be.
            return;
        }
        if ns >= is_packing {
            self.unseen_bytes = 0;
        }
        self.wire_bytes = self.wire_bytes.saturating_add(bytes as u64);
        self.wire_ns = self.wire_ns.saturating_add(ns);
        if self.wire_bytes >= KNOWN_AFTER_BYTES {
            self.is_known = true;
            (self.wire_bytes, self.wire_ns) = (self.wire_bytes / 2, self.wire_ns / 2);
        }
    }

    /// Picoseconds the link takes for a byte.
    fn ps_per_byte(&self) -> u64 {
        self.wire_ns.saturating_mul(1000).checked_div(self.wire_bytes).unwrap_or(0)
    }

    fn pays(&self, trial: Trial) -> bool {
        let saved_bytes = trial.plain.saturating_sub(trial.packed) as u64;
        let saved_ns = saved_bytes.saturating_mul(self.ps_per_byte()) / 1000;
        nanoseconds(trial.took).saturating_mul(MARGIN) < saved_ns
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 256 * 1024;
    /// zstd on text, on one processor.
    const PACK_NS_PER_BYTE: f64 = 2.2;

    /// A link whose buffer takes bytes at once until it is full, and a sender of `blocks` blocks that shrink to `ratio`;
    /// answers with how many were compressed, and how many of those in the second half.
    fn sent_over(ns_per_byte: f64, buffer: f64, ratio: f64, blocks: usize) -> (usize, usize) {
        let mut judge = Judge::new(CompressionMode::Auto);
        let (mut queued, mut packed, mut packed_late) = (0.0_f64, 0, 0);
        for block in 0..blocks {
            let trial = |plain: usize| Trial {
                plain,
                packed: (plain as f64 * ratio) as usize,
                took: Duration::from_nanos((plain as f64 * PACK_NS_PER_BYTE) as u64),
            };
            let mut spent = 50_000.0;
            let verdict = match judge.verdict() {
                Verdict::Look => {
                    spent += 16384.0 * PACK_NS_PER_BYTE;
                    judge.looked(trial(16384))
                }
                verdict => verdict,
            };
            let bytes = if verdict == Verdict::Pack {
                packed += 1;
                packed_late += usize::from(block >= blocks / 2);
                spent += BLOCK as f64 * PACK_NS_PER_BYTE;
                judge.packed(trial(BLOCK));
                BLOCK as f64 * ratio
            } else {
                BLOCK as f64
            };
            queued = (queued - spent / ns_per_byte).max(0.0) + bytes;
            // Sealing and copying cost something everywhere.
            let wait = (queued - buffer).max(0.0) * ns_per_byte + bytes * 0.5;
            queued -= wait / ns_per_byte;
            judge.waited(bytes as usize, Duration::from_nanos(wait as u64));
        }
        (packed, packed_late)
    }

    #[test]
    fn a_slow_link_compresses_and_a_fast_one_soon_does_not() {
        // 100 Mbit/s and 1 Gbit/s, with a buffer of 2.5 MiB; then 40 Gbit/s.
        for (ns_per_byte, least) in [(80.0, 95), (8.0, 90)] {
            let (packed, _) = sent_over(ns_per_byte, 2.5e6, 0.3, 400);
            assert!(packed * 100 >= 400 * least, "{packed} of 400 at {ns_per_byte} ns per byte");
        }
        let (packed, late) = sent_over(0.2, 2.5e6, 0.3, 4000);
        assert!(packed <= 64 && late == 0, "{packed} of 4000, {late} late");
    }

    #[test]
    fn what_cannot_be_compressed_is_only_looked_at() {
        let (packed, late) = sent_over(80.0, 2.5e6, 1.0, 400);
        assert!(packed <= 64 && late == 0, "{packed} of 400");
    }

    #[test]
    fn a_compressor_that_outruns_a_slow_link_is_not_given_up_for_long() {
        // Everything shrinks to a hundredth: the link is hardly ever waited for.
        let (packed, _) = sent_over(80.0, 2.5e6, 0.01, 8000);
        assert!(packed * 100 >= 8000 * 90, "{packed} of 8000");
    }

    #[test]
    fn what_was_asked_for_is_done() {
        let mut judge = Judge::new(CompressionMode::On);
        judge.waited(1 << 30, Duration::from_nanos(1));
        judge.packed(Trial { plain: BLOCK, packed: BLOCK, took: Duration::from_secs(1) });
        assert_eq!(judge.verdict(), Verdict::Pack);
        assert_eq!(Judge::new(CompressionMode::Off).verdict(), Verdict::Raw);
    }

    #[test]
    fn a_slow_link_leaves_time_for_a_higher_level() {
        let mut judge = Judge::new(CompressionMode::Auto);
        assert_eq!(judge.level(), QUICK_LEVEL);
        judge.waited(8 << 20, Duration::from_secs(1));
        assert_eq!(judge.level(), THOROUGH_LEVEL);
        judge.waited(64 << 20, Duration::from_millis(100));
        assert_eq!(judge.level(), QUICK_LEVEL);
    }
}
