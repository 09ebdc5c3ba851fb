//! Bytes that can be read anywhere, and who finds the files of an image. Implemented here for files and memory; a
//! reader of datastore files implements both for its own.

use std::io;
use std::sync::Arc;

use block::region::Region;
use block::{BlockDevice, FileDevice, RegionState};
use model::Extent;

use crate::error::VmdkError;

/// A file of fixed size whose bytes can be read anywhere, by any number of threads at once.
pub trait ReadAt: Send + Sync {
    /// The size, in bytes. It does not change.
    fn size_bytes(&self) -> u64;

    /// Fills `buf` from `offset`. Only ranges inside [`size_bytes`](Self::size_bytes) are asked for.
    ///
    /// # Errors
    /// When the bytes cannot be had, all of them.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// What is known about the content without reading it, as [`BlockDevice::map_front`] has it.
    ///
    /// # Errors
    /// When the medium cannot be asked.
    fn map_front(&self, extent: Extent, max_regions: usize) -> io::Result<Vec<Region>> {
        let _ = max_regions;
        Ok(vec![Region::new(extent.offset, extent.length, RegionState::Data)])
    }
}

/// Finds the files that an image names. What a name may be is decided here: the image is not to be trusted.
///
/// `Ok(None)` refuses a name (see [`is_plain_name`]); an error means that the file is not there or cannot be opened.
pub trait Files: Send + Sync {
    /// The file of an extent, by the name in the descriptor.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn extent(&self, name: &str) -> io::Result<Option<Arc<dyn ReadAt>>>;

    /// The parent, by the `parentFileNameHint` of the child.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn parent(&self, hint: &str) -> io::Result<Option<ImageFile>>;
}

/// A file to be opened as an image, and who finds the other files it names.
#[derive(Clone)]
pub struct ImageFile {
    /// What to call it in errors.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<dyn ReadAt>,
    /// Who finds its extents and its parent.
    pub files: Arc<dyn Files>,
}

/// Whether a name is that of a file in the same folder and nothing else: no path, no `..`, nothing hidden in it.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.chars().any(|letter| letter == '/' || letter == '\\' || letter.is_control())
}

/// Finds nothing: for an image that is complete in one file.
pub struct NoFiles;

impl Files for NoFiles {
    fn extent(&self, _name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        Ok(None)
    }

    fn parent(&self, _hint: &str) -> io::Result<Option<ImageFile>> {
        Ok(None)
    }
}

impl ReadAt for FileDevice {
    fn size_bytes(&self) -> u64 {
        BlockDevice::size_bytes(self)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        BlockDevice::read_at(self, buf, offset).map_err(io::Error::other)
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> io::Result<Vec<Region>> {
        BlockDevice::map_front(self, extent, max_regions).map_err(io::Error::other)
    }
}

impl ReadAt for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let found = start.and_then(|start| self.get(start..start.checked_add(buf.len())?));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A part of a file, for example a member of an archive.
pub struct Window {
    inner: Arc<dyn ReadAt>,
    place: Extent,
}

impl Window {
    /// The bytes of `place`; `None` when they are not all inside the file.
    #[must_use]
    pub fn new(inner: Arc<dyn ReadAt>, place: Extent) -> Option<Self> {
        let end = place.offset.checked_add(place.length)?;
        (end <= inner.size_bytes()).then_some(Self { inner, place })
    }
}

impl ReadAt for Window {
    fn size_bytes(&self) -> u64 {
        self.place.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.place.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.inner.read_at(buf, self.place.offset + offset)
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> io::Result<Vec<Region>> {
        let outer = Extent::new(self.place.offset.saturating_add(extent.offset), extent.length);
        let mut regions = self.inner.map_front(outer, max_regions)?;
        for region in &mut regions {
            region.extent.offset = region.extent.offset.saturating_sub(self.place.offset);
        }
        Ok(regions)
    }
}

/// A file of an image with the name it has in errors. Reads are checked against its size.
#[derive(Clone)]
pub(crate) struct Source {
    pub name: Arc<str>,
    pub bytes: Arc<dyn ReadAt>,
    pub size_bytes: u64,
}

impl Source {
    pub fn new(name: &str, bytes: Arc<dyn ReadAt>) -> Self {
        let size_bytes = bytes.size_bytes();
        Self { name: name.into(), bytes, size_bytes }
    }

    /// Whether all of a range is inside the file.
    pub fn holds(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size_bytes)
    }

    pub fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), VmdkError> {
        let length = buf.len() as u64;
        let failed = |source| VmdkError::Read { file: self.name.to_string(), offset, length, source };
        if !self.holds(offset, length) {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.bytes.read_at(buf, offset).map_err(failed)
    }

    /// The first bytes, at most `limit` of them.
    pub fn front(&self, limit: usize) -> Result<Vec<u8>, VmdkError> {
        let length = usize::try_from(self.size_bytes).unwrap_or(limit).min(limit);
        let mut bytes = vec![0; length];
        self.read(&mut bytes, 0)?;
        Ok(bytes)
    }
}
