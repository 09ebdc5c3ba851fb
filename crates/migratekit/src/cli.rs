//! The command line: what can be typed, and which file does it.

mod agent;
mod completions;
pub mod failure;
mod hub;
mod job;
mod nbd;
mod output;
mod probe;
mod replicate;
mod role;
mod target;
mod vcenter;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use hub::HubArgs;
use output::OutputFormat;

/// Replicates running VMware VMs into Apache CloudStack.
///
/// Exit codes: 0 done · 1 failed · 2 wrong usage · 3 not found · 4 conflicts with the present state ·
/// 5 the request cannot be right · 6 not authenticated or not allowed · 7 not reachable at the moment ·
/// 8 a limit or a disk is full · 9 a check found something that must be mended first · 130 interrupted.
#[derive(Parser)]
#[command(name = "migratekit", version, propagate_version = true)]
pub struct Cli {
    /// How results are printed: for people, or as JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Table, env = "MIGRATEKIT_OUTPUT")]
    pub output: OutputFormat,
    #[command(flatten)]
    hub: HubArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run gateway, volume daemon and control plane in one process on embedded SQLite.
    Hub(role::RoleArgs),
    /// Run the data plane: TLS on one port, NBD behind it.
    Gateway(role::RoleArgs),
    /// Run the volume daemon.
    VolumeDaemon(role::RoleArgs),
    /// Run the control plane.
    Oma(role::RoleArgs),
    /// Run the agent beside vCenter.
    Vma(role::RoleArgs),
    /// Give this agent its identity: pair it with a hub by a code and wait for the operator's approval.
    Enroll(role::EnrollArgs),
    /// Agents: pair, approve, list.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// vCenters and ESXi hosts.
    #[command(subcommand)]
    Vcenter(vcenter::VcenterCommand),
    /// CloudStack targets.
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// VMs: discover, add, list, show.
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Replicate a VM into its target.
    Replicate(replicate::ReplicateArgs),
    /// Jobs: what runs, what ran, and why it failed.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Look at a vCenter or a CloudStack without any hub.
    #[command(subcommand)]
    Probe(probe::ProbeCommand),
    /// Serve, inspect and copy NBD exports without any hub.
    #[command(subcommand)]
    Nbd(nbd::NbdCommand),
    /// Print completions for a shell.
    Completions(completions::CompletionArgs),
}

/// Does what was typed.
///
/// # Errors
/// With everything the operator needs to know; [`Failure::report`] prints it.
pub async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let context = hub::Context { hub: cli.hub, output: cli.output };
    match cli.command {
        Command::Hub(args) => role::run(role::Role::Hub, &args).await,
        Command::Gateway(args) => role::run(role::Role::Gateway, &args).await,
        Command::VolumeDaemon(args) => role::run(role::Role::VolumeDaemon, &args).await,
        Command::Oma(args) => role::run(role::Role::Oma, &args).await,
        Command::Vma(args) => role::run(role::Role::Vma, &args).await,
        Command::Enroll(args) => role::enroll(&context, &args).await,
        Command::Agent(command) => agent::run(&context, command).await,
        Command::Vcenter(command) => vcenter::run(&context, command).await,
        Command::Target(command) => target::run(&context, command).await,
        Command::Vm(command) => vm::run(&context, command).await,
        Command::Replicate(args) => replicate::run(&context, &args).await,
        Command::Job(command) => job::run(&context, command).await,
        Command::Probe(command) => probe::run(&context, command).await,
        Command::Nbd(command) => nbd::run(&context, command).await,
        Command::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
