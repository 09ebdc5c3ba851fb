//! What can go wrong while measuring.

use std::io;
use std::path::PathBuf;

/// Whatever kind of error the product's own crates gave.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system refused something.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the comparison is not installed.
    #[error("{program} not found: apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package it is in.
        package: &'static str,
    },
    /// A program ended badly.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it said.
        output: String,
    },
    /// A program did not get as far as it should in time.
    #[error("{program} does not {what} after {seconds} s: {output}")]
    Late {
        /// The program.
        program: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
        /// The last lines it said.
        output: String,
    },
    /// The copy is not equal to the source.
    #[error("{contestant}: source and target differ at byte {offset}")]
    Content {
        /// Who copied.
        contestant: String,
        /// The first byte of the first difference.
        offset: u64,
    },
    /// A part of the product failed.
    #[error("{doing}")]
    Product {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Cause,
    },
    /// The agent's process said why it could not do what it was asked for.
    #[error("the mover failed: {reason}")]
    Mover {
        /// Its reason, with all causes.
        reason: String,
    },
    /// The gateway's proof says that the target is not the source.
    #[error("the gateway's proof failed: {reason}")]
    Proof {
        /// What it reported.
        reason: String,
    },
    /// There is not enough memory for source and target.
    #[error("{} has {available_bytes} bytes left, this run needs {needed_bytes}", folder.display())]
    Room {
        /// Where.
        folder: PathBuf,
        /// Bytes there are.
        available_bytes: u64,
        /// Bytes needed.
        needed_bytes: u64,
    },
    /// The peer did not encrypt as it was told to, so comparing with it would not be fair.
    #[error("{peer} agreed on {found}, not on AES-GCM")]
    Cipher {
        /// Which peer.
        peer: &'static str,
        /// The cipher suite, or what was seen instead.
        found: String,
    },
    /// Somebody wanted it to end.
    #[error("interrupted")]
    Interrupted,
    /// What was asked for makes no sense.
    #[error("{reason}")]
    Asked {
        /// Why.
        reason: String,
    },
}

impl BenchError {
    /// For `map_err` of system calls.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// For `map_err` of the product's errors.
    pub fn product<E: Into<Cause>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Product { doing, source: source.into() }
    }

    /// What the person at the keyboard can do.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Room { .. } => Some("give another folder in RAM with --dir, or a smaller image with --size-gib"),
            Self::Missing { .. } => Some("`make bench` installs everything it needs"),
            _ => None,
        }
    }
}

/// An error with everything that caused it, on one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
