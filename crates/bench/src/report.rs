//! The results for people: a table on the terminal, and the table of `docs/performance.md` between its two markers.

use std::path::Path;

use comfy_table::{LineStyle, Table, TableStyle};
use model::size::human_bytes;

use crate::error::BenchError;
use crate::results::{PeerResult, Results};

/// What stands before the table in the document.
const BEGIN: &str = "<!-- bench: begin (written by `make bench`, do not edit) -->";
/// What stands after it.
const END: &str = "<!-- bench: end -->";

/// Each ratio with its meaning, its goal, and what this run found.
fn ratio_rows(results: &Results) -> Vec<[String; 3]> {
    let found = &results.ratios;
    let rows = [
        ("tls_speed: ours over TLS, proof off / fastest TLS peer", "≥ 1.6", found.tls_speed),
        ("tls_cpu: processor time of the same two", "≤ 0.65", found.tls_cpu),
        ("proof_speed: ours with proof / fastest TLS peer (no proof)", "≥ 1", found.proof_speed),
        ("proof_vs_predecessor: ours with proof / predecessor's chain", "≥ 4", found.proof_vs_predecessor),
        ("plain_speed: to our plain port / nbdcopy → nbdkit", "≥ 1.3", found.plain_speed),
        ("nbdcopy_to_us: nbdcopy to us / to nbdkit, the smaller of both", "≥ 1", found.nbdcopy_to_us),
        ("· plain", "", found.nbdcopy_to_us_plain),
        ("· TLS (through a local bridge)", "", found.nbdcopy_to_us_tls),
        ("incremental_bytes: on the wire / changed", "≤ 1.05", found.incremental_bytes),
        ("incremental_time: increment of 1 % / our own full copy", "≤ 0.06", found.incremental_time),
    ];
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    rows.map(|(meaning, goal, ratio)| [meaning.to_owned(), goal.to_owned(), shown(ratio)]).to_vec()
}

fn peer_row(peer: &PeerResult) -> [String; 5] {
    let title = peer.contestant().map_or(peer.name.as_str(), |contestant| contestant.title());
    [
        title.to_owned(),
        format!("{:.2} ({:.2}–{:.2})", peer.gib_per_s, peer.gib_per_s_min, peer.gib_per_s_max),
        format!("{:.2} ({:.2}–{:.2})", peer.cpu_s_per_gib, peer.cpu_s_per_gib_min, peer.cpu_s_per_gib_max),
        format!("{:.0}", peer.peak_mib),
        format!("{:.0}", peer.peak_sum_mib),
    ]
}

const PEER_HEAD: [&str; 5] =
    ["who copies", "GiB/s of disk", "CPU-s/GiB, both ends", "peak MiB, largest process", "peak MiB, all"];
const RATIO_HEAD: [&str; 3] = ["ratio", "goal", "found"];

/// What was measured, in lines.
fn facts(results: &Results) -> Vec<String> {
    let setup = &results.setup;
    let (gib, rounds, connections) = (setup.size_gib, setup.rounds, setup.connections);
    let place = if setup.in_ram { "in RAM" } else { "NOT in RAM" };
    let mut lines = vec![
        format!("Medians (and extremes) of {rounds} interleaved rounds; {gib} GiB of disk, source and target {place}."),
        format!("Machine: {}.", results.machine.line()),
        results.primitives.line(),
        format!("Ours: {connections} connections. Peers: {}.", results.machine.versions.join("; ")),
    ];
    if let Some(cipher) = &setup.peer_cipher {
        lines.push(format!("nbdcopy and nbdkit were seen to agree on {cipher}."));
    }
    if let Some(seconds) = setup.agent_start_seconds {
        lines.push(format!("Starting our agent takes {:.0} ms once; it is not part of a copy.", seconds * 1000.0));
    }
    if let Some(found) = &results.incremental {
        lines.push(format!(
            "Increment: {} changed ({} of it data), {} on the wire, {:.0} ms; full copy {:.0} ms.",
            human_bytes(found.changed_bytes),
            human_bytes(found.data_bytes),
            human_bytes(found.wire_bytes),
            found.seconds * 1000.0,
            found.full_seconds * 1000.0
        ));
    }
    lines
}

/// Tables for a terminal.
#[must_use]
pub fn terminal(results: &Results) -> String {
    let mut peers = new_table(&PEER_HEAD);
    for peer in &results.peers {
        peers.add_row(peer_row(peer));
    }
    let mut ratios = new_table(&RATIO_HEAD);
    for row in ratio_rows(results) {
        ratios.add_row(row);
    }
    format!("{}\n\n{}\n\n{}", peers.trim_fmt(), ratios.trim_fmt(), facts(results).join("\n"))
}

/// A table with a line under its head and nothing else.
pub(crate) fn new_table(head: &[&str]) -> Table {
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─'));
    let mut table = Table::new();
    table.load_style(style).set_header(head);
    table
}

fn markdown(results: &Results) -> String {
    let mut text = facts(results).join("\n");
    text.push_str("\n\n");
    markdown_rows(&mut text, &PEER_HEAD, results.peers.iter().map(peer_row));
    text.push('\n');
    markdown_rows(&mut text, &RATIO_HEAD, ratio_rows(results).into_iter());
    text
}

fn markdown_rows<const N: usize>(text: &mut String, head: &[&str; N], rows: impl Iterator<Item = [String; N]>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    text.push_str(&line(&head.map(str::to_owned)));
    text.push_str(&format!("|{}\n", "---|".repeat(N)));
    for row in rows {
        text.push_str(&line(&row));
    }
}

/// The document with the tables of this run instead of those it has; `None` when the markers are not there.
fn replaced(document: &str, results: &Results) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n{END}{after}", markdown(results)))
}

/// Rewrites the tables of a document.
///
/// # Errors
/// When it is not there, has no markers, or cannot be written.
pub fn rewrite(document: &Path, results: &Results) -> Result<(), BenchError> {
    let doing = || format!("rewriting the table of {}", document.display());
    let text = std::fs::read_to_string(document).map_err(BenchError::io(doing()))?;
    let replaced = replaced(&text, results).ok_or_else(|| BenchError::Asked {
        reason: format!("{} does not have the lines\n{BEGIN}\n{END}", document.display()),
    })?;
    std::fs::write(document, replaced).map_err(BenchError::io(doing()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::a_run;

    #[test]
    fn only_what_is_between_the_markers_is_rewritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.md");
        std::fs::write(&path, format!("# Before\n\n{BEGIN}\nold numbers\n{END}\n\nAfter.\n")).unwrap();
        rewrite(&path, &a_run()).unwrap();
        let once = std::fs::read_to_string(&path).unwrap();
        assert!(once.starts_with("# Before\n\n<!-- bench: begin") && once.ends_with("-->\n\nAfter.\n"), "{once}");
        assert!(!once.contains("old numbers"));
        assert!(once.contains("| ours: mover → TLS 1.3 → gateway, proof off | 1.00 (0.50–2.00) | 1.50"), "{once}");
        assert!(once.contains("| tls_speed: ours over TLS, proof off / fastest TLS peer | ≥ 1.6 | 1.00 |"));
        rewrite(&path, &a_run()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), once);
    }

    #[test]
    fn a_document_without_markers_is_left_alone() {
        assert_eq!(replaced("# Performance\n", &a_run()), None);
    }

    #[test]
    fn the_terminal_shows_everybody() {
        let shown = terminal(&a_run());
        assert!(shown.contains("nbdcopy → nbdkit, NBD-TLS") && shown.contains("tls_cpu"), "{shown}");
    }
}
