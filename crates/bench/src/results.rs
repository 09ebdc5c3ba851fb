//! The results as they are written down: `bench/results.json`. Only medians decide; the rest is there to judge them by.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contestants::{Contestant, Measured};
use crate::error::BenchError;
use crate::machine::Machine;
use crate::primitives::Primitives;
use crate::stats::{Ratios, Spread};

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Everybody who copied, in the order of the table; ours are among them.
    pub peers: Vec<PeerResult>,
    /// What the goals are stated in.
    pub ratios: Ratios,
    /// The increments, when ours copied over TLS.
    pub incremental: Option<IncrementResult>,
    /// What was measured.
    pub setup: Setup,
    /// On which machine.
    pub machine: Machine,
    /// What one of its cores gives.
    pub primitives: Primitives,
}

/// What one contestant reached; medians over the rounds unless the name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerResult {
    /// Its name.
    pub name: String,
    /// GiB of disk a second.
    pub gib_per_s: f64,
    /// User and system seconds of all processes of both ends a GiB of disk.
    pub cpu_s_per_gib: f64,
    /// Most memory (`VmHWM`) of the largest process, in MiB.
    pub peak_mib: f64,
    /// That of all processes of both ends added up, in MiB.
    pub peak_sum_mib: f64,
    /// The slowest round.
    pub gib_per_s_min: f64,
    /// The fastest round.
    pub gib_per_s_max: f64,
    /// The cheapest round.
    pub cpu_s_per_gib_min: f64,
    /// The dearest round.
    pub cpu_s_per_gib_max: f64,
}

impl PeerResult {
    /// Of at least one copy of a disk of `gib` GiB.
    #[must_use]
    pub fn of(contestant: Contestant, copies: &[Measured], gib: f64) -> Option<Self> {
        let spread = |of: &dyn Fn(&Measured) -> f64| Spread::of(&copies.iter().map(of).collect::<Vec<_>>());
        #[allow(clippy::cast_precision_loss, reason = "memory for people")]
        let mib = |bytes: u64| bytes as f64 / MIB;
        let speed = spread(&|copy| gib / copy.seconds)?;
        let cpu = spread(&|copy| copy.usage.cpu_seconds / gib)?;
        Some(Self {
            name: contestant.name().to_owned(),
            gib_per_s: rounded(speed.median),
            cpu_s_per_gib: rounded(cpu.median),
            peak_mib: rounded(spread(&|copy| mib(copy.usage.peak_bytes))?.median),
            peak_sum_mib: rounded(spread(&|copy| mib(copy.usage.peak_sum_bytes))?.median),
            gib_per_s_min: rounded(speed.min),
            gib_per_s_max: rounded(speed.max),
            cpu_s_per_gib_min: rounded(cpu.min),
            cpu_s_per_gib_max: rounded(cpu.max),
        })
    }

    /// Who it is.
    #[must_use]
    pub fn contestant(&self) -> Option<Contestant> {
        Contestant::ALL.into_iter().find(|contestant| contestant.name() == self.name)
    }
}

/// The increments, in medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncrementResult {
    /// Wall time of one.
    pub seconds: f64,
    /// Wall time of our own full copy over TLS.
    pub full_seconds: f64,
    /// Bytes of the areas that changed.
    pub changed_bytes: u64,
    /// Those of them that hold data now; the others became zero.
    pub data_bytes: u64,
    /// Bytes the agent sent over its TCP connections, with what TLS and NBD add.
    pub wire_bytes: u64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Size of the disk, in GiB.
    pub size_gib: f64,
    /// Rounds that count.
    pub rounds: u32,
    /// Connections of our mover.
    pub connections: u32,
    /// Whether source and target were in RAM.
    pub in_ram: bool,
    /// What the best TLS peer was seen to encrypt with.
    pub peer_cipher: Option<String>,
    /// What starting our agent takes once, in seconds; it is not part of a copy.
    pub agent_start_seconds: Option<f64>,
}

impl Ratios {
    /// With as many digits as mean something.
    #[must_use]
    pub fn rounded(self) -> Self {
        let round = |ratio: Option<f64>| ratio.map(rounded);
        Self {
            tls_speed: round(self.tls_speed),
            tls_cpu: round(self.tls_cpu),
            proof_speed: round(self.proof_speed),
            proof_vs_predecessor: round(self.proof_vs_predecessor),
            plain_speed: round(self.plain_speed),
            nbdcopy_to_us: round(self.nbdcopy_to_us),
            nbdcopy_to_us_plain: round(self.nbdcopy_to_us_plain),
            nbdcopy_to_us_tls: round(self.nbdcopy_to_us_tls),
            incremental_bytes: round(self.incremental_bytes),
            incremental_time: round(self.incremental_time),
        }
    }
}

/// With three digits.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Results {
    /// The JSON text.
    ///
    /// # Errors
    /// Never in practice.
    pub fn json(&self) -> Result<String, BenchError> {
        let text = serde_json::to_string_pretty(self).map_err(BenchError::product("writing the results"))?;
        Ok(format!("{text}\n"))
    }

    /// Writes the JSON text to a file; its folder is made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let failed = |source| BenchError::Io { doing: format!("writing {}", path.display()), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, self.json()?).map_err(failed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::usage::Usage;

    /// A run of two contestants.
    pub(crate) fn a_run() -> Results {
        let copy = |seconds, cpu_seconds| Measured {
            seconds,
            usage: Usage { cpu_seconds, peak_bytes: 32 << 20, peak_sum_bytes: 48 << 20 },
        };
        let copies = [copy(1.0, 2.0), copy(2.0, 4.0), copy(4.0, 3.0)];
        let peers = [Contestant::NbdkitTls, Contestant::MoverTls];
        Results {
            peers: peers.iter().filter_map(|contestant| PeerResult::of(*contestant, &copies, 2.0)).collect(),
            ratios: Ratios { tls_speed: Some(1.0), ..Ratios::default() },
            incremental: None,
            setup: Setup {
                size_gib: 2.0,
                rounds: 3,
                connections: 2,
                in_ram: true,
                peer_cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
                agent_start_seconds: Some(0.1),
            },
            machine: Machine::default(),
            primitives: Primitives::default(),
        }
    }

    #[test]
    fn the_json_has_the_shape_that_is_agreed_on() {
        let json: serde_json::Value = serde_json::from_str(&a_run().json().unwrap()).unwrap();
        let peer = &json["peers"][0];
        assert_eq!(peer["name"], "nbdkit-tls");
        assert_eq!((peer["gib_per_s"].as_f64(), peer["gib_per_s_max"].as_f64()), (Some(1.0), Some(2.0)));
        assert_eq!((peer["cpu_s_per_gib"].as_f64(), peer["peak_mib"].as_f64()), (Some(1.5), Some(32.0)));
        for ratio in [
            "tls_speed",
            "tls_cpu",
            "proof_speed",
            "proof_vs_predecessor",
            "plain_speed",
            "nbdcopy_to_us",
            "incremental_bytes",
            "incremental_time",
        ] {
            assert!(json["ratios"].get(ratio).is_some(), "{ratio}");
        }
        assert_eq!(json["ratios"]["tls_cpu"], serde_json::Value::Null);
    }
}
