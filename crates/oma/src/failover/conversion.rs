//! Guest conversion: runs `virt-v2v-in-place` on the devices of a replica, so that the guest finds its disks under KVM.
//!
//! Whether a guest needs it is decided in `need` (pure), what the tool is told about the disks in `domain` (pure). A
//! conversion that failed or was interrupted leaves a disk half changed: whoever runs one puts the volumes back to their
//! volume_snapshots before anything else is done with them, a second try included. That is why no error here is transient.

mod domain;
mod lines;
pub(crate) mod need;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use model::FailureKind;
use model::status::Firmware;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use lines::Lines;

/// The program.
const PROGRAM: &str = "virt-v2v-in-place";
/// What a preflight says where it is missing. Debian has it in `/usr/bin`, others in `/usr/libexec`.
pub(crate) const INSTALL: &str =
    "install virt-v2v on the hub: `apt-get install virt-v2v` (Debian, Ubuntu) or `dnf install virt-v2v`";
/// Where it may be besides `PATH`.
const FOLDERS: [&str; 5] =
    ["/usr/bin", "/usr/libexec", "/usr/lib/x86_64-linux-gnu/libexec", "/usr/local/bin", "/usr/local/libexec"];
/// Where Windows' virtio drivers are (packages `virtio-win`, or the ISO image put there by hand).
const WINDOWS_DRIVERS: [&str; 2] = ["/usr/share/virtio-win/virtio-win.iso", "/usr/share/virtio-win"];
/// Names another place of those drivers; the tool reads it, too.
const WINDOWS_DRIVERS_VARIABLE: &str = "VIRTIO_WIN";
/// Asks the kernel to kill the tool when this process dies, so that nobody writes to a disk that the next process takes
/// up. Part of util-linux, which is on every Linux.
const SETPRIV: &str = "setpriv";
/// Last lines of output that an error keeps.
const KEPT_LINES: usize = 20;
/// Most lines of output that are logged; a conversion prints about thirty.
const MAX_LOGGED_LINES: u64 = 5000;
/// Most warnings that are reported.
const MAX_WARNINGS: usize = 32;
/// How long output is awaited after the tool has ended: what has left its process group may keep the pipe open.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How long the end of a killed tool is awaited: one that hangs in the kernel cannot be awaited for ever.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// The tool, found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tool {
    path: PathBuf,
}

impl Tool {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Looks for the tool in `PATH` and where distributions put it.
pub(crate) fn find_tool() -> Option<Tool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)))
}

fn find_in(folders: impl IntoIterator<Item = PathBuf>) -> Option<Tool> {
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    folders.into_iter().map(|folder| folder.join(PROGRAM)).find(is_program).map(|path| Tool { path })
}

/// Looks for the virtio drivers that the tool installs into Windows. Without them it ends well and the guest still finds
/// no disk, so a preflight asks here first.
pub(crate) fn find_windows_drivers() -> Option<PathBuf> {
    let named = std::env::var_os(WINDOWS_DRIVERS_VARIABLE).map(PathBuf::from);
    named.into_iter().chain(WINDOWS_DRIVERS.map(PathBuf::from)).find(|path| path.exists())
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConversionReport {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Lines it printed.
    pub lines: u64,
    /// What it warned of: it goes on where a driver cannot be installed.
    pub warnings: Vec<String>,
}

/// Why a guest was not converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversionError {
    /// A path that cannot be told to the tool.
    #[error("{} cannot be given to {PROGRAM}: {reason}", path.display())]
    Disk {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// There are none, or too many.
    #[error("{count} disks cannot be converted together")]
    DiskCount {
        /// How many.
        count: usize,
    },
    /// It did not even begin.
    #[error("{program} cannot be started")]
    Start {
        /// What was to be started.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its end or its output cannot be read.
    #[error("{PROGRAM} cannot be watched")]
    Watch(#[source] io::Error),
    /// It ended badly.
    #[error("{PROGRAM} failed ({status}): {}", said(last_lines))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// It made no progress.
    #[error("{PROGRAM} said nothing for {seconds} s and was stopped; before that: {}", said(last_lines))]
    Silent {
        /// For how long.
        seconds: u64,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// Somebody asked to stop.
    #[error("the conversion was stopped")]
    Cancelled,
}

impl ConversionError {
    /// The kind that decides on what comes next. Never a transient one: see the head of this file.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Disk { .. } | Self::DiskCount { .. } => FailureKind::Invalid,
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
            Self::Start { .. } | Self::Watch(_) => FailureKind::Internal,
            Self::Failed { .. } | Self::Silent { .. } | Self::Cancelled => FailureKind::Conflict,
        }
    }

    /// What an operator can do.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Disk { .. } | Self::DiskCount { .. } | Self::Watch(_) | Self::Cancelled => None,
            Self::Start { .. } => Some(
                "check that virt-v2v and util-linux are installed on the hub, and that its service may run programs",
            ),
            Self::Failed { .. } => Some(
                "the job's log has all it said. Often: file systems that were not shut down cleanly (switch the guest off \
                 before the last copy; no hibernation or fast start-up in Windows), an encrypted disk, a full /boot, \
                 several systems on the disks. Or fail over without a conversion",
            ),
            Self::Silent { .. } => Some(
                "without /dev/kvm on the hub it is slow: enable nested virtualisation, or allow a longer silence; else look \
                 at the job's log, or fail over without a conversion",
            ),
        }
    }
}

fn said(lines: &[String]) -> String {
    if lines.is_empty() { "it said nothing".to_owned() } else { lines.join(" | ") }
}

/// Converts the guest on these disks, the boot disk first. There is no limit on the time it takes, only on the time it
/// says nothing: without /dev/kvm a large guest takes an hour. Every line it prints is logged and told to `on_line`.
///
/// Dropping the future kills the tool, as does the end of this process.
///
/// # Errors
/// The tool cannot be started, failed, said nothing for `silence_limit`, or was cancelled. The disks may then be half
/// converted.
pub(crate) async fn run(
    tool: &Tool,
    disks: &[PathBuf],
    firmware: Firmware,
    silence_limit: Duration,
    cancellation: &CancellationToken,
    mut on_line: impl FnMut(&str) + Send,
) -> Result<ConversionReport, ConversionError> {
    let began = Instant::now();
    let description = domain::xml(disks, firmware)?;
    let mut output = Output::default();
    let status = {
        let mut running = Running::start(tool, description)?;
        let ended = running.watch(silence_limit, cancellation, |line| {
            output.take(line);
            on_line(line);
        });
        match ended.await {
            Ok(ended) => ended,
            Err(error) => {
                running.kill().await;
                return Err(error);
            }
        }
    };
    match status {
        Ended::Exited(status) if status.success() => {
            let seconds = began.elapsed().as_secs_f64();
            Ok(ConversionReport { seconds, lines: output.count, warnings: output.warnings })
        }
        Ended::Exited(status) => Err(ConversionError::Failed { status, last_lines: output.last }),
        Ended::Silent => Err(ConversionError::Silent { seconds: silence_limit.as_secs(), last_lines: output.last }),
    }
}

/// How watching ended.
enum Ended {
    Exited(ExitStatus),
    Silent,
}

/// What the tool printed, as far as it is kept.
#[derive(Default)]
struct Output {
    count: u64,
    last: Vec<String>,
    warnings: Vec<String>,
}

impl Output {
    fn take(&mut self, line: &str) {
        self.count += 1;
        if self.count <= MAX_LOGGED_LINES {
            tracing::info!(tool = PROGRAM, "{line}");
        } else if self.count == MAX_LOGGED_LINES + 1 {
            tracing::warn!(tool = PROGRAM, "it prints too much: further lines are not logged");
        }
        if line.contains("warning:") && self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(line.to_owned());
        }
        if self.last.len() == KEPT_LINES {
            self.last.remove(0);
        }
        self.last.push(line.to_owned());
    }
}

/// The tool while it runs, with whatever it started: they are one process group.
struct Running {
    child: Child,
    group: Option<Pid>,
    stdout: Lines,
    stderr: Lines,
    /// Ends the thread that started the tool.
    _alive: mpsc::Sender<()>,
}

impl Running {
    fn start(tool: &Tool, description: String) -> Result<Self, ConversionError> {
        let mut command = Command::new(SETPRIV);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(tool.path())
            // A guest with several systems is refused instead of asking a question that nobody answers.
            .args(["-i", "libvirtxml", "--root", "single", "/dev/stdin"])
            .env("LIBGUESTFS_BACKEND", "direct")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let (mut child, alive) = spawn(command)?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pipe = || ConversionError::Watch(io::Error::other("it has no pipes"));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut stdin, stdout, stderr) = (stdin.ok_or_else(pipe)?, stdout.ok_or_else(pipe)?, stderr.ok_or_else(pipe)?);
        // Ends with the tool, because the pipe breaks then. One that does not read fails by itself.
        tokio::spawn(async move {
            if let Err(error) = stdin.write_all(description.as_bytes()).await {
                tracing::debug!(%error, "the tool did not read what the disks are");
            }
        });
        Ok(Self { child, group, stdout: Lines::new(stdout), stderr: Lines::new(stderr), _alive: alive })
    }

    async fn watch(
        &mut self,
        silence_limit: Duration,
        cancellation: &CancellationToken,
        mut on_line: impl FnMut(&str),
    ) -> Result<Ended, ConversionError> {
        let mut last_heard = Instant::now();
        loop {
            let heard = tokio::select! {
                biased;
                () = cancellation.cancelled() => return Err(ConversionError::Cancelled),
                lines = self.stdout.next() => lines,
                lines = self.stderr.next() => lines,
                status = self.child.wait() => {
                    // What it left behind may hold the disks open.
                    self.kill_group();
                    self.group = None;
                    let status = status.map_err(ConversionError::Watch)?;
                    self.drain(on_line).await;
                    return Ok(Ended::Exited(status));
                }
                () = sleep_until(last_heard + silence_limit) => {
                    self.kill().await;
                    return Ok(Ended::Silent);
                }
            };
            last_heard = Instant::now();
            for line in heard.map_err(ConversionError::Watch)? {
                on_line(&line);
            }
        }
    }

    /// What was printed just before the end.
    async fn drain(&mut self, mut on_line: impl FnMut(&str)) {
        let mut rest = async |lines: &mut Lines| {
            while !lines.has_ended() {
                let Ok(more) = lines.next().await else { break };
                more.iter().for_each(|line| on_line(line));
            }
        };
        let both = async {
            rest(&mut self.stdout).await;
            rest(&mut self.stderr).await;
        };
        if timeout(DRAIN_LIMIT, both).await.is_err() {
            tracing::warn!(tool = PROGRAM, "it has ended, but something that it started keeps its output open");
        }
    }

    /// Kills the tool and all it started, and waits until it is gone: until then it may write.
    async fn kill(&mut self) {
        self.kill_group();
        match timeout(KILL_LIMIT, self.child.wait()).await {
            Ok(_) => self.group = None,
            Err(_) => tracing::error!(tool = PROGRAM, "it was killed and does not end; it may still write"),
        }
    }

    fn kill_group(&self) {
        let Some(group) = self.group else { return };
        if let Err(error) = kill_process_group(group, Signal::KILL) {
            tracing::debug!(%error, "the tool is gone already");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Starts a program on a thread that lives as long as the sender: the kernel takes the end of the very thread for the
/// end of the parent, and a worker of the runtime may end at any time.
fn spawn(mut command: Command) -> Result<(Child, mpsc::Sender<()>), ConversionError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |source| ConversionError::Start { program: program.clone(), source };
    let runtime = Handle::current();
    let (alive, dropped) = mpsc::channel::<()>();
    let (started, outcome) = mpsc::channel();
    let keep = move || {
        let _entered = runtime.enter();
        if started.send(command.spawn()).is_ok() {
            // Nothing is ever sent: it returns when the sender is gone.
            let _ = dropped.recv();
        }
    };
    std::thread::Builder::new().name("conversion".to_owned()).spawn(keep).map_err(failed)?;
    let gone = |_| failed(io::Error::other("the thread that starts it ended"));
    let child = outcome.recv().map_err(gone)?.map_err(failed)?;
    Ok((child, alive))
}

#[cfg(test)]
mod tests;
