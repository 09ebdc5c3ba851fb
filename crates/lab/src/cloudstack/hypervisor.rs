//! Real boots: QEMU processes on the volumes of started VMs, their consoles, screenshots and ends.
//!
//! Everything blocks; call it without the server's lock. What a VM is made of is decided in `plan`, buses in `buses`.

mod buses;
mod machine;
mod plan;
mod qmp;
mod spawner;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use super::config::CloudstackConfig;
use super::error::CloudstackSimError;
use buses::Firmware;
use machine::{Places, arguments};
use qmp::Qmp;
use spawner::Spawner;

pub(crate) use machine::MachinePlan;
pub(crate) use plan::plan;

/// Debian's package with the emulator.
const QEMU_PACKAGE: &str = "qemu-system-x86";
/// How long QEMU may take until it can be controlled; a loaded machine needs seconds.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long QEMU may take to flush and end after `quit`.
const QUIT_LIMIT: Duration = Duration::from_secs(20);
/// How often an end is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Longest path of a Unix socket (`sun_path` without its final zero).
const SOCKET_PATH_MAX: usize = 107;
/// Characters of a VM's id in the name of its socket, which has to be short.
const SOCKET_NAME_LENGTH: usize = 13;
/// What QEMU said last, shown when it does not start.
const SHOWN_BYTES: usize = 2000;

/// Why a machine cannot be started or asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HypervisorError {
    /// A firmware file is not installed.
    #[error("{what} not found: apt-get install {package}")]
    NotInstalled { what: String, package: &'static str },
    /// The VM asks for something no machine has.
    #[error("{0}")]
    Impossible(String),
    /// A file, socket or process.
    #[error("cannot {doing}: {source}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// QEMU ended at once.
    #[error("qemu-system-x86_64 ended at once: {0}")]
    Ended(String),
    /// Nothing runs for this VM.
    #[error("nothing is booted for VM {0}")]
    NotBooted(String),
    /// The laboratory is being stopped.
    #[error("the laboratory's hypervisor is stopped")]
    Stopped,
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> HypervisorError {
    move |source| HypervisorError::Io { doing, source }
}

/// What became of a VM's latest start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootReport {
    /// Whether a machine runs now.
    pub is_running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Starts so far.
    pub starts: u32,
    /// `running …`, `stopped …`, `ended …` or `not booted: <reason>`.
    pub text: String,
    /// Length of the console's log when the latest start began.
    #[serde(skip)]
    console_start: u64,
}

/// How a machine is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest is asked; if it does not obey in time, power is cut.
    Asked,
    /// Power is cut.
    Cut,
}

#[derive(Debug)]
struct Machine {
    child: Mutex<Child>,
    socket: PathBuf,
    files: Vec<PathBuf>,
    /// Its end is somebody's work: it is starting or being stopped.
    attended: Mutex<bool>,
}

impl Machine {
    fn has_ended(&self) -> bool {
        !matches!(self.child.lock().try_wait(), Ok(None))
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }

    fn kill(&self) {
        let mut child = self.child.lock();
        // An error means that it is dead already.
        let _ = child.kill();
        let _ = child.wait();
    }

    fn command(&self, name: &str, arguments: &serde_json::Value) -> io::Result<()> {
        Qmp::connect(&self.socket)?.command(name, arguments).map(drop)
    }

    /// What was written is on the medium before anyone else opens the files.
    fn sync(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| File::open(file)?.sync_all())
    }
}

/// The machines of one simulated CloudStack.
#[derive(Debug)]
pub(crate) struct Hypervisor {
    program: Option<PathBuf>,
    firmware_dir: PathBuf,
    stop_limit: Duration,
    folder: PathBuf,
    sockets: PathBuf,
    /// Holds the sockets where the state folder's path is too long for them.
    _short_folder: Option<TempDir>,
    spawner: Spawner,
    machines: Mutex<HashMap<String, Arc<Machine>>>,
    reports: Mutex<HashMap<String, BootReport>>,
    is_closed: Mutex<bool>,
}

impl Hypervisor {
    /// Makes its folders in the state folder; a missing emulator is a fact to report, not a failure.
    pub(crate) fn new(config: &CloudstackConfig) -> Result<Self, CloudstackSimError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| CloudstackSimError::File { doing, path, source }
        };
        for name in ["consoles", "qmp", "nvram", "screenshots"] {
            let path = config.state_dir.join(name);
            fs::create_dir_all(&path).map_err(failed("making the folder", &path))?;
        }
        let folder = config.state_dir.canonicalize().map_err(failed("finding the folder", &config.state_dir))?;
        let spawner = Spawner::new().map_err(failed("starting the thread of machines in", &folder))?;
        let mut sockets = folder.join("qmp");
        let mut short_folder = None;
        if sockets.as_os_str().len() + 1 + SOCKET_NAME_LENGTH > SOCKET_PATH_MAX {
            let made = tempfile::tempdir().map_err(failed("making a folder for sockets of", &folder))?;
            sockets = made.path().to_owned();
            short_folder = Some(made);
        }
        let program = in_path(&config.hypervisor.program);
        let hypervisor = Self {
            program,
            firmware_dir: config.hypervisor.firmware_dir.clone(),
            stop_limit: Duration::from_millis(config.hypervisor.stop_wait_ms),
            folder,
            sockets,
            _short_folder: short_folder,
            spawner,
            machines: Mutex::default(),
            reports: Mutex::default(),
            is_closed: Mutex::new(false),
        };
        if let Some(problem) = hypervisor.problem() {
            tracing::warn!(problem, "started VMs will not boot");
        }
        Ok(hypervisor)
    }

    /// Why nothing can boot here, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        self.program.is_none().then(|| format!("qemu-system-x86_64 not found: apt-get install {QEMU_PACKAGE}"))
    }

    /// What became of a VM's latest start.
    pub(crate) fn report(&self, vm_id: &str) -> Option<BootReport> {
        self.reports.lock().get(vm_id).cloned()
    }

    /// Machines that run.
    pub(crate) fn running(&self) -> usize {
        self.machines.lock().len()
    }

    /// Whether a machine runs for this VM.
    pub(crate) fn runs(&self, vm_id: &str) -> bool {
        self.machines.lock().contains_key(vm_id)
    }

    /// Powers a VM on. Without an emulator this succeeds and the report says that nothing was booted.
    pub(crate) fn power_on(&self, plan: &MachinePlan) -> Result<(), HypervisorError> {
        let console = self.console_path(&plan.vm_id);
        let starts = self.report(&plan.vm_id).map_or(0, |report| report.starts) + 1;
        let console_start = begin_console(&console, plan, starts).map_err(failed("write the console's log"))?;
        let report = |is_running, pid, text: String| {
            let report = BootReport { is_running, pid, starts, text, console_start };
            self.reports.lock().insert(plan.vm_id.clone(), report);
        };
        if let Some(problem) = self.problem() {
            tracing::warn!(vm = plan.name, problem, "a VM was started and not booted");
            report(false, None, format!("not booted: {problem}"));
            return Ok(());
        }
        match self.boot(plan, console) {
            Ok(pid) => {
                tracing::info!(vm = plan.name, pid, "a VM boots");
                report(true, Some(pid), format!("running as process {pid}"));
                Ok(())
            }
            Err(error) => {
                report(false, None, format!("not booted: {error}"));
                Err(error)
            }
        }
    }

    fn boot(&self, plan: &MachinePlan, console: PathBuf) -> Result<u32, HypervisorError> {
        let program = self.program.as_deref().ok_or(HypervisorError::Stopped)?;
        let name: String = plan.vm_id.chars().take(SOCKET_NAME_LENGTH).collect();
        let socket = self.sockets.join(name);
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            let text =
                format!("the path of the socket {} is too long: choose a shorter state folder", socket.display());
            return Err(HypervisorError::Impossible(text));
        }
        let places = Places { console, socket: socket.clone(), firmware: self.firmware(plan)? };
        let arguments = arguments(plan, &places)?;
        let log = places.console.with_extension("qemu.log");
        // A killed laboratory leaves its sockets behind.
        let _ = fs::remove_file(&socket);
        let machine = {
            let is_closed = self.is_closed.lock();
            if *is_closed {
                return Err(HypervisorError::Stopped);
            }
            let child = self.spawner.start(program, &arguments, &log).map_err(failed("start qemu-system-x86_64"))?;
            let files = plan.drives.iter().map(|drive| drive.file.clone()).collect();
            let machine = Arc::new(Machine { child: Mutex::new(child), socket, files, attended: Mutex::new(true) });
            self.machines.lock().insert(plan.vm_id.clone(), Arc::clone(&machine));
            machine
        };
        if let Err(error) = until_controllable(&machine, &log) {
            machine.kill();
            self.machines.lock().remove(&plan.vm_id);
            return Err(error);
        }
        *machine.attended.lock() = false;
        let pid = machine.child.lock().id();
        Ok(pid)
    }

    /// Code and a copy of the variables of UEFI, for machines that ask for it.
    fn firmware(&self, plan: &MachinePlan) -> Result<Option<(PathBuf, PathBuf)>, HypervisorError> {
        let names: &[(&str, &str)] = match plan.firmware {
            Firmware::Bios => return Ok(None),
            Firmware::Uefi => &[("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"), ("OVMF_CODE.fd", "OVMF_VARS.fd")],
            Firmware::UefiSecure => &[("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd")],
        };
        let there = |name: &str| Some(self.firmware_dir.join(name)).filter(|path| path.is_file());
        let found = names.iter().find_map(|(code, variables)| Some((there(code)?, there(variables)?)));
        let (code, variables) = found.ok_or_else(|| HypervisorError::NotInstalled {
            what: format!("UEFI firmware {}", self.firmware_dir.join(names[0].0).display()),
            package: "ovmf",
        })?;
        let own = self.folder.join("nvram").join(format!("{}.fd", plan.vm_id));
        if !own.exists() {
            fs::copy(&variables, &own).map_err(failed("copy the variables of UEFI"))?;
        }
        Ok(Some((code, own)))
    }

    /// Powers a VM off; one that does not run is off already. Its files are synced when this returns.
    pub(crate) fn power_off(&self, vm_id: &str, how: End) -> Result<(), HypervisorError> {
        let Some(machine) = self.machine(vm_id) else { return Ok(()) };
        *machine.attended.lock() = true;
        let mut text = "stopped: power was cut";
        if machine.has_ended() {
            text = "ended by itself before it was stopped";
        } else if how == End::Asked {
            if let Err(error) = machine.command("system_powerdown", &json!({})) {
                tracing::debug!(vm_id, %error, "the power button could not be pressed");
            }
            if machine.ends_within(self.stop_limit) {
                text = "stopped: the guest shut down";
            } else {
                tracing::info!(vm_id, "the guest did not shut down in time, power is cut");
                text = "stopped: power was cut, for the guest did not shut down in time";
            }
        }
        if !machine.has_ended() {
            let _ = machine.command("quit", &json!({}));
            if !machine.ends_within(QUIT_LIMIT) {
                machine.kill();
            }
        }
        self.machines.lock().remove(vm_id);
        self.note_end(vm_id, text.to_owned());
        machine.sync().map_err(failed("sync the volumes of a stopped VM"))
    }

    /// Holds a running machine still while its files are copied; one that does not run is still already.
    pub(crate) fn pause(&self, vm_id: &str, hold: bool) -> Result<(), HypervisorError> {
        let Some(machine) = self.machine(vm_id) else { return Ok(()) };
        let command = if hold { "stop" } else { "cont" };
        machine.command(command, &json!({})).map_err(failed("hold a machine or let it go on"))
    }

    /// The VMs whose machine ended by itself since the last call.
    pub(crate) fn take_ended(&self) -> Vec<String> {
        let ended: Vec<(String, Arc<Machine>)> = {
            let mut machines = self.machines.lock();
            let is_over = |machine: &Machine| !*machine.attended.lock() && machine.has_ended();
            let ids: Vec<String> =
                machines.iter().filter(|(_, machine)| is_over(machine)).map(|(id, _)| id.clone()).collect();
            ids.into_iter().filter_map(|id| machines.remove(&id).map(|machine| (id, machine))).collect()
        };
        for (id, machine) in &ended {
            let status = machine.child.lock().try_wait().ok().flatten();
            let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            self.note_end(id, format!("ended by itself ({status})"));
            if let Err(error) = machine.sync() {
                tracing::warn!(vm_id = id, %error, "volumes of an ended machine could not be synced");
            }
        }
        ended.into_iter().map(|(id, _)| id).collect()
    }

    fn note_end(&self, vm_id: &str, text: String) {
        if let Some(report) = self.reports.lock().get_mut(vm_id) {
            report.is_running = false;
            report.pid = None;
            report.text = text;
        }
    }

    fn machine(&self, vm_id: &str) -> Option<Arc<Machine>> {
        self.machines.lock().get(vm_id).map(Arc::clone)
    }

    /// Ends every machine at once and starts no more.
    pub(crate) fn close(&self) {
        *self.is_closed.lock() = true;
        let machines: Vec<(String, Arc<Machine>)> = self.machines.lock().drain().collect();
        for (id, machine) in machines {
            machine.kill();
            self.note_end(&id, "ended with the laboratory".to_owned());
        }
    }

    fn console_path(&self, vm_id: &str) -> PathBuf {
        self.folder.join("consoles").join(format!("{vm_id}.log"))
    }

    /// What a VM's serial port said: all of it, or since its latest start. A VM never started said nothing.
    pub(crate) fn console(&self, vm_id: &str, since_start: bool) -> Result<String, HypervisorError> {
        let mut file = match File::open(self.console_path(vm_id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            other => other.map_err(failed("open the console's log"))?,
        };
        let start = self.report(vm_id).filter(|_| since_start).map_or(0, |report| report.console_start);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(failed("read the console's log"))?;
        file.read_to_end(&mut bytes).map_err(failed("read the console's log"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Saves what the screen shows as PNG.
    pub(crate) fn screenshot(&self, vm_id: &str) -> Result<PathBuf, HypervisorError> {
        let machine = self.machine(vm_id).ok_or_else(|| HypervisorError::NotBooted(vm_id.to_owned()))?;
        let stamp = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        let path = self.folder.join("screenshots").join(format!("{vm_id}-{stamp}.png"));
        let arguments = json!({ "filename": path, "format": "png" });
        machine.command("screendump", &arguments).map_err(failed("take a screenshot"))?;
        Ok(path)
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits until QEMU answers on its socket.
fn until_controllable(machine: &Machine, log: &Path) -> Result<(), HypervisorError> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let last = match Qmp::connect(&machine.socket) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if machine.has_ended() {
            let said = fs::read(log).unwrap_or_default();
            let shown = &said[said.len().saturating_sub(SHOWN_BYTES)..];
            return Err(HypervisorError::Ended(String::from_utf8_lossy(shown).trim().to_owned()));
        }
        if Instant::now() > deadline {
            return Err(failed("control qemu-system-x86_64")(last));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// A line that parts the starts in the console's log; gives the length of the log after it.
fn begin_console(path: &Path, plan: &MachinePlan, starts: u32) -> io::Result<u64> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "=== start {starts} of {} ===", plan.name)?;
    file.metadata().map(|data| data.len())
}

/// A program by its path, or by its name in `PATH`.
fn in_path(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}
