//! Printing: data to standard output (a table for people, JSON for programs), messages to standard error.
//!
//! Nobody has to read what is printed: a closed pipe ends the output, never the program.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle};
use model::FailureKind;
use serde::Serialize;

use super::failure::Failure;

/// A line under the head and nothing else.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));
/// Space between two columns, in characters.
const GAP_WIDTH: u16 = 2;
/// A column whose text has spaces and is wider than that may be broken into lines, in characters.
const WORDS_WIDTH: u16 = 24;
/// Narrowest such column, in characters: shorter lines are harder to read than the terminal's own break.
const LEAST_WORDS_WIDTH: u16 = 16;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Whether anybody still reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// More may be printed.
    Reads,
    /// The pipe was closed: the reader has enough.
    HasEnough,
}

/// A line for the person at the terminal; never data. One that nobody can see is no reason to fail.
pub fn message(text: &str) {
    let _unseen = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line of advice: for people only, a program knows what it wants next.
pub fn hint(output: OutputFormat, text: &str) {
    if output == OutputFormat::Table {
        message(text);
    }
}

/// A line of data.
///
/// # Errors
/// When standard output cannot be written for another reason than that it was closed.
pub fn data(text: &str) -> Result<Reader, Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::HasEnough),
        Err(error) => {
            let kind =
                if error.kind() == ErrorKind::StorageFull { FailureKind::Exhausted } else { FailureKind::Internal };
            Err(Failure::new(kind, format!("cannot write the output: {error}")))
        }
    }
}

/// Prints `value` as JSON, or what `table` makes of it.
///
/// # Errors
/// When it cannot be written as JSON, or not at all.
pub fn show<T: Serialize>(output: OutputFormat, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let text = match output {
        OutputFormat::Table => table(value),
        OutputFormat::Json => serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?,
    };
    data(&text).map(|_reader| ())
}

/// A table with a head and rows; says so when there are none.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(head).add_rows(rows);
    if table.is_empty() {
        return "none".to_owned();
    }
    arrange(&mut table);
    table.trim_fmt()
}

/// Breaks long texts where the terminal is narrow, but never an id, a size or a time. Where those alone do not fit,
/// nothing is broken: the terminal's own line break leaves what can be copied.
fn arrange(table: &mut Table) {
    let mut least = 0;
    let widths = table.column_max_content_widths();
    let breakable: Vec<bool> = widths
        .iter()
        .enumerate()
        .map(|(index, width)| {
            *width > WORDS_WIDTH && table.column_cells_iter(index).flatten().any(|cell| cell.content().contains(' '))
        })
        .collect();
    for (column, (width, breakable)) in table.column_iter_mut().zip(widths.iter().zip(breakable)) {
        column.set_padding((0, GAP_WIDTH));
        if !breakable {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        least += GAP_WIDTH + if breakable { LEAST_WORDS_WIDTH } else { *width };
    }
    let fits = table.width().is_none_or(|width| least <= width);
    let arrangement = if fits { ContentArrangement::Dynamic } else { ContentArrangement::Disabled };
    table.set_content_arrangement(arrangement);
}

/// Names and values, a line each, the values below one another.
pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<(&str, String)> = fields.into_iter().collect();
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect::<Vec<_>>().join("\n")
}

/// Something that was checked.
pub struct Checked<'a> {
    /// How it stands.
    pub outcome: &'a str,
    /// What was checked.
    pub title: &'a str,
    /// What was seen.
    pub evidence: &'a str,
    /// What to do; empty when nothing has to be done.
    pub remedy: &'a str,
}

/// What was checked, then what is to be done about it.
pub fn checks<'a>(checked: impl Iterator<Item = Checked<'a>>) -> String {
    let checked: Vec<Checked<'a>> = checked.collect();
    let mut text = table(
        ["OUTCOME", "CHECK", "SEEN"],
        checked.iter().map(|check| [check.outcome, check.title, check.evidence].map(str::to_owned)),
    );
    let open = checked.iter().filter(|check| !check.remedy.is_empty());
    let remedies: String = open.map(|check| format!("\n{}\n  remedy: {}", check.title, check.remedy)).collect();
    if !remedies.is_empty() {
        text.push('\n');
        text.push_str(&remedies);
    }
    text
}

/// An optional text; `-` when there is none.
pub fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// `yes` or `no`.
pub fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_one_line_per_row_and_one_under_its_head() {
        let text =
            table(["NAME", "SIZE"], [["a", "1.0 GiB"], ["long-name", "2.0 GiB"]].map(|row| row.map(str::to_owned)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NAME       SIZE");
        assert!(lines[1].chars().all(|c| c == '─'), "{text}");
        assert_eq!(lines[2..], ["a          1.0 GiB", "long-name  2.0 GiB"]);
        assert_eq!(table(["NAME"], []), "none");
    }

    #[test]
    fn an_open_check_is_followed_by_its_remedy() {
        let check = |outcome, remedy| Checked { outcome, title: "the zone exists", evidence: "no zone", remedy };
        let text = checks([check("FAILED", "name a zone"), check("passed", "")].into_iter());
        assert_eq!(text.matches("remedy").count(), 1, "{text}");
        assert!(text.ends_with("\nthe zone exists\n  remedy: name a zone"), "{text}");
    }

    #[test]
    fn values_stand_below_one_another() {
        assert_eq!(fields([("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2");
    }
}
