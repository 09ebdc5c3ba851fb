//! Changed block tracking: which areas of a frozen disk differ from an earlier state.
//!
//! Too much may be reported, too little never: an answer that leaves a gap or makes no progress is an error, and an
//! error means that the caller reads everything.

use model::extent::normalise;
use model::{ChangeId, Extent, LEAF_SIZE_BYTES};

use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::session::VimSession;
use crate::soap::{Element, Request};

const METHOD: &str = "QueryChangedDiskAreas";

/// Most extents kept of one disk (16 MiB of memory); beyond that near ones are joined, which only reads more.
const MAX_EXTENTS: usize = 1 << 20;
/// Most answers asked for of one disk: 62 TiB in the smallest steps ever seen from a server (16 MiB).
const MAX_ANSWERS: usize = 1 << 22;

/// Since when changes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesSince {
    /// Since the disk was made: everything that is allocated (`*`). Only exact on VMFS with tracking enabled while
    /// there was no vm_snapshot.
    Beginning,
    /// Since the state of that change id.
    Change(ChangeId),
}

impl ChangesSince {
    fn as_str(&self) -> &str {
        match self {
            Self::Beginning => "*",
            Self::Change(id) => id.as_str(),
        }
    }
}

impl VimSession {
    /// The areas of a disk that differ between `since` and `vm_snapshot`: sorted, apart, within the disk.
    ///
    /// `device_key` is the disk's key in the vm_snapshot, `capacity_bytes` its size there.
    ///
    /// # Errors
    /// Any error means that nothing is known: never take it for "no changes".
    pub async fn changed_areas(
        &self,
        vm: &MoRef,
        vm_snapshot: &MoRef,
        device_key: i32,
        capacity_bytes: u64,
        since: &ChangesSince,
    ) -> Result<Vec<Extent>, VsphereError> {
        let mut areas = Areas::new(device_key, capacity_bytes);
        for _ in 0..MAX_ANSWERS {
            // Asking with startOffset equal to the capacity is a fault, so it must not happen even once.
            let Some(start) = areas.next_start() else { return Ok(areas.finish()) };
            let response = self.call(request(vm, vm_snapshot, device_key, start, since)).await?;
            let answer = response.child("returnval").ok_or_else(|| areas.untrusted("the server gave no answer"))?;
            areas.accept(answer)?;
        }
        Err(areas.untrusted("the server answers in too many pieces"))
    }
}

fn request(vm: &MoRef, vm_snapshot: &MoRef, device_key: i32, start: u64, since: &ChangesSince) -> Request {
    Request::new(METHOD, vm)
        .reference("snapshot", vm_snapshot)
        .number("deviceKey", device_key)
        .number("startOffset", i64::try_from(start).unwrap_or(i64::MAX))
        .text("changeId", since.as_str())
}

/// The answers put together.
struct Areas {
    device_key: i32,
    capacity_bytes: u64,
    covered_bytes: u64,
    extents: Vec<Extent>,
    granule_bytes: u64,
}

impl Areas {
    fn new(device_key: i32, capacity_bytes: u64) -> Self {
        Self { device_key, capacity_bytes, covered_bytes: 0, extents: Vec::new(), granule_bytes: LEAF_SIZE_BYTES }
    }

    fn next_start(&self) -> Option<u64> {
        (self.covered_bytes < self.capacity_bytes).then_some(self.covered_bytes)
    }

    fn untrusted(&self, reason: impl Into<String>) -> VsphereError {
        VsphereError::ChangedAreas { device_key: self.device_key, reason: reason.into() }
    }

    /// Takes a `DiskChangeInfo`.
    fn accept(&mut self, answer: &Element) -> Result<(), VsphereError> {
        let number = |element: &Element, name: &str| element.number_of::<u64>(name);
        let (Some(start), Some(length)) = (number(answer, "startOffset"), number(answer, "length")) else {
            return Err(self.untrusted("the answer does not say what it covers"));
        };
        if start > self.covered_bytes {
            return Err(self.untrusted(format!("the answer begins at {start}, asked was {}", self.covered_bytes)));
        }
        let end = start.saturating_add(length);
        if end <= self.covered_bytes {
            return Err(self.untrusted(format!("the answer for {} makes no progress", self.covered_bytes)));
        }
        for area in answer.all("changedArea") {
            let (Some(from), Some(bytes)) = (number(area, "start"), number(area, "length")) else {
                return Err(self.untrusted("an area has no start or no length"));
            };
            self.extents.extend(Extent::new(from, bytes).clamp_to(self.capacity_bytes));
        }
        self.covered_bytes = end;
        self.bound(MAX_EXTENTS);
        Ok(())
    }

    /// Joins near extents until at most `limit` are left.
    fn bound(&mut self, limit: usize) {
        if self.extents.len() <= limit {
            return;
        }
        self.extents = normalise(std::mem::take(&mut self.extents));
        // Half the limit, so that the next answers do not bring us back here at once.
        while self.extents.len() > limit / 2 && self.granule_bytes < self.capacity_bytes {
            self.granule_bytes = self.granule_bytes.saturating_mul(2);
            let aligned =
                self.extents.iter().filter_map(|area| area.align_out(self.granule_bytes, self.capacity_bytes));
            self.extents = normalise(aligned.collect());
        }
    }

    fn finish(self) -> Vec<Extent> {
        normalise(self.extents)
    }
}

#[cfg(test)]
mod tests;
