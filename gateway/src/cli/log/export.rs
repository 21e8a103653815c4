//! `headwater log export`: records as NDJSON, to standard output, a file, or files of a directory.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value as Json;

use super::export_dir;
use super::human;
use super::out::Out;
use super::place::{Log, Place};
use super::progress::Bar;
use super::select::Select;
use super::walk::{Flow, walk};
use crate::cli::print_line;
use crate::exit::{Code, Failure};
use crate::journal::Record;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    select: Select,
    /// Write to this file; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Write whole partitions to DIR/<stream>/<partition>/<first offset>-<last offset>.ndjson; what
    /// files there hold already is not written again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "from", "to", "key"])]
    dir: Option<PathBuf>,
    /// Leave out `stream` and `raw`, which an exact import needs
    #[arg(long)]
    plain: bool,
}

pub(super) fn export(args: &Args) -> Result<(), Failure> {
    let log = args.place.open()?;
    let wanted = args.select.of(&log)?;
    let (records, damaged) = match &args.dir {
        Some(dir) => export_dir::export(&log, &wanted, dir, args.plain)?,
        None => {
            let mut out = Out::aside(&args.out)?;
            let mut bar = if out.is_terminal() { Bar::hidden() } else { Bar::new() };
            let mut records = 0;
            let damaged = walk(&log, &wanted, &mut bar, &mut |record| {
                if let Some(line) = line(&log, record, args.plain) {
                    out.line(&line)?;
                    records += 1;
                }
                Ok(Flow::Continue(()))
            })?;
            drop(bar);
            let is_file = out.finish()?;
            if is_file {
                let records = human::count(records, "record");
                print_line(&format!("{records} in {}", args.out.display()));
            }
            (records, damaged)
        }
    };
    if damaged == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Code::No,
        format!(
            "{} exported; {} of the log cannot be read and {} missing there: `headwater log verify` \
             names the places",
            human::count(records, "record"),
            human::count(damaged, "range"),
            if damaged == 1 { "is" } else { "are" },
        ),
    ))
}

/// A record as a line of an export; `None` for what belongs to no stream: the gateway's own notes
/// of sessions and its clock mean nothing elsewhere.
pub(super) fn line(log: &Log, record: &Record, plain: bool) -> Option<String> {
    let place = log.streams.partition(record.partition)?;
    let mut json = log.rows.record_json(record);
    if let (Json::Object(object), false) = (&mut json, plain) {
        object.insert("stream".to_owned(), Json::String(place.stream.clone()));
        object.insert("raw".to_owned(), Json::String(BASE64.encode(&record.value)));
    }
    Some(json.to_string())
}
