//! A failover's plan for people: the VM, the calls, the times, what blocks.

use api::oma::failovers::{DestinationVm, FailoverPlan, PlannedStep};
use model::size::human_bytes;

use crate::cli::failure::explain;
use crate::cli::output::{fields, or_dash, table};

/// The whole plan.
pub(super) fn text(plan: &FailoverPlan) -> String {
    let mut parts = vec![format!("{} failover of {}", plan.failover_type, plan.vm_name)];
    if let Some(vm) = &plan.vm {
        parts.push(vm_fields(vm));
        parts.push(nics_table(vm));
        parts.push(disks_table(vm));
    }
    parts.push(plan.conversion.clone());
    parts.push(steps_text(&plan.steps));
    parts.extend(plan.warnings.iter().map(|warning| format!("note: {warning}")));
    parts.extend(plan.blockers.iter().map(explain));
    parts.push(match plan.blockers.len() {
        0 => "nothing stands against it".to_owned(),
        1 => "one thing stands against it".to_owned(),
        count => format!("{count} things stand against it"),
    });
    parts.join("\n\n")
}

fn vm_fields(vm: &DestinationVm) -> String {
    let settings: Vec<String> = vm.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let secure = if vm.secure_boot { ", secure boot" } else { "" };
    fields([
        ("VM", format!("{} ({})", vm.name, vm.display_name)),
        ("CPUs, memory", format!("{}, {} MiB (offering {})", vm.cpu_count, vm.memory_mib, vm.service_offering_id)),
        ("firmware", format!("{}{secure}", vm.firmware)),
        ("settings", settings.join(" ")),
        ("zone", vm.zone_id.clone()),
        ("template", format!("{} (its disk is thrown away)", vm.template_id)),
    ])
}

/// The network cards in order.
pub(super) fn nics_table(vm: &DestinationVm) -> String {
    table(
        ["CARD", "FROM", "MAC THERE", "TO", "MAC", "IP"],
        vm.nics.iter().map(|nic| {
            [
                nic.label.clone(),
                nic.source_network.clone(),
                nic.source_mac.clone(),
                nic.network_name.clone(),
                nic.mac_address.clone().unwrap_or_else(|| "new".to_owned()),
                or_dash(nic.ip_address.as_deref()),
            ]
        }),
    )
}

/// The disks in order.
pub(super) fn disks_table(vm: &DestinationVm) -> String {
    table(
        ["DISK", "DEVICE", "SIZE", "VOLUME"],
        vm.disks.iter().map(|disk| {
            let device = if disk.device_id == 0 { "0 (root)".to_owned() } else { disk.device_id.to_string() };
            [disk.disk_id.clone(), device, human_bytes(disk.size_bytes), disk.volume_uuid.clone()]
        }),
    )
}

fn steps_text(steps: &[PlannedStep]) -> String {
    let mut lines = Vec::new();
    for step in steps {
        let expected = match step.expected_seconds {
            Some(seconds) => format!("{seconds:.1} s in {} past runs", step.past_runs),
            None => "no past runs".to_owned(),
        };
        lines.push(format!("{:18} {:9} {expected}", step.name, step.kind));
        for call in &step.calls {
            let params: Vec<String> = call.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push(format!("    {}: {} {}", call.to, call.command, params.join(" ")));
        }
    }
    let total: f64 = steps.iter().filter_map(|step| step.expected_seconds).sum();
    if total > 0.0 {
        lines.push(format!("{:18} {:9} {total:.1} s", "in all", ""));
    }
    lines.join("\n")
}
