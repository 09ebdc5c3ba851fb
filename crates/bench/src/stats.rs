//! Medians and the ratios that the goals of the data path are stated in. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contestants::Contestant;

/// The middle of some values, with the extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(below, above), min, max })
    }
}

/// What one contestant reached, in medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// GiB of disk a second.
    pub gib_per_s: f64,
    /// Processor seconds of all processes a GiB of disk.
    pub cpu_s_per_gib: f64,
}

/// What the increments were like, in medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Increment {
    /// Bytes sent over bytes that changed and hold data.
    pub bytes_ratio: f64,
    /// Seconds an increment took.
    pub seconds: f64,
    /// Seconds our own full copy took.
    pub full_seconds: f64,
}

/// The goals' ratios; none where a contestant of it did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Our speed over TLS without proof, over the fastest TLS peer's.
    pub tls_speed: Option<f64>,
    /// Our processor time over TLS without proof, over that same peer's.
    pub tls_cpu: Option<f64>,
    /// Our speed with proof, over the fastest TLS peer's without any.
    pub proof_speed: Option<f64>,
    /// Our speed with proof, over the predecessor's chain's.
    pub proof_vs_predecessor: Option<f64>,
    /// The faster of mover and nbdcopy to our plain port, over nbdcopy to nbdkit.
    pub plain_speed: Option<f64>,
    /// nbdcopy to us over the same nbdcopy to nbdkit: the smaller of plain and TLS.
    pub nbdcopy_to_us: Option<f64>,
    /// The plain half of that.
    pub nbdcopy_to_us_plain: Option<f64>,
    /// The TLS half of that (through the local bridge).
    pub nbdcopy_to_us_tls: Option<f64>,
    /// Bytes sent in an increment, over bytes changed.
    pub incremental_bytes: Option<f64>,
    /// Wall time of an increment, over that of our own full copy.
    pub incremental_time: Option<f64>,
}

/// The ratios of a run.
#[must_use]
pub fn ratios(reached: &BTreeMap<Contestant, Reached>, increment: Option<Increment>) -> Ratios {
    use Contestant as C;
    let speed = |of: C| reached.get(&of).map(|found| found.gib_per_s);
    let over = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
    let best_peer = reached.iter().filter(|(contestant, _)| contestant.is_tls_peer()).map(|(_, found)| *found);
    let best_peer = best_peer.max_by(|a, b| a.gib_per_s.total_cmp(&b.gib_per_s));
    let best_speed = best_peer.map(|peer| peer.gib_per_s);
    let plain = [speed(C::MoverPlain), speed(C::NbdcopyToUsPlain)].into_iter().flatten().reduce(f64::max);
    let to_us_plain = over(speed(C::NbdcopyToUsPlain), speed(C::NbdkitPlain));
    let to_us_tls = over(speed(C::NbdcopyToUsTls), speed(C::NbdkitTls));
    Ratios {
        tls_speed: over(speed(C::MoverTls), best_speed),
        tls_cpu: over(reached.get(&C::MoverTls).map(|our| our.cpu_s_per_gib), best_peer.map(|peer| peer.cpu_s_per_gib)),
        proof_speed: over(speed(C::MoverTlsProof), best_speed),
        proof_vs_predecessor: over(speed(C::MoverTlsProof), speed(C::StunnelChain)),
        plain_speed: over(plain, speed(C::NbdkitPlain)),
        nbdcopy_to_us: [to_us_plain, to_us_tls].into_iter().flatten().reduce(f64::min),
        nbdcopy_to_us_plain: to_us_plain,
        nbdcopy_to_us_tls: to_us_tls,
        incremental_bytes: increment.map(|found| found.bytes_ratio),
        incremental_time: increment.map(|found| found.seconds / found.full_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_taken_against_the_fastest_tls_peer() {
        let found = |gib_per_s, cpu_s_per_gib| Reached { gib_per_s, cpu_s_per_gib };
        let reached = BTreeMap::from([
            (Contestant::NbdkitTls, found(1.0, 2.0)),
            (Contestant::QemuTls, found(0.8, 1.0)),
            (Contestant::StunnelChain, found(0.4, 4.0)),
            (Contestant::NbdkitPlain, found(1.6, 1.0)),
            (Contestant::MoverTls, found(2.0, 1.0)),
            (Contestant::MoverTlsProof, found(1.2, 1.6)),
            (Contestant::MoverPlain, found(2.4, 0.7)),
            (Contestant::NbdcopyToUsPlain, found(3.2, 0.7)),
            (Contestant::NbdcopyToUsTls, found(1.1, 0.7)),
        ]);
        let increment = Increment { bytes_ratio: 1.01, seconds: 0.05, full_seconds: 1.0 };
        let found = ratios(&reached, Some(increment));
        assert_eq!((found.tls_speed, found.tls_cpu), (Some(2.0), Some(0.5)));
        assert_eq!((found.proof_speed, found.plain_speed), (Some(1.2), Some(2.0)));
        assert!((found.proof_vs_predecessor.unwrap() - 3.0).abs() < 1e-9);
        assert_eq!((found.nbdcopy_to_us, found.nbdcopy_to_us_plain), (Some(1.1), Some(2.0)));
        assert_eq!((found.incremental_bytes, found.incremental_time), (Some(1.01), Some(0.05)));
    }

    #[test]
    fn what_did_not_run_has_no_ratio() {
        let reached = BTreeMap::from([(Contestant::MoverTls, Reached { gib_per_s: 2.0, cpu_s_per_gib: 1.0 })]);
        assert_eq!(ratios(&reached, None), Ratios::default());
    }
}
