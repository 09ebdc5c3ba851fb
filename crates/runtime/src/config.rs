//! Reading a process' one TOML file; unknown keys are for the caller's type to refuse.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Largest configuration file, in bytes.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is far larger than a configuration.
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes; it is no configuration")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is no TOML, lacks something or says something unknown; the source names line and column.
    #[error("the configuration {path} cannot be used")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: toml::de::Error,
    },
}

/// Reads the file at `path`.
///
/// # Errors
/// See [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: String,
    }

    fn loaded(text: &str) -> Result<Example, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn a_misspelt_key_is_refused_with_its_line() {
        assert_eq!(loaded("listen = \"a\"").unwrap().listen, "a");
        let error = loaded("listen = \"a\"\nlistne = \"b\"\n").unwrap_err();
        let source = error.source().unwrap().to_string();
        assert!(source.contains("line 2") && source.contains("listne"), "{source}");
        assert!(matches!(load::<Example>(Path::new("/no/such/file")), Err(ConfigError::Read { .. })));
    }
}
