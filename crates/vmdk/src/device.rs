//! An image with all its parents as a read-only device. Any number of threads may read it at once.

use std::sync::Arc;

use block::region::{Region, push_merged};
use block::{BlockDevice, BlockError, RegionState};
use model::Extent;

use crate::OpenOptions;
use crate::cache::{Cache, Recent};
use crate::error::VmdkError;
use crate::format::descriptor::Descriptor;
use crate::format::grain_map::GrainMap;
use crate::layer::{Body, Layer, Opener, Placed};
use crate::source::{ImageFile, Source};
use crate::sparse::{Run, RunPlace, SparseExtent};

/// The longest chain of parents: 32 vm_snapshots is vSphere's limit, 255 links that of its disk library.
pub const MAX_CHAIN_LINKS: usize = 255;
/// What the cache of unpacked grains may hold, in bytes. It serves reads smaller than a grain only.
const GRAIN_CACHE_BYTES: usize = 4 << 20;

/// Where a piece of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In no image of the chain; it reads as zeroes.
    Hole,
    /// Zeroes, by a table of the image.
    Zero,
    /// In a file as it is.
    Stored {
        /// The file's number, see [`VmdkDevice::file_name`].
        file: usize,
        /// The first byte in the file.
        offset: u64,
        /// The file is the disk's bytes and nothing else, and may have holes of its own.
        is_flat: bool,
    },
    /// In a deflated grain; the piece is inside that one grain.
    Packed {
        /// The file's number.
        file: usize,
        /// The marker of the grain in the file.
        offset: u64,
        /// The first byte of the grain in the extent that the file is.
        grain_start: u64,
    },
}

/// A piece of the disk that is in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which bytes of the disk.
    pub extent: Extent,
    /// Where they are.
    pub place: Place,
}

/// An image of the chain, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The file that was opened for it.
    pub name: String,
    /// What it says of itself.
    pub descriptor: Descriptor,
}

/// A VMDK and all its parents.
pub struct VmdkDevice {
    /// The child first.
    layers: Vec<Layer>,
    sources: Vec<Source>,
    size_bytes: u64,
    notes: Vec<String>,
    tables: Cache,
    grains: Cache,
}

impl VmdkDevice {
    /// Opens an image wherever it is; its files and parents are found by [`ImageFile::files`].
    ///
    /// # Errors
    /// When a file is missing, damaged, of an unknown kind, or not the one that belongs here.
    pub fn open(image: ImageFile, options: &OpenOptions) -> Result<Self, VmdkError> {
        let mut opener = Opener { options, sources: Vec::new(), notes: Vec::new() };
        let mut layers: Vec<Layer> = Vec::new();
        let mut next = Some(image);
        while let Some(image) = next {
            if layers.len() >= MAX_CHAIN_LINKS {
                return Err(VmdkError::ChainTooLong { links: layers.len() });
            }
            let layer = opener.layer(&image)?;
            if let Some(child) = layers.last() {
                check_link(child, &layer)?;
            }
            next = parent_of(&image, &layer)?;
            layers.push(layer);
        }
        let size_bytes = layers.first().map_or(0, |layer| layer.size_bytes);
        Ok(Self {
            layers,
            sources: opener.sources,
            size_bytes,
            notes: opener.notes,
            tables: Cache::new(options.table_cache_bytes),
            grains: Cache::new(GRAIN_CACHE_BYTES),
        })
    }

    /// The images of the chain, the child first.
    #[must_use]
    pub fn links(&self) -> Vec<LinkInfo> {
        let info = |layer: &Layer| LinkInfo { name: layer.name.clone(), descriptor: layer.descriptor.clone() };
        self.layers.iter().map(info).collect()
    }

    /// What an operator should know about the image, though it can be read.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Adds to [`notes`](Self::notes).
    pub(crate) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// The name of the file with this number ([`Place`]); empty when there is none.
    #[must_use]
    pub fn file_name(&self, file: usize) -> &str {
        self.sources.get(file).map_or("", |source| &source.name)
    }

    /// Bytes of memory that the caches hold now; never more than the options allow, and 4 MiB.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.tables.held_bytes() + self.grains.held_bytes()
    }

    /// Where the bytes of an extent are: pieces in order, without gaps, at most `max_pieces` (at least 1) from its
    /// front. Touching pieces are not always joined.
    ///
    /// # Errors
    /// When the extent is not inside the disk, or a table is damaged or cannot be read.
    pub fn locate(&self, extent: Extent, max_pieces: usize) -> Result<Vec<Piece>, VmdkError> {
        self.check_range(extent)?;
        let mut pieces = Vec::new();
        let mut recent = Recent::default();
        let mut at = extent.offset;
        while at < extent.end() && pieces.len() < max_pieces {
            let found = self.find(at, extent.end() - at, &mut recent)?;
            at = found.extent.end();
            pieces.push(Piece { extent: found.extent, place: found.place() });
        }
        Ok(pieces)
    }

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// When the range is not inside the disk, or a file is damaged or cannot be read. What `buf` holds is undefined then.
    pub fn read(&self, buf: &mut [u8], offset: u64) -> Result<(), VmdkError> {
        self.check_range(Extent::new(offset, buf.len() as u64))?;
        let mut rest = buf;
        let mut recent = Recent::default();
        let mut at = offset;
        while !rest.is_empty() {
            let found = self.find(at, rest.len() as u64, &mut recent)?;
            at = found.extent.end();
            let length = usize::try_from(found.extent.length).unwrap_or(rest.len());
            let (now, later) = rest.split_at_mut(length);
            self.read_found(found, now)?;
            rest = later;
        }
        Ok(())
    }

    /// What is known about the front of an extent, as [`BlockDevice::map_front`] has it.
    ///
    /// # Errors
    /// As for [`locate`](Self::locate).
    pub fn regions(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, VmdkError> {
        self.check_range(extent)?;
        let mut regions = Vec::new();
        let mut recent = Recent::default();
        let mut at = extent.offset;
        while at < extent.end() && regions.len() <= max_regions {
            let found = self.find(at, extent.end() - at, &mut recent)?;
            at = found.extent.end();
            let state = match found.place() {
                Place::Hole => RegionState::Hole,
                Place::Zero => RegionState::Zero,
                Place::Stored { file, offset, is_flat: true } => {
                    at = self.push_flat(&mut regions, found.extent, (file, offset), max_regions)?;
                    continue;
                }
                Place::Stored { .. } | Place::Packed { .. } => RegionState::Data,
            };
            push_merged(&mut regions, Region { extent: found.extent, state });
        }
        regions.truncate(max_regions);
        Ok(regions)
    }

    /// Asks the file itself, which may be sparse on its storage. Returns how far it answered.
    fn push_flat(
        &self,
        regions: &mut Vec<Region>,
        extent: Extent,
        (file, offset): (usize, u64),
        max_regions: usize,
    ) -> Result<u64, VmdkError> {
        let source = &self.sources[file];
        let asked = Extent::new(offset, extent.length);
        let more = max_regions.saturating_sub(regions.len()).max(1);
        let known = source.bytes.map_front(asked, more).map_err(|error| VmdkError::Read {
            file: source.name.to_string(),
            offset,
            length: extent.length,
            source: error,
        })?;
        let mut at = extent.offset;
        for region in known {
            // Only what follows on is believed; the rest is asked for again.
            if region.extent.offset != offset + (at - extent.offset) || at >= extent.end() {
                break;
            }
            let length = region.extent.length.min(extent.end() - at);
            push_merged(regions, Region::new(at, length, region.state));
            at += length;
        }
        if at == extent.offset {
            push_merged(regions, Region { extent, state: RegionState::Data });
            at = extent.end();
        }
        Ok(at)
    }

    fn check_range(&self, extent: Extent) -> Result<(), VmdkError> {
        match extent.offset.checked_add(extent.length) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => {
                Err(VmdkError::OutOfRange { offset: extent.offset, length: extent.length, size_bytes: self.size_bytes })
            }
        }
    }

    /// What begins at `offset`, at most `limit` long (more than 0, and inside the disk).
    fn find(&self, offset: u64, limit: u64, recent: &mut Recent) -> Result<Found<'_>, VmdkError> {
        let mut length = limit;
        for layer in &self.layers {
            // A parent may be smaller than its child: what it does not have, nobody has.
            let Some(placed) = layer.at(offset) else { break };
            let within = offset - placed.start;
            let run = self.run(placed, within, length.min(placed.length - within), recent)?;
            length = run.length;
            if run.place != RunPlace::Missing {
                return Ok(Found { extent: Extent::new(offset, length), at: Some((placed, run.place)) });
            }
        }
        Ok(Found { extent: Extent::new(offset, length), at: None })
    }

    fn run(&self, placed: &Placed, offset: u64, limit: u64, recent: &mut Recent) -> Result<Run, VmdkError> {
        match &placed.body {
            Body::Zero => Ok(Run { length: limit, place: RunPlace::Zero }),
            Body::Flat { at, .. } => Ok(Run { length: limit, place: RunPlace::Stored(at + offset) }),
            Body::Sparse { file, map } => self.sparse(*file, map, placed).run(offset, limit, recent),
        }
    }

    fn sparse<'a>(&'a self, file: usize, map: &'a GrainMap, placed: &Placed) -> SparseExtent<'a> {
        SparseExtent { map, source: &self.sources[file], file, disk_start: placed.start, tables: &self.tables }
    }

    fn read_found(&self, found: Found<'_>, buf: &mut [u8]) -> Result<(), VmdkError> {
        match found.place() {
            Place::Hole | Place::Zero => {
                buf.fill(0);
                Ok(())
            }
            Place::Stored { file, offset, .. } => self.sources[file].read(buf, offset),
            Place::Packed { file, offset, grain_start } => {
                let Some((placed, Body::Sparse { map, .. })) = found.at.map(|(placed, _)| (placed, &placed.body))
                else {
                    return Ok(());
                };
                let within = found.extent.offset - placed.start - grain_start;
                self.read_packed(&self.sparse(file, map, placed), offset, grain_start, within, buf)
            }
        }
    }

    /// Fills `buf` from `within` of the grain that begins at `grain_start`; its marker is at `at`.
    fn read_packed(
        &self,
        extent: &SparseExtent<'_>,
        at: u64,
        grain_start: u64,
        within: u64,
        buf: &mut [u8],
    ) -> Result<(), VmdkError> {
        // At most 4 MiB, and `within` and `buf` are inside the grain.
        let grain_bytes = usize::try_from(extent.map.grain_bytes()).unwrap_or_default();
        let within = usize::try_from(within).unwrap_or_default();
        if within == 0 && buf.len() == grain_bytes {
            return extent.unpack(at, grain_start, buf);
        }
        // By the place in the extent: two entries that name one marker are damage, and must not find each other here.
        let key = (extent.file, grain_start);
        let grain = match self.grains.get(key) {
            Some(grain) => grain,
            None => {
                let mut grain = vec![0; grain_bytes];
                extent.unpack(at, grain_start, &mut grain)?;
                let grain: Arc<[u8]> = grain.into();
                self.grains.put(key, &grain);
                grain
            }
        };
        buf.copy_from_slice(&grain[within..within + buf.len()]);
        Ok(())
    }
}

/// A piece of the disk, and the extent that has it.
#[derive(Clone, Copy)]
struct Found<'a> {
    extent: Extent,
    /// `None` is a hole of the whole chain.
    at: Option<(&'a Placed, RunPlace)>,
}

impl Found<'_> {
    fn place(&self) -> Place {
        let Some((placed, run)) = self.at else { return Place::Hole };
        match (&placed.body, run) {
            (_, RunPlace::Missing) => Place::Hole,
            (Body::Zero, _) | (_, RunPlace::Zero) => Place::Zero,
            (Body::Flat { file, .. }, RunPlace::Stored(at) | RunPlace::Packed(at)) => {
                Place::Stored { file: *file, offset: at, is_flat: true }
            }
            (Body::Sparse { file, .. }, RunPlace::Stored(at)) => {
                Place::Stored { file: *file, offset: at, is_flat: false }
            }
            (Body::Sparse { file, map }, RunPlace::Packed(at)) => {
                let within = self.extent.offset - placed.start;
                Place::Packed { file: *file, offset: at, grain_start: within - within % map.grain_bytes() }
            }
        }
    }
}

impl Layer {
    /// The extent that holds the disk's byte `offset`.
    fn at(&self, offset: u64) -> Option<&Placed> {
        let next = self.extents.partition_point(|placed| placed.start <= offset);
        let placed = self.extents.get(next.checked_sub(1)?)?;
        (offset < placed.start + placed.length).then_some(placed)
    }
}

/// VDF "CID and parentCID": the parent must not have changed since the child was made on it.
fn check_link(child: &Layer, parent: &Layer) -> Result<(), VmdkError> {
    let expected = child.descriptor.parent.as_ref().map(|link| link.cid);
    if expected == parent.descriptor.cid {
        return Ok(());
    }
    Err(VmdkError::ParentChanged {
        child: child.name.clone(),
        parent: parent.name.clone(),
        expected: expected.unwrap_or_default(),
        found: parent.descriptor.cid.map_or_else(|| "none".to_owned(), |cid| format!("{cid:08x}")),
    })
}

fn parent_of(image: &ImageFile, layer: &Layer) -> Result<Option<ImageFile>, VmdkError> {
    let Some(link) = &layer.descriptor.parent else { return Ok(None) };
    match image.files.parent(&link.hint) {
        Ok(Some(parent)) => Ok(Some(parent)),
        Ok(None) => Err(VmdkError::NotFollowed { of: image.name.clone(), wanted: link.hint.clone() }),
        Err(source) => Err(VmdkError::Needed { of: image.name.clone(), wanted: link.hint.clone(), source }),
    }
}

impl BlockDevice for VmdkDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), BlockError> {
        let length = buf.len() as u64;
        self.read(buf, offset).map_err(|error| error.into_block(offset, length))
    }

    fn write_at(&self, _data: &[u8], _offset: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn write_zeroes(&self, _extent: Extent, _may_punch_holes: bool) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn try_write_zeroes_fast(&self, _extent: Extent, _may_punch_holes: bool) -> Result<bool, BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn trim(&self, _extent: Extent) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn map_front(&self, extent: Extent, max_regions: usize) -> Result<Vec<Region>, BlockError> {
        self.regions(extent, max_regions).map_err(|error| error.into_block(extent.offset, extent.length))
    }
}
