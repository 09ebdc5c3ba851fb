//! The house rules a compiler does not know: layers, dead files, headers, lengths, names.

mod layers;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A source file: its path relative to the repository and its text.
pub struct Source {
    /// Relative path with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every finding, one line each; none means tidy.
pub fn findings(root: &Path) -> Result<Vec<String>> {
    let mut found = layers::findings(&manifests(root)?);
    let sources = rust_sources(root)?;
    found.extend(sources::findings(&sources));
    Ok(found)
}

fn manifests(root: &Path) -> Result<Vec<layers::Manifest>> {
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        let path = entry?.path().join("Cargo.toml");
        if path.exists() {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            manifests.push(layers::Manifest::parse(&text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    Ok(manifests)
}

fn rust_sources(root: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for top in ["crates", "xtask", "fuzz"] {
        collect(&root.join(top), &mut files)?;
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            Ok(Source { path, text })
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | "corpus" | "artifacts") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
