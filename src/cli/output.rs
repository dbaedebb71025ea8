//! What goes where: data to stdout, everything else to stderr, and nothing that a terminal would obey.

use std::{
    cell::Cell,
    io::{self, IsTerminal as _, Write as _},
};

use comfy_table::{Table, presets};
use serde_json::Value;

use super::exit::{Exit, Failure};

/// The two streams of a command.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    /// The reader of stdout went away, as `head` does: nothing more to say there, and no error.
    closed: Cell<bool>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, closed: Cell::new(false) }
    }

    /// Whether stdout carries JSON instead of text.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads stdout any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// One JSON document: readable on a terminal, one line otherwise.
    pub(crate) fn document(&self, document: &Value) -> Result<(), Failure> {
        if io::stdout().is_terminal() { self.raw(&format!("{document:#}\n")) } else { self.record(document) }
    }

    /// One record of NDJSON.
    pub(crate) fn record(&self, document: &Value) -> Result<(), Failure> {
        self.raw(&format!("{document}\n"))
    }

    /// One line of text. Control characters do not pass.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        self.raw(&format!("{}\n", printable(line)))
    }

    /// Rows under their headings: a table on a terminal, tab-separated and without headings otherwise. A table wider
    /// than the terminal is left to the terminal to wrap, so that an id can still be copied in one piece.
    pub(crate) fn rows<const N: usize>(
        &self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)));
        if !io::stdout().is_terminal() {
            return self.raw(&rows.map(|row| row.join("\t") + "\n").collect::<String>());
        }
        self.table(Table::new().set_header(headings).add_rows(rows))
    }

    /// The same, with one more column on a terminal: for people only, whose text no script should have to skip.
    pub(crate) fn rows_with<const N: usize>(
        &self,
        headings: [&str; N],
        last: &str,
        rows: impl IntoIterator<Item = ([String; N], String)>,
    ) -> Result<(), Failure> {
        if !io::stdout().is_terminal() {
            return self.rows(headings, rows.into_iter().map(|(row, _)| row));
        }
        let rows = rows.into_iter().map(|(row, last)| row.into_iter().chain([last]));
        let rows = rows.map(|row| row.map(|cell| printable(&cell)).collect::<Vec<_>>());
        self.table(Table::new().set_header(headings.into_iter().chain([last])).add_rows(rows))
    }

    /// One more row of a list that grows: in columns of these widths on a terminal, with `last` for people behind it;
    /// tab-separated otherwise.
    pub(crate) fn row_with<const N: usize>(
        &self,
        widths: [usize; N],
        cells: [String; N],
        last: &str,
    ) -> Result<(), Failure> {
        if !io::stdout().is_terminal() {
            return self.raw(&(cells.map(|cell| printable(&cell)).join("\t") + "\n"));
        }
        let columns = cells.iter().zip(widths).map(|(cell, width)| format!("{:width$}  ", printable(cell)));
        self.line(&(columns.collect::<String>() + last))
    }

    fn table(&self, table: &mut Table) -> Result<(), Failure> {
        table.load_style(presets::NOTHING);
        self.raw(&format!("{}\n", table.trim_fmt()))
    }

    /// Text as it is, for what is meant for a file or a shell.
    pub(crate) fn raw(&self, text: &str) -> Result<(), Failure> {
        if self.closed.get() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed.set(true),
            Err(error) => {
                return Err(Failure::new(Exit::Failure, format!("cannot write to stdout: {error}")));
            }
            Ok(()) => {}
        }
        Ok(())
    }

    /// One line for the person who runs the command.
    pub(crate) fn note(&self, line: &str) {
        note(line);
    }

    /// The one line that says why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            note(&failure.document().to_string());
        } else {
            note(&format!("error: {failure}"));
        }
    }
}

fn note(line: &str) {
    // Nothing is left to tell it to when stderr is gone.
    drop(writeln!(io::stderr(), "{}", printable(line)));
}

/// The text on one line and without control characters: what an upstream says must not move the cursor.
pub(crate) fn printable(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `1234567` as `1.2 MB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_the_terminal_or_start_a_line() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\u{9b}d\te\n"), "a [2Jb  c d e");
        assert_eq!(printable("Überfahrt 🎬"), "Überfahrt 🎬");
    }
}
