//! What makes the equality of source and replica provable later: the digests of all leaves of a disk in a file, the root
//! over them, and certificates that bind the root to a disk and a change id.
//!
//! Its one promise: **never a wrong root**. A file that is missing, damaged or of another disk is an error; an unproven
//! leaf is never taken for a proven one. Synchronous; knows no database, no network and no job. Memory is flat whatever
//! the disk's size.

pub mod certificate;
pub mod chain;
pub mod error;
pub mod folder;
pub mod key;
pub mod leaves;
pub mod staged;

mod header;

pub use certificate::{Certificate, Document};
pub use error::ProofError;
pub use folder::DigestFolder;
pub use header::{Coverage, DiskName};
pub use key::CertificateKey;
pub use leaves::{LeafFile, Roots};
pub use staged::StagedWriter;
