//! Printing: data to standard output (a table for people, JSON for programs), messages to standard error.

use clap::ValueEnum;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use model::FailureKind;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// A line for the person at the terminal; never data.
#[allow(clippy::print_stderr, reason = "messages of a command-line tool go to standard error")]
pub fn message(text: &str) {
    eprintln!("{text}");
}

/// A line of data.
#[allow(clippy::print_stdout, reason = "data of a command-line tool goes to standard output")]
pub fn data(text: &str) {
    println!("{text}");
}

/// Prints `value` as JSON, or what `table` makes of it.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn show<T: Serialize>(output: OutputFormat, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    match output {
        OutputFormat::Table => data(&table(value)),
        OutputFormat::Json => data(
            &serde_json::to_string_pretty(value)
                .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?,
        ),
    }
    Ok(())
}

/// A table with a head and rows; says so when there are none.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(head);
    let mut any = false;
    for row in rows {
        table.add_row(row);
        any = true;
    }
    if any { table.to_string() } else { "none".to_owned() }
}

/// A time for people, UTC; `-` when there is none.
pub fn time(at: Option<OffsetDateTime>) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.and_then(|at| at.format(&format).ok()).unwrap_or_else(|| "-".to_owned())
}

/// An optional text; `-` when there is none.
pub fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}
