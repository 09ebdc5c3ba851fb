//! The command line: what can be typed, and which file does it.

mod agent;
mod certificate;
mod clock;
mod completions;
mod failover;
pub mod failure;
mod findings;
mod ghost;
mod group;
mod hub;
mod job;
mod nbd;
mod network;
mod output;
mod point;
mod probe;
mod replicate;
mod role;
mod target;
mod vcenter;
mod verify;
mod vm;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use hub::HubArgs;
use output::OutputFormat;

/// Environment variable of `--output`.
const OUTPUT_VARIABLE: &str = "MIGRATEKIT_OUTPUT";
/// Exit code of a command line that cannot be understood.
const USAGE_EXIT_CODE: u8 = 2;

/// Shown below `--help`.
const AFTER_HELP: &str = "\
Examples:
  migratekit probe vcenter --url vc.example --username U --password-file F   what an agent would see
  migratekit vm discover                                                     the source's VMs and their findings
  migratekit replicate web1 --watch                                          copy a VM, then again only its changes
  migratekit failover test web1 --watch                                      boot the replica in isolation
  migratekit job log JOB --follow                                            what a job says while it runs
  migratekit job watch JOB                                                   how far it is

Exit codes:
    0  done
    1  failed: a defect, or something nobody foresaw
    2  the command line cannot be understood
    3  what was named does not exist
    4  contradicts the present state: already running, in use
    5  the request itself is wrong: a value, a size, a certificate
    6  not authenticated, or not allowed
    7  not reachable at the moment; the same command may work later
    8  a limit, a quota or a disk is full
    9  a check found something that must be mended first
  130  interrupted

Data goes to standard output, everything else to standard error. With --output json data is JSON, and so is
an error, as RFC 9457 problem details. Secrets are read from files, never from the command line.";

/// Replicates running VMware VMs into Apache CloudStack.
#[derive(Parser)]
#[command(name = "migratekit", version, propagate_version = true, after_long_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// How results are printed: `table` for people, `json` for programs.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    #[arg(default_value_t = OutputFormat::Table, env = OUTPUT_VARIABLE, hide_env_values = true)]
    pub output: OutputFormat,
    #[command(flatten)]
    hub: HubArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// vCenters and ESXi hosts.
    #[command(subcommand)]
    Vcenter(vcenter::VcenterCommand),
    /// CloudStack targets.
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// Agents: pair, approve, list.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// VMs: discover, add, list, show, remove.
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Network mappings: where a VM's network cards go in a failover.
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Groups: VMs that are handled together.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Replicate a VM into its target.
    Replicate(replicate::ReplicateArgs),
    /// Fail a VM over into its target: for a test, or for good; and the ways back.
    #[command(subcommand)]
    Failover(failover::FailoverCommand),
    /// Recovery points: earlier commits that are kept.
    #[command(subcommand)]
    Point(point::PointCommand),
    /// Certificates: what was proven at each commit, signed.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Verify certificates, which needs no hub, or the replica of a VM.
    #[command(subcommand)]
    Verify(verify::VerifyCommand),
    /// What was left behind in CloudStack and vCenter, and its removal.
    #[command(subcommand)]
    Ghost(ghost::GhostCommand),
    /// Jobs: what runs, what ran, and why it failed.
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Look at a vCenter or a CloudStack; needs no hub.
    #[command(subcommand)]
    Probe(probe::ProbeCommand),
    /// Serve, inspect and copy NBD exports; needs no hub.
    #[command(subcommand)]
    Nbd(nbd::NbdCommand),
    /// Run the hub: gateway, volume daemon and control plane in one process.
    Hub(role::RoleArgs),
    /// Run only the gateway: TLS on one port, NBD behind it.
    Gateway(role::RoleArgs),
    /// Run only the volume daemon.
    VolumeDaemon(role::RoleArgs),
    /// Run only the control plane.
    Oma(role::RoleArgs),
    /// Run the agent, beside vCenter.
    Vma(role::RoleArgs),
    /// Pair this agent with a hub and wait for the operator's approval.
    Enroll(role::EnrollArgs),
    /// Print completions for a shell.
    Completions(completions::CompletionArgs),
}

/// Reports a command line that cannot be understood, or prints the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && wants_json(std::env::args(), std::env::var(OUTPUT_VARIABLE).ok()) {
        let text = error.render().to_string();
        let said = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
        let detail = said.strip_prefix("error: ").unwrap_or(&said).to_owned();
        Failure::new(model::FailureKind::Invalid, detail).remedy("see --help").report(OutputFormat::Json);
        return ExitCode::from(USAGE_EXIT_CODE);
    }
    // Nobody has to read it: a closed pipe is no error.
    let _unseen = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE_EXIT_CODE))
}

/// Whether a command line that could not be read asks for JSON all the same.
fn wants_json(arguments: impl Iterator<Item = String>, variable: Option<String>) -> bool {
    let mut wanted = variable.as_deref() == Some("json");
    let mut before = String::new();
    for argument in arguments {
        let value = if before == "--output" { Some(argument.as_str()) } else { argument.strip_prefix("--output=") };
        wanted = value.map_or(wanted, |value| value == "json");
        before = argument;
    }
    wanted
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
        Command::Network(command) => network::run(&context, command).await,
        Command::Group(command) => group::run(&context, command).await,
        Command::Replicate(args) => replicate::run(&context, &args).await,
        Command::Failover(command) => failover::run(&context, command).await,
        Command::Point(command) => point::run(&context, command).await,
        Command::Certificate(command) => certificate::run(&context, command).await,
        Command::Verify(command) => verify::run(&context, &command).await,
        Command::Ghost(command) => ghost::run(&context, command).await,
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

    #[test]
    fn json_is_recognised_in_a_line_that_cannot_be_read() {
        let asked = |line: &str, variable: Option<&str>| {
            wants_json(line.split(' ').map(str::to_owned), variable.map(str::to_owned))
        };
        assert!(asked("migratekit nonsense --output json", None));
        assert!(asked("migratekit --output=json nonsense", Some("table")));
        assert!(asked("migratekit nonsense", Some("json")));
        assert!(!asked("migratekit --output table nonsense", Some("json")));
        assert!(!asked("migratekit json", None));
    }
}
