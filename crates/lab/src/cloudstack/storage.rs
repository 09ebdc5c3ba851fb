//! The bytes behind volumes: sparse files, their copies, and the links or loop devices the worker VM sees.
//!
//! Knows files only. Whether a volume may have one is decided elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::entities::Volume;
use super::error::CloudstackSimError;
use super::rules::disk_serial;

/// How often a guest repeats what it writes at once.
const SCRIBBLES: usize = 200;
/// Where it writes first: into the first partition.
const SCRIBBLE_AT_BYTES: u64 = 2 << 20;
/// Bytes copied per system call, so that a long copy can be interrupted between calls.
const COPY_STEP_BYTES: u64 = 64 << 20;
/// What virtio-blk disks are called in `/dev/disk/by-id`.
const LINK_PREFIX: &str = "virtio-";

/// A file to copy outside the server's lock.
#[derive(Debug, Clone)]
pub(crate) struct CopyPlan {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
}

/// The folders of the simulator and what is plugged in.
#[derive(Debug)]
pub(crate) struct Storage {
    primary: PathBuf,
    secondary: PathBuf,
    by_id: PathBuf,
    use_loops: bool,
    /// Backing file of each device by volume id.
    loops: BTreeMap<String, PathBuf>,
}

impl Storage {
    /// Makes the folders.
    pub(crate) fn open(state_dir: &Path, by_id: &Path, use_loops: bool) -> Result<Self, CloudstackSimError> {
        let state_dir = make_folder(state_dir)?;
        Ok(Self {
            primary: make_folder(&state_dir.join("primary"))?,
            secondary: make_folder(&state_dir.join("secondary"))?,
            by_id: make_folder(by_id)?,
            use_loops,
            loops: BTreeMap::new(),
        })
    }

    /// The file of a volume, once it has one.
    pub(crate) fn file_of(&self, volume: &Volume) -> Option<PathBuf> {
        let path = volume.path.as_ref()?;
        Some(volume.placed_in.as_ref().unwrap_or(&self.primary).join(path))
    }

    /// The file of a volume snapshot, or of one disk in a VM snapshot.
    pub(crate) fn copy_file(&self, snapshot_id: &str, volume_id: Option<&str>) -> PathBuf {
        match volume_id {
            None => self.secondary.join(snapshot_id),
            Some(volume_id) => self.secondary.join(format!("{snapshot_id}.{volume_id}")),
        }
    }

    /// Makes the volume's file, or grows or cuts it, to the volume's size.
    pub(crate) fn size_file(&self, volume: &Volume) -> Result<(), CloudstackSimError> {
        let Some(path) = self.file_of(volume) else { return Ok(()) };
        make_sparse(&path, volume.size_bytes)?;
        match self.loops.get(&volume.id) {
            Some(device) => losetup("resizing", &["--set-capacity".as_ref(), device.as_os_str()]).map(drop),
            None => Ok(()),
        }
    }

    /// Writes to a volume's file as a guest does that has just been started.
    pub(crate) fn scribble(&self, volume: &Volume) -> Result<(), CloudstackSimError> {
        use std::os::unix::fs::FileExt as _;
        let Some(path) = self.file_of(volume) else { return Ok(()) };
        let text = format!("written by the guest of {}", volume.id).repeat(SCRIBBLES);
        let file = OpenOptions::new().write(true).open(&path).map_err(|source| file_error("opening", &path, source))?;
        let write = || {
            file.write_all_at(text.as_bytes(), SCRIBBLE_AT_BYTES)?;
            file.write_all_at(text.as_bytes(), volume.size_bytes / 2)?;
            file.sync_all()
        };
        write().map_err(|source| file_error("writing to", &path, source))
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), CloudstackSimError> {
        match fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(CloudstackSimError::File { doing: "removing", path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// The by-id link a volume has, or would have.
    pub(crate) fn link_of(&self, volume_id: &str) -> PathBuf {
        self.by_id.join(format!("{LINK_PREFIX}{}", disk_serial(volume_id)))
    }

    /// Makes the volume's device appear under the by-id folder.
    pub(crate) fn expose(&mut self, volume: &Volume) -> Result<(), CloudstackSimError> {
        let Some(file) = self.file_of(volume) else { return Ok(()) };
        let backing = match volume.device_size_bytes {
            Some(size_bytes) => {
                let short = with_suffix(&file, ".device");
                make_sparse(&short, size_bytes)?;
                short
            }
            None => file,
        };
        let target = if self.use_loops { self.attach_loop(&volume.id, &backing)? } else { backing };
        let link = self.link_of(&volume.id);
        self.remove_file(&link)?;
        std::os::unix::fs::symlink(&target, &link).map_err(|source| CloudstackSimError::File {
            doing: "linking",
            path: link,
            source,
        })
    }

    /// Makes the volume's device disappear.
    pub(crate) fn conceal(&mut self, volume: &Volume) -> Result<(), CloudstackSimError> {
        self.remove_file(&self.link_of(&volume.id))?;
        if let Some(device) = self.loops.remove(&volume.id) {
            losetup("detaching", &["--detach".as_ref(), device.as_os_str()])?;
        }
        if let Some(file) = self.file_of(volume) {
            self.remove_file(&with_suffix(&file, ".device"))?;
        }
        Ok(())
    }

    /// Detaches every loop device; links stay, as does everything in the folders.
    pub(crate) fn detach_loops(&mut self) {
        for (volume_id, device) in std::mem::take(&mut self.loops) {
            if let Err(error) = losetup("detaching", &["--detach".as_ref(), device.as_os_str()]) {
                tracing::warn!(volume_id, device = %device.display(), %error, "a loop device stays behind");
            }
        }
    }

    fn attach_loop(&mut self, volume_id: &str, backing: &Path) -> Result<PathBuf, CloudstackSimError> {
        let known = losetup(
            "looking for",
            &[
                "--list".as_ref(),
                "--noheadings".as_ref(),
                "--output".as_ref(),
                "NAME".as_ref(),
                "--associated".as_ref(),
                backing.as_os_str(),
            ],
        )?;
        let name = match known.lines().next() {
            Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
            _ => losetup("attaching", &["--find".as_ref(), "--show".as_ref(), backing.as_os_str()])?.trim().to_owned(),
        };
        let device = PathBuf::from(name);
        self.loops.insert(volume_id.to_owned(), device.clone());
        Ok(device)
    }
}

/// Copies a file keeping its holes; shares blocks where the file system can. Returns the bytes that are no hole.
pub(crate) fn copy_sparse(plan: &CopyPlan) -> Result<u64, CloudstackSimError> {
    let failed =
        |errno: Errno| CloudstackSimError::File { doing: "copying", path: plan.from.clone(), source: errno.into() };
    let from = open(&plan.from, false)?;
    let to = open(&plan.to, true)?;
    let length = from.metadata().map_err(|source| file_error("reading", &plan.from, source))?.len();
    let cloned = ioctl_ficlone(&to, &from).is_ok();
    to.set_len(length).map_err(|source| file_error("sizing", &plan.to, source))?;
    let mut data_bytes = 0;
    let mut position = 0;
    while position < length {
        let start = match seek(&from, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(failed(errno)),
        };
        let end = seek(&from, SeekFrom::Hole(start)).map_err(failed)?;
        data_bytes += end - start;
        if !cloned {
            copy_range(&from, &to, start, end).map_err(failed)?;
        }
        position = end;
    }
    Ok(data_bytes)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<(), Errno> {
    let mut read_at = start;
    let mut write_at = start;
    while read_at < end {
        let step = usize::try_from((end - read_at).min(COPY_STEP_BYTES)).unwrap_or(usize::MAX);
        let copied = match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), step) {
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL) => {
                copy_by_buffer(from, to, &mut read_at, &mut write_at, step)?
            }
            other => other?,
        };
        if copied == 0 {
            return Err(Errno::IO);
        }
    }
    Ok(())
}

fn copy_by_buffer(from: &File, to: &File, read_at: &mut u64, write_at: &mut u64, step: usize) -> Result<usize, Errno> {
    use std::os::unix::fs::FileExt as _;
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut buffer = vec![0; step.min(1 << 20)];
    let read = from.read_at(&mut buffer, *read_at).map_err(errno)?;
    to.write_all_at(&buffer[..read], *write_at).map_err(errno)?;
    *read_at += read as u64;
    *write_at += read as u64;
    Ok(read)
}

fn make_folder(path: &Path) -> Result<PathBuf, CloudstackSimError> {
    fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .map_err(|source| file_error("making the folder", path, source))
}

fn make_sparse(path: &Path, size_bytes: u64) -> Result<(), CloudstackSimError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(size_bytes))
        .map_err(|source| file_error("sizing", path, source))
}

fn open(path: &Path, for_writing: bool) -> Result<File, CloudstackSimError> {
    let mut options = OpenOptions::new();
    if for_writing {
        options.create(true).truncate(true).write(true);
    } else {
        options.read(true);
    }
    options.open(path).map_err(|source| file_error("opening", path, source))
}

fn file_error(doing: &'static str, path: &Path, source: std::io::Error) -> CloudstackSimError {
    CloudstackSimError::File { doing, path: path.to_owned(), source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

fn losetup(doing: &'static str, arguments: &[&std::ffi::OsStr]) -> Result<String, CloudstackSimError> {
    let output = Command::new("losetup")
        .args(arguments)
        .output()
        .map_err(|error| CloudstackSimError::Loop { doing, said: error.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CloudstackSimError::Loop { doing, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_copy_keeps_bytes_and_holes() {
        let folder = tempfile::tempdir().expect("a folder");
        let plan = CopyPlan { from: folder.path().join("a"), to: folder.path().join("b") };
        make_sparse(&plan.from, 64 << 20).expect("a sparse file");
        let file = OpenOptions::new().write(true).open(&plan.from).expect("the file");
        file.write_all_at(&[7; 4096], 8 << 20).expect("a write");
        file.sync_all().expect("a sync");
        let data_bytes = copy_sparse(&plan).expect("a copy");
        assert!((4096..1 << 20).contains(&data_bytes), "{data_bytes}");
        let copy = fs::read(&plan.to).expect("the copy");
        assert_eq!(copy.len(), 64 << 20);
        assert_eq!(copy, fs::read(&plan.from).expect("the source"));
        use std::os::unix::fs::MetadataExt as _;
        assert!(fs::metadata(&plan.to).expect("its data").blocks() * 512 < 8 << 20, "the copy has no holes");
    }
}
