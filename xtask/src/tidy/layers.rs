//! Which crate may use which: arrows point only to a lower layer, and processes never depend on each other.

use anyhow::{Context, Result};

/// Our crates by layer, lowest first (the table of ARCHITECTURE.md).
const LAYERS: [&[&str]; 6] = [
    &["model"],
    &["runtime", "block", "api", "joblog", "vsphere", "cloudstack"],
    &["nbd", "journal", "proof", "store", "vmdk"],
    &["tunnel", "mover", "gateway", "volume-daemon", "vma", "oma"],
    &["migratekit"],
    &["lab", "bench"],
];

/// Arrows inside a layer that the table allows.
const WITHIN_A_LAYER: [(&str, &str); 5] =
    [("mover", "tunnel"), ("gateway", "tunnel"), ("vma", "tunnel"), ("vma", "mover"), ("oma", "tunnel")];

/// What a crate says of itself.
pub struct Manifest {
    name: String,
    dependencies: Vec<String>,
}

impl Manifest {
    /// Reads name and ordinary dependencies of a `Cargo.toml` (tests may look sideways).
    pub fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().context("not TOML")?;
        let name = table
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(toml::Value::as_str)
            .context("no package name")?
            .to_owned();
        let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
        let dependencies = dependencies.map(|table| table.keys().cloned().collect()).unwrap_or_default();
        Ok(Self { name, dependencies })
    }
}

/// Crates outside the table and arrows that point up or sideways.
pub fn findings(manifests: &[Manifest]) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests {
        let Some(own) = layer(&manifest.name) else {
            found.push(format!(
                "crate {} has no layer: add it to the table in xtask and ARCHITECTURE.md",
                manifest.name
            ));
            continue;
        };
        for dependency in &manifest.dependencies {
            let Some(theirs) = layer(dependency) else { continue };
            let allowed = theirs < own || WITHIN_A_LAYER.contains(&(manifest.name.as_str(), dependency.as_str()));
            if !allowed {
                found.push(format!("{} (layer {own}) may not use {dependency} (layer {theirs})", manifest.name));
            }
        }
    }
    found
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, dependencies: &[&str]) -> Vec<String> {
        let lines: String = dependencies.iter().map(|d| format!("{d}.workspace = true\n")).collect();
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{lines}");
        findings(&[Manifest::parse(&text).unwrap()])
    }

    #[test]
    fn arrows_point_down() {
        assert!(check("store", &["model", "joblog", "serde"]).is_empty());
        assert!(check("vma", &["mover", "tunnel"]).is_empty());
        assert_eq!(check("oma", &["gateway"]), ["oma (layer 3) may not use gateway (layer 3)"]);
        assert_eq!(check("nbd", &["lab"]), ["nbd (layer 2) may not use lab (layer 5)"]);
        assert_eq!(check("commons", &[]).len(), 1);
    }
}
