//! Many gateways on one broker: what transactions cost the cluster, by gateways and partitions.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hw_tests::journal::{Bench, TOPIC};
use hw_tests::kafka::Kafka;
use tokio::sync::watch;

use crate::usage;

type Done<T> = Result<T, Box<dyn Error>>;

/// How long each setting is looked at, once all gateways run; several of its intervals.
const LOOK: Duration = Duration::from_secs(30);
/// All gateways have to be connected by then.
const CONNECTED: Duration = Duration::from_secs(240);

/// So many gateways, each of which stores so many records at a time, so often.
#[derive(Clone, Copy, Debug)]
struct Setting {
    gateways: usize,
    every: Duration,
    records: u64,
}

impl Setting {
    /// `GATEWAYS[:EVERY_MS[:RECORDS]]`.
    fn parse(text: &str) -> Done<Self> {
        let mut numbers = text.split(':').map(str::parse::<u64>);
        let gateways = numbers.next().ok_or("a number of gateways")??;
        let every_ms = numbers.next().unwrap_or(Ok(1_000))?;
        let records = numbers.next().unwrap_or(Ok(1))?;
        let gateways = usize::try_from(gateways)?;
        Ok(Self { gateways, every: Duration::from_millis(every_ms), records })
    }
}

/// What one setting cost.
struct Cost {
    seconds: f64,
    transactions: f64,
    commit_ms: Vec<u64>,
    broker_cpu: f64,
    broker_mb: f64,
    state_bytes: u64,
    position_bytes: u64,
    data_bytes: u64,
    records: u64,
}

pub(crate) fn run(settings: &[&str]) -> Done<()> {
    println!("bytes are what the broker wrote, a transaction");
    println!(
        "{:>8} {:>7} {:>7} {:>6} {:>7} {:>7} {:>6} {:>7} {:>6} {:>6} {:>6} {:>7}",
        "gateways",
        "each ms",
        "records",
        "txn/s",
        "p50 ms",
        "p99 ms",
        "CPU %",
        "MB",
        "state",
        "pos.",
        "data",
        "rec/txn"
    );
    for setting in settings {
        let setting = Setting::parse(setting)?;
        let dir = tempfile::tempdir()?;
        let kafka = Kafka::start(&dir.path().join("kafka"))?;
        kafka.make_topic(TOPIC, 3)?;
        show(setting, &measure(setting, &kafka, dir.path())?);
    }
    Ok(())
}

fn show(setting: Setting, cost: &Cost) {
    let mut commit_ms = cost.commit_ms.clone();
    commit_ms.sort_unstable();
    let at = |part: usize| commit_ms.get(commit_ms.len() * part / 100).copied().unwrap_or(0);
    let each = |bytes: u64| bytes as f64 / cost.transactions.max(1.0);
    println!(
        "{:>8} {:>7} {:>7} {:>6.0} {:>7} {:>7} {:>6.0} {:>7.0} {:>6.0} {:>6.0} {:>6.0} {:>7.2}",
        setting.gateways,
        setting.every.as_millis(),
        setting.records,
        cost.transactions / cost.seconds,
        at(50),
        at(99),
        100.0 * cost.broker_cpu / cost.seconds,
        cost.broker_mb,
        each(cost.state_bytes),
        each(cost.position_bytes),
        each(cost.data_bytes),
        cost.records as f64 / cost.transactions.max(1.0),
    );
}

fn measure(setting: Setting, kafka: &Kafka, dir: &Path) -> Done<Cost> {
    let Setting { gateways: count, every, records } = setting;
    let upstream = format!("brokers = \"{}\"\n", kafka.brokers());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let mut benches = Vec::new();
    let mut running = Vec::new();
    let mut statuses = Vec::new();
    for index in 0..count {
        let data = dir.join(format!("gateway-{index}"));
        fs::create_dir_all(&data)?;
        let bench = Bench::open_as(&format!("gateway-{index}"), TOPIC, &data, &upstream, "")?;
        let forwarder = bench.forwarder()?;
        statuses.push(forwarder.status());
        running.push(runtime.spawn(forwarder.run(stopped.clone())));
        benches.push(bench);
    }
    let connected = || {
        let runs = |status: &headwater::forward::ForwardStatus| {
            status.routes()[0].state == headwater::forward::RouteState::Running
        };
        statuses.iter().all(runs)
    };
    let deadline = Instant::now() + CONNECTED;
    while !connected() {
        if Instant::now() > deadline {
            return Err("not all gateways are connected".into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let logs = kafka.log_dir();
    let before = Marks::take(kafka, &logs, &statuses)?;
    let mut number = 0;
    let began = Instant::now();
    let mut commit_ms = Vec::new();
    while began.elapsed() < LOOK.max(every * 4) {
        // Spread over the interval, as gateways are.
        let turn = Instant::now();
        for (index, bench) in (1..).zip(&benches) {
            for record in 0..records {
                bench.append(number + record).map_err(|problem| problem.to_string())?;
            }
            let next = turn + every * index / u32::try_from(count)?;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        number += records;
        commit_ms.extend(statuses.iter().map(|status| status.routes()[0].transaction_ms));
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = Marks::take(kafka, &logs, &statuses)?;
    stop.send_replace(true);
    for running in running {
        runtime.block_on(running)?;
    }
    benches.iter().for_each(|bench| bench.journal.close());
    Ok(Cost {
        seconds,
        transactions: (after.transactions - before.transactions) as f64,
        commit_ms,
        broker_cpu: after.cpu_seconds - before.cpu_seconds,
        broker_mb: after.peak_mb,
        state_bytes: after.state - before.state,
        position_bytes: after.positions - before.positions,
        data_bytes: after.data - before.data,
        records: after.records - before.records,
    })
}

/// Counters at a moment.
struct Marks {
    transactions: u64,
    records: u64,
    cpu_seconds: f64,
    peak_mb: f64,
    state: u64,
    positions: u64,
    data: u64,
}

impl Marks {
    fn take(
        kafka: &Kafka,
        logs: &Path,
        statuses: &[headwater::forward::ForwardStatus],
    ) -> Done<Self> {
        let routes = || statuses.iter().map(|status| status.routes().swap_remove(0));
        let usage = kafka.process().and_then(usage::of).ok_or("the broker runs")?;
        Ok(Self {
            transactions: routes().map(|route| route.transactions).sum(),
            records: routes().map(|route| route.records).sum(),
            cpu_seconds: usage.cpu_seconds,
            peak_mb: usage.peak_mb,
            state: bytes_of(logs, "__transaction_state-")?,
            positions: bytes_of(logs, "headwater.positions-")?,
            data: bytes_of(logs, "plant.data-")?,
        })
    }
}

/// Bytes of the segments of all partitions of a topic.
fn bytes_of(logs: &Path, topic: &str) -> Done<u64> {
    let mut bytes = 0;
    for partition in fs::read_dir(logs)? {
        let partition = partition?;
        if !partition.file_name().to_string_lossy().starts_with(topic) {
            continue;
        }
        for file in fs::read_dir(partition.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().ends_with(".log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
