//! What can go wrong in the laboratory's world.

use std::path::{Path, PathBuf};

/// An error of the world.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A file of the world.
    #[error("cannot {doing} {path}")]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A simulator, a disk image or a database cannot be had.
    #[error("the {what} cannot be had")]
    Simulator {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program cannot be started.
    #[error("cannot start {program}; {hint}")]
    Start {
        /// Which.
        program: PathBuf,
        /// How to get it.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A process ended although it should run.
    #[error("{name} ended; the end of its log:\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// The last lines.
        log: String,
    },
    /// Something did not happen in time.
    #[error("in vain waited for {what}")]
    TooLate {
        /// What.
        what: String,
    },
    /// A command of the product failed.
    #[error("`migratekit {command}` ended with {code}:\n{stderr}")]
    Command {
        /// Its arguments.
        command: String,
        /// Exit code.
        code: i32,
        /// What it said.
        stderr: String,
    },
    /// An answer is not what was expected.
    #[error("{what} is not understood: {reason}")]
    Answer {
        /// Whose.
        what: String,
        /// Why.
        reason: String,
    },
    /// A laboratory endpoint refuses.
    #[error("{url} refuses ({status}): {said}")]
    Refused {
        /// Which.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        said: String,
    },
    /// A laboratory endpoint does not answer.
    #[error("{url} does not do what was asked")]
    Http {
        /// Which.
        url: String,
        /// What it said.
        #[source]
        source: reqwest::Error,
    },
}

impl WorldError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(crate) fn simulator<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Simulator { what, source: source.into() }
    }

    pub(crate) fn http(url: &str) -> impl Fn(reqwest::Error) -> Self + use<> {
        let url = url.to_owned();
        move |source| Self::Http { url: url.clone(), source: source.without_url() }
    }
}
