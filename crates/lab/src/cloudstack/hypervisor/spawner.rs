//! Starts processes that end with this one, however it ends.
//!
//! The kernel sends the parent-death signal when the *thread* that started a child ends, so one thread starts them all
//! and lives as long as the hypervisor. `setpriv` asks for the signal, because between fork and exec Rust cannot safely.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

type Reply = mpsc::Sender<io::Result<Child>>;

/// Handle of the starting thread; the thread ends when this is dropped, and its children with it.
#[derive(Debug)]
pub(super) struct Spawner {
    orders: parking_lot::Mutex<mpsc::Sender<(Command, Reply)>>,
}

impl Spawner {
    /// Starts the thread.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, orders) = mpsc::channel::<(Command, Reply)>();
        std::thread::Builder::new().name("lab-hypervisor".to_owned()).spawn(move || {
            for (mut command, reply) in orders {
                // Whoever asked and went away leaves a child that is killed with the thread.
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(Self { orders: parking_lot::Mutex::new(sender) })
    }

    /// Starts a program whose own words go to `log`.
    pub(super) fn start(&self, program: &Path, arguments: &[OsString], log: &Path) -> io::Result<Child> {
        let log = std::fs::File::create(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let ended = || io::Error::other("the thread that starts machines has ended");
        let (reply, answer) = mpsc::channel();
        self.orders.lock().send((command, reply)).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}
