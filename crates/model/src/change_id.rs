//! VMware change ids: `<16 hex bytes of the tracking epoch>/<sequence>`, kept as text, compared by epoch.
//!
//! Source: vSphere Web Services API, `VirtualDiskFlatVer2BackingInfo.changeId`; the split at `/` is what every backup
//! product relies on and VMware's CBT knowledge-base articles describe.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest change id accepted from a server, in bytes; real ones are below 60.
pub const MAX_CHANGE_ID_BYTES: usize = 128;

/// A change id as VMware gave it, never rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChangeId {
    text: String,
    slash: usize,
    sequence: u64,
}

/// Why a text is not a change id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a change id (expected \"<epoch>/<sequence>\")")]
pub struct InvalidChangeId {
    text: String,
}

/// How a stored change id relates to the one of a new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lineage {
    /// Same epoch, not older: an incremental is possible.
    Continues,
    /// Tracking was reset in between: whatever changed is unknown.
    EpochChanged,
    /// Same epoch but a lower counter: the VM was reverted to an older snapshot.
    Reverted,
}

impl ChangeId {
    /// The tracking epoch: everything before the slash.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The counter within the epoch.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The text as VMware wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether changes between `self` (stored) and `newer` (of a fresh snapshot) can be asked for.
    #[must_use]
    pub fn lineage(&self, newer: &Self) -> Lineage {
        if self.epoch() != newer.epoch() {
            Lineage::EpochChanged
        } else if newer.sequence < self.sequence {
            Lineage::Reverted
        } else {
            Lineage::Continues
        }
    }
}

impl FromStr for ChangeId {
    type Err = InvalidChangeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidChangeId { text: text.chars().take(MAX_CHANGE_ID_BYTES).collect() };
        if text.len() > MAX_CHANGE_ID_BYTES {
            return Err(invalid());
        }
        let (epoch, sequence) = text.split_once('/').ok_or_else(invalid)?;
        let well_formed = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_hexdigit() || b == b' ' || b == b'-');
        let all_digits = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
        if !well_formed || !all_digits {
            return Err(invalid());
        }
        let sequence = sequence.parse().map_err(|_| invalid())?;
        Ok(Self { text: text.to_owned(), slash: epoch.len(), sequence })
    }
}

impl TryFrom<String> for ChangeId {
    type Error = InvalidChangeId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ChangeId> for String {
    fn from(id: ChangeId) -> Self {
        id.text
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95/446";

    #[test]
    fn a_real_change_id_splits_into_epoch_and_sequence() {
        let id: ChangeId = REAL.parse().unwrap();
        assert_eq!((id.epoch(), id.sequence()), ("52 3c ec 11 9e 2c 4c 3d-87 4a c3 4e 85 f2 ea 95", 446));
        assert_eq!(id.to_string(), REAL);
    }

    #[test]
    fn what_is_no_change_id_is_refused() {
        for text in ["", "*", "/1", "52 3c", "52/", "52/x", "52/-1", "52/99999999999999999999", "zz/1", "52/1/2"] {
            assert!(text.parse::<ChangeId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn lineage_tells_reset_and_revert_from_progress() {
        let old: ChangeId = "52 aa/10".parse().unwrap();
        for (newer, expected) in [
            ("52 aa/10", Lineage::Continues),
            ("52 aa/11", Lineage::Continues),
            ("52 aa/9", Lineage::Reverted),
            ("52 ab/11", Lineage::EpochChanged),
        ] {
            assert_eq!(old.lineage(&newer.parse().unwrap()), expected, "{newer}");
        }
    }
}
