//! Where records are written to: standard output or a file, through a bounded buffer.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};

/// A buffered writer that knows its name.
pub(super) struct Out {
    /// Where it ends up; `None`: standard output.
    path: Option<PathBuf>,
    /// Where it is written until then.
    aside: PathBuf,
    writer: BufWriter<Target>,
}

enum Target {
    Stdout(Stdout),
    File(File),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

impl Out {
    /// Standard output; a reader that has gone away ends the command quietly.
    pub(super) fn stdout() -> Self {
        let writer = BufWriter::new(Target::Stdout(io::stdout()));
        Self { path: None, aside: PathBuf::from("standard output"), writer }
    }

    /// A new file.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let aside = path.to_owned();
        let file = File::create(path).map_err(|problem| fault(path, &problem))?;
        let writer = BufWriter::new(Target::File(file));
        Ok(Self { path: Some(aside.clone()), aside, writer })
    }

    /// A file that has its name once [`Out::finish`] was called, or standard output for `-`.
    pub(super) fn aside(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::stdout());
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let out = Self::create(Path::new(&name))?;
        Ok(Self { path: Some(path.to_owned()), ..out })
    }

    /// Whether a person is looking.
    pub(super) fn is_terminal(&self) -> bool {
        self.path.is_none() && io::stdout().is_terminal()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|problem| fault(&self.aside, &problem))
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|problem| fault(&self.aside, &problem))
    }

    /// Writes all out and gives a file its name; true for a file.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        match self.path.take() {
            Some(path) => self.rename(&path).map(|()| true),
            None => self.flush().map(|()| false),
        }
    }

    /// Syncs a file and gives it this name.
    pub(super) fn rename(mut self, path: &Path) -> Result<(), Failure> {
        self.flush()?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let synced = match self.writer.get_ref() {
            Target::File(file) => file.sync_all(),
            Target::Stdout(_) => Ok(()),
        };
        synced
            .and_then(|()| std::fs::rename(&self.aside, path))
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|problem| fault(path, &problem))
    }
}

fn fault(path: &Path, problem: &io::Error) -> Failure {
    if problem.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::new(Code::Disk, format!("{} cannot be written: {problem}", path.display()))
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
        let mut out = Out::create(&path).expect("a file");
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
