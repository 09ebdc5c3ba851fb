//! Reads a process's configuration: one TOML file, once. What the keys mean is the caller's struct, which refuses
//! unknown ones with `#[serde(deny_unknown_fields)]`.

use std::io::Read;
use std::path::{Path, PathBuf};

use model::FailureKind;
use serde::de::DeserializeOwned;

/// Largest configuration file taken, in bytes: a hundred times a long one.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is too large to be one.
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes: that is no configuration")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no TOML, or a key is unknown, missing or of the wrong form.
    #[error("{path}:{line}:{column}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    /// The kind that decides on exit codes.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => FailureKind::NotFound,
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                FailureKind::Forbidden
            }
            Self::Read { .. } | Self::TooLarge { .. } | Self::Parse { .. } => FailureKind::Invalid,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.kind() {
            FailureKind::NotFound => {
                "write the file (deploy/ has a sample for every role) or name another with --config"
            }
            FailureKind::Forbidden => "let the user this process runs as read the file",
            _ => "correct the file at the place named; deploy/ has a sample for every role",
        })
    }
}

/// Reads a configuration.
///
/// # Errors
/// When the file cannot be read or does not say what `T` wants; the place is named by line and column.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    toml::from_str(&text).map_err(|error| {
        let (line, column) = place(&text, error.span().map_or(0, |span| span.start));
        ConfigError::Parse { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: String,
        #[serde(default)]
        workers: u8,
    }

    fn loaded(text: &str) -> Result<Example, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    fn content(text: &str) -> (usize, usize, String) {
        match loaded(text).unwrap_err() {
            ConfigError::Parse { line, column, message, .. } => (line, column, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_good_file_is_read() {
        let example = loaded("# comment\nlisten = \"[::]:443\"\n").unwrap();
        assert_eq!(example, Example { listen: "[::]:443".into(), workers: 0 });
    }

    #[test]
    fn an_unknown_key_is_refused_at_its_place() {
        let (line, column, message) = content("listen = \"ä\"\n\n  worker = 3\n");
        assert_eq!((line, column), (3, 3));
        assert!(message.contains("worker"), "{message}");
    }

    #[test]
    fn a_wrong_value_is_refused_at_its_place() {
        let (line, column, message) = content("listen = \"x\"\nworkers = 300\n");
        assert_eq!((line, column), (2, 11), "{message}");
    }

    #[test]
    fn a_missing_key_is_named() {
        assert!(content("workers = 3\n").2.contains("listen"));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(place("ä = ö", "ä = ".len()), (1, 5));
        assert_eq!(place("", 9), (1, 1));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let error = load::<Example>(Path::new("/nowhere/x.toml")).unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound);
        assert!(error.remedy().unwrap().contains("--config"));
        let error = loaded(&"#".repeat(MAX_CONFIG_BYTES as usize + 1)).unwrap_err();
        assert!(matches!(error, ConfigError::TooLarge { .. }));
    }
}
