//! One image without its parents: its descriptor and its extents, opened and checked against each other.

use std::sync::Arc;

use crate::OpenOptions;
use crate::error::VmdkError;
use crate::format::cowd::{self, CowdHeader};
use crate::format::descriptor::{Descriptor, ExtentKind, ExtentLine, MAX_DESCRIPTOR_BYTES, is_descriptor};
use crate::format::grain_map::GrainMap;
use crate::format::hosted::{self, HostedHeader};
use crate::format::sesparse::{self, SeSparseHeader, has_journal_to_replay};
use crate::format::{FormatError, SECTOR_BYTES, stream};
use crate::source::{ImageFile, Source};

/// How an extent's bytes are found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    /// Zeroes, without a file.
    Zero,
    /// In the file, from this byte on.
    Flat { file: usize, at: u64 },
    /// In grains.
    Sparse { file: usize, map: GrainMap },
}

/// An extent at its place in the disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub start: u64,
    pub length: u64,
    pub body: Body,
}

/// One image of a chain.
pub(crate) struct Layer {
    pub name: String,
    pub descriptor: Descriptor,
    /// In order, without gaps.
    pub extents: Vec<Placed>,
    pub size_bytes: u64,
}

/// Opens images; their files get numbers.
pub(crate) struct Opener<'a> {
    pub options: &'a OpenOptions,
    pub sources: Vec<Source>,
    /// What an operator should know about an image that is read nevertheless.
    pub notes: Vec<String>,
}

fn format_error(source: &Source) -> impl FnOnce(FormatError) -> VmdkError {
    let file = source.name.to_string();
    move |source| VmdkError::Format { file, source }
}

impl Opener<'_> {
    /// Opens one image.
    pub fn layer(&mut self, image: &ImageFile) -> Result<Layer, VmdkError> {
        let source = Source::new(&image.name, Arc::clone(&image.bytes));
        let front = source.front(SECTOR_BYTES as usize)?;
        if front.starts_with(hosted::MAGIC) {
            return self.hosted_layer(image, source, &front);
        }
        if front.starts_with(cowd::MAGIC) || front.starts_with(sesparse::MAGIC) {
            return Err(VmdkError::Part { file: image.name.clone() });
        }
        if !is_descriptor(&front) {
            return Err(VmdkError::Unrecognised { file: image.name.clone() });
        }
        if source.size_bytes > MAX_DESCRIPTOR_BYTES {
            let what = format!("a descriptor of {} bytes is too long", source.size_bytes);
            return Err(format_error(&source)(FormatError::Unsupported { what }));
        }
        let text = source.front(MAX_DESCRIPTOR_BYTES as usize)?;
        let descriptor = Descriptor::parse(&text).map_err(format_error(&source))?;
        self.described_layer(image, descriptor)
    }

    /// A `KDMV` file with its descriptor inside.
    fn hosted_layer(&mut self, image: &ImageFile, source: Source, front: &[u8]) -> Result<Layer, VmdkError> {
        let header = HostedHeader::parse(front).map_err(format_error(&source))?;
        let Some(descriptor) = embedded_descriptor(&source, &header)? else {
            return Err(VmdkError::Part { file: image.name.clone() });
        };
        if header.capacity_sectors == 0 {
            return self.described_layer(image, descriptor);
        }
        if descriptor.extents.len() != 1 {
            let what = format!("{} extents in a descriptor inside an extent", descriptor.extents.len());
            return Err(format_error(&source)(FormatError::Unsupported { what }));
        }
        let described = descriptor.size_bytes();
        let map = self.hosted_map(&source, header)?;
        let size_bytes = map.capacity_bytes();
        if described != size_bytes {
            let name = &image.name;
            self.notes.push(format!("{name} says {described} bytes in its descriptor and {size_bytes} in its header"));
        }
        let file = self.number(source);
        let extents = vec![Placed { start: 0, length: size_bytes, body: Body::Sparse { file, map } }];
        Ok(Layer { name: image.name.clone(), descriptor, extents, size_bytes })
    }

    /// An image whose extents are files of their own.
    fn described_layer(&mut self, image: &ImageFile, descriptor: Descriptor) -> Result<Layer, VmdkError> {
        let mut extents = Vec::with_capacity(descriptor.extents.len());
        let first_of_image = self.sources.len();
        let mut start = 0;
        for line in &descriptor.extents {
            let length = line.sectors * SECTOR_BYTES;
            let body = self.extent(image, line, length, first_of_image)?;
            extents.push(Placed { start, length, body });
            start += length;
        }
        Ok(Layer { name: image.name.clone(), descriptor, extents, size_bytes: start })
    }

    fn extent(
        &mut self,
        image: &ImageFile,
        line: &ExtentLine,
        length: u64,
        first_of_image: usize,
    ) -> Result<Body, VmdkError> {
        if line.kind == ExtentKind::Zero {
            return Ok(Body::Zero);
        }
        let known = self.sources.iter().skip(first_of_image).position(|source| *source.name == *line.file);
        let source = match known.and_then(|index| self.sources.get(first_of_image + index)) {
            Some(source) => source.clone(),
            None => needed_file(image, &line.file)?,
        };
        let map = match line.kind {
            ExtentKind::Flat { first_sector } => {
                let at = first_sector * SECTOR_BYTES;
                if !source.holds(at, length) {
                    let reason = format!("its {} bytes are not the {length} from {at} on", source.size_bytes);
                    return Err(format_error(&source)(FormatError::malformed(source.size_bytes, reason)));
                }
                let file = known.map_or_else(|| self.number(source), |index| first_of_image + index);
                return Ok(Body::Flat { file, at });
            }
            ExtentKind::SeSparse => self.sesparse_map(&source)?,
            ExtentKind::Sparse | ExtentKind::Zero => self.sparse_map(&source)?,
        };
        if map.capacity_bytes() < length {
            let reason = format!("it has room for {} bytes, its descriptor says {length}", map.capacity_bytes());
            return Err(format_error(&source)(FormatError::malformed(12, reason)));
        }
        let file = known.map_or_else(|| self.number(source), |index| first_of_image + index);
        Ok(Body::Sparse { file, map })
    }

    /// `SPARSE` and `VMFSSPARSE` stand for either format: the file's first bytes decide.
    fn sparse_map(&mut self, source: &Source) -> Result<GrainMap, VmdkError> {
        let front = source.front(cowd::HEADER_BYTES)?;
        if front.starts_with(cowd::MAGIC) {
            let header = CowdHeader::parse(&front, source.size_bytes).map_err(format_error(source))?;
            if header.is_unclean {
                self.refuse_unclean(source)?;
            }
            return Ok(header.map);
        }
        let header = HostedHeader::parse(&front).map_err(format_error(source))?;
        self.hosted_map(source, header)
    }

    fn hosted_map(&mut self, source: &Source, header: HostedHeader) -> Result<GrainMap, VmdkError> {
        let header = if header.is_continued_in_footer() { footer_of(source, &header)? } else { header };
        if header.is_unclean {
            self.refuse_unclean(source)?;
        }
        if header.redundant_directory_at.is_some_and(|at| at < SECTOR_BYTES || at >= source.size_bytes) {
            let name = &source.name;
            self.notes.push(format!("{name} lacks the second grain directory that its header promises"));
        }
        header.grain_map(source.size_bytes).map_err(format_error(source))
    }

    fn sesparse_map(&mut self, source: &Source) -> Result<GrainMap, VmdkError> {
        let front = source.front(sesparse::HEADER_BYTES)?;
        let header = SeSparseHeader::parse(&front, source.size_bytes).map_err(format_error(source))?;
        let at = header.volatile_header_at;
        if !source.holds(at, sesparse::HEADER_BYTES as u64) {
            let error = FormatError::malformed(80, "the volatile header is not inside the file");
            return Err(format_error(source)(error));
        }
        let mut volatile = vec![0; sesparse::HEADER_BYTES];
        source.read(&mut volatile, at)?;
        if has_journal_to_replay(&volatile, at).map_err(format_error(source))? {
            return Err(VmdkError::Journal { file: source.name.to_string() });
        }
        Ok(header.map)
    }

    /// VDF "uncleanShutdown": the tables may not be up to date.
    fn refuse_unclean(&mut self, source: &Source) -> Result<(), VmdkError> {
        if !self.options.accept_unclean {
            return Err(VmdkError::Unclean { file: source.name.to_string() });
        }
        self.notes.push(format!("{} was not closed properly; it is read nevertheless", source.name));
        Ok(())
    }

    fn number(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }
}

fn needed_file(image: &ImageFile, wanted: &str) -> Result<Source, VmdkError> {
    match image.files.extent(wanted) {
        Ok(Some(bytes)) => Ok(Source::new(wanted, bytes)),
        Ok(None) => Err(VmdkError::NotFollowed { of: image.name.clone(), wanted: wanted.to_owned() }),
        Err(source) => Err(VmdkError::Needed { of: image.name.clone(), wanted: wanted.to_owned(), source }),
    }
}

/// The descriptor inside an extent; `None` when there is none, as in the files of a split disk.
fn embedded_descriptor(source: &Source, header: &HostedHeader) -> Result<Option<Descriptor>, VmdkError> {
    let Some(at) = header.descriptor_at else { return Ok(None) };
    let length = header.descriptor_bytes;
    if length > MAX_DESCRIPTOR_BYTES || !source.holds(at, length) {
        let error = FormatError::malformed(28, format!("a descriptor of {length} bytes at {at} is impossible"));
        return Err(format_error(source)(error));
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
    source.read(&mut text, at)?;
    if text.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    Descriptor::parse(&text).map(Some).map_err(format_error(source))
}

/// VDF "Stream-Optimized Compressed Sparse Extents": the footer has the directory's place.
fn footer_of(source: &Source, header: &HostedHeader) -> Result<HostedHeader, VmdkError> {
    let tail_at = source.size_bytes.saturating_sub(stream::TAIL_BYTES);
    let length = source.size_bytes.min(stream::TAIL_BYTES);
    let mut tail = vec![0; usize::try_from(length).unwrap_or_default()];
    source.read(&mut tail, tail_at)?;
    let footer = stream::parse_footer(&tail, tail_at).map_err(format_error(source))?;
    if header.agrees_with(&footer) {
        return Ok(footer);
    }
    Err(format_error(source)(FormatError::malformed(tail_at + 512, "the footer contradicts the header")))
}
