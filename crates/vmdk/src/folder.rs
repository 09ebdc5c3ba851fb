//! The files of an image in a folder. Names come from an image that nobody vouches for: nothing outside is opened, not
//! through a path and not through a link.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{BlockError, FileDevice};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::source::{Files, ImageFile, ReadAt, is_plain_name};

/// A folder, and further ones for parents.
pub struct Folder {
    folder: OwnedFd,
    path: PathBuf,
    parent_folders: Arc<[PathBuf]>,
}

impl Folder {
    /// The files in `path`. A parent is looked for there too, by its plain name, and then in each of `parent_folders`
    /// by the last part of the hint, whatever the path before it says.
    ///
    /// # Errors
    /// When `path` is no folder that can be opened.
    pub fn open(path: &Path, parent_folders: &[PathBuf]) -> io::Result<Self> {
        Self::shared(path, parent_folders.into())
    }

    fn shared(path: &Path, parent_folders: Arc<[PathBuf]>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { folder, path: path.to_owned(), parent_folders })
    }

    /// Opens a file by its plain name. Links are followed only inside the folder, and a pipe does not make us wait.
    fn file(&self, name: &str) -> io::Result<Arc<dyn ReadAt>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(&self.folder, name, flags, Mode::empty(), beneath) {
            // Linux before 5.6: no link at all then.
            Err(Errno::NOSYS) => rustix::fs::openat(&self.folder, name, flags | OFlags::NOFOLLOW, Mode::empty()),
            other => other,
        };
        let file = File::from(opened?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let device = FileDevice::over(file, &self.path.join(name), true).map_err(|error| match error {
            BlockError::Open { source, .. } => source,
            other => io::Error::other(other),
        })?;
        Ok(Arc::new(device))
    }
}

impl Files for Folder {
    fn extent(&self, name: &str) -> io::Result<Option<Arc<dyn ReadAt>>> {
        if is_plain_name(name) { self.file(name).map(Some) } else { Ok(None) }
    }

    fn parent(&self, hint: &str) -> io::Result<Option<ImageFile>> {
        let mut answer = Ok(None);
        if is_plain_name(hint) {
            answer =
                Self::shared(&self.path, Arc::clone(&self.parent_folders)).and_then(|here| here.image(hint)).map(Some);
        }
        let name = hint.rsplit(['/', '\\']).next().unwrap_or_default();
        for path in self.parent_folders.iter() {
            let is_found = matches!(answer, Ok(Some(_)));
            if is_found || !is_plain_name(name) {
                break;
            }
            answer = Self::shared(path, Arc::clone(&self.parent_folders)).and_then(|there| there.image(name)).map(Some);
        }
        answer
    }
}

impl Folder {
    fn image(self, name: &str) -> io::Result<ImageFile> {
        let bytes = self.file(name)?;
        Ok(ImageFile { name: name.to_owned(), bytes, files: Arc::new(self) })
    }
}
