//! What can keep the simulated CloudStack from starting or from holding its files.

use std::path::PathBuf;

use model::FailureKind;

/// Failures of the simulator itself, never of the protocol it plays.
#[derive(Debug, thiserror::Error)]
pub enum CloudstackSimError {
    /// A listener could not be bound.
    #[error("listening on {address}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder of the simulator could not be used.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done, as a verb in the -ing form.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The state file is not ours or is damaged.
    #[error("reading the simulator's state in {}", path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// `losetup` is missing or refused.
    #[error("{doing} a loop device with losetup (Debian package mount): {said}")]
    Loop {
        /// What was being done, as a verb in the -ing form.
        doing: &'static str,
        /// The program's own words.
        said: String,
    },
    /// A fault cannot be armed.
    #[error("the fault cannot be armed: {0}")]
    Fault(String),
    /// A machine cannot be asked.
    #[error("the machine of a VM does not do what was asked: {0}")]
    Machine(String),
    /// A console did not say what was waited for.
    #[error("the console never said {needle:?}; it said:\n{said}")]
    Unsaid {
        /// What was waited for.
        needle: String,
        /// What it said instead.
        said: String,
    },
    /// The configuration contradicts itself.
    #[error("the simulator's configuration is wrong: {0}")]
    Config(String),
}

impl CloudstackSimError {
    pub(crate) fn machine(error: super::hypervisor::HypervisorError) -> Self {
        Self::Machine(error.to_string())
    }

    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Config(_) | Self::Fault(_) => FailureKind::Invalid,
            Self::Listen { .. } | Self::Unsaid { .. } => FailureKind::Unavailable,
            Self::Machine(_) => FailureKind::Conflict,
            Self::State { .. } | Self::File { .. } | Self::Loop { .. } => FailureKind::Internal,
        }
    }
}
