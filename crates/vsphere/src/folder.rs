//! Disk contents over HTTPS: ranges of `-flat.vmdk` files from `/folder`, through the server or straight from a host.
//!
//! Bytes of files and of plain disks; what is in a sparse file is for others to understand. No vSAN, no vVol, and no retry
//! beyond one renewal of the session or ticket.

mod descriptor;
mod fetch;
mod path;

use std::sync::Arc;

use reqwest::{Method, Response, StatusCode};

pub use path::DatastorePath;

use crate::error::VsphereError;
use crate::session::VimSession;
use descriptor::Descriptor;
use fetch::{Fetch, GET};

/// Largest range asked for in one request, in bytes; larger reads are cut.
pub const MAX_RANGE_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of a descriptor that are read; ESXi writes less than 2 KiB.
const MAX_DESCRIPTOR_BYTES: usize = 64 * 1024;
/// VMDK sectors.
const SECTOR_BYTES: u64 = 512;

/// Which way the bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderAccess {
    /// Through the server the session is with; a vCenter passes them on.
    ViaServer,
    /// Straight from an ESXi host, with tickets the vCenter issues: no credentials of the host are needed.
    HostDirect {
        /// Name or address of a host that has the datastore.
        host: String,
    },
}

/// A disk to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderDisk {
    /// [`crate::VirtualMachine::datacenter_path`].
    pub datacenter_path: String,
    /// `[datastore] folder/file.vmdk` as the vm_snapshot has it.
    pub vmdk_path: String,
    /// Size of the disk in bytes: the file must have the same.
    pub capacity_bytes: u64,
    /// Which way the bytes come.
    pub access: FolderAccess,
}

/// The datastores of one datacenter, as far as they have files. Clones share it.
#[derive(Clone)]
pub struct FolderStore {
    fetch: Arc<Fetch>,
}

/// An open file, or the part of one that is a disk. Reads may run in parallel.
pub struct FolderFile {
    fetch: Arc<Fetch>,
    path: DatastorePath,
    data_offset: u64,
    size_bytes: u64,
}

impl FolderStore {
    /// The text of a descriptor: the first 64 KiB of the file at most.
    ///
    /// # Errors
    /// `FileNotFound` and `FileLocked` tell why it cannot be read.
    pub async fn descriptor(&self, path: &DatastorePath) -> Result<Vec<u8>, VsphereError> {
        read_descriptor(&self.fetch, path).await
    }

    /// Opens a file, all of it.
    ///
    /// # Errors
    /// As [`Self::descriptor`].
    pub async fn file(&self, path: DatastorePath) -> Result<FolderFile, VsphereError> {
        let size_bytes = file_length(&self.fetch, &path).await?;
        Ok(FolderFile { fetch: Arc::clone(&self.fetch), path, data_offset: 0, size_bytes })
    }
}

impl VimSession {
    /// The datastores of the datacenter [`crate::VirtualMachine::datacenter_path`].
    #[must_use]
    pub fn folder_store(&self, datacenter_path: &str, access: &FolderAccess) -> FolderStore {
        FolderStore { fetch: Arc::new(Fetch::new(self.clone(), datacenter_path, access)) }
    }

    /// Opens a disk: reads its descriptor and checks that its data file is all of the disk.
    ///
    /// # Errors
    /// `FileNotFound`, `FileLocked`, `UnsupportedDisk` and `FileSize` tell why a disk cannot be read this way.
    pub async fn open_folder_disk(&self, disk: &FolderDisk) -> Result<FolderFile, VsphereError> {
        let descriptor_path: DatastorePath = disk.vmdk_path.parse()?;
        let fetch = Arc::new(Fetch::new(self.clone(), &disk.datacenter_path, &disk.access));
        let unsupported = |reason: String| VsphereError::UnsupportedDisk { path: descriptor_path.to_string(), reason };
        let text = read_descriptor(&fetch, &descriptor_path).await?;
        let extent = Descriptor::parse(&text).and_then(|descriptor| descriptor.plain_extent()).map_err(unsupported)?;
        let path = descriptor_path.sibling(&extent.file_name);
        let size_bytes = extent.sectors.saturating_mul(SECTOR_BYTES);
        let data_offset = extent.offset_sectors.saturating_mul(SECTOR_BYTES);
        let file_bytes = file_length(&fetch, &path).await?;
        let usable_bytes = file_bytes.saturating_sub(data_offset).min(size_bytes);
        if usable_bytes != disk.capacity_bytes || size_bytes != disk.capacity_bytes {
            return Err(VsphereError::FileSize {
                path: path.to_string(),
                found_bytes: usable_bytes,
                capacity_bytes: disk.capacity_bytes,
            });
        }
        Ok(FolderFile { fetch, path, data_offset, size_bytes })
    }
}

impl FolderFile {
    /// Size of the disk, or of the file, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The data file.
    #[must_use]
    pub fn path(&self) -> &DatastorePath {
        &self.path
    }

    /// Fills `buffer` with its bytes from `offset`.
    ///
    /// # Errors
    /// When the range is not within the disk, or the server answers with anything but exactly that range; nothing of
    /// `buffer` may be used then.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VsphereError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(wrong_range(&self.path, format!("{} bytes from {offset} are not in it", buffer.len())));
        }
        let mut at = self.data_offset + offset;
        for part in buffer.chunks_mut(MAX_RANGE_BYTES) {
            self.read_range(at, part).await?;
            at += part.len() as u64;
        }
        Ok(())
    }

    async fn read_range(&self, first: u64, part: &mut [u8]) -> Result<(), VsphereError> {
        let last = first + part.len() as u64 - 1;
        let response = self.fetch.send(Method::GET, &self.path, Some((first, last))).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(wrong_range(&self.path, "it sends the whole file"));
        }
        match content_range(&response) {
            Some((from, to, _)) if (from, to) == (first, last) => {}
            found => return Err(wrong_range(&self.path, format!("asked was {first}-{last}, it says {found:?}"))),
        }
        fill(response, &self.path, part).await
    }
}

async fn fill(mut response: Response, path: &DatastorePath, part: &mut [u8]) -> Result<(), VsphereError> {
    let mut filled = 0;
    while let Some(chunk) = response.chunk().await.map_err(|source| VsphereError::Transport { doing: GET, source })? {
        let end = filled + chunk.len();
        let Some(room) = part.get_mut(filled..end) else {
            return Err(wrong_range(path, "it sends more bytes than it says"));
        };
        room.copy_from_slice(&chunk);
        filled = end;
    }
    if filled == part.len() { Ok(()) } else { Err(wrong_range(path, "it sends fewer bytes than it says")) }
}

async fn read_descriptor(fetch: &Fetch, path: &DatastorePath) -> Result<Vec<u8>, VsphereError> {
    let last = MAX_DESCRIPTOR_BYTES as u64 - 1;
    let mut response = fetch.send(Method::GET, path, Some((0, last))).await?;
    let mut text = Vec::new();
    // A server that ignores the range may send a whole disk: the rest is never read.
    while text.len() < MAX_DESCRIPTOR_BYTES {
        let chunk = response.chunk().await.map_err(|source| VsphereError::Transport { doing: GET, source })?;
        let Some(chunk) = chunk else { break };
        text.extend_from_slice(&chunk);
    }
    text.truncate(MAX_DESCRIPTOR_BYTES);
    Ok(text)
}

/// Length of a file: from HEAD, or from the first byte where HEAD does not tell.
async fn file_length(fetch: &Fetch, path: &DatastorePath) -> Result<u64, VsphereError> {
    let from_head = match fetch.send(Method::HEAD, path, None).await {
        Ok(response) => header_text(&response, "content-length").and_then(|text| text.trim().parse().ok()),
        Err(VsphereError::HttpStatus { status: 405 | 501, .. }) => None,
        Err(error) => return Err(error),
    };
    if let Some(length) = from_head {
        return Ok(length);
    }
    let response = fetch.send(Method::GET, path, Some((0, 0))).await?;
    let total = content_range(&response).and_then(|(_, _, total)| total);
    total.ok_or_else(|| wrong_range(path, "it does not tell the length of the file"))
}

fn wrong_range(path: &DatastorePath, reason: impl Into<String>) -> VsphereError {
    VsphereError::WrongRange { path: path.to_string(), reason: reason.into() }
}

fn header_text<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// First byte, last byte and, where it is told, the length of the file (RFC 9110 §14.4).
fn content_range(response: &Response) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = header_text(response, "content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total.trim().parse().ok()))
}
