//! Rules on single files, and files that no module declares.

use std::collections::HashSet;

use super::Source;

/// Longest file, in lines.
const MAX_LINES: usize = 500;
/// Words no file, module or type is named with: they say nothing.
const BANNED_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "enhanced"];

/// Every finding in the sources.
pub fn findings(sources: &[Source]) -> Vec<String> {
    let declared = declared_files(sources);
    let mut found = Vec::new();
    for source in sources {
        found.extend(file_findings(source));
        if !is_root(&source.path) && !declared.contains(&source.path) {
            found.push(format!("{}: no module declares this file", source.path));
        }
    }
    found
}

fn file_findings(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = &source.path;
    let opening = source.text.lines().find(|line| !line.starts_with("#!["));
    if !opening.is_some_and(|line| line.starts_with("//!")) {
        found.push(format!("{path}: open it with a `//!` line that says what the file is for"));
    }
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        found.push(format!("{path}: {lines} lines, at most {MAX_LINES}"));
    }
    let stem = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if stem == "mod" || stem.split('_').any(|word| BANNED_NAMES.contains(&word)) {
        found.push(format!("{path}: a name that says nothing"));
    }
    for (index, line) in source.text.lines().enumerate() {
        if let Some(complaint) = line_complaint(path, line) {
            found.push(format!("{path}:{}: {complaint}", index + 1));
        }
    }
    found
}

/// Patterns are split so that this file does not match itself.
fn line_complaint(path: &str, line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    let is_test = path.contains("/tests") || path.starts_with("fuzz/") || path.starts_with("crates/lab/");
    if code.contains(concat!("VolumeAuthority::for_", "volume_daemon"))
        && !path.starts_with("crates/volume-daemon/")
        && !path.starts_with("crates/cloudstack/")
    {
        return Some("only the volume daemon may operate on CloudStack volumes");
    }
    if code.contains(concat!("thread::", "sleep(")) && !is_test {
        return Some("await an event instead of sleeping");
    }
    if code.trim_start().starts_with(concat!("#[", "ignore")) {
        return Some("a test is not skipped: mend it or delete it");
    }
    if code.contains(concat!("DELETE ", "FROM")) && !path.starts_with("crates/store/") && !is_test {
        return Some("only `store` knows SQL");
    }
    None
}

fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "src", "lib.rs" | "main.rs"] | [.., "build.rs"] => true,
        [.., "src", "bin", _] => true,
        // Each file right under tests/, benches/, examples/ and fuzz_targets/ is a crate of its own.
        // So is each folder there that has a main.rs.
        [.., "tests" | "benches" | "examples" | "fuzz_targets", _]
        | [.., "tests" | "benches" | "examples", _, "main.rs"] => !path.contains("/src/"),
        _ => false,
    }
}

/// The files that `mod name;` lines stand for, with `#[path]` honoured.
fn declared_files(sources: &[Source]) -> HashSet<String> {
    let mut declared = HashSet::new();
    for source in sources {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let children = if is_root(&source.path) { folder.to_owned() } else { format!("{folder}/{stem}") };
        let mut explicit: Option<&str> = None;
        for line in source.text.lines().map(str::trim) {
            if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
                explicit = Some(path);
            } else if let Some(name) = declared_module(line) {
                match explicit.take() {
                    Some(path) => declared.insert(joined(folder, path)),
                    None => declared.insert(format!("{children}/{name}.rs")),
                };
            }
        }
    }
    declared
}

fn declared_module(line: &str) -> Option<&str> {
    let rest = line.strip_suffix(';')?;
    let rest = rest.strip_prefix("pub ").or_else(|| rest.strip_prefix("pub(crate) ")).unwrap_or(rest);
    rest.strip_prefix("mod ").map(str::trim)
}

/// `folder/path` with `..` resolved.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|&(path, text)| Source { path: path.into(), text: text.into() }).collect();
        findings(&sources)
    }

    #[test]
    fn a_tidy_tree_has_no_findings() {
        let tree = [
            ("crates/a/src/lib.rs", "//! A.\nmod b;\npub mod d;\n"),
            ("crates/a/src/b.rs", "//! B.\nmod c;\n"),
            ("crates/a/src/b/c.rs", "//! C.\n"),
            ("crates/a/src/d.rs", "//! D.\n"),
            ("crates/a/tests/walk.rs", "//! Walk.\n#[path = \"../../e/src/server.rs\"]\nmod server;\n"),
            ("crates/e/src/lib.rs", "//! E.\n"),
            ("crates/e/src/server.rs", "//! S.\n"),
            ("crates/e/tests/long/main.rs", "//! M.\nmod part;\n"),
            ("crates/e/tests/long/part.rs", "//! P.\n"),
        ];
        assert_eq!(check(&tree), Vec::<String>::new());
    }

    #[test]
    fn every_rule_is_seen_broken() {
        let long = format!("//! L.\n{}", "\n".repeat(MAX_LINES));
        let cases = [
            ("crates/a/src/dead.rs", "//! D.\n", "no module declares this file"),
            ("crates/a/src/main.rs", "fn main() {}\n", "open it with a `//!` line"),
            ("crates/a/src/lib.rs", long.as_str(), "lines, at most"),
            ("crates/a/tests/string_utils.rs", "//! U.\n", "a name that says nothing"),
            ("crates/a/src/lib.rs", concat!("//! A.\nstd::thread::", "sleep(x);\n"), "await an event"),
            (
                "crates/oma/src/lib.rs",
                concat!("//! A.\nVolumeAuthority::for_", "volume_daemon()\n"),
                "only the volume daemon",
            ),
            ("crates/a/src/lib.rs", concat!("//! A.\n#[", "ignore]\n"), "a test is not skipped"),
        ];
        for (path, text, expected) in cases {
            let found = check(&[(path, text)]);
            assert!(found.iter().any(|finding| finding.contains(expected)), "{path}: {found:?}");
        }
    }
}
