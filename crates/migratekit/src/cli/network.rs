//! `migratekit network`: which network of the target each network card of a VM goes to, live and in tests.

use std::process::ExitCode;

use api::Client;
use api::oma::networks::{
    MappedNic, MappingChange, MappingList, MappingView, MappingWarning, NetworkReport, NicView, PurposeReport,
    SetMapping, ValidateMappings,
};
use clap::{Args, Subcommand, ValueEnum};
use model::status::{MappingType, NicStrategy, ValidationStatus};
use model::{FailureKind, MacAddress};
use serde_json::json;

use super::failure::{CHECK_FAILED, Failure, explain};
use super::hub::{Context, escape};
use super::output::{or_dash, show, table, yes_no};

/// Shown below `network map --help`.
const MAP_EXAMPLES: &str = "\
Examples:
  migratekit network map web1 --mac 00:50:56:aa:bb:01 --to prod --for live
  migratekit network map web1 --source-network 'VM Network' --to bubble --for test
  migratekit network map web1 --mac 00:50:56:aa:bb:01 --to prod --strategy keep-ip --ip 10.1.1.20
  migratekit network map web1 --mac 00:50:56:aa:bb:01 --to bubble --for test --dry-run";
/// Shown below `network --help`.
const EXAMPLES: &str = "\
Examples:
  migratekit target networks                                                  what there is to choose from
  migratekit network list web1                                                the cards and where they go
  migratekit network map web1 --mac 00:50:56:aa:bb:01 --to bubble --for test  one card, in tests
  migratekit network validate web1                                            9 when a card has no place";

/// What can be done with network mappings.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum NetworkCommand {
    /// List the network cards of a VM and where they go.
    List {
        /// Name or context id of the VM.
        vm: String,
    },
    /// Map a network card, or every card on a network of the source; refused when the target cannot take it.
    #[command(after_help = MAP_EXAMPLES)]
    Map(MapArgs),
    /// Take a mapping away.
    Unmap(UnmapArgs),
    /// Look at every mapping of a VM again; exits with 9 when a card has no place, live or in tests.
    Validate {
        /// Name or context id of the VM.
        vm: String,
    },
}

/// A mapping to make.
#[derive(Args)]
pub struct MapArgs {
    /// Name or context id of the VM.
    vm: String,
    /// The card, by its MAC address.
    #[arg(long, value_name = "MAC", required_unless_present = "source_network")]
    mac: Option<String>,
    /// Instead: every card on this network of the source.
    #[arg(long, value_name = "NAME", conflicts_with = "mac")]
    source_network: Option<String>,
    /// The network in CloudStack: name or id.
    #[arg(long = "to", value_name = "NETWORK")]
    to: String,
    /// The failovers it is for.
    #[arg(long = "for", value_enum, default_value_t = Side::Live)]
    side: Side,
    /// What the card keeps; keep-mac in live failovers and new-mac in tests otherwise.
    #[arg(long, value_enum)]
    strategy: Option<StrategyArg>,
    /// The IP address, with keep-ip.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Only say what would be stored.
    #[arg(long)]
    dry_run: bool,
}

/// A mapping to take away.
#[derive(Args)]
pub struct UnmapArgs {
    /// Name or context id of the VM.
    vm: String,
    /// The card, by its MAC address.
    #[arg(long, value_name = "MAC")]
    mac: String,
    /// The failovers it was for.
    #[arg(long = "for", value_enum, default_value_t = Side::Both)]
    side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    /// Live failovers.
    Live,
    /// Test failovers.
    Test,
    /// Both.
    Both,
}

impl From<Side> for MappingType {
    fn from(side: Side) -> Self {
        match side {
            Side::Live => Self::Live,
            Side::Test => Self::Test,
            Side::Both => Self::Both,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyArg {
    /// The MAC address; the network gives the IP address.
    KeepMac,
    /// Nothing; the network gives the IP address.
    NewMac,
    /// The MAC address, and the IP address given with --ip.
    KeepIp,
    /// Nothing; the guest asks for an address by DHCP.
    Dhcp,
}

impl From<StrategyArg> for NicStrategy {
    fn from(arg: StrategyArg) -> Self {
        match arg {
            StrategyArg::KeepMac => Self::KeepMac,
            StrategyArg::NewMac => Self::NewMac,
            StrategyArg::KeepIp => Self::KeepIp,
            StrategyArg::Dhcp => Self::Dhcp,
        }
    }
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: NetworkCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        NetworkCommand::List { vm } => {
            show(context.output, &mappings(&client, &vm).await?, list_text)?;
            Ok(ExitCode::SUCCESS)
        }
        NetworkCommand::Map(args) => map(context, &client, args).await,
        NetworkCommand::Unmap(args) => unmap(context, &client, &args).await,
        NetworkCommand::Validate { vm } => validate(context, &client, vm).await,
    }
}

async fn mappings(client: &Client, vm: &str) -> Result<MappingList, Failure> {
    Ok(client.get(&format!("/api/v1/network-mappings?vm={}", escape(vm))).await?)
}

async fn map(context: &Context, client: &Client, args: MapArgs) -> Result<ExitCode, Failure> {
    let request = SetMapping {
        vm: args.vm,
        source_mac: args.mac,
        source_network_name: args.source_network,
        destination_network: args.to,
        mapping_type: args.side.into(),
        strategy: args.strategy.map(NicStrategy::from),
        ip_address: args.ip,
    };
    let path = if args.dry_run { "/api/v1/network-mappings?dry_run=true" } else { "/api/v1/network-mappings" };
    let change: MappingChange = client.put(path, &request).await?;
    show(context.output, &change, change_text)?;
    Ok(ExitCode::SUCCESS)
}

async fn unmap(context: &Context, client: &Client, args: &UnmapArgs) -> Result<ExitCode, Failure> {
    let mac: MacAddress = args.mac.parse().map_err(|error: model::MacAddressError| {
        Failure::new(FailureKind::Invalid, error.to_string())
            .remedy("write it as `migratekit network list VM` shows it")
    })?;
    let list = mappings(client, &args.vm).await?;
    let is_meant = |row: &&MappingView| {
        row.source_mac == mac.to_string()
            && (args.side == Side::Both || row.is_test_network == (args.side == Side::Test))
    };
    let mut removed: Vec<MappingView> = Vec::new();
    for id in list.items.iter().filter(is_meant).filter_map(|row| row.id.as_deref()) {
        removed.push(client.delete(&format!("/api/v1/network-mappings/{}", escape(id))).await?);
    }
    if removed.is_empty() {
        return Err(Failure::new(FailureKind::NotFound, format!("no such mapping of {mac} in {}", list.vm_name))
            .remedy(format!("`migratekit network list {}` shows those there are", list.vm_name)));
    }
    show(context.output, &json!({ "removed": removed }), |_| {
        let lines = removed.iter().map(|row| format!("unmapped {} from {}", row.source_mac, place(row)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn validate(context: &Context, client: &Client, vm: String) -> Result<ExitCode, Failure> {
    let report: NetworkReport = client.post("/api/v1/network-mappings/validate", &ValidateMappings { vm }).await?;
    show(context.output, &report, report_text)?;
    Ok(if report.live.ready && report.test.ready { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

/// The network of a mapping, and the failovers it is for.
fn place(row: &MappingView) -> String {
    format!("{} ({})", row.destination_network_name, if row.is_test_network { "test" } else { "live" })
}

/// The network of a mapping and what the card keeps.
fn network(row: &MappingView) -> String {
    let ip = row.ip_address.as_deref().map(|ip| format!(" {ip}")).unwrap_or_default();
    let state = match row.validation_status {
        ValidationStatus::Valid => "",
        ValidationStatus::Pending => ", not looked at",
        ValidationStatus::Invalid => ", INVALID",
    };
    format!("{} ({}{ip}{state})", row.destination_network_name, row.strategy)
}

fn list_text(list: &MappingList) -> String {
    let of = |mac: &str, is_test: bool| {
        let row = list.items.iter().find(|row| row.source_mac == mac && row.is_test_network == is_test);
        row.map_or_else(|| "-".to_owned(), network)
    };
    let cards = list.nics.iter().map(|nic: &NicView| {
        [
            nic.label.clone(),
            nic.source_mac.clone(),
            nic.source_network.clone(),
            yes_no(nic.connected),
            of(&nic.source_mac, false),
            of(&nic.source_mac, true),
        ]
    });
    let mut text = table(["CARD", "MAC", "SOURCE NETWORK", "CONNECTED", "LIVE", "TEST"], cards);
    let has_card = |row: &&MappingView| list.nics.iter().any(|nic| nic.source_mac == row.source_mac);
    for row in list.items.iter().filter(|row| !has_card(row)) {
        text.push_str(&format!("\n{} goes to {}, but the VM has no such card any more", row.source_mac, place(row)));
    }
    for row in &list.items {
        if let Some(message) = &row.validation_message {
            text.push_str(&format!("\n{}, {}: {message}", row.source_mac, place(row)));
        }
    }
    text
}

fn change_text(change: &MappingChange) -> String {
    let verb = if change.stored { "mapped" } else { "would map" };
    let lines = change.mappings.iter().map(|row| {
        let side = if row.is_test_network { "test" } else { "live" };
        format!("{verb} {} to {} for {side} failovers", row.source_mac, network(row))
    });
    lines.chain(change.warnings.iter().map(warning_text)).collect::<Vec<_>>().join("\n")
}

fn warning_text(warning: &MappingWarning) -> String {
    format!("warning: {}\n  remedy: {}", warning.message, warning.remedy)
}

fn report_text(report: &NetworkReport) -> String {
    let halves = [("live failover", &report.live), ("test failover", &report.test)];
    halves.map(|(name, half)| half_text(&report.vm_name, name, half)).join("\n\n")
}

fn half_text(vm: &str, name: &str, half: &PurposeReport) -> String {
    let mut text = if half.ready {
        let card = |nic: &MappedNic| {
            [
                nic.label.clone(),
                nic.source_mac.clone(),
                nic.network_name.clone(),
                nic.mac.clone().unwrap_or_else(|| "new".to_owned()),
                or_dash(nic.ip.as_deref()),
            ]
        };
        let cards = table(["CARD", "SOURCE MAC", "NETWORK", "MAC", "IP"], half.nics.iter().map(card));
        format!("{vm}, {name}: every card has its place\n{cards}")
    } else {
        let problems: Vec<String> = half.problems.iter().map(explain).collect();
        format!("{vm}, {name}: NOT ready\n{}", problems.join("\n"))
    };
    for warning in &half.warnings {
        text.push('\n');
        text.push_str(&warning_text(warning));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(mac: &str, is_test_network: bool) -> MappingView {
        MappingView {
            id: Some("id".into()),
            source_mac: mac.into(),
            source_network_name: "VM Network".into(),
            destination_network_id: "net".into(),
            destination_network_name: "prod".into(),
            is_test_network,
            mapping_type: MappingType::Live,
            strategy: NicStrategy::KeepIp,
            ip_address: Some("10.1.1.9".into()),
            validation_status: ValidationStatus::Invalid,
            validation_message: Some("it is gone".into()),
            last_validated: None,
        }
    }

    #[test]
    fn a_list_shows_cards_mappings_and_what_is_left_over() {
        let nic = NicView {
            label: "Network adapter 1".into(),
            source_mac: "00:50:56:00:00:01".into(),
            source_network: "VM Network".into(),
            connected: true,
        };
        let list = MappingList {
            vm_context_id: "c".into(),
            vm_name: "web1".into(),
            nics: vec![nic],
            items: vec![row("00:50:56:00:00:01", false), row("00:50:56:00:00:02", true)],
        };
        let text = list_text(&list);
        assert!(text.contains("prod (keep_ip 10.1.1.9, INVALID)  -"), "{text}");
        assert!(text.contains("\n00:50:56:00:00:02 goes to prod (test), but the VM has no such card"), "{text}");
        assert!(text.contains("\n00:50:56:00:00:01, prod (live): it is gone"), "{text}");
    }
}
