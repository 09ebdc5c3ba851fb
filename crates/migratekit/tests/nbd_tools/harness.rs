//! Programs, servers and images for these tests. No assertions about what is tested.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a server may take to be ready, or a program to end.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at while it is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a program said and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// The problem on standard error.
    pub fn problem(&self) -> Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Our program, without anything of this machine's environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migratekit"));
    for name in ["MIGRATEKIT_OUTPUT", "MIGRATEKIT_HUB", "MIGRATEKIT_TOKEN_FILE", "MIGRATEKIT_CA_FILE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs our program to its end.
pub fn migratekit(arguments: &[&str]) -> Said {
    said(command().args(arguments), "migratekit")
}

/// Runs somebody else's program to its end.
pub fn run(program: &str, arguments: &[&str]) -> Said {
    said(Command::new(program).args(arguments).stdin(Stdio::null()), program)
}

fn said(command: &mut Command, program: &str) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("{} ({error})", missing(program)));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn missing(program: &str) -> String {
    let package = match program {
        "nbdkit" => "nbdkit",
        "nbdinfo" | "nbdcopy" => "libnbd-bin",
        _ => "qemu-utils",
    };
    format!("{program} not found: apt-get install {package}")
}

/// Waits until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// `migratekit nbd serve` that runs until it is dropped.
pub struct Serve {
    pub uri: String,
    child: Child,
}

impl Serve {
    /// Starts it and reads its address from its first line.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(["nbd", "serve"]).args(arguments).stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut first).unwrap();
        let uri = first.trim_end().strip_prefix("serving ").unwrap_or_else(|| panic!("{first:?}")).to_owned();
        Self { uri, child }
    }

    /// On a free TCP port.
    pub fn tcp(file: &Path, more: &[&str]) -> Self {
        let mut arguments = vec![file.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        arguments.extend(more);
        Self::start(&arguments)
    }

    /// Sends a signal and waits for the end; gives what it printed as data.
    pub fn end(mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = until("the server ends", || self.child.try_wait().unwrap());
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (status, stdout)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A server of somebody else's that runs until it is dropped.
pub struct Peer {
    pub uri: String,
    child: Child,
    _folder: TempDir,
}

impl Peer {
    /// nbdkit with these arguments.
    pub fn nbdkit(arguments: &[&str]) -> Self {
        Self::start("nbdkit", &["--foreground", "--exit-with-parent", "--unix"], arguments, "")
    }

    /// qemu-nbd of a raw file, as export `disk`.
    pub fn qemu(file: &Path, more: &[&str]) -> Self {
        let mut arguments = vec!["--export-name=disk", "--format=raw", "--persistent", "--shared=8"];
        arguments.extend(more);
        arguments.push(file.to_str().unwrap());
        Self::start("qemu-nbd", &["--socket"], &arguments, "disk")
    }

    fn start(program: &str, before_socket: &[&str], after: &[&str], export: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("peer.sock");
        let mut command = Command::new(program);
        command.args(before_socket).arg(&socket).args(after).stdin(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} ({error})", missing(program)));
        until("its socket answers", || {
            assert!(child.try_wait().unwrap().is_none(), "{program} {after:?} ended");
            UnixStream::connect(&socket).ok()
        });
        Self { uri: format!("nbd+unix:///{export}?socket={}", socket.display()), child, _folder: folder }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A folder with images in it.
pub struct Images(TempDir);

impl Images {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An image with what copies get wrong: holes, written zeroes, single bytes far apart, a tail.
    pub fn disk(&self, name: &str, size_bytes: usize) -> PathBuf {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(size_bytes as u64).unwrap();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for (index, offset) in (0..size_bytes).step_by(64 * 1024).enumerate() {
            let mut block = vec![0; (size_bytes - offset).min(64 * 1024)];
            match index % 5 {
                0 => block.iter_mut().for_each(|byte| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    *byte = state.to_le_bytes()[0];
                }),
                1 => block[..1].fill(1),
                2 => {
                    let last = block.len() - 1;
                    block[last] = 2;
                }
                // Zeroes that are written.
                3 => {}
                // A hole.
                _ => continue,
            }
            file.write_all_at(&block, offset as u64).unwrap();
        }
        if let Some(last) = size_bytes.checked_sub(1) {
            file.write_all_at(&[0xa5], last as u64).unwrap();
        }
        path
    }

    /// A file full of ones: what is not written shows.
    pub fn dirty(&self, name: &str, size_bytes: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, vec![0xff; size_bytes]).unwrap();
        path
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Fails with the first difference; the content is too long to print.
pub fn assert_equal(one: &Path, other: &Path) {
    let (one, other) = (std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
    assert_eq!(one.len(), other.len(), "sizes");
    assert_starts(&other, &one);
}

/// `bytes` begin with all of `wanted`.
pub fn assert_starts(bytes: &[u8], wanted: &[u8]) {
    let differs = bytes.iter().zip(wanted).position(|(one, other)| one != other);
    assert_eq!(differs, None, "first difference");
    assert!(bytes.len() >= wanted.len());
}
