//! OVA archives: the disks of an appliance, read where they are in the archive (DMTF DSP0243, "Distribution as a single
//! file").

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use model::Extent;

use crate::OpenOptions;
use crate::device::VmdkDevice;
use crate::error::VmdkError;
use crate::format::ovf::{self, OvfDisk, OvfFile};
use crate::format::tar::{self, MAX_EXTENDED_BYTES, MemberKind, Overrides, TAR_BLOCK_BYTES};
use crate::source::{Files, ImageFile, ReadAt, Source, Window};

/// The most members an archive may have. An appliance has some dozen.
const MAX_MEMBERS: usize = 4096;

/// Which disk of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskChoice {
    /// By its place in the OVF's DiskSection, from 0; without an OVF, by its place in the archive.
    Index(usize),
    /// By its file's name in the archive.
    Name(String),
}

impl fmt::Display for DiskChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(out, "number {index}"),
            Self::Name(name) => write!(out, "{name:?}"),
        }
    }
}

/// A disk of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvaDisk {
    /// Its place, from 0.
    pub index: usize,
    /// Its file in the archive.
    pub name: String,
    /// The id the OVF gives it; empty without an OVF.
    pub disk_id: String,
    /// The size of its file, in bytes; 0 when the archive has no file of this name.
    pub file_bytes: u64,
    /// Its size by the OVF, in bytes.
    pub capacity_bytes: Option<u64>,
    /// Why it cannot be read in place, if so.
    pub obstacle: Option<String>,
}

/// Whether a file that begins with these bytes (512 of them) is an archive.
#[must_use]
pub fn is_ova(first_bytes: &[u8]) -> bool {
    tar::is_tar(first_bytes)
}

/// The disks of an archive.
///
/// # Errors
/// When it cannot be read, is damaged, or is no archive.
pub fn disks(path: &Path) -> Result<Vec<OvaDisk>, VmdkError> {
    let (name, bytes) = crate::open_file(path)?;
    Archive::open(&name, &bytes)?.disks()
}

/// Opens a disk of an archive wherever it is.
///
/// # Errors
/// When the archive or the disk is damaged, or it is not clear which disk is meant.
pub fn open(name: &str, bytes: &Arc<dyn ReadAt>, options: &OpenOptions) -> Result<VmdkDevice, VmdkError> {
    let archive = Archive::open(name, bytes)?;
    let disk = archive.choose(options.disk.as_ref())?;
    if let Some(reason) = disk.obstacle {
        return Err(VmdkError::Wrapped { file: name.to_owned(), disk: disk.name, reason });
    }
    let files = Arc::new(Members { archive: Arc::new(archive) });
    let image = files.image(&disk.name).map_err(|source| VmdkError::Needed {
        of: name.to_owned(),
        wanted: disk.name.clone(),
        source,
    })?;
    let mut device = VmdkDevice::open(image, options)?;
    let size_bytes = block::BlockDevice::size_bytes(&device);
    if let Some(told) = disk.capacity_bytes.filter(|told| *told != size_bytes) {
        device.note(format!("the OVF says that {} has {told} bytes, it has {size_bytes}", disk.name));
    }
    Ok(device)
}

struct Archive {
    source: Source,
    /// By name.
    members: BTreeMap<String, Extent>,
    /// Names as they come in the archive.
    order: Vec<String>,
}

impl Archive {
    fn open(name: &str, bytes: &Arc<dyn ReadAt>) -> Result<Self, VmdkError> {
        let source = Source::new(name, Arc::clone(bytes));
        if !is_ova(&source.front(crate::FIRST_BYTES)?) {
            return Err(VmdkError::Unrecognised { file: name.to_owned() });
        }
        let mut archive = Self { source, members: BTreeMap::new(), order: Vec::new() };
        archive.read_members()?;
        Ok(archive)
    }

    fn damaged(&self, offset: u64, reason: impl Into<String>) -> VmdkError {
        VmdkError::Archive { file: self.source.name.to_string(), offset, reason: reason.into() }
    }

    fn read_members(&mut self) -> Result<(), VmdkError> {
        let mut at = 0;
        let mut overrides = Overrides::default();
        let mut headers = 0;
        // Some writers leave out the empty blocks at the end.
        while at != self.source.size_bytes {
            headers += 1;
            if headers > 3 * MAX_MEMBERS {
                return Err(self.damaged(at, format!("it has more than {MAX_MEMBERS} members")));
            }
            let block = self.bytes_at(at, TAR_BLOCK_BYTES)?;
            let header = tar::parse_header(&block).map_err(|reason| self.damaged(at, reason))?;
            let Some(header) = header else { break };
            let content = at + TAR_BLOCK_BYTES;
            let is_file = header.kind == MemberKind::File;
            let size_bytes = overrides.size_bytes.filter(|_| is_file).unwrap_or(header.size_bytes);
            if !self.source.holds(content, size_bytes) {
                let reason = format!("{:?} would reach past the archive's end", header.name);
                return Err(self.damaged(at, reason));
            }
            match header.kind {
                MemberKind::LongName => {
                    let bytes = self.bytes_at(content, size_bytes)?;
                    overrides.name = Some(tar::text(&bytes));
                }
                MemberKind::Extended => {
                    let bytes = self.bytes_at(content, size_bytes)?;
                    overrides = tar::parse_extended(&bytes).map_err(|reason| self.damaged(content, reason))?;
                }
                MemberKind::File => {
                    let overrides = std::mem::take(&mut overrides);
                    if overrides.is_sparse {
                        return Err(self.damaged(at, "a sparse member of GNU tar cannot be read in place"));
                    }
                    let name = overrides.name.unwrap_or(header.name);
                    self.add(name, Extent::new(content, size_bytes), at)?;
                }
                MemberKind::Ignored => {}
                MemberKind::Other => overrides = Overrides::default(),
            }
            // The last member's padding may be missing, too.
            at = content.saturating_add(size_bytes.next_multiple_of(TAR_BLOCK_BYTES)).min(self.source.size_bytes);
        }
        Ok(())
    }

    fn add(&mut self, name: String, place: Extent, at: u64) -> Result<(), VmdkError> {
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        if self.members.insert(name.clone(), place).is_some() {
            return Err(self.damaged(at, format!("it has two members named {name:?}")));
        }
        self.order.push(name);
        Ok(())
    }

    /// A header or an extended header: a few bytes.
    fn bytes_at(&self, offset: u64, length: u64) -> Result<Vec<u8>, VmdkError> {
        if length > MAX_EXTENDED_BYTES || !self.source.holds(offset, length) {
            return Err(self.damaged(offset, "a header is too long, or the archive ends within it"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.source.read(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn disks(&self) -> Result<Vec<OvaDisk>, VmdkError> {
        let ovf = self.order.iter().find(|name| name.to_ascii_lowercase().ends_with(".ovf"));
        let Some(ovf) = ovf.and_then(|name| self.members.get(name)) else { return self.disks_by_content() };
        if ovf.length > ovf::MAX_OVF_BYTES {
            return Err(self.damaged(ovf.offset, format!("an OVF of {} bytes is too long", ovf.length)));
        }
        let mut xml = vec![0; usize::try_from(ovf.length).unwrap_or_default()];
        self.source.read(&mut xml, ovf.offset)?;
        let described = ovf::disks(&xml).map_err(|reason| self.damaged(ovf.offset, reason))?;
        let with_files = described.into_iter().filter_map(|disk| disk.file.clone().map(|file| (disk, file)));
        Ok(with_files.enumerate().map(|(index, (disk, file))| self.described(index, disk, file)).collect())
    }

    fn described(&self, index: usize, disk: OvfDisk, file: OvfFile) -> OvaDisk {
        let member = self.members.get(&file.href);
        let obstacle = match (&file.compression, member) {
            (Some(kind), _) => Some(format!("its file is packed as a whole ({kind})")),
            (None, _) if file.is_split => Some("its file is split into chunks".to_owned()),
            (None, None) => Some("the archive has no such file".to_owned()),
            (None, Some(_)) => None,
        };
        OvaDisk {
            index,
            name: file.href,
            disk_id: disk.id,
            file_bytes: member.map_or(0, |place| place.length),
            capacity_bytes: disk.capacity_bytes,
            obstacle,
        }
    }

    /// An archive without an OVF: whatever begins as a VMDK and ends in `.vmdk`.
    fn disks_by_content(&self) -> Result<Vec<OvaDisk>, VmdkError> {
        let mut disks = Vec::new();
        for name in self.order.iter().filter(|name| name.to_ascii_lowercase().ends_with(".vmdk")) {
            let Some(place) = self.members.get(name) else { continue };
            let front = self.bytes_at(place.offset, place.length.min(crate::FIRST_BYTES as u64))?;
            if crate::is_vmdk(&front) {
                disks.push(OvaDisk {
                    index: disks.len(),
                    name: name.clone(),
                    disk_id: String::new(),
                    file_bytes: place.length,
                    capacity_bytes: None,
                    obstacle: None,
                });
            }
        }
        Ok(disks)
    }

    fn choose(&self, choice: Option<&DiskChoice>) -> Result<OvaDisk, VmdkError> {
        let disks = self.disks()?;
        let which = |wanted: Option<String>| VmdkError::WhichDisk {
            file: self.source.name.to_string(),
            wanted,
            there: disks.iter().map(|disk| disk.name.clone()).collect(),
        };
        let found = match choice {
            None if disks.len() == 1 => disks.first(),
            None => None,
            Some(DiskChoice::Index(index)) => disks.get(*index),
            Some(DiskChoice::Name(name)) => disks.iter().find(|disk| disk.name == *name),
        };
        found.cloned().ok_or_else(|| which(choice.map(ToString::to_string)))
    }
}

/// The members of an archive as the files of an image: only they can be meant, whatever the name looks like.
struct Members {
    archive: Arc<Archive>,
}

impl Members {
    fn image(&self, name: &str) -> io::Result<ImageFile> {
        let bytes = self.member(name)?;
        let files = Arc::new(Self { archive: Arc::clone(&self.archive) });
        Ok(ImageFile { name: name.to_owned(), bytes, files })
    }

    fn member(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        let place = self.archive.members.get(name).ok_or(io::ErrorKind::NotFound)?;
        let window = Window::new(Arc::clone(&self.archive.source.bytes), *place);
        Ok(Arc::new(window.ok_or(io::ErrorKind::UnexpectedEof)?))
    }
}

impl Files for Members {
    fn extent(&self, name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        self.member(name).map(Some)
    }

    fn parent(&self, hint: &str) -> io::Result<Option<ImageFile>> {
        self.image(hint).map(Some)
    }
}
