// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only place that writes: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use clap::ColorChoice;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::failure::{Failure, Outcome, Report};

/// Where and how a command writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Whether documents are wanted rather than text.
    pub(crate) json: bool,
    colour: bool,
    to_terminal: bool,
    errors_to_terminal: bool,
}

impl Output {
    /// Finds out what the two streams are.
    pub(crate) fn new(json: bool, colour: ColorChoice) -> Self {
        let errors_to_terminal = io::stderr().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = match colour {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => errors_to_terminal && !refused,
        };
        Self { json, colour, to_terminal: io::stdout().is_terminal(), errors_to_terminal }
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.to_terminal
    }

    /// Writes bytes to standard output, as they are, at once.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::io("standard output cannot be written", &error),
        })
    }

    /// Writes one line of text, or several, to standard output.
    pub(crate) fn text(&self, text: &str) -> Outcome<()> {
        let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.bytes(format!("{text}{newline}").as_bytes())
    }

    /// Writes one document as one line to standard output.
    pub(crate) fn document<T: Serialize + ?Sized>(&self, document: &T) -> Outcome<()> {
        let mut line = ascii_json(document)?;
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Writes the document if documents are wanted, else the text.
    pub(crate) fn either<T: Serialize + ?Sized>(&self, document: &T, text: impl FnOnce() -> String) -> Outcome<()> {
        if self.json { self.document(document) } else { self.text(&text()) }
    }

    /// Says something beside the data: on standard error, whoever reads it.
    pub(crate) fn note(&self, text: &str) {
        // Nothing can be done about a standard error that is closed.
        let _ = writeln!(io::stderr(), "{}", text.trim_end());
    }

    /// Says something that only a person wants: nothing unless standard error is a terminal.
    pub(crate) fn banner(&self, text: &str) {
        if self.errors_to_terminal && !self.json {
            self.note(text);
        }
    }

    /// Says something beside the data as text or as a document.
    pub(crate) fn note_either<T: Serialize + ?Sized>(&self, document: &T, text: impl FnOnce() -> String) {
        match ascii_json(document) {
            Ok(line) if self.json => self.note(&line),
            _ => self.note(&text()),
        }
    }

    /// Tells the user why the command failed.
    pub(crate) fn report(&self, report: &Report) {
        self.note_either(&report.json(), || {
            report.text(|word| if self.colour { format!("\u{1b}[1;31m{word}\u{1b}[0m") } else { word.to_owned() })
        });
    }
}

/// Encodes a value as one line of ASCII.
///
/// # Errors
/// A value that cannot be JSON.
pub(crate) fn ascii_json<T: Serialize + ?Sized>(value: &T) -> Outcome<String> {
    let mut bytes = Vec::new();
    let encoded = value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii));
    match encoded.map(|()| String::from_utf8(bytes)) {
        Ok(Ok(text)) => Ok(text),
        _ => Err(Failure::told("serialize", crate::exit_code::FAILURE, "the result cannot be written as JSON")),
    }
}

/// Compact JSON in which everything past ASCII is an escape, so that it passes every locale unharmed.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0; 2];
        for c in fragment.chars() {
            if c.is_ascii() {
                write!(writer, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// Widest cell that is shown whole, in characters; JSON has everything whole.
const WIDEST: usize = 80;

/// Lays rows out in columns, each as wide as its widest cell. The last column is left ragged.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shortened(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn shortened(cell: &str) -> String {
    if cell.chars().count() <= WIDEST {
        return cell.to_owned();
    }
    cell.chars().take(WIDEST - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii() {
        let text = ascii_json(&serde_json::json!({"k\u{e9}": "a\u{1f600}\n"})).unwrap();
        assert_eq!(text, r#"{"k\u00e9":"a\ud83d\ude00\n"}"#);
    }

    #[test]
    fn a_table_shows_the_beginning_of_what_is_too_wide() {
        let text = table(&[vec!["x".repeat(1_000_000), "y".to_owned()]]);
        assert_eq!(text, format!("{}...  y\n", "x".repeat(WIDEST - 3)));
    }

    #[test]
    fn tables_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        assert_eq!(table(&[row(&["a", "bb", "c"]), row(&["aaa", "b"])]), "a    bb  c\naaa  b\n");
    }
}
