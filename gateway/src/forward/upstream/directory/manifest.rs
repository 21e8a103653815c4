//! `manifest.jsonl` of a partition: a line a file, so that whoever has the files can tell whether
//! they are whole, and which of them are missing.
//!
//! ```text
//!  write, sync --> rename to 100-180.ndjson --> sync of the directory --> line, sync
//! ```
//!
//! A line is written after its file has its name, so it is never of a file that was not there. A
//! power cut between the two leaves a file without its line, or half a line; the next start reads
//! the file and writes the manifest anew. Lines of files that were carried away stay; of many, the
//! oldest are drawn together into one.

use std::collections::BTreeSet;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// The file of the manifest; whoever looks for `*.ndjson` wants records.
pub(crate) const MANIFEST: &str = "manifest.jsonl";
/// Lines of files that are not there any more, at most.
const GONE_MAX: usize = 1_000;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) file: String,
    /// The offsets in its name.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Its lines.
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Of its bytes, in hexadecimal.
    pub(crate) sha256: String,
}

/// Files whose lines were drawn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) files: u64,
    pub(crate) records: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Carried { carried: Carried },
    Entry(Entry),
}

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The oldest files, carried away long ago.
    pub(crate) carried: Option<Carried>,
    /// In the order of their offsets.
    pub(crate) entries: Vec<Entry>,
    /// Lines that do not read.
    pub(crate) unreadable: u64,
}

impl Manifest {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut manifest = Self::default();
        // What comes after the last line end is half a line.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        manifest.unreadable += u64::from(whole < bytes.len());
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line::Entry(entry))
                    if offsets(&entry.file) == Some((entry.first, entry.last)) =>
                {
                    manifest.entries.push(entry);
                }
                Ok(Line::Carried { carried }) => manifest.carried = Some(carried),
                _ => manifest.unreadable += 1,
            }
        }
        manifest.entries.sort_by_key(|entry| entry.first);
        manifest.entries.dedup_by(|a, b| a.file == b.file);
        manifest
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(carried) = self.carried {
            line(&Line::Carried { carried }, &mut bytes);
        }
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.line());
        }
        bytes
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.entries.iter().any(|entry| entry.file == file)
    }

    /// Draws the oldest lines of files together that are not among `files`, where there are many;
    /// false if there were not.
    pub(super) fn fold(&mut self, files: &BTreeSet<String>) -> bool {
        let gone = self.entries.iter().filter(|entry| !files.contains(&entry.file)).count();
        if gone <= GONE_MAX {
            return false;
        }
        // Half of them, so that not each start writes the file anew.
        let mut left = gone - GONE_MAX / 2;
        let carried = &mut self.carried;
        self.entries.retain(|entry| {
            if left == 0 || files.contains(&entry.file) {
                return true;
            }
            left -= 1;
            *carried = Some(entry.joined(*carried));
            false
        });
        true
    }
}

impl Entry {
    pub(super) fn new((first, last): (u64, u64), sum: Sum) -> Self {
        let file = format!("{first}-{last}.ndjson");
        Self { file, first, last, records: sum.lines, bytes: sum.bytes, sha256: sum.sha256() }
    }

    pub(super) fn line(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        line(&Line::Entry(self.clone()), &mut bytes);
        bytes
    }

    fn joined(&self, carried: Option<Carried>) -> Carried {
        let Self { first, last, records, .. } = *self;
        carried.map_or(Carried { first, last, files: 1, records }, |before| Carried {
            first: before.first.min(first),
            last: before.last.max(last),
            files: before.files + 1,
            records: before.records + records,
        })
    }
}

fn line(line: &Line, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, line).expect("texts and numbers are JSON");
    out.push(b'\n');
}

/// What is counted of a file's bytes.
pub(crate) struct Sum {
    digest: Context,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Self { digest: Context::new(&SHA256), bytes: 0, lines: 0 }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// In hexadecimal.
    pub(crate) fn sha256(self) -> String {
        let digest = self.digest.finish();
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The offsets that a file's name says.
pub(crate) fn offsets(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".ndjson")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first: u64, last: u64) -> Entry {
        let mut sum = Sum::default();
        sum.add(format!("{first}\n{last}\n").as_bytes());
        Entry::new((first, last), sum)
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_half_a_line_is_noticed() {
        let carried = Some(Carried { first: 0, last: 3, files: 2, records: 3 });
        let entries = vec![entry(4, 9), entry(12, 12)];
        let manifest = Manifest { carried, entries, unreadable: 0 };
        let bytes = manifest.render();
        assert_eq!(Manifest::parse(&bytes), manifest);
        for cut in 1..bytes.len() {
            let torn = Manifest::parse(&bytes[..cut]);
            assert_eq!(torn.unreadable == 0, bytes[cut - 1] == b'\n', "cut at {cut}");
            assert!(torn.entries.len() <= 2 && torn.unreadable <= 1);
        }
    }

    #[test]
    fn lines_of_files_that_are_long_gone_are_drawn_together() {
        let entries: Vec<Entry> = (0..=GONE_MAX as u64).map(|first| entry(first, first)).collect();
        let mut manifest = Manifest { entries, ..Manifest::default() };
        assert!(!manifest.clone().fold(&BTreeSet::from(["3-3.ndjson".to_owned()])), "few");
        assert!(manifest.fold(&BTreeSet::new()));
        assert_eq!(manifest.entries.len(), GONE_MAX / 2);
        let carried = manifest.carried.expect("some");
        assert_eq!((carried.first, carried.last), (0, (GONE_MAX / 2) as u64));
        assert_eq!((carried.files, carried.records), (501, 1002));
    }
}
