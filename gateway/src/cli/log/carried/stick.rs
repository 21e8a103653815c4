//! What a route of an upstream of kind `directory` wrote, and whether it is whole.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::exit::{Code, Failure};
use crate::forward::files::{Entry, MANIFEST, Manifest, SOURCE, SourceFile, Sum, offsets};

/// A partition of a topic.
pub(super) struct Part {
    pub(super) source: SourceFile,
    /// Partition of the stream where it came from.
    pub(super) partition: u16,
    pub(super) dir: PathBuf,
    manifest: Manifest,
    /// Files that are there, by their offsets.
    pub(super) files: Vec<(u64, u64)>,
}

/// What was found of a partition.
#[derive(Default)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) records: u64,
    /// What is damaged or missing.
    pub(super) problems: Vec<String>,
    /// Files that the manifest does not have yet.
    pub(super) unlisted: u64,
    /// Files that were carried away before, as the manifest says.
    pub(super) carried: u64,
}

/// The partitions below `dir`, which is the upstream's directory or a topic in it.
///
/// # Errors
/// [`Failure`] if there are none, or they cannot be read.
pub(super) fn find(dir: &Path) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    topic(dir, &mut parts)?;
    for below in directories(dir)? {
        topic(&below, &mut parts)?;
    }
    if parts.is_empty() {
        let fault = format!(
            "{}: there is no topic in it: give what a route to an upstream of kind directory wrote \
             (a topic has a file {SOURCE})",
            dir.display()
        );
        return Err(Failure::new(Code::NoInput, fault));
    }
    Ok(parts)
}

fn topic(dir: &Path, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let path = dir.join(SOURCE);
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read(&path).map_err(|problem| not_read(&path, &problem))?;
    let source: SourceFile = serde_json::from_slice(&text).map_err(|problem| {
        Failure::new(Code::No, format!("{}: damaged: {problem}", path.display()))
    })?;
    for dir in directories(dir)? {
        let number = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(partition) = number else { continue };
        parts.push(part(source.clone(), partition, dir)?);
    }
    Ok(())
}

fn part(source: SourceFile, partition: u16, dir: PathBuf) -> Result<Part, Failure> {
    let path = dir.join(MANIFEST);
    let manifest = match std::fs::read(&path) {
        Ok(bytes) => Manifest::parse(&bytes),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
        Err(problem) => return Err(not_read(&path, &problem)),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(|problem| not_read(&dir, &problem))? {
        let entry = entry.map_err(|problem| not_read(&dir, &problem))?;
        files.extend(entry.file_name().to_str().and_then(offsets));
    }
    files.sort_unstable();
    Ok(Part { source, partition, dir, manifest, files })
}

fn directories(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|problem| not_read(dir, &problem))? {
        let path = entry.map_err(|problem| not_read(dir, &problem))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Part {
    /// Reads every file and compares it with the manifest; what ends below `below` need not be
    /// there any more.
    ///
    /// # Errors
    /// [`Failure`] if a file cannot be read.
    pub(super) fn check(&self, below: u64) -> Result<Found, Failure> {
        let carried = self.manifest.carried.map_or(0, |carried| carried.files);
        let mut found = Found { carried, ..Found::default() };
        let newest = self.manifest.entries.last().map_or(0, |entry| entry.last);
        for (first, last) in &self.files {
            let path = self.path(*first, *last);
            let sum = read(&path)?;
            found.files += 1;
            found.records += sum.lines;
            let listed = self.manifest.entries.iter().find(|entry| entry.first == *first);
            match listed.filter(|entry| entry.last == *last) {
                Some(entry) => found.problems.extend(differs(&path, entry, sum)),
                // The stick was taken before its manifest had the newest file.
                None if *first > newest || self.manifest.entries.is_empty() => found.unlisted += 1,
                None => found.problems.push(format!("{}: not in the manifest", path.display())),
            }
        }
        for entry in &self.manifest.entries {
            let is_there = self.files.contains(&(entry.first, entry.last));
            if !is_there && entry.last >= below {
                let path = self.dir.join(&entry.file);
                found.problems.push(format!("{}: missing", path.display()));
            }
        }
        if self.manifest.unreadable > 1 {
            let path = self.dir.join(MANIFEST);
            found.problems.push(format!("{}: lines of it do not read", path.display()));
        }
        Ok(found)
    }

    pub(super) fn path(&self, first: u64, last: u64) -> PathBuf {
        self.dir.join(format!("{first}-{last}.ndjson"))
    }

    /// `stream/partition`, as it is called where it came from.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.source.stream, self.partition)
    }
}

fn differs(path: &Path, entry: &Entry, sum: Sum) -> Option<String> {
    let path = path.display();
    if sum.bytes != entry.bytes {
        return Some(format!("{path}: damaged: {} bytes, not {}", sum.bytes, entry.bytes));
    }
    (sum.sha256() != entry.sha256).then(|| format!("{path}: damaged: its checksum is another"))
}

fn read(path: &Path) -> Result<Sum, Failure> {
    let fault = |problem| not_read(path, &problem);
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let mut sum = Sum::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(fault)? {
            0 => return Ok(sum),
            read => sum.add(&buffer[..read]),
        }
    }
}

fn not_read(path: &Path, problem: &std::io::Error) -> Failure {
    let code = match problem.kind() {
        std::io::ErrorKind::NotFound => Code::NoInput,
        _ => Code::Disk,
    };
    Failure::new(code, format!("{}: {problem}", path.display()))
}
