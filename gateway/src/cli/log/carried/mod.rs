//! `headwater import`: files that a directory upstream wrote, carried to another gateway.

mod course;
mod ledger;
mod stick;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde_json::json;

use self::course::{Import, Stored};
use self::ledger::{Entry, Ledger};
use self::stick::{Found, Part, Stick};
use super::import::{COMMIT_BYTES, open};
use super::place::{Log, Place};
use super::record::takes_messages;
use crate::app::CATALOG_FILE;
use crate::catalog::Catalog;
use crate::cli::{journal_dir, print_line};
use crate::exit::{Code, Failure};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// What a route to an upstream of kind `directory` wrote: its directory, or a topic in it
    #[arg(value_name = "DIR")]
    from: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Put all records into this stream [default: the stream of the same name]
    #[arg(long, value_name = "STREAM")]
    into: Option<String>,
    /// Compare the files with their manifests and store nothing
    #[arg(long)]
    check: bool,
}

pub(in crate::cli) fn import(args: &Args) -> Result<(), Failure> {
    let Stick { parts, mut problems } = stick::find(&args.from)?;
    if args.check {
        for part in &parts {
            problems.extend(check(part, 0).problems);
        }
        return verdict(&problems, "");
    }
    let data = args.place.dir_of_journal()?;
    let log = Log::open(&data)?;
    for part in &parts {
        let name = args.into.as_deref().unwrap_or(&part.source.stream);
        if !log.streams.get(name).is_some_and(takes_messages) {
            let fault = format!(
                "{}: there is no stream {name:?} here that takes messages: configure it and start \
                 the gateway once, or give another one as --into STREAM",
                part.dir.display()
            );
            return Err(Failure::new(Code::Usage, fault));
        }
    }
    let mut journal = open(&args.place, &data)?;
    let catalog = Catalog::open(&data.join(CATALOG_FILE))?;
    let ledger = Ledger { catalog: &catalog };
    for part in &parts {
        let entry = ledger.load(&part.source, part.partition)?;
        let found = check(part, entry.done.map_or(0, |(offset, _)| offset.saturating_add(1)));
        let stream = args.into.as_deref().unwrap_or(&part.source.stream);
        let mut save = |entry: &Entry| ledger.save(&part.source, part.partition, entry);
        let import = Import {
            part,
            stop: found.stop,
            stream,
            streams: &log.streams,
            journal: &mut journal,
            commit_bytes: COMMIT_BYTES,
            save: &mut save,
            entry,
        };
        let stored = import.run(&journal_dir(&data))?;
        show_stored(part, stream, &stored);
        problems.extend(found.problems);
        problems.extend(stored.problem);
    }
    verdict(
        &problems,
        " Of their partitions only what comes before is stored; import them again when they are whole",
    )
}

/// Reads all files of a partition; what ends below `done` need not be there any more.
fn check(part: &Part, done: u64) -> Found {
    let found = part.check(done);
    let shown = json!({
        "gateway": part.source.gateway,
        "stream": part.source.stream,
        "partition": part.partition,
        "files": found.files,
        "records": found.records,
        "unlisted": found.unlisted,
        "carried_before": found.carried,
        "problems": found.problems.len(),
    });
    print_line(&shown.to_string());
    found
}

fn show_stored(part: &Part, stream: &str, stored: &Stored) {
    let shown = json!({
        "gateway": part.source.gateway,
        "stream": part.source.stream,
        "partition": part.partition,
        "into": stream,
        "stored": stored.records,
        "known": stored.known,
    });
    print_line(&shown.to_string());
}

fn verdict(problems: &[String], consequence: &str) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    let fault = format!(
        "{}\n{} files are damaged or missing: copy them anew from where they were written, or from a \
         backup.{consequence}",
        problems.join("\n"),
        problems.len()
    );
    Err(Failure::new(Code::No, fault))
}
