//! `headwater log show`: records as a table, as NDJSON, or their payloads as they came.

use std::io::IsTerminal;

use clap::ValueEnum;
use headwater_shared::envelope::Envelope;
use serde_json::Value as Json;

use super::human;
use super::out::{Columns, Out};
use super::place::{Log, Place, SYSTEM};
use super::progress::Bar;
use super::remote::Gateway;
use super::select::Select;
use super::walk::{Flow, walk};
use crate::cli::runtime;
use crate::exit::{Code, Failure};
use crate::journal::Record;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// Ask the running gateway whose page is here instead, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "config"], requires = "stream")]
    url: Option<String>,
    /// Its [http] token, or file:PATH of it
    #[arg(long, value_name = "TOKEN", requires = "url")]
    token: Option<String>,
    #[command(flatten)]
    select: Select,
    /// Stop after this many records
    #[arg(long)]
    limit: Option<usize>,
    /// How to print [default: table on a terminal, ndjson when piped]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns, long values cut
    Table,
    /// A JSON object a line
    Ndjson,
    /// Payloads byte for byte, back to back
    Raw,
    /// Payloads byte for byte, each followed by a newline
    Lines,
}

impl Format {
    fn or_default(given: Option<Self>) -> Self {
        let by_output = || if std::io::stdout().is_terminal() { Self::Table } else { Self::Ndjson };
        given.unwrap_or_else(by_output)
    }
}

pub(super) fn show(args: &Args) -> Result<(), Failure> {
    match (&args.url, &args.select.stream) {
        (Some(url), Some(stream)) => show_remote(args, url, stream),
        _ => show_local(args),
    }
}

/// Of a running gateway; the API gives values, not payloads.
fn show_remote(args: &Args, url: &str, stream: &str) -> Result<(), Failure> {
    let format = Format::or_default(args.format);
    if matches!(format, Format::Raw | Format::Lines) {
        let fault = "payloads as they came are read from the directory: give --data, not --url";
        return Err(Failure::new(Code::Usage, fault));
    }
    let gateway = Gateway::parse(url, args.token.as_deref())?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut printer = Printer::new(format);
    if left > 0 {
        let mut print = |record: &Json| {
            printer.json(stream, record)?;
            left -= 1;
            Ok(if left == 0 { Flow::Break(()) } else { Flow::Continue(()) })
        };
        runtime().block_on(gateway.records(stream, &args.select, &mut print))?;
    }
    printer.end()
}

fn show_local(args: &Args) -> Result<(), Failure> {
    let log = args.place.open()?;
    let wanted = args.select.of(&log)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut printer = Printer::new(Format::or_default(args.format));
    if left > 0 {
        // A bar would stand between the records of a terminal.
        walk(&log, &wanted, &mut Bar::hidden(), &mut |record| {
            printer.record(&log, record)?;
            left -= 1;
            Ok(if left == 0 { Flow::Break(()) } else { Flow::Continue(()) })
        })?;
    }
    printer.end()
}

/// Prints records in one of the formats.
struct Printer {
    format: Format,
    out: Out,
    columns: Columns<5>,
}

impl Printer {
    fn new(format: Format) -> Self {
        let columns = Columns::new(["offset", "time", "stream", "key", "value"]);
        Self { format, out: Out::stdout(), columns }
    }

    fn record(&mut self, log: &Log, record: &Record) -> Result<(), Failure> {
        match self.format {
            Format::Raw | Format::Lines => {
                let Some(payload) = payload(record) else { return Ok(()) };
                self.out.write(payload)?;
                if self.format == Format::Lines { self.out.write(b"\n") } else { Ok(()) }
            }
            Format::Ndjson | Format::Table => {
                let stream = log.streams.partition(record.partition);
                let stream = stream.map_or(SYSTEM, |place| place.stream.as_str());
                self.json(stream, &log.rows.record_json(record))
            }
        }
    }

    /// A record as NDJSON shows it.
    fn json(&mut self, stream: &str, json: &Json) -> Result<(), Failure> {
        if self.format != Format::Table {
            return self.out.line(&json.to_string());
        }
        let row = [
            json["offset"].to_string(),
            json["time"].as_i64().map_or_else(|| SYSTEM.to_owned(), human::time_ms),
            stream.to_owned(),
            json["key"].as_str().unwrap_or_default().to_owned(),
            clip(&json["value"].to_string()),
        ];
        self.columns.row(row, &mut self.out)
    }

    fn end(mut self) -> Result<(), Failure> {
        if self.format == Format::Table {
            self.columns.end(&mut self.out)?;
        }
        self.out.flush()
    }
}

/// What a device or a query wrote; the gateway's own records have none.
fn payload(record: &Record) -> Option<&[u8]> {
    match record.envelope() {
        Ok(Envelope::Publish(publish)) => Some(publish.payload),
        Ok(Envelope::Output(output)) => Some(output.payload),
        _ => None,
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
