//! `headwater log ls | show | verify`: of a data directory, also beside its running gateway.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use log_lite::{ReadError, Reader, Report};
use serde_json::json;

use super::{ConfigArg, journal_dir, print_line, table};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::journal::Record;
use crate::node::Nodes;
use crate::projection::Projection;
use crate::stream::{Manifest, Rows, Streams};

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Segments with their offsets, times, partitions and bytes
    Ls(Place),
    /// Records: a table on a terminal, NDJSON when piped
    Show(ShowArgs),
    /// Read everything and check every CRC; exit 1 on damage
    Verify(Place),
}

#[derive(clap::Args)]
pub(super) struct Place {
    /// The data directory [default: data_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(clap::Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    place: Place,
    /// Only this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only this key
    #[arg(long)]
    key: Option<String>,
    /// Start here: an offset, `earliest` or an RFC 3339 time
    #[arg(long, default_value = "earliest")]
    from: String,
    /// Stop after this many records
    #[arg(long)]
    limit: Option<usize>,
}

impl Place {
    fn dir(&self) -> Result<PathBuf, Failure> {
        let dir = match &self.data {
            Some(dir) => dir.clone(),
            None => Config::load(&self.config.path())?.data_dir,
        };
        if journal_dir(&dir).is_dir() {
            Ok(dir)
        } else {
            let fault =
                format!("{}: there is no journal; name the data_dir of a gateway", dir.display());
            Err(Failure::new(Code::NoInput, fault))
        }
    }
}

pub(super) fn log(command: &LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Ls(place) => ls(&place.dir()?),
        LogCommand::Show(args) => show(args),
        LogCommand::Verify(place) => verify(&place.dir()?),
    }
}

fn ls(dir: &Path) -> Result<(), Failure> {
    let report = scan(dir)?;
    let time = |ms: i64| {
        jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
    };
    if !std::io::stdout().is_terminal() {
        for segment in &report.segments {
            let json = json!({
                "segment": segment.base,
                "end": segment.end,
                "bytes": segment.bytes,
                "used": segment.used,
                "batches": segment.batches,
                "first_time": segment.times_ms.map(|times| times.0),
                "last_time": segment.times_ms.map(|times| times.1),
                "partitions": segment.partitions,
            });
            print_line(&json.to_string());
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = report
        .segments
        .iter()
        .map(|segment| {
            let (first, last) = segment.times_ms.unwrap_or_default();
            vec![
                format!("{:020}", segment.base),
                segment.end.to_string(),
                segment.partitions.values().sum::<u64>().to_string(),
                segment.partitions.len().to_string(),
                segment.used.to_string(),
                time(first),
                time(last),
            ]
        })
        .collect();
    let header = ["segment", "end", "records", "partitions", "bytes", "first time", "last time"];
    print_line(table::render(&header, &rows).trim_end());
    Ok(())
}

fn verify(dir: &Path) -> Result<(), Failure> {
    let report = scan(dir)?;
    let bytes: u64 = report.segments.iter().map(|segment| segment.used).sum();
    if let Some(torn) = &report.torn_tail {
        print_line(&format!(
            "tail: {} bytes of a commit that is under way or was cut, at {:020}.log byte {}; never \
             acknowledged",
            torn.bytes, torn.segment, torn.byte
        ));
    }
    for damage in &report.damage {
        print_line(&format!("damage: {damage}"));
    }
    let summary = format!(
        "{} segments, {} records, {bytes} bytes, {} damaged ranges",
        report.segments.len(),
        report.records(),
        report.damage.len()
    );
    print_line(&summary);
    if report.damage.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::No,
        "the journal is damaged in the ranges above; all else is served and nothing was deleted: \
         keep a copy of the segments, then look at the disk",
    ))
}

fn scan(dir: &Path) -> Result<Report, Failure> {
    let bar = std::io::stderr().is_terminal();
    let mut shown = u64::MAX;
    let mut progress = |done: u64, total: u64| {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        if bar && percent != shown {
            shown = percent;
            draw(percent);
        }
    };
    let report = log_lite::verify(&journal_dir(dir), &mut progress);
    if bar {
        erase();
    }
    report.map_err(|problem| Failure::new(Code::Disk, problem))
}

#[expect(clippy::print_stderr, reason = "a progress bar on the terminal")]
fn draw(percent: u64) {
    const WIDTH: usize = 40;
    let filled = usize::try_from(percent).unwrap_or(0) * WIDTH / 100;
    eprint!("\r[{}{}] {percent:3} %", "#".repeat(filled), " ".repeat(WIDTH - filled.min(WIDTH)));
}

#[expect(clippy::print_stderr, reason = "a progress bar on the terminal")]
fn erase() {
    eprint!("\r\x1b[K");
}

/// What `show` prints with: the table of streams, and the nodes as far as they were read.
struct Shower<'a> {
    args: &'a ShowArgs,
    partitions: Option<Vec<u16>>,
    streams: Arc<Streams>,
    rows: Rows,
    nodes: Box<dyn Projection>,
    as_table: Option<Vec<Vec<String>>>,
    left: usize,
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let dir = args.place.dir()?;
    let manifest = Manifest::load(&dir).map_err(|problem| Failure::new(Code::NoInput, problem))?;
    let streams = Arc::new(Streams::from_manifest(manifest));
    let partitions = match &args.stream {
        None => None,
        Some(name) => {
            let stream = streams.get(name).ok_or_else(|| {
                let known: Vec<_> = streams.iter().map(|stream| stream.name.as_str()).collect();
                let fault = format!("there is no stream {name:?}; there are: {}", known.join(", "));
                Failure::new(Code::Usage, fault)
            })?;
            Some(stream.partitions.clone())
        }
    };
    let nodes = Arc::new(Nodes::default());
    let mut shower = Shower {
        args,
        partitions,
        rows: Rows::new(Arc::clone(&streams), Arc::clone(&nodes)),
        streams,
        nodes: nodes.projection(),
        as_table: std::io::stdout().is_terminal().then(Vec::new),
        left: args.limit.unwrap_or(usize::MAX),
    };
    shower.run(&journal_dir(&dir))?;
    if let Some(rows) = shower.as_table {
        let header = ["offset", "time", "stream", "key", "value"];
        print_line(table::render(&header, &rows).trim_end());
    }
    Ok(())
}

impl Shower<'_> {
    fn run(&mut self, journal: &Path) -> Result<(), Failure> {
        let disk = |problem: ReadError| Failure::new(Code::Disk, problem);
        let mut reader = Reader::open_dir(journal).map_err(disk)?;
        let from = self.start(&mut reader)?;
        // Nodes announce their channels once, so what was before is read for their names.
        reader.seek(reader.start().map_err(disk)?);
        while self.left > 0 {
            let batch = match reader.next(u64::MAX) {
                Ok(Some(batch)) => batch,
                Ok(None) => return Ok(()),
                Err(problem @ (ReadError::Damaged { .. } | ReadError::Lost { .. })) => {
                    complain(&problem);
                    continue;
                }
                // The gateway's retention was faster; the reader goes on at the new start.
                Err(ReadError::Trimmed { .. }) => continue,
                Err(problem) => return Err(disk(problem)),
            };
            for record in batch.records() {
                let record = Record {
                    offset: record.offset,
                    partition: record.partition,
                    time_ms: record.time_ms,
                    key: record.key.to_vec().into(),
                    value: record.value.to_vec().into(),
                };
                self.nodes.apply(&record);
                if record.offset >= from && self.left > 0 && self.wants(&record) {
                    self.left -= 1;
                    self.print(&record);
                }
            }
        }
        Ok(())
    }

    fn start(&self, reader: &mut Reader) -> Result<u64, Failure> {
        let from = self.args.from.as_str();
        if from == "earliest" {
            return Ok(0);
        }
        if let Ok(offset) = from.parse() {
            return Ok(offset);
        }
        let time: jiff::Timestamp = from.parse().map_err(|_| {
            let fault = format!("--from {from:?}: write an offset, `earliest` or an RFC 3339 time");
            Failure::new(Code::Usage, fault)
        })?;
        reader
            .seek_time(time.as_millisecond(), u64::MAX)
            .map_err(|problem| Failure::new(Code::Disk, problem))
    }

    fn wants(&self, record: &Record) -> bool {
        let stream = self.partitions.as_ref().is_none_or(|p| p.contains(&record.partition));
        stream && self.args.key.as_ref().is_none_or(|key| key == record.key_str())
    }

    fn print(&mut self, record: &Record) {
        let json = self.rows.record_json(record);
        let Some(rows) = &mut self.as_table else { return print_line(&json.to_string()) };
        let stream = self.streams.partition(record.partition);
        let time = jiff::Timestamp::from_millisecond(record.time_ms);
        rows.push(vec![
            record.offset.to_string(),
            time.map_or_else(|_| record.time_ms.to_string(), |time| time.to_string()),
            stream.map_or("-", |place| place.stream.as_str()).to_owned(),
            record.key_str().to_owned(),
            clip(&json["value"].to_string()),
        ]);
    }
}

/// A value of one line on a terminal.
fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 96;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[expect(clippy::print_stderr, reason = "damage is said beside the records, not among them")]
fn complain(problem: &ReadError) {
    eprintln!("headwater: {problem}");
}
