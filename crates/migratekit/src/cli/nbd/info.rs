//! `migratekit nbd info`: what an export offers, and how much of it holds data.

use std::process::ExitCode;

use clap::Args;
use model::size::human_bytes;
use model::{Extent, FailureKind};
use nbd::{Client, NbdError, NbdUri};
use serde::Serialize;

use super::nbd_failure;
use crate::cli::failure::Failure;
use crate::cli::hub::Context;
use crate::cli::output::{fields, or_dash, show, yes_no};

/// Longest stretch asked about at once, in bytes.
const STATUS_BYTES: u64 = 1 << 30;

/// Which export.
#[derive(Args)]
pub struct InfoArgs {
    /// `nbd://host[:port]/export` or `nbd+unix:///export?socket=/path`.
    uri: NbdUri,
}

/// What an export offers.
#[derive(Debug, Serialize)]
struct ExportReport {
    uri: String,
    size_bytes: u64,
    description: Option<String>,
    read_only: bool,
    multi_conn: bool,
    flush: bool,
    trim: bool,
    write_zeroes: bool,
    block_status: bool,
    minimum_block_bytes: u32,
    preferred_block_bytes: u32,
    maximum_request_bytes: u32,
    /// Bytes that hold data, where the server tells.
    data_bytes: Option<u64>,
    exports: Vec<String>,
}

/// Shows it.
///
/// # Errors
/// When the server cannot be reached or refuses the export.
pub async fn run(context: &Context, args: &InfoArgs) -> Result<ExitCode, Failure> {
    let opened = Client::connect(&args.uri).await;
    // A server need not tell; one that cannot be reached is told of by the connection above.
    let listed = nbd::client::list_exports(&args.uri).await.unwrap_or_default();
    let exports: Vec<String> = listed.into_iter().map(|export| export.name).collect();
    let client = opened.map_err(|error| refused(&error, &exports))?;
    let sizes = client.block_sizes();
    let report = ExportReport {
        uri: args.uri.to_string(),
        size_bytes: client.size_bytes(),
        description: client.export().description.clone(),
        read_only: client.is_read_only(),
        multi_conn: client.can_multi_conn(),
        flush: client.can_flush(),
        trim: client.can_trim(),
        write_zeroes: client.can_write_zeroes(),
        block_status: client.can_block_status(),
        minimum_block_bytes: sizes.minimum,
        preferred_block_bytes: sizes.preferred,
        maximum_request_bytes: client.max_request_bytes(),
        data_bytes: data_bytes(&client).await?,
        exports,
    };
    client.close().await;
    show(context.output, &report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// An unknown name is answered with the names there are.
fn refused(error: &NbdError, exports: &[String]) -> Failure {
    let failure = nbd_failure(error);
    if failure.kind() == FailureKind::NotFound && !exports.is_empty() {
        return failure.evidence(format!("this server's exports: {}", quoted(exports)));
    }
    failure
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

async fn data_bytes(client: &Client) -> Result<Option<u64>, Failure> {
    if !client.can_block_status() {
        return Ok(None);
    }
    let (mut offset, mut data) = (0, 0);
    while let Some(stretch) = Extent::new(offset, STATUS_BYTES).clamp_to(client.size_bytes()) {
        let regions = client.block_status(stretch).await.map_err(|error| nbd_failure(&error))?;
        let holding = regions.iter().filter(|region| !region.state.reads_as_zero());
        data += holding.map(|region| region.extent.length).sum::<u64>();
        offset = stretch.end();
    }
    Ok(Some(data))
}

fn text(report: &ExportReport) -> String {
    let effects = [("flush", report.flush), ("trim", report.trim), ("write zeroes", report.write_zeroes)];
    let offered: Vec<&str> = effects.iter().filter(|(_, offered)| *offered).map(|(name, _)| *name).collect();
    let (minimum, preferred) = (report.minimum_block_bytes, report.preferred_block_bytes);
    fields([
        ("export", report.uri.clone()),
        ("size", format!("{} ({} bytes)", human_bytes(report.size_bytes), report.size_bytes)),
        ("holds data", report.data_bytes.map_or_else(|| "the server does not tell".to_owned(), human_bytes)),
        ("description", or_dash(report.description.as_deref())),
        ("read only", yes_no(report.read_only)),
        ("several connections", yes_no(report.multi_conn)),
        ("offers", if offered.is_empty() { "-".to_owned() } else { offered.join(", ") }),
        ("block status", yes_no(report.block_status)),
        ("blocks", format!("{minimum} minimum, {preferred} preferred, {} a request", report.maximum_request_bytes)),
        ("exports here", if report.exports.is_empty() { "-".to_owned() } else { quoted(&report.exports) }),
    ])
}
