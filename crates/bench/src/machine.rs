//! What the numbers were measured on, and with which versions: without it they mean nothing.

use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::peers;
use crate::process::{Program, output_of};

/// A machine and what is installed on it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// How many the system has.
    pub processors: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// Versions of the peers that are installed.
    pub versions: Vec<String>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let versions = [
            version(peers::NBDKIT, "--version"),
            version(peers::NBDCOPY, "--version"),
            version(peers::QEMU_NBD, "--version"),
            version(peers::NBD_SERVER, "--version"),
            version(peers::CP, "--version"),
        ];
        Self {
            processor: value(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: memory_mib(&read("/proc/meminfo")).unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_default(),
            versions: versions.into_iter().flatten().collect(),
        }
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let gib = self.memory_mib.div_ceil(1024);
        let Self { processor, processors, kernel, system, .. } = self;
        format!("{processors} × {processor}, {gib} GiB, {system}, Linux {kernel}")
    }
}

/// The first line of what a program says of itself.
fn version(program: Program, argument: &str) -> Option<String> {
    let mut command: Command = program.command().ok()?;
    command.arg(argument);
    let said = output_of(command).ok()?;
    let said = said.lines().next()?;
    // Some call themselves by their whole path.
    Some(said.rsplit_once("bin/").map_or(said, |(_, name)| name).to_owned())
}

/// What follows `key` and `separator` in the first line that begins with the key; quotes are dropped.
fn value(text: &str, key: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let kib: u64 = value(meminfo, "MemTotal", ':')?.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_of_itself_is_read() {
        assert_eq!(value("PRETTY_NAME=\"Debian 12\"\n", "PRETTY_NAME", '='), Some("Debian 12".to_owned()));
        assert_eq!(memory_mib("MemTotal:       2097152 kB\n"), Some(2048));
        assert!(Machine::this().processors > 0);
    }
}
