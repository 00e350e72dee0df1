//! What a command prints: aligned text for people, one JSON object for programs.
//!
//! Texts that came over the network are printed without their control characters, so that a name or a reason cannot
//! move the cursor or ring the bell of an operator's terminal.

use std::io::{self, Write};

use serde_json::Value;

/// Stdout could not be written; a closed pipe is no failure of the command.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub(crate) struct PipeClosed(#[source] io::Error);

/// Prints one JSON object on one line.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    write(&format!("{value}\n"))
}

/// Prints text for people.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    write(&format!("{}\n", printable_lines(text)))
}

/// Prints a word to the operator that is not the answer.
pub(crate) fn note(text: &str) {
    // A note that nobody can read changes nothing about the answer.
    let _ = writeln!(io::stderr(), "{}", printable_lines(text));
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(PipeClosed)?;
    Ok(())
}

/// Rows under a heading, in columns as wide as they need to be.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let heading = heading.map(str::to_owned);
    aligned(std::iter::once(&heading).chain(rows))
}

/// Names and values, one pair a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let rows: Vec<[String; 2]> = pairs.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]).collect();
    aligned(rows.iter())
}

fn aligned<'a, const N: usize>(rows: impl Iterator<Item = &'a [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text of a JSON value as a cell: strings without quotes, nothing for null, lists with commas.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The cell of a field that may be absent.
pub(crate) fn field(value: &Value, name: &str) -> String {
    cell(&value[name])
}

/// A text of one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A text of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [["ann".to_owned(), "500.00".to_owned()], ["björn".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "EQUITY"], &rows), "NAME   EQUITY\nann    500.00\nbjörn");
        assert_eq!(table(["NAME"], &[]), "NAME");
        assert_eq!(pairs(&[("state", "halted".into()), ("by", "ann".into())]), "state  halted\nby     ann");
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        assert_eq!(table(["N"], &[["a\u{1b}[2Jb\nc".to_owned()]]), "N\na\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(printable_lines("a\r\nb"), "a\u{fffd}\nb");
    }

    #[test]
    fn values_are_written_for_people() {
        assert_eq!(cell(&json!({"3H": 1, "list": ["a", null, true]})), "3H=1, list=a, , true");
    }
}
