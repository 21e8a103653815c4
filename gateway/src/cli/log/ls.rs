//! `headwater log ls`: what the log holds and what it costs.

use std::io::IsTerminal;

use log_lite::ReadError;
use serde_json::{Value as Json, json};

use super::budget::Writes;
use super::human;
use super::place::{Log, Place};
use super::survey::{SegmentSum, Sum, Survey};
use crate::cli::{print_line, table};
use crate::config::parse_size;
use crate::exit::Failure;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// A row for each partition of each stream, instead of each segment
    #[arg(long)]
    partitions: bool,
    /// Read every segment, for the ratio of each; else what is older than the newest 64 MiB is
    /// told from summaries
    #[arg(long)]
    full: bool,
    /// Bytes that the card takes before it is worn, for how long it lasts; 30 TB is about what
    /// 32 GB of flash with 1,000 erase cycles take
    #[arg(long, value_name = "SIZE", default_value = "30 TB", value_parser = parse_size)]
    endurance: u64,
}

pub(super) fn ls(args: &Args) -> Result<(), Failure> {
    let log = args.place.open()?;
    let mut survey = Survey::read(&log, args.full || args.partitions)?;
    let writes = std::mem::take(&mut survey.budget).writes();
    if std::io::stdout().is_terminal() {
        print_tables(args, &log, &survey, writes);
    } else {
        print_json(args, &log, &survey, writes);
    }
    Ok(())
}

fn print_json(args: &Args, log: &Log, survey: &Survey, writes: Option<Writes>) {
    if args.partitions {
        for (number, sum) in &survey.partitions {
            print_line(&partition_json(log, *number, sum).to_string());
        }
    } else {
        for segment in &survey.segments {
            print_line(&segment_json(segment).to_string());
        }
    }
    print_line(&json!({ "total": total_json(args, survey, writes) }).to_string());
}

fn sum_json(sum: &Sum) -> Json {
    json!({
        "records": sum.records,
        "gaps": sum.gaps,
        "first_time": sum.times_ms.map(|times| times.0),
        "last_time": sum.times_ms.map(|times| times.1),
        "raw_bytes": sum.raw,
        "stored_bytes": sum.stored,
        "ratio": sum.ratio(),
    })
}

fn with(mut json: Json, more: Json) -> Json {
    if let (Json::Object(object), Json::Object(more)) = (&mut json, more) {
        object.extend(more);
    }
    json
}

fn segment_json(segment: &SegmentSum) -> Json {
    let mut sum = sum_json(&segment.sum);
    if let (Json::Object(sum), false) = (&mut sum, segment.read) {
        sum.retain(|field, _| ["records", "first_time", "last_time"].contains(&field.as_str()));
    }
    with(
        sum,
        json!({
            "read": segment.read,
            "segment": segment.base,
            "end": segment.end,
            "bytes": segment.bytes,
            "used": segment.used,
            "batches": segment.batches,
            "partitions": segment.partitions,
        }),
    )
}

fn partition_json(log: &Log, number: u16, sum: &Sum) -> Json {
    let place = log.streams.partition(number);
    with(
        sum_json(sum),
        json!({
            "stream": place.map(|place| &place.stream),
            "partition": place.map(|place| place.partition),
            "number": number,
            "first_offset": sum.offsets.map(|offsets| offsets.0),
            "last_offset": sum.offsets.map(|offsets| offsets.1),
        }),
    )
}

fn total_json(args: &Args, survey: &Survey, writes: Option<Writes>) -> Json {
    let damage: Vec<Json> = survey.damage.iter().map(damage_json).collect();
    let writes = writes.map(|writes| {
        json!({
            "span_ms": writes.span_ms,
            "commits": writes.commits,
            "bytes_asked": writes.asked,
            "device_bytes": writes.device,
            "bytes_asked_a_day": writes.asked_a_day(),
            "device_bytes_a_day": writes.device_a_day(),
            "amplification": writes.amplification(),
            "endurance_bytes": args.endurance,
            "years": writes.years(args.endurance),
        })
    });
    with(
        sum_json(&total(survey)),
        json!({
            "segments": survey.segments.len(),
            "start": survey.segments.first().map(|segment| segment.base),
            "end": survey.segments.last().map(|segment| segment.end),
            "bytes": survey.segments.iter().map(|segment| segment.bytes).sum::<u64>(),
            "used": survey.segments.iter().map(|segment| segment.used).sum::<u64>(),
            "damage": damage,
            "writes": writes,
        }),
    )
}

fn damage_json(damage: &ReadError) -> Json {
    match damage {
        ReadError::Damaged { first, end, segment, byte, why } => json!({
            "first": first,
            "end": end,
            "segment": segment,
            "byte": byte,
            "why": why.to_string(),
        }),
        ReadError::Lost { first, end, segment, why } => json!({
            "first": first,
            "end": end,
            "segment": segment,
            "why": why.to_string(),
            "recorded": true,
        }),
        other => json!({ "why": other.to_string() }),
    }
}

fn total(survey: &Survey) -> Sum {
    let mut total = Sum::default();
    for segment in &survey.segments {
        total.merge(&segment.sum);
    }
    total
}

fn print_tables(args: &Args, log: &Log, survey: &Survey, writes: Option<Writes>) {
    let table = if args.partitions {
        let header =
            ["stream", "records", "bytes", "ratio", "first", "last", "first time", "last time"];
        let rows: Vec<_> = survey
            .partitions
            .iter()
            .map(|(number, sum)| partition_row(log, *number, sum))
            .collect();
        table::render(&header, &rows)
    } else {
        let header = [
            "segment",
            "end",
            "records",
            "partitions",
            "used",
            "of",
            "ratio",
            "first time",
            "last time",
        ];
        let rows: Vec<_> = survey.segments.iter().map(segment_row).collect();
        table::render(&header, &rows)
    };
    print_line(table.trim_end());
    print_line("");
    print_total(survey);
    match writes {
        Some(writes) => print_writes(&writes, args.endurance),
        None => print_line("writes    not known: no record says when it arrived"),
    }
    for damage in &survey.damage {
        let is_lost = matches!(damage, ReadError::Lost { .. });
        print_line(&format!("{} {damage}", if is_lost { "lost     " } else { "damage   " }));
    }
}

fn times(sum: &Sum) -> [String; 2] {
    match sum.times_ms {
        Some((first_ms, last_ms)) => [human::time(first_ms), human::time(last_ms)],
        None => ["-".to_owned(), "-".to_owned()],
    }
}

fn ratio(sum: &Sum) -> String {
    sum.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn segment_row(segment: &SegmentSum) -> Vec<String> {
    let [first_time, last_time] = times(&segment.sum);
    vec![
        format!("{:020}", segment.base),
        segment.end.to_string(),
        segment.sum.records.to_string(),
        segment.partitions.len().to_string(),
        human::bytes(segment.used),
        human::bytes(segment.bytes),
        ratio(&segment.sum),
        first_time,
        last_time,
    ]
}

fn partition_row(log: &Log, number: u16, sum: &Sum) -> Vec<String> {
    let [first_time, last_time] = times(sum);
    let offset = |offset: Option<u64>| offset.map_or_else(|| "-".to_owned(), |o| o.to_string());
    vec![
        log.label(number),
        sum.records.to_string(),
        human::bytes(sum.stored),
        ratio(sum),
        offset(sum.offsets.map(|offsets| offsets.0)),
        offset(sum.offsets.map(|offsets| offsets.1)),
        first_time,
        last_time,
    ]
}

fn print_total(survey: &Survey) {
    let total = total(survey);
    let bytes: u64 = survey.segments.iter().map(|segment| segment.bytes).sum();
    print_line(&format!(
        "total     {}, {}, {} of {}",
        human::count(survey.segments.len() as u64, "segment"),
        human::count(total.records, "record"),
        human::bytes(survey.segments.iter().map(|segment| segment.used).sum()),
        human::bytes(bytes),
    ));
    if let Some(first) = survey.segments.first().filter(|segment| segment.base > 0) {
        print_line(&format!("start     offsets below {} were deleted by retention", first.base));
    }
    if total.gaps > 0 {
        print_line(&format!(
            "gaps      {} of something that is missing",
            human::count(total.gaps, "record")
        ));
    }
    if let Some(ratio) = total.ratio() {
        print_line(&format!(
            "ratio     {} of payload (16 bytes a reading of a node's block) in {} of {}: {ratio:.2}",
            human::bytes(total.raw),
            human::bytes(total.stored),
            if survey.segments.iter().all(|segment| segment.read) {
                "log"
            } else {
                "the newest log"
            },
        ));
    }
}

/// Cards are sold by powers of ten.
fn tera(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure of a data sheet is shown")]
    let tera = bytes as f64 / 1e12;
    (tera * 1000.0).round() / 1000.0
}

fn print_writes(writes: &Writes, endurance: u64) {
    let span = human::span(writes.span_ms);
    let (Some(asked), Some(device)) = (writes.asked_a_day(), writes.device_a_day()) else {
        return print_line("writes    not known: all records arrived at the same time");
    };
    let times = writes.amplification().map_or_else(String::new, |a| format!(", {a:.1} times"));
    print_line(&format!(
        "writes    {} a day asked, {} a day reach the device{times} (the newest {span}, {})",
        human::bytes(asked),
        human::bytes(device),
        human::count(writes.commits, "commit"),
    ));
    if let Some(years) = writes.years(endurance) {
        let lasts = if years < 1.0 {
            human::span((years * 365.25 * 86_400_000.0) as u64)
        } else {
            format!("{years:.1} years")
        };
        print_line(&format!(
            "card      one that takes {} TB (--endurance) is worn by the log alone after {lasts}",
            tera(endurance),
        ));
    }
}
