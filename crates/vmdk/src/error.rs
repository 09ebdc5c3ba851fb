//! What can go wrong with an image, what kind of failure that is, and what can be done about it.

use std::io;
use std::path::PathBuf;

use block::BlockError;
use model::FailureKind;

use crate::format::FormatError;

/// An error of an image. Offsets and lengths are in bytes.
#[derive(Debug, thiserror::Error)]
pub enum VmdkError {
    /// The file that was asked for cannot be opened.
    #[error("cannot open the image {}", path.display())]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BlockError,
    },
    /// A file that the image needs cannot be opened.
    #[error("{of} needs {wanted:?}, which cannot be opened")]
    Needed {
        /// The file that needs it.
        of: String,
        /// What it needs.
        wanted: String,
        /// Why it cannot be opened.
        #[source]
        source: io::Error,
    },
    /// A file names another one that lies where nobody allowed to look.
    #[error("{of} names {wanted:?}, which is not a plain file name")]
    NotFollowed {
        /// The file that names it.
        of: String,
        /// The name, as written.
        wanted: String,
    },
    /// A file cannot be read.
    #[error("cannot read {length} bytes at {offset} of {file}")]
    Read {
        /// The file.
        file: String,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The first bytes are those of no format known here.
    #[error("{file} is neither a VMDK nor an OVA")]
    Unrecognised {
        /// The file.
        file: String,
    },
    /// A header or a descriptor is wrong, or of an unknown kind.
    #[error("{file} cannot be read as a VMDK")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// A file holds only a part of a disk, and does not say of which.
    #[error("{file} is only a part of a disk")]
    Part {
        /// The file.
        file: String,
    },
    /// The extent was not closed by whoever wrote it last.
    #[error("{file} was not closed properly: its tables may not be up to date")]
    Unclean {
        /// The file.
        file: String,
    },
    /// A redo log has changes in its journal that are not yet in its tables.
    #[error("{file} has a journal that was not replayed")]
    Journal {
        /// The file.
        file: String,
    },
    /// A directory, a table or a grain is damaged, or not there at all.
    #[error("{file} is damaged at byte {offset} (byte {disk_offset} of the disk): {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// What it should hold: from this byte of the extent's part of the disk on.
        disk_offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The parent was changed since the child was made, or is another disk.
    #[error("{parent} has the content id {found}, but {child} was made on {expected:08x}")]
    ParentChanged {
        /// The child's file.
        child: String,
        /// The parent's file.
        parent: String,
        /// The parentCID of the child.
        expected: u32,
        /// The CID of the parent in hexadecimal digits, or that it has none.
        found: String,
    },
    /// The chain of parents is longer than any that vSphere makes, or a circle.
    #[error("the chain of parents does not end after {links} files")]
    ChainTooLong {
        /// Files that were opened.
        links: usize,
    },
    /// The archive is damaged or of a kind that cannot be read.
    #[error("the archive {file} is damaged at byte {offset}: {reason}")]
    Archive {
        /// The archive.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The archive keeps the disk in a form that cannot be read in place.
    #[error("{disk:?} in {file} cannot be read in place: {reason}")]
    Wrapped {
        /// The archive.
        file: String,
        /// The disk.
        disk: String,
        /// In which form it is.
        reason: String,
    },
    /// The archive has no such disk, or several and none was chosen.
    #[error("{file} has {}", described(wanted.as_deref(), there))]
    WhichDisk {
        /// The archive.
        file: String,
        /// What was asked for.
        wanted: Option<String>,
        /// The disks there are.
        there: Vec<String>,
    },
    /// A range is not inside the disk.
    #[error("{length} bytes at {offset} are not inside the disk's {size_bytes} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// The disk's size.
        size_bytes: u64,
    },
}

fn described(wanted: Option<&str>, there: &[String]) -> String {
    match (wanted, there) {
        (None, []) => "no disk".into(),
        (None, _) => format!("{} disks: {}", there.len(), there.join(", ")),
        (Some(wanted), _) => format!("no disk {wanted}, but: {}", there.join(", ")),
    }
}

impl VmdkError {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Open { source, .. } => source.kind(),
            Self::Needed { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FailureKind::NotFound,
                io::ErrorKind::PermissionDenied => FailureKind::Forbidden,
                _ => FailureKind::Internal,
            },
            Self::Read { .. } => FailureKind::Internal,
            Self::NotFollowed { .. } => FailureKind::Forbidden,
            Self::Unclean { .. } | Self::Journal { .. } | Self::ParentChanged { .. } => FailureKind::Conflict,
            Self::WhichDisk { wanted: Some(_), .. } => FailureKind::NotFound,
            Self::Unrecognised { .. }
            | Self::Format { .. }
            | Self::Part { .. }
            | Self::Damaged { .. }
            | Self::ChainTooLong { .. }
            | Self::Archive { .. }
            | Self::Wrapped { .. }
            | Self::WhichDisk { wanted: None, .. }
            | Self::OutOfRange { .. } => FailureKind::Invalid,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } => source.remedy(),
            Self::Needed { .. } => Some("Put all files of the disk into one folder, under their original names."),
            Self::NotFollowed { .. } => Some(
                "Files are looked for beside the image only. Put them there, or name the folder of the parents \
                 explicitly.",
            ),
            Self::Read { .. } => Some("Look at the storage that holds the file, then repeat."),
            Self::Unrecognised { .. } => {
                Some("Check the path; other formats can be converted with `qemu-img convert -O vmdk`.")
            }
            Self::Format { source: FormatError::Unsupported { .. }, .. } => {
                Some("Read this disk through vCenter, or clone it to a plain disk first.")
            }
            Self::Format { .. } | Self::Damaged { .. } | Self::Archive { .. } => Some(
                "The file is not whole or was changed: compare it with its checksum (.mf) and copy or export it again.",
            ),
            Self::Part { .. } => {
                Some("Open the disk's descriptor instead: the .vmdk without -delta, -sesparse or -s001.")
            }
            Self::Unclean { .. } => Some(
                "Close the VM that uses it, or repair the disk with `vmware-vdiskmanager -R`; a copy of a disk in use \
                 cannot be trusted.",
            ),
            Self::Journal { .. } => {
                Some("Power the VM off, or read a link below a newer vm_snapshot, which is closed and complete.")
            }
            Self::ParentChanged { .. } => Some(
                "The parent was written after the vm_snapshot, or it is another file: take both from the same copy of \
                 the VM's folder.",
            ),
            Self::ChainTooLong { .. } => Some("Consolidate the VM's disks; vSphere allows 32 vm_snapshots in a chain."),
            Self::Wrapped { .. } => Some("Unpack the archive and open the disk itself."),
            Self::WhichDisk { .. } => Some("Choose one of these disks by its file name or its place, from 0."),
            Self::OutOfRange { .. } => None,
        }
    }

    /// This error as one of the device that the image is read as.
    #[must_use]
    pub fn into_block(self, offset: u64, length: u64) -> BlockError {
        match self {
            Self::OutOfRange { offset, length, size_bytes } => BlockError::OutOfRange { offset, length, size_bytes },
            error => BlockError::Image {
                offset,
                length,
                kind: error.kind(),
                remedy: error.remedy(),
                source: Box::new(error),
            },
        }
    }
}
