//! Waits for a device to appear: woken by the kernel when a link is made, and looking again now and then in case the
//! folder did not exist yet or the kernel dropped an event.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use crate::device::correlate::{Candidate, Expected};
use crate::device::scan;
use crate::error::VolumeDaemonError;

/// How often the folder is read again although nothing was heard of it.
const RESCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Room for events, in bytes: the longest one is below 300; more are read in the next round.
const EVENT_BYTES: usize = 4096;

/// The device that is the volume, as soon as it is here.
pub(crate) async fn appeared(
    directory: &Path,
    expected: &Expected,
    longest: Duration,
) -> Result<Candidate, VolumeDaemonError> {
    let deadline = Instant::now() + longest;
    let mut watch = None;
    loop {
        // Watched before it is read, so that nothing can appear unseen in between.
        if watch.is_none() {
            watch = LinkWatch::open(directory).ok();
        }
        if let Some(found) = scan::find(directory, expected).await? {
            return Ok(found);
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(VolumeDaemonError::NoDevice {
                serial: expected.serial.clone(),
                directory: directory.to_owned(),
                waited_seconds: longest.as_secs(),
            });
        }
        let until = deadline.min(now + RESCAN_INTERVAL);
        let heard = async {
            match &watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        if let Ok(Err(error)) = tokio::time::timeout_at(until, heard).await {
            tracing::debug!(%error, "the folder of disks cannot be watched");
            watch = None;
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Hears of links made in a folder.
struct LinkWatch {
    /// An inotify descriptor is no pipe, but it is read like one: non-blocking, ready when there is something.
    events: Receiver,
}

impl LinkWatch {
    fn open(directory: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        inotify::add_watch(&descriptor, directory, flags)?;
        Ok(Self { events: Receiver::from_owned_fd_unchecked(descriptor)? })
    }

    /// Returns when something was made in the folder. What exactly does not matter: the folder is read anew.
    async fn changed(&self) -> io::Result<()> {
        let mut room = [0; EVENT_BYTES];
        loop {
            self.events.readable().await?;
            match self.events.try_read(&mut room) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SERIAL: &str = "1d8d87d41425459c8d81";
    const SIZE: u64 = 4096;

    fn expected() -> Expected {
        Expected { serial: SERIAL.to_owned(), recorded_bytes: SIZE, reported_bytes: SIZE }
    }

    #[tokio::test]
    async fn a_link_made_later_wakes_the_waiter() {
        let folder = tempfile::tempdir().unwrap();
        let by_id = folder.path().join("by-id");
        std::fs::create_dir(&by_id).unwrap();
        let disk = folder.path().join("disk");
        std::fs::File::create(&disk).unwrap().set_len(SIZE).unwrap();
        let watch = LinkWatch::open(&by_id).unwrap();
        symlink(&disk, by_id.join("virtio-other")).unwrap();
        watch.changed().await.unwrap();
        let expected = expected();
        let waiting = appeared(&by_id, &expected, Duration::from_secs(20));
        let making = async { symlink(&disk, by_id.join(format!("virtio-{SERIAL}"))).unwrap() };
        let (found, ()) = tokio::join!(waiting, making);
        assert_eq!(found.unwrap().device, disk.canonicalize().unwrap());
    }

    #[tokio::test]
    async fn a_folder_that_never_comes_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let error = appeared(&folder.path().join("by-id"), &expected(), Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, VolumeDaemonError::NoDevice { .. }), "{error}");
    }
}
