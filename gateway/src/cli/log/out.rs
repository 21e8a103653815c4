//! Where records are written to: standard output or a file, through a bounded buffer.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::exit::{Code, Failure};

/// A buffered writer that knows its name.
pub(super) struct Out {
    name: String,
    writer: BufWriter<Box<dyn Write>>,
}

impl Out {
    /// Standard output; a reader that has gone away ends the command quietly.
    pub(super) fn stdout() -> Self {
        let writer: Box<dyn Write> = Box::new(io::stdout());
        Self { name: "standard output".to_owned(), writer: BufWriter::new(writer) }
    }

    /// A new file, or standard output for `-`.
    pub(super) fn named(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::stdout());
        }
        let name = path.display().to_string();
        let file = File::create(path).map_err(|problem| fault(&name, &problem))?;
        let writer: Box<dyn Write> = Box::new(file);
        Ok(Self { name, writer: BufWriter::new(writer) })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|problem| fault(&self.name, &problem))
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|problem| fault(&self.name, &problem))
    }
}

fn fault(name: &str, problem: &io::Error) -> Failure {
    if problem.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::new(Code::Disk, format!("{name} cannot be written: {problem}"))
}

/// Rows as aligned columns, in bounded memory: a column is as wide as its widest cell so far.
pub(super) struct Columns<const N: usize> {
    header: Option<[&'static str; N]>,
    widths: [usize; N],
    rows: Vec<[String; N]>,
}

/// Rows that are looked at before their widths are set.
const ROWS_AT_ONCE: usize = 200;

impl<const N: usize> Columns<N> {
    pub(super) fn new(header: [&'static str; N]) -> Self {
        let widths = header.map(|text| text.chars().count());
        Self { header: Some(header), widths, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, row: [String; N], out: &mut Out) -> Result<(), Failure> {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push(row);
        if self.rows.len() == ROWS_AT_ONCE { self.end(out) } else { Ok(()) }
    }

    /// Prints what has gathered.
    pub(super) fn end(&mut self, out: &mut Out) -> Result<(), Failure> {
        if let Some(header) = self.header.take() {
            out.line(&aligned(&self.widths, &header))?;
        }
        for row in self.rows.drain(..) {
            out.line(&aligned(&self.widths, &row))?;
        }
        Ok(())
    }
}

fn aligned<T: AsRef<str>>(widths: &[usize], cells: &[T]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let cell = cell.as_ref();
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_aligned_beyond_what_is_looked_at_at_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("table");
        let mut out = Out::named(&path).expect("a file");
        let mut columns = Columns::new(["n", "key"]);
        for number in 0..=ROWS_AT_ONCE {
            columns.row([number.to_string(), "größer".to_owned()], &mut out).expect("room");
        }
        columns.end(&mut out).expect("room");
        out.flush().expect("room");
        let text = std::fs::read_to_string(path).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), ROWS_AT_ONCE + 2);
        assert_eq!([lines[0], lines[1], lines[201]], ["n    key", "0    größer", "200  größer"]);
    }
}
