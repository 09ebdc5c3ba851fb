//! The nouns of MigrateKit: ids, statuses and their legal transitions, change ids, extents, sizes, limits, failure kinds.
//!
//! Values and pure functions only. No I/O, no clock of its own, nothing of any protocol.

pub mod change_id;
pub mod extent;
pub mod failure;
pub mod id;
pub mod mac;
pub mod ownership;
pub mod pace;
pub mod secret;
pub mod size;
pub mod status;
pub mod wan;

pub use change_id::{ChangeId, Lineage};
pub use extent::{Extent, LEAF_SIZE_BYTES};
pub use failure::FailureKind;
pub use mac::{MacAddress, MacAddressError};
pub use secret::Secret;
pub use wan::{BandwidthLimit, CompressionMode};
