//! The `--scale` form: disks of 100 GiB and 8 TiB that are nearly empty, copied and proven by ours. What counts is that
//! memory stays small and flat; speed says nothing here.

use model::LEAF_SIZE_BYTES;
use model::size::{GIB_BYTES, human_bytes};
use serde::{Deserialize, Serialize};

use crate::contest::blocking;
use crate::contestants::watched;
use crate::disks;
use crate::error::BenchError;
use crate::image;
use crate::ours::agent::{Order, Via};
use crate::ours::{Agent, Gateway};
use crate::ram::RamFolder;
use crate::report::new_table;
use crate::usage::Meter;

/// Sizes of the disks, in GiB.
const SIZES_GIB: [u64; 2] = [100, 8 * 1024];
/// Most memory a process may have for a disk, in bytes.
const LIMIT_BYTES: u64 = 64 << 20;
/// Bytes of a piece of data ([`image::write_sparse`]).
const PIECE_BYTES: u64 = 4 * LEAF_SIZE_BYTES;

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Bytes of data on each disk.
    pub data_bytes: u64,
    /// Connections of the mover.
    pub connections: u32,
}

/// One disk's copy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScaleResult {
    /// Size of the disk, in GiB.
    pub size_gib: u64,
    /// Data on it, in bytes.
    pub data_bytes: u64,
    /// Wall time of copy and proof, in seconds.
    pub seconds: f64,
    /// Most memory of the mover's process (`VmHWM`), in bytes.
    pub mover_peak_bytes: u64,
    /// Most memory of the gateway's process, in bytes.
    pub gateway_peak_bytes: u64,
}

impl ScaleResult {
    /// Whether both processes stayed within the limit.
    #[must_use]
    pub fn is_within_limit(&self) -> bool {
        self.mover_peak_bytes.max(self.gateway_peak_bytes) <= LIMIT_BYTES
    }
}

/// Copies each of the disks.
///
/// # Errors
/// When a copy fails or is not equal.
pub async fn run(plan: Plan, ram: &RamFolder) -> Result<Vec<ScaleResult>, BenchError> {
    let mut results = Vec::new();
    for size_gib in SIZES_GIB {
        results.push(one(plan, ram, size_gib).await?);
    }
    Ok(results)
}

async fn one(plan: Plan, ram: &RamFolder, size_gib: u64) -> Result<ScaleResult, BenchError> {
    let size_bytes = size_gib * GIB_BYTES;
    let (source, target) = (ram.path().join("source.raw"), ram.path().join("target.raw"));
    let (from, to, pieces) = (source.clone(), target.clone(), plan.data_bytes / PIECE_BYTES);
    blocking(move || image::write_sparse(&from, size_bytes, pieces).and_then(|()| disks::fresh(&to, size_bytes)))
        .await?;
    let (dir, logs) = (ram.folder(&format!("ours-{size_gib}"))?, ram.folder("logs")?);
    let gateway = Gateway::start(&dir, &logs, &target, size_bytes).await?;
    let mut agent = Agent::start(&gateway, &logs).await?;
    let order =
        Order { source: source.clone(), via: Via::Tls, connections: plan.connections, changed: None, proof: true };
    let mut meter = Meter::begin(&[gateway.pid(), agent.pid()]);
    let begun = std::time::Instant::now();
    watched(&mut meter, agent.copy(&order)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    meter.look();
    let peak = |pid| meter.peak_bytes(pid);
    let result = ScaleResult {
        size_gib,
        data_bytes: pieces * PIECE_BYTES,
        seconds,
        mover_peak_bytes: peak(agent.pid()),
        gateway_peak_bytes: peak(gateway.pid()),
    };
    let (from, to) = (source.clone(), target.clone());
    let difference = blocking(move || disks::first_difference(&from, &to)).await?;
    disks::remove(&source)?;
    disks::remove(&target)?;
    match difference {
        None => Ok(result),
        Some(offset) => Err(BenchError::Content { contestant: format!("ours, {size_gib} GiB"), offset }),
    }
}

/// A table for a terminal.
#[must_use]
pub fn terminal(results: &[ScaleResult]) -> String {
    let head = ["disk", "data on it", "copy and proof", "peak of the mover", "peak of the gateway", "within 64 MiB"];
    let mut table = new_table(&head);
    for found in results {
        table.add_row([
            human_bytes(found.size_gib * GIB_BYTES),
            human_bytes(found.data_bytes),
            format!("{:.1} s", found.seconds),
            human_bytes(found.mover_peak_bytes),
            human_bytes(found.gateway_peak_bytes),
            if found.is_within_limit() { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_of_both_processes_decides() {
        let mut found = ScaleResult {
            size_gib: 100,
            data_bytes: 1 << 30,
            seconds: 1.0,
            mover_peak_bytes: 20 << 20,
            gateway_peak_bytes: 64 << 20,
        };
        assert!(found.is_within_limit() && terminal(&[found]).contains("yes"));
        found.mover_peak_bytes = LIMIT_BYTES + 1;
        assert!(!found.is_within_limit() && terminal(&[found]).contains("NO"));
    }
}
