//! Bytes and nanoseconds a reading of series blocks, for series in files.
//!
//! ```text
//! block_sizes --block 64,256,1024 [--round PLACES] FILE...
//! ```
//!
//! A file has one reading a line, `<unix ms> <value>`. The bytes count all that a record of such a
//! block costs: header, CRC, and an allowance for the header of the log's batch around it.
//! `--round` rounds the values first, for series that were published with more digits than their
//! sensor has.
#![expect(clippy::print_stdout, reason = "a tool that prints a table")]

use headwater_shared::block::{
    BlockDecoder, BlockEncoder, BlockSpec, COUNT_MAX, Clock, HEADER_MAX, SCALE_MAX,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

/// What the log writes before a batch.
const BATCH_HEADER_SIZE: usize = 12;

const USAGE: &str = "usage: block_sizes --block 64,256,1024 [--round PLACES] FILE...";

/// Bytes of a row at most: two codes of 87 bits.
const ROW_SIZE_MAX: usize = 22;

struct Series {
    period_ms: u32,
    scale: u8,
    readings: Vec<(u64, i64)>,
}

struct Arguments {
    sizes: Vec<usize>,
    round: Option<usize>,
    files: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { sizes, round, files } = arguments()?;
    println!(
        "{:>6} {:>8} {:>7} {:>9} {:>9} {:>9}  series",
        "block", "readings", "blocks", "B/reading", "enc ns", "dec ns"
    );
    let mut totals: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for file in &files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let series = match parse(&text, round).map_err(|error| format!("{file}: {error}"))? {
            Ok(series) => series,
            Err(why) => {
                println!("{name}: does not scale to decimals ({why})");
                continue;
            }
        };
        for &rows in &sizes {
            let bytes_each = measure(&series, rows, name)?;
            totals.entry(rows).or_default().push(bytes_each);
        }
    }
    for (rows, each) in totals {
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        println!(
            "{rows:>6} {:>16} {mean:>9.3} {:>9} {:>9}  mean of {} series",
            "",
            "",
            "",
            each.len()
        );
    }
    Ok(())
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut sizes = vec![64, 256, 1024];
    let mut files = Vec::new();
    let mut round = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--block" {
            let list = arguments.next().ok_or(USAGE)?;
            sizes = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
        } else if argument == "--round" {
            let places: usize = arguments.next().ok_or(USAGE)?.parse()?;
            round = Some(places.min(usize::from(SCALE_MAX)));
        } else {
            files.push(argument);
        }
    }
    if files.is_empty() || sizes.iter().any(|rows| !(1..=usize::from(COUNT_MAX)).contains(rows)) {
        return Err(format!("{USAGE} (1 to {COUNT_MAX} readings a block)").into());
    }
    Ok(Arguments { sizes, round, files })
}

/// The inner error says why the series is not one of decimals.
fn parse(text: &str, round: Option<usize>) -> Result<Result<Series, String>, Box<dyn Error>> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parts =
            line.split_once(' ').and_then(|(time, value)| Some((time.parse().ok()?, value)));
        let (time_ms, value): (u64, &str) =
            parts.ok_or_else(|| format!("line {}: not `<unix ms> <value>`", number + 1))?;
        let value = match round {
            Some(places) => format!("{:.places$}", value.parse::<f64>()?),
            None => value.to_owned(),
        };
        lines.push((time_ms, value));
    }
    let decimals = lines.iter().map(|(_, value)| places(value)).max().unwrap_or(0);
    if decimals > usize::from(SCALE_MAX) {
        return Ok(Err(format!("{decimals} decimal places, {SCALE_MAX} at most")));
    }
    let mut readings = Vec::new();
    for (time_ms, value) in &lines {
        match scaled(value, decimals) {
            Some(mantissa) => readings.push((*time_ms, mantissa)),
            None => return Ok(Err(format!("{value} at {time_ms} is not a decimal of 64 bits"))),
        }
    }
    Ok(Ok(Series { period_ms: period_ms(&readings), scale: decimals as u8, readings }))
}

fn places(value: &str) -> usize {
    value.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

fn scaled(value: &str, decimals: usize) -> Option<i64> {
    let zeros = "0".repeat(decimals - places(value));
    (value.replacen('.', "", 1) + &zeros).parse().ok()
}

/// The commonest distance of two readings: what a node would name as its period.
fn period_ms(readings: &[(u64, i64)]) -> u32 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for pair in readings.windows(2) {
        *counts.entry(pair[1].0.wrapping_sub(pair[0].0)).or_default() += 1;
    }
    let commonest = counts.into_iter().max_by_key(|(_, count)| *count);
    commonest.and_then(|(distance, _)| u32::try_from(distance).ok()).unwrap_or(0)
}

fn encode(series: &Series, rows: usize) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut buffer = vec![0; HEADER_MAX + rows * ROW_SIZE_MAX];
    let scales = [series.scale];
    let mut blocks = Vec::new();
    for (sequence, chunk) in series.readings.chunks(rows).enumerate() {
        let spec = BlockSpec {
            boot_epoch: 1,
            sequence: u32::try_from(sequence)?,
            first_sample: u32::try_from(sequence * rows)?,
            clock: Clock::Unix,
            period_ms: series.period_ms,
            scales: &scales,
        };
        let mut block = BlockEncoder::new(&mut buffer, &spec, chunk[0].0)?;
        for (time_ms, value) in chunk {
            block.push(*time_ms, &[*value])?;
        }
        blocks.push(block.finish().to_vec());
    }
    Ok(blocks)
}

fn decode(blocks: &[Vec<u8>], mut take: impl FnMut(u64, i64)) -> Result<(), Box<dyn Error>> {
    for block in blocks {
        let mut decoder = BlockDecoder::new(block)?;
        let mut values = [0];
        while let Some(row) = decoder.next_row(&mut values) {
            take(row?, values[0]);
        }
    }
    Ok(())
}

/// Prints a row of the table; returns bytes a reading.
fn measure(series: &Series, rows: usize, name: &str) -> Result<f64, Box<dyn Error>> {
    let blocks = encode(series, rows)?;
    let mut read = Vec::new();
    decode(&blocks, |time_ms, value| read.push((time_ms, value)))?;
    if read != series.readings {
        return Err(format!("{name}: what was read is not what was written").into());
    }
    let count = series.readings.len() as f64;
    let bytes: usize = blocks.iter().map(|block| block.len() + BATCH_HEADER_SIZE).sum();
    let bytes_each = bytes as f64 / count;
    let encode_ns = best_ns(|| encode(series, rows).map(drop))? / count;
    let decode_ns = best_ns(|| {
        decode(&blocks, |time_ms, value| {
            black_box((time_ms, value));
        })
    })? / count;
    println!(
        "{rows:>6} {:>8} {:>7} {bytes_each:>9.3} {encode_ns:>9.1} {decode_ns:>9.1}  {name}, {} decimals",
        series.readings.len(),
        blocks.len(),
        series.scale,
    );
    Ok(bytes_each)
}

/// The shortest of ten runs: what the machine's other work did not lengthen.
fn best_ns(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    Ok(best)
}
