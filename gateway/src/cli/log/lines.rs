//! Lines of an export, read in bounded memory: of a file, of standard input, or of the files of a
//! directory in the order of the log that they came from.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::export_dir::offsets;
use crate::exit::{Code, Failure};

/// The longest line that is read: a record of 1,000 KiB in base64, and its value as JSON, in which
/// a node's readings take some fifty times their bytes.
const LINE_MAX: usize = 64 << 20;
/// Partitions whose files are open at once.
const PARTS_MAX: usize = 512;

/// A line and where it is.
pub(super) struct Line {
    pub(super) text: String,
    /// `file:line`.
    pub(super) place: String,
}

/// Files of one partition, or the one file.
struct Part {
    files: VecDeque<PathBuf>,
    open: Option<Open>,
    /// Read, and not given yet.
    head: Option<(u64, Line)>,
}

struct Open {
    name: String,
    number: u64,
    reader: Box<dyn BufRead>,
}

/// Reads lines.
pub(super) struct Lines {
    parts: Vec<Part>,
    /// Bytes of all files; 0 where that is not known.
    total: u64,
    done: u64,
}

impl Lines {
    /// Of a file, a directory, or standard input for `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let fault = |problem| not_read(path, &problem);
        let mut parts = Vec::new();
        if path == Path::new("-") {
            let reader: Box<dyn BufRead> = Box::new(BufReader::new(io::stdin()));
            let open = Open { name: "standard input".to_owned(), number: 0, reader };
            parts.push(Part { files: VecDeque::new(), open: Some(open), head: None });
        } else if path.metadata().map_err(fault)?.is_dir() {
            find_parts(path, 2, &mut parts).map_err(fault)?;
            if parts.is_empty() {
                let what = "<stream>/<partition>/<first offset>-<last offset>.ndjson";
                let fault = format!("{}: there is no {what} in it", path.display());
                return Err(Failure::new(Code::NoInput, fault));
            }
            if parts.len() > PARTS_MAX {
                let fault = format!(
                    "{}: it has more than {PARTS_MAX} partitions; import them stream by stream",
                    path.display()
                );
                return Err(Failure::new(Code::Usage, fault));
            }
        } else {
            parts.push(Part { files: VecDeque::from([path.to_owned()]), open: None, head: None });
        }
        let files = parts.iter().flat_map(|part| &part.files);
        let total = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        Ok(Self { parts, total, done: 0 })
    }

    /// Bytes read, and bytes in all (0: not known).
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// The next line that is not empty, of the partition whose next record came first.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Failure> {
        let alone = self.parts.len() == 1;
        for part in self.parts.iter_mut().filter(|part| part.head.is_none()) {
            let Some((line, bytes)) = part.read()? else { continue };
            self.done += bytes;
            let offset = if alone { 0 } else { offset(&line.text) };
            part.head = Some((offset, line));
        }
        let heads = self.parts.iter_mut().filter(|part| part.head.is_some());
        let first = heads.min_by_key(|part| part.head.as_ref().map(|(offset, _)| *offset));
        Ok(first.and_then(|part| part.head.take()).map(|(_, line)| line))
    }
}

impl Part {
    /// The next line and the bytes that were read for it.
    fn read(&mut self) -> Result<Option<(Line, u64)>, Failure> {
        let mut bytes = 0;
        loop {
            if self.open.is_none() {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                let file = File::open(&path).map_err(|problem| not_read(&path, &problem))?;
                let reader: Box<dyn BufRead> = Box::new(BufReader::new(file));
                self.open = Some(Open { name: path.display().to_string(), number: 0, reader });
            }
            let open = self.open.as_mut().expect("it was opened above");
            match open.read()? {
                None => self.open = None,
                Some(text) => {
                    bytes += text.len() as u64;
                    let text = text.trim();
                    if !text.is_empty() {
                        let place = format!("{}:{}", open.name, open.number);
                        return Ok(Some((Line { text: text.to_owned(), place }, bytes)));
                    }
                }
            }
        }
    }
}

impl Open {
    fn read(&mut self) -> Result<Option<String>, Failure> {
        self.number += 1;
        let place = || format!("{}:{}", self.name, self.number);
        let mut text = Vec::new();
        let limit = LINE_MAX as u64 + 1;
        (&mut self.reader)
            .take(limit)
            .read_until(b'\n', &mut text)
            .map_err(|problem| Failure::new(Code::Disk, format!("{}: {problem}", place())))?;
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > LINE_MAX {
            let fault = format!("{}: the line is longer than {LINE_MAX} bytes", place());
            return Err(Failure::new(Code::No, fault));
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Failure::new(Code::No, format!("{}: the line is not UTF-8", place()))),
        }
    }
}

/// Directories with exported files, down to `depth` levels below.
fn find_parts(dir: &Path, depth: usize, parts: &mut Vec<Part>) -> io::Result<()> {
    let mut files = Vec::new();
    let mut dirs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            dirs.push(entry.path());
        } else if let Some((first, _)) = entry.file_name().to_str().and_then(offsets) {
            files.push((first, entry.path()));
        }
    }
    if !files.is_empty() {
        files.sort();
        let files = files.into_iter().map(|(_, path)| path).collect();
        parts.push(Part { files, open: None, head: None });
    }
    dirs.sort();
    for dir in dirs.into_iter().filter(|_| depth > 0) {
        find_parts(&dir, depth - 1, parts)?;
    }
    Ok(())
}

/// The offset in a line; a line without one, which its reader will complain of, comes first.
fn offset(text: &str) -> u64 {
    #[derive(serde::Deserialize)]
    struct Offset {
        offset: u64,
    }
    serde_json::from_str::<Offset>(text).map_or(0, |line| line.offset)
}

fn not_read(path: &Path, problem: &io::Error) -> Failure {
    let code = match problem.kind() {
        io::ErrorKind::NotFound => Code::NoInput,
        _ => Code::Disk,
    };
    Failure::new(code, format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &Path) -> Vec<(String, String)> {
        let mut lines = Lines::open(path).expect("it is there");
        let next = || lines.next().expect("text").map(|line| (line.text, line.place));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn the_files_of_a_directory_are_read_in_the_order_of_their_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = [
            ("a/0/0-4.ndjson", "{\"offset\":0}\n{\"offset\":4}\n"),
            ("a/0/10-10.ndjson", "{\"offset\":10}\n"),
            ("a/1/2-2.ndjson", "{\"offset\":2}"),
            ("b/0/3-11.ndjson", "{\"offset\":3}\n\n{\"offset\":11}\n"),
            ("b/0/open.partial", "{\"offset\":12}\n"),
        ];
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("room");
            std::fs::write(path, text).expect("room");
        }
        let lines = all(dir.path());
        let offsets: Vec<_> = lines.iter().map(|(text, _)| offset(text)).collect();
        assert_eq!(offsets, [0, 2, 3, 4, 10, 11]);
        assert!(lines[5].1.ends_with("b/0/3-11.ndjson:3"), "{lines:?}");
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("x.ndjson");
        std::fs::write(&path, b"{}\n\xFF\n").expect("room");
        let mut lines = Lines::open(&path).expect("it is there");
        assert_eq!(lines.next().expect("text").expect("a line").text, "{}");
        let problem = lines.next().err().expect("no text");
        assert!(problem.message.contains("x.ndjson:2: "), "{problem}");
        assert_eq!(
            Lines::open(&dir.path().join("none")).err().map(|f| f.code),
            Some(Code::NoInput)
        );
        assert_eq!(Lines::open(dir.path()).err().map(|f| f.code), Some(Code::NoInput));
    }
}
