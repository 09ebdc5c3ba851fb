//! Journals and ledgers on the hub's storage: what a run writes to a disk's replica is all there or not at all, and what
//! is durable of a run that was cut off is known.
//!
//! A *journal* holds the increments of one run of one disk beside the volume; once committed it is a recovery point, and
//! a merge writes it into the volume. A *ledger* only says which extents of a run that writes in place are durable. Both
//! are an index of barriers ([`index`]), a journal also has a file of payloads. What is committed is the caller's to
//! know. Synchronous; no database, no network.
//!
//! Memory: an extent of a journal that is open takes about 80 bytes, one of a ledger 16 as long as it touches no other.

pub mod direct;
pub mod error;
pub mod folder;
pub mod index;
pub mod medium;
pub mod merge;
pub mod overlay;

mod extents;
mod journal;
mod log;
mod map;

pub use direct::Direct;
pub use error::JournalError;
pub use folder::{JournalFolder, Lengths};
pub use index::{Kind, Run};
pub use journal::Journal;
pub use log::{BARRIER_BYTES, Ledger, MAX_UNSETTLED_BYTES};
pub use medium::Medium;
pub use merge::{Merged, merge};
pub use overlay::Overlay;
