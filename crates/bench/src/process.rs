//! Processes that are started, waited for and stopped by their handle; none of them outlives the bench.
//!
//! Their output goes to a file, whose end is quoted when something fails. A thread awaits each one's end on a pidfd, so
//! that the processor time of a process that has ended can be read before it is reaped.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::error::BenchError;

/// How long a server may take until it listens, or until it is gone when it was told to go.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two attempts to connect.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);
/// How much of the output is quoted, in bytes.
const QUOTED_BYTES: usize = 600;
/// Where ports are taken from: below the range of outgoing connections (`ip_local_port_range`, 32768 and up).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried before giving up.
const PORT_ATTEMPTS: u32 = 200;

/// A program of the comparison, and the Debian package it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
}

impl Program {
    /// Where it is: `PATH`, or the folders of administrators.
    ///
    /// # Errors
    /// [`BenchError::Missing`].
    pub fn path(self) -> Result<PathBuf, BenchError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        let found = folders.map(|folder| folder.join(self.name)).find(|candidate| candidate.is_file());
        found.ok_or(BenchError::Missing { program: self.name, package: self.package })
    }

    /// A command that starts it.
    ///
    /// # Errors
    /// [`BenchError::Missing`].
    pub fn command(self) -> Result<Command, BenchError> {
        Ok(Command::new(self.path()?))
    }
}

/// A process that runs until it ends, is stopped, or this is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    has_ended: watch::Receiver<bool>,
    /// None when it is not our child: a server that went to the background by itself.
    child: Option<Child>,
    log: PathBuf,
}

impl Running {
    /// Starts a command; what it says goes to `NAME.log` in `logs`. Streams that the caller has made pipes stay pipes
    /// and are in [`Running::child`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, logs: &Path) -> Result<Self, BenchError> {
        let name = name_of(&command);
        let log = logs.join(format!("{name}.log"));
        command.stdin(Stdio::null()).stdout(writer(&log)?).stderr(writer(&log)?);
        Self::start_as_is(command, log)
    }

    /// Starts a command of ours that is spoken to over its standard input and output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_piped(mut command: Command, name: &str, logs: &Path) -> Result<Self, BenchError> {
        let log = logs.join(format!("{name}.log"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(writer(&log)?);
        let mut running = Self::start_as_is(command, log)?;
        name.clone_into(&mut running.name);
        Ok(running)
    }

    fn start_as_is(mut command: Command, log: PathBuf) -> Result<Self, BenchError> {
        let name = name_of(&command);
        let child = command.spawn().map_err(BenchError::io(format!("starting {name}")))?;
        let pid = child.id();
        Self::of(name, pid, Some(child), log)
    }

    /// Takes over a server that went to the background and wrote its process id to `pid_file`.
    ///
    /// # Errors
    /// When it does not say its id in time.
    pub async fn adopt(name: &str, pid_file: &Path, log: PathBuf) -> Result<Self, BenchError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let written = std::fs::read_to_string(pid_file).unwrap_or_default();
            if let Ok(pid) = written.trim().parse() {
                return Self::of(name.to_owned(), pid, None, log);
            }
            if Instant::now() > deadline {
                return Err(late(name, "say its process id", &log));
            }
            tokio::time::sleep(ATTEMPT_INTERVAL).await;
        }
    }

    fn of(name: String, pid: u32, child: Option<Child>, log: PathBuf) -> Result<Self, BenchError> {
        let (pidfd, has_ended) = watch_end(pid)?;
        Ok(Self { name, pid, pidfd, has_ended, child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process as the standard library sees it, for its pipes.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// The last it said.
    #[must_use]
    pub fn said(&self) -> String {
        end_of(&self.log)
    }

    /// Waits until it has ended. It is not reaped yet: its processor time can still be read.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub async fn ended(&self) -> Result<(), BenchError> {
        let mut has_ended = self.has_ended.clone();
        let waited = has_ended.wait_for(|has_ended| *has_ended).await;
        waited.map(|_true| ()).map_err(|_| BenchError::Io {
            doing: format!("waiting for {}", self.name),
            source: std::io::ErrorKind::Other.into(),
        })
    }

    /// Reaps it after it has ended; it must have ended well.
    ///
    /// # Errors
    /// [`BenchError::Failed`] with the end of its output.
    pub fn succeeded(mut self) -> Result<(), BenchError> {
        let status = self.reap()?;
        match status {
            Some(status) if !status.success() => {
                Err(BenchError::Failed { program: self.name.clone(), status: status.to_string(), output: self.said() })
            }
            _ => Ok(()),
        }
    }

    fn reap(&mut self) -> Result<Option<ExitStatus>, BenchError> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        child.wait().map(Some).map_err(BenchError::io(format!("waiting for {}", self.name)))
    }

    /// Waits until the address can be connected to.
    ///
    /// # Errors
    /// When the process ends before, or it takes too long.
    pub async fn listens_on(&self, address: SocketAddr) -> Result<(), BenchError> {
        self.until(async || TcpStream::connect(address).await.is_ok()).await
    }

    /// Waits until the Unix socket can be connected to.
    ///
    /// # Errors
    /// When the process ends before, or it takes too long.
    pub async fn listens_at(&self, socket: &Path) -> Result<(), BenchError> {
        self.until(async || UnixStream::connect(socket).await.is_ok()).await
    }

    async fn until(&self, is_there: impl AsyncFn() -> bool) -> Result<(), BenchError> {
        let deadline = Instant::now() + PATIENCE;
        while !is_there().await {
            if Instant::now() > deadline {
                return Err(late(&self.name, "listen", &self.log));
            }
            tokio::select! {
                ended = self.ended() => {
                    ended?;
                    let status = "it ended before it listened".to_owned();
                    return Err(BenchError::Failed { program: self.name.clone(), status, output: self.said() });
                }
                () = tokio::time::sleep(ATTEMPT_INTERVAL) => {}
            }
        }
        Ok(())
    }

    /// Tells it to end and waits for that.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        let _ = pidfd_send_signal(&*self.pidfd, Signal::TERM);
        let in_time = tokio::time::timeout(PATIENCE, self.ended()).await;
        in_time.unwrap_or_else(|_elapsed| Err(late(&self.name, "end", &self.log)))?;
        self.reap().map(|_status| ())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already does not mind.
        let _ = pidfd_send_signal(&*self.pidfd, Signal::KILL);
        let _ = self.reap();
    }
}

/// A handle on a process, and what becomes true when it has ended.
fn watch_end(pid: u32) -> Result<(Arc<OwnedFd>, watch::Receiver<bool>), BenchError> {
    let watching = || format!("watching process {pid}");
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::NotFound.into());
    let pidfd = id.and_then(|id| pidfd_open(id, PidfdFlags::empty()).map_err(std::io::Error::from));
    let pidfd = Arc::new(pidfd.map_err(BenchError::io(watching()))?);
    let (sender, has_ended) = watch::channel(false);
    let waiting = Arc::clone(&pidfd);
    let wait = move || {
        // It can be read when the process has ended.
        while poll(&mut [PollFd::new(&*waiting, PollFlags::IN)], None) == Err(Errno::INTR) {}
        sender.send_replace(true);
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(wait).map_err(BenchError::io(watching()))?;
    Ok((pidfd, has_ended))
}

fn name_of(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy);
    name.unwrap_or_default().into_owned()
}

fn writer(log: &Path) -> Result<File, BenchError> {
    let opened = File::options().create(true).append(true).open(log);
    opened.map_err(BenchError::io(format!("opening {}", log.display())))
}

fn late(name: &str, what: &'static str, log: &Path) -> BenchError {
    BenchError::Late { program: name.to_owned(), what, seconds: PATIENCE.as_secs(), output: end_of(log) }
}

fn end_of(log: &Path) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let from = said.len().saturating_sub(QUOTED_BYTES);
    String::from_utf8_lossy(&said[from..]).trim().replace('\n', " | ")
}

/// What a program prints, for its version and the like.
///
/// # Errors
/// When it cannot be started or fails.
pub fn output_of(mut command: Command) -> Result<String, BenchError> {
    let name = name_of(&command);
    let output = command.stdin(Stdio::null()).output().map_err(BenchError::io(format!("running {name}")))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(BenchError::Failed { program: name, status: output.status.to_string(), output: text(&output.stderr) })
}

/// An address on 127.0.0.1 nobody listens on at the moment.
///
/// # Errors
/// When every port that was tried is taken.
pub fn free_address() -> Result<SocketAddr, BenchError> {
    for _ in 0..PORT_ATTEMPTS {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)));
        if std::net::TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    let source = std::io::ErrorKind::AddrInUse.into();
    Err(BenchError::Io { doing: format!("looking for a free port in {PORTS:?}"), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SH: Program = Program { name: "sh", package: "dash" };

    fn shell(script: &str) -> Command {
        let mut command = SH.command().unwrap();
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_process_that_fails_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(shell("echo no such disk >&2; exit 3"), folder.path()).unwrap();
        running.ended().await.unwrap();
        let error = running.succeeded().unwrap_err();
        assert!(error.to_string().contains("no such disk"), "{error}");
    }

    #[tokio::test]
    async fn a_process_is_gone_when_its_handle_is() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(shell("exec sleep 1000"), folder.path()).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", running.pid()));
        assert!(proc.exists());
        drop(running);
        assert!(!proc.exists());
        let running = Running::start(shell("exec sleep 1000"), folder.path()).unwrap();
        running.stop().await.unwrap();
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Program { name: "no-such-program", package: "some-package" }.path().unwrap_err();
        assert_eq!(error.to_string(), "no-such-program not found: apt-get install some-package");
    }
}
