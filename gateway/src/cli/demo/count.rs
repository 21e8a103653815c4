//! Counts what is in the journal and at the upstream, by reading it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value as Json;

use crate::app::App;
use crate::journal::ReadError;

/// The directory upstream, below the demo's directory.
pub(super) const OUT_DIR: &str = "out";

const STREAM: &str = "climate";
const WINDOWS: &str = "climate_5s";

/// Readings and windows, wherever they are.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Readings in the stream.
    pub(super) stored: u64,
    /// Readings that closed windows cover.
    pub(super) windowed: u64,
    /// Closed windows.
    pub(super) windows: u64,
    /// Readings at the upstream.
    pub(super) forwarded: u64,
    /// Windows at the upstream.
    pub(super) windows_forwarded: u64,
}

/// Reads everything.
///
/// # Errors
/// A text that says what cannot be read.
pub(super) fn count(app: &App, dir: &Path, kafka: Option<&str>) -> Result<Counts, String> {
    let mut counts = Counts::default();
    count_journal(app, &mut counts)?;
    let topic = |stream: &str| format!("demo-{}.{stream}", std::process::id());
    let at = |stream: &str| match kafka {
        None => count_files(&dir.join(OUT_DIR).join(topic(stream))),
        Some(brokers) => crate::forward::count_committed(brokers, &topic(stream)),
    };
    counts.forwarded = at(STREAM)?;
    counts.windows_forwarded = at(WINDOWS)?;
    Ok(counts)
}

fn count_journal(app: &App, counts: &mut Counts) -> Result<(), String> {
    let sources = app.status();
    let mut reader = sources.journal.reader(0);
    loop {
        let records = match reader.read(1 << 20) {
            Ok(records) => records,
            Err(ReadError::Io(problem)) => return Err(problem),
            Err(problem) => return Err(problem.to_string()),
        };
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            let Some(place) = sources.streams.partition(record.partition) else { continue };
            let rows = sources.rows.of(record).unwrap_or_default();
            match place.stream.as_str() {
                STREAM => counts.stored += rows.len() as u64,
                WINDOWS => {
                    counts.windows += rows.len() as u64;
                    let numbers = rows.iter().filter_map(|row| row.get("n").to_json().as_u64());
                    counts.windowed += numbers.sum::<u64>();
                }
                _ => {}
            }
        }
    }
}

/// Lines of all files of a topic; one that stands twice is an error.
fn count_files(topic: &Path) -> Result<u64, String> {
    let mut seen = HashSet::new();
    let list = |dir: &Path| -> Result<Vec<std::path::PathBuf>, String> {
        match std::fs::read_dir(dir) {
            Ok(entries) => Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).collect()),
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(problem) => Err(format!("{}: {problem}", dir.display())),
        }
    };
    for partition in list(topic)?.iter().filter(|path| path.is_dir()) {
        for file in list(partition)? {
            if file.extension().is_none_or(|extension| extension != "ndjson") {
                continue;
            }
            let text = std::fs::read_to_string(&file).map_err(|problem| problem.to_string())?;
            for line in text.lines() {
                let json: Json = serde_json::from_str(line)
                    .map_err(|problem| format!("{}: {problem}", file.display()))?;
                let identity = (json["offset"].as_u64(), json["index"].as_u64());
                if !seen.insert(identity) {
                    return Err(format!("{}: {identity:?} is there twice", file.display()));
                }
            }
        }
    }
    Ok(seen.len() as u64)
}
