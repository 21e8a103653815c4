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

/// What a directory holds.
#[derive(Default)]
pub(super) struct Stick {
    pub(super) parts: Vec<Part>,
    /// Topics and partitions that cannot be looked at.
    pub(super) problems: Vec<String>,
}

/// What was found of a partition.
#[derive(Default)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) records: u64,
    /// What is damaged or missing.
    pub(super) problems: Vec<String>,
    /// The first offset of what is damaged or missing.
    pub(super) stop: Option<u64>,
    /// Files that the manifest does not have yet.
    pub(super) unlisted: u64,
    /// Files that were carried away before, as the manifest says.
    pub(super) carried: u64,
}

/// The partitions below `dir`, which is the upstream's directory or a topic in it.
///
/// # Errors
/// [`Failure`] if there are none, or `dir` cannot be read.
pub(super) fn find(dir: &Path) -> Result<Stick, Failure> {
    let mut stick = Stick::default();
    let mut topics = vec![dir.to_owned()];
    topics.extend(directories(dir)?);
    for dir in topics.iter().filter(|dir| dir.join(SOURCE).exists()) {
        if let Err(failure) = topic(dir, &mut stick) {
            stick.problems.push(failure.message);
        }
    }
    if stick.parts.is_empty() && stick.problems.is_empty() {
        let fault = format!(
            "{}: there is no topic in it: give what a route to an upstream of kind directory wrote \
             (a topic has a file {SOURCE})",
            dir.display()
        );
        return Err(Failure::new(Code::NoInput, fault));
    }
    Ok(stick)
}

fn topic(dir: &Path, stick: &mut Stick) -> Result<(), Failure> {
    let path = dir.join(SOURCE);
    let text = std::fs::read(&path).map_err(|problem| not_read(&path, &problem))?;
    let source: SourceFile = serde_json::from_slice(&text).map_err(|problem| {
        Failure::new(Code::No, format!("{}: damaged: {problem}", path.display()))
    })?;
    for dir in directories(dir)? {
        let number = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(partition) = number else { continue };
        match part(source.clone(), partition, dir) {
            Ok(part) => stick.parts.push(part),
            Err(failure) => stick.problems.push(failure.message),
        }
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

impl Found {
    /// What is wrong with offsets that are not all below `below`.
    fn problem(&mut self, (first, last): (u64, u64), below: u64, problem: String) {
        if last >= below {
            self.problems.push(problem);
            self.stop = Some(self.stop.map_or(first, |stop| stop.min(first)));
        }
    }
}

impl Part {
    /// Reads every file and compares it with the manifest; what ends below `below` need not be
    /// there any more, or whole.
    pub(super) fn check(&self, below: u64) -> Found {
        let carried = self.manifest.carried.map_or(0, |carried| carried.files);
        let mut found = Found { carried, ..Found::default() };
        let newest = self.manifest.entries.last().map_or(0, |entry| entry.last);
        for (first, last) in &self.files {
            let path = self.path(*first, *last);
            found.files += 1;
            let sum = match read(&path) {
                Ok(sum) => sum,
                Err(failure) => {
                    found.problem((*first, *last), below, failure.message);
                    continue;
                }
            };
            found.records += sum.lines;
            let listed = self.manifest.entries.iter().find(|entry| entry.first == *first);
            match listed.filter(|entry| entry.last == *last) {
                Some(entry) => {
                    if let Some(problem) = differs(&path, entry, sum) {
                        found.problem((*first, *last), below, problem);
                    }
                }
                // The stick was taken before its manifest had the newest file.
                None if *first > newest || self.manifest.entries.is_empty() => found.unlisted += 1,
                None => {
                    let problem = format!("{}: not in the manifest", path.display());
                    found.problem((*first, *last), below, problem);
                }
            }
        }
        for entry in &self.manifest.entries {
            let is_there = self.files.contains(&(entry.first, entry.last));
            if !is_there {
                let path = self.dir.join(&entry.file);
                let problem = format!("{}: missing", path.display());
                found.problem((entry.first, entry.last), below, problem);
            }
        }
        if self.manifest.unreadable > 1 {
            // Which files it had is not known.
            let path = self.dir.join(MANIFEST);
            let problem = format!("{}: lines of it do not read", path.display());
            found.problem((0, u64::MAX), below, problem);
        }
        found
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
