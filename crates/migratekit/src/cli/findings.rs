//! What stands in the way of replicating VMs, in words.

use api::vma::{FindingSeverity, SourceVm};

/// The findings of at least a severity, each with its remedy; empty when there are none.
pub fn findings_text<'a>(vms: impl Iterator<Item = &'a SourceVm>, with_info: bool) -> String {
    let found = vms.flat_map(|vm| vm.findings.iter().map(move |finding| (vm, finding)));
    let worth_telling = found.filter(|(_, finding)| with_info || finding.severity != FindingSeverity::Info);
    let lines = worth_telling.map(|(vm, finding)| {
        let severity = match finding.severity {
            FindingSeverity::Blocker => "BLOCKER",
            FindingSeverity::Warning => "warning",
            FindingSeverity::Info => "info",
        };
        let disk = finding.disk_id.as_deref().map(|disk| format!(" {disk}")).unwrap_or_default();
        let remedy = if finding.remedy.is_empty() { String::new() } else { format!("\n  remedy: {}", finding.remedy) };
        format!("{severity}  {}{disk}: {}{remedy}", vm.name, finding.message)
    });
    lines.collect::<Vec<_>>().join("\n")
}
