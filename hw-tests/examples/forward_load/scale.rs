//! Many gateways on one broker: what transactions cost the cluster, by gateways and partitions.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hw_tests::journal::Bench;
use hw_tests::kafka::Kafka;
use tokio::sync::watch;

use crate::usage;

type Done<T> = Result<T, Box<dyn Error>>;

/// How long each number of gateways is looked at, once all of them run.
const LOOK: Duration = Duration::from_secs(30);
/// All gateways have to be connected by then.
const CONNECTED: Duration = Duration::from_secs(240);
/// Each gateway stores one record so often.
const EVERY: Duration = Duration::from_secs(1);

/// What one setting cost.
struct Cost {
    transactions: f64,
    commit_ms: Vec<u64>,
    broker_cpu: f64,
    state_bytes: u64,
    position_bytes: u64,
    data_bytes: u64,
    records: u64,
}

pub(crate) fn run(gateways: &[usize]) -> Done<()> {
    println!("one record a second and gateway; bytes are what the broker wrote, a transaction");
    println!(
        "{:>8} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7}",
        "gateways", "txn/s", "p50 ms", "p99 ms", "CPU %", "state", "pos.", "data", "rec/txn"
    );
    for &count in gateways {
        let dir = tempfile::tempdir()?;
        let kafka = Kafka::start(&dir.path().join("kafka"))?;
        kafka.make_topic("plant.data", 3)?;
        let cost = measure(count, &kafka, dir.path())?;
        show(count, &cost);
    }
    Ok(())
}

fn show(gateways: usize, cost: &Cost) {
    let mut commit_ms = cost.commit_ms.clone();
    commit_ms.sort_unstable();
    let at = |part: usize| commit_ms.get(commit_ms.len() * part / 100).copied().unwrap_or(0);
    let each = |bytes: u64| bytes as f64 / cost.transactions.max(1.0);
    let seconds = LOOK.as_secs_f64();
    println!(
        "{gateways:>8} {:>6.0} {:>8} {:>8} {:>8.0} {:>7.0} {:>7.0} {:>7.0} {:>7.2}",
        cost.transactions / seconds,
        at(50),
        at(99),
        100.0 * cost.broker_cpu / seconds,
        each(cost.state_bytes),
        each(cost.position_bytes),
        each(cost.data_bytes),
        cost.records as f64 / cost.transactions.max(1.0),
    );
}

fn measure(count: usize, kafka: &Kafka, dir: &Path) -> Done<Cost> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let mut benches = Vec::new();
    let mut running = Vec::new();
    let mut statuses = Vec::new();
    for index in 0..count {
        let data = dir.join(format!("gateway-{index}"));
        fs::create_dir_all(&data)?;
        let bench = Bench::open_as(&format!("gateway-{index}"), &data, kafka.brokers())?;
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
    let end = Instant::now() + LOOK;
    let mut commit_ms = Vec::new();
    while Instant::now() < end {
        // Spread over the interval, as gateways are.
        for bench in &benches {
            bench.append(number).map_err(|problem| problem.to_string())?;
            std::thread::sleep(EVERY / u32::try_from(count)?);
        }
        number += 1;
        commit_ms.extend(statuses.iter().map(|status| status.routes()[0].transaction_ms));
    }
    let after = Marks::take(kafka, &logs, &statuses)?;
    stop.send_replace(true);
    for running in running {
        runtime.block_on(running)?;
    }
    benches.iter().for_each(|bench| bench.journal.close());
    Ok(Cost {
        transactions: (after.transactions - before.transactions) as f64,
        commit_ms,
        broker_cpu: after.cpu_seconds - before.cpu_seconds,
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
