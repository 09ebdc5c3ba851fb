//! VMDK files of every kind, chains of them, and OVA archives as read-only devices.
//!
//! `format` understands bytes and opens nothing; the rest reads through two small traits, [`ReadAt`] and [`Files`], so
//! that files may be anywhere. Nothing is written, nothing is unpacked to disk, and damage is never read as zeroes.

pub mod device;
pub mod error;
pub mod folder;
pub mod format;
pub mod ova;
pub mod source;

mod cache;
mod layer;
mod sparse;
mod unpack;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockError, FileDevice};

pub use device::{LinkInfo, Piece, Place, VmdkDevice};
pub use error::VmdkError;
pub use folder::Folder;
pub use ova::{DiskChoice, OvaDisk, is_ova};
pub use source::{Files, ImageFile, ReadAt};

use format::{cowd, descriptor, hosted, sesparse};
use source::Source;

/// How many bytes at the beginning of a file tell what it is.
pub const FIRST_BYTES: usize = 512;
/// Default of [`OpenOptions::table_cache_bytes`]: tables for 256 GiB of a hosted disk, 32 GiB of a seSparse one.
pub const TABLE_CACHE_BYTES: usize = 16 << 20;

/// How an image is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Which disk of an archive; needed only when it has several.
    pub disk: Option<DiskChoice>,
    /// Where parents may be that are not beside their child. The name is the last part of the child's hint.
    pub parent_folders: Vec<PathBuf>,
    /// Read extents that were not closed properly, too. They may be missing what was written last.
    pub accept_unclean: bool,
    /// What the grain tables in memory may take, in bytes, for the whole chain. At least some 64 KiB, or reading is slow.
    pub table_cache_bytes: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { disk: None, parent_folders: Vec::new(), accept_unclean: false, table_cache_bytes: TABLE_CACHE_BYTES }
    }
}

/// Whether a file that begins with these bytes (best [`FIRST_BYTES`] of them) is a VMDK, or a part of one.
#[must_use]
pub fn is_vmdk(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(hosted::MAGIC)
        || first_bytes.starts_with(cowd::MAGIC)
        || first_bytes.starts_with(sesparse::MAGIC)
        || descriptor::is_descriptor(first_bytes)
}

/// Opens a VMDK with its extents and parents, or a disk of an OVA archive.
///
/// # Errors
/// When a file is missing, damaged, of an unknown kind, or not the one that belongs here.
pub fn open(path: &Path, options: &OpenOptions) -> Result<VmdkDevice, VmdkError> {
    let (name, bytes) = open_file(path)?;
    if is_ova(&Source::new(&name, Arc::clone(&bytes)).front(FIRST_BYTES)?) {
        return ova::open(&name, &bytes, options);
    }
    // Whoever names a disk means an archive, unless it is the only one that there can be.
    let is_meant = |choice: &DiskChoice| *choice == DiskChoice::Index(0) || *choice == DiskChoice::Name(name.clone());
    if let Some(other) = options.disk.as_ref().filter(|choice| !is_meant(choice)) {
        return Err(VmdkError::WhichDisk { file: name.clone(), wanted: Some(other.to_string()), there: vec![name] });
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let files = Folder::open(folder, &options.parent_folders).map_err(|source| VmdkError::Open {
        path: folder.to_owned(),
        source: BlockError::Open { path: folder.to_owned(), source },
    })?;
    VmdkDevice::open(ImageFile { name, bytes, files: Arc::new(files) }, options)
}

/// Opens a file that the operator named: links and block devices are fine.
fn open_file(path: &Path) -> Result<(String, Arc<dyn ReadAt>), VmdkError> {
    let device = FileDevice::open(path, true).map_err(|source| VmdkError::Open { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok((name, Arc::new(device)))
}
