//! The replica's side of a copy: one NBD export over several connections of the agent's identity.

use nbd::Lane;
use parking_lot::Mutex;

use crate::error::MoverError;

/// The export a disk is written to.
pub struct Target {
    export: String,
    /// None while threads have them.
    lanes: Mutex<Vec<Lane>>,
}

impl Target {
    /// Uses `lanes` (at least one) that were all opened on the same export.
    ///
    /// # Errors
    /// When there is none, when they disagree on the size, or when the export cannot be written.
    pub fn new(lanes: Vec<Lane>, export_name: &str, capacity_bytes: u64) -> Result<Self, MoverError> {
        let export = export_name.to_owned();
        let Some(first) = lanes.first() else { return Err(MoverError::NoConnection { export }) };
        let size_bytes = first.size_bytes();
        if lanes.iter().any(|other| other.size_bytes() != size_bytes) {
            return Err(MoverError::SizesDiffer { export });
        }
        if size_bytes < capacity_bytes {
            return Err(MoverError::TargetTooSmall { export, size_bytes, capacity_bytes });
        }
        if first.is_read_only() {
            return Err(MoverError::TargetReadOnly { export });
        }
        Ok(Self { export, lanes: Mutex::new(lanes) })
    }

    /// The connections, for the threads that use them.
    pub(crate) fn take_lanes(&self) -> Result<Vec<Lane>, MoverError> {
        let lanes = std::mem::take(&mut *self.lanes.lock());
        if lanes.is_empty() { Err(MoverError::NoConnection { export: self.export.clone() }) } else { Ok(lanes) }
    }

    /// Gives connections back on which everything is answered.
    pub(crate) fn give_back(&self, lanes: Vec<Lane>) {
        *self.lanes.lock() = lanes;
    }

    /// Everything answered on any of the connections is durable when this returns.
    ///
    /// # Errors
    /// When a flush fails: nothing may be called done then.
    pub async fn flush(&self) -> Result<(), MoverError> {
        let lanes = self.take_lanes()?;
        let flushing = tokio::task::spawn_blocking(move || flush(lanes));
        let lanes = flushing.await.map_err(|source| MoverError::Worker { source })?;
        self.give_back(lanes.map_err(|source| MoverError::Flush { source })?);
        Ok(())
    }
}

/// Where a flush on one connection covers all, one is enough.
fn flush(mut lanes: Vec<Lane>) -> Result<Vec<Lane>, nbd::NbdError> {
    for lane in &mut lanes {
        lane.settle()?;
    }
    let covers_all = lanes.iter().all(Lane::can_multi_conn);
    let to_flush = if covers_all { 1 } else { lanes.len() };
    for lane in lanes.iter_mut().take(to_flush) {
        lane.flush()?;
    }
    Ok(lanes)
}

impl Drop for Target {
    fn drop(&mut self) {
        // A goodbye of a few bytes: everything else was answered.
        self.lanes.get_mut().drain(..).for_each(Lane::close);
    }
}
