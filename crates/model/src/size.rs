//! Sizes: always bytes in code; whole GiB only where CloudStack wants them.

/// Bytes of one GiB.
pub const GIB_BYTES: u64 = 1 << 30;

/// The number of whole GiB that hold `bytes` (CloudStack volumes come in whole GiB, so a disk is rounded up).
#[must_use]
pub fn gib_rounded_up(bytes: u64) -> u64 {
    bytes.div_ceil(GIB_BYTES)
}

/// `bytes` for people: `512 B`, `1.5 MiB`, `2.0 GiB`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a display value with one decimal")]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_rounded_up_to_whole_gib() {
        for (bytes, gib) in [(0, 0), (1, 1), (GIB_BYTES, 1), (GIB_BYTES + 1, 2)] {
            assert_eq!(gib_rounded_up(bytes), gib);
        }
    }

    #[test]
    fn people_read_one_decimal() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2 * GIB_BYTES, "2.0 GiB")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
