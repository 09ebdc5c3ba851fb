//! The copy engine: which bytes, from where, to where, with what proof. It takes no vm_snapshot and commits nothing:
//! whoever runs it does.

pub mod change_source;
pub mod digest_file;
pub mod error;
pub mod ledger;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod reader;
pub mod target;

pub use error::{Interruption, MoverError};
pub use pipeline::DiskCopy;
