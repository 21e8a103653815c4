//! Bytes and nanoseconds a reading of series blocks, for series in files.
//!
//! ```text
//! block_sizes [--block 64,256,1024] [--round PLACES] FILE...
//! ```
//!
//! A file has one reading a line, `<unix ms> <value>`; empty lines are skipped. The channel is what a
//! node would make it: decimals if all values have at most 9 places and fit 64 bits, on a grid if
//! nearly all are multiples of one step, else floats of 64 bits. The bytes count all that a record of
//! such a block costs: header, CRC, and an allowance for the header of the log's batch around it.
//! `--round` rounds the values first, for series that were published with more digits than their
//! sensor has.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that prints a table")]

mod grid;
mod series;

use headwater_shared::block::{
    BlockDecoder, BlockEncoder, BlockSpec, COUNT_MAX, Clock, HEADER_MAX, Kind, SCALE_MAX, Value,
};
use series::{Readings, Series};
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

/// What the log writes before a batch.
const BATCH_HEADER_SIZE: usize = 12;

/// Bytes of a row at most: a time, a value off its grid.
const ROW_SIZE_MAX: usize = 36;

/// Runs of which the shortest counts.
const ROUNDS: usize = 15;

/// Bytes a reading that are aimed at, by readings a block, in the mean of the series of decimals.
const BARS: [(usize, f64); 3] = [(64, 1.4), (256, 1.15), (1024, 1.05)];

/// Nanoseconds a reading that are aimed at, each way.
const BAR_NS: f64 = 30.0;

const USAGE: &str = "usage: block_sizes [--block 64,256,1024] [--round PLACES] FILE...";

struct Arguments {
    sizes: Vec<usize>,
    round: Option<usize>,
    files: Vec<String>,
}

/// What a row of the table shows.
struct Measured {
    bytes_each: f64,
    encode_ns: f64,
    decode_ns: f64,
}

fn main() {
    if let Err(problem) = run() {
        eprintln!("{problem}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Arguments { sizes, round, files } = arguments()?;
    println!(
        "{:>6} {:>8} {:>7} {:>9} {:>9} {:>9}  series",
        "block", "readings", "blocks", "B/reading", "enc ns", "dec ns"
    );
    let mut decimals: BTreeMap<usize, Vec<Measured>> = BTreeMap::new();
    for file in &files {
        let name = file.rsplit('/').next().unwrap_or(file);
        let text = std::fs::read_to_string(file).map_err(|problem| format!("{file}: {problem}"))?;
        let series = series::parse(&text, round).map_err(|problem| format!("{file}: {problem}"))?;
        println!("{name}: {}", series.why);
        for &rows in &sizes {
            let measured =
                measure(&series, rows).map_err(|problem| format!("{file}: {problem}"))?;
            print_row(rows, &series, &measured);
            if series.is_decimal() {
                decimals.entry(rows).or_default().push(measured);
            }
        }
    }
    print_means(&decimals);
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
            let numbers = list.split(',').map(str::parse).collect::<Result<_, _>>();
            sizes = numbers.map_err(|_| format!("{USAGE}: {list:?} is no list of numbers"))?;
        } else if argument == "--round" {
            let places = arguments.next().and_then(|places| places.parse().ok()).ok_or(USAGE)?;
            round = Some(usize::min(places, usize::from(SCALE_MAX)));
        } else if argument.starts_with("--") {
            return Err(format!("{USAGE}: {argument} is not known").into());
        } else {
            files.push(argument);
        }
    }
    if files.is_empty() || sizes.iter().any(|rows| !(1..=usize::from(COUNT_MAX)).contains(rows)) {
        return Err(format!("{USAGE} (1 to {COUNT_MAX} readings a block)").into());
    }
    Ok(Arguments { sizes, round, files })
}

fn print_row(rows: usize, series: &Series, measured: &Measured) {
    println!(
        "{rows:>6} {:>8} {:>7} {:>9.3} {:>9.1} {:>9.1}",
        series.times_ms.len(),
        series.times_ms.len().div_ceil(rows),
        measured.bytes_each,
        measured.encode_ns,
        measured.decode_ns,
    );
}

fn print_means(decimals: &BTreeMap<usize, Vec<Measured>>) {
    if decimals.is_empty() {
        println!("no series scales to decimals");
        return;
    }
    println!("mean of the series that scale to decimals, and what is aimed at");
    for (rows, each) in decimals {
        let mean = |of: fn(&Measured) -> f64| each.iter().map(of).sum::<f64>() / each.len() as f64;
        let bar = BARS.iter().find(|(of, _)| of == rows);
        println!(
            "{rows:>6} {:>16} {:>9.3} {:>9.1} {:>9.1}  {} series; {}{BAR_NS} ns",
            "",
            mean(|measured| measured.bytes_each),
            mean(|measured| measured.encode_ns),
            mean(|measured| measured.decode_ns),
            each.len(),
            bar.map_or_else(String::new, |(_, bytes)| format!("{bytes} B, ")),
        );
    }
}

fn spec<'a>(series: &Series, kinds: &'a [Kind], first: usize, rows: usize) -> BlockSpec<'a> {
    BlockSpec {
        boot_epoch: 1,
        sequence: (first / rows) as u32,
        first_sample: first as u32,
        clock: Clock::Unix,
        period_ms: series.period_ms,
        kinds,
    }
}

/// Writes all blocks one behind the other; returns their ends.
fn encode(series: &Series, rows: usize, out: &mut [u8]) -> Result<Vec<usize>, Box<dyn Error>> {
    let kinds = [series.kind];
    let mut ends = Vec::with_capacity(series.times_ms.len().div_ceil(rows));
    let mut at = 0;
    for (index, times_ms) in series.times_ms.chunks(rows).enumerate() {
        let first = index * rows;
        let spec = spec(series, &kinds, first, rows);
        let mut block = BlockEncoder::new(&mut out[at..], &spec, times_ms[0])?;
        for (offset, time_ms) in times_ms.iter().enumerate() {
            match &series.readings {
                Readings::Decimals(values) if matches!(series.kind, Kind::Decimal { .. }) => {
                    block.push(*time_ms, &[values[first + offset]])?;
                }
                Readings::Decimals(values) => {
                    block.push_values(*time_ms, &[Value::Decimal(values[first + offset])])?;
                }
                Readings::Floats(values) => {
                    block.push_values(*time_ms, &[Value::Float64(values[first + offset])])?;
                }
            }
        }
        at += block.finish().len();
        ends.push(at);
    }
    Ok(ends)
}

fn decode(
    bytes: &[u8],
    ends: &[usize],
    mut take: impl FnMut(u64, Value<'_>),
) -> Result<(), Box<dyn Error>> {
    let mut at = 0;
    for end in ends {
        let mut decoder = BlockDecoder::new(&bytes[at..*end])?;
        at = *end;
        if matches!(decoder.header().kinds(), [Kind::Decimal { .. }]) {
            let mut values = [0];
            while let Some(time_ms) = decoder.next_row(&mut values) {
                take(time_ms?, Value::Decimal(values[0]));
            }
        } else {
            let mut values = [Value::Boolean(false)];
            while let Some(time_ms) = decoder.next_values(&mut values) {
                take(time_ms?, values[0]);
            }
        }
    }
    Ok(())
}

/// Bytes and times of a series in blocks of `rows`, after what is read was compared with what was
/// written.
fn measure(series: &Series, rows: usize) -> Result<Measured, Box<dyn Error>> {
    let count = series.times_ms.len();
    let blocks = count.div_ceil(rows);
    let mut bytes = vec![0; blocks * HEADER_MAX + count * ROW_SIZE_MAX];
    let ends = encode(series, rows, &mut bytes)?;
    let size = ends.last().copied().unwrap_or(0);
    let mut index = 0;
    let mut is_same = true;
    decode(&bytes, &ends, |time_ms, value| {
        is_same &= series.is_at(index, time_ms, value);
        index += 1;
    })?;
    if !is_same || index != count {
        return Err("what was read is not what was written".into());
    }
    let (mut encode_ns, mut decode_ns) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(encode(series, rows, &mut bytes)?);
        encode_ns = encode_ns.min(start.elapsed().as_nanos() as f64);
        let start = Instant::now();
        decode(&bytes, &ends, |time_ms, value| {
            black_box((time_ms, value));
        })?;
        decode_ns = decode_ns.min(start.elapsed().as_nanos() as f64);
    }
    let each = count as f64;
    Ok(Measured {
        bytes_each: (size + blocks * BATCH_HEADER_SIZE) as f64 / each,
        encode_ns: encode_ns / each,
        decode_ns: decode_ns / each,
    })
}
