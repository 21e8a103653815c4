//! Records a second, CPU and memory, beside ProducerPerformance.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hw_tests::journal::Bench;
use hw_tests::kafka::Kafka;
use tokio::sync::watch;

use crate::usage::{self, Usage};

const RECORDS: u64 = 1_000_000;
const BYTES: usize = 200;

type Done<T> = Result<T, Box<dyn Error>>;

/// `pairs` runs of each, in turns.
pub(crate) fn run(pairs: usize) -> Done<()> {
    let dir = tempfile::tempdir()?;
    let kafka = Kafka::start(&dir.path().join("kafka"))?;
    let full = dir.path().join("full");
    fill(&full, kafka.brokers())?;
    println!("{RECORDS} records of {BYTES} B, 3 partitions, transactions");
    for pair in 1..=pairs {
        // Each run has a topic, positions and a gateway of its own.
        let data = dir.path().join(format!("run-{pair}"));
        copy(&full, &data)?;
        kafka.make_topic("plant.data", 3)?;
        let ours = forward_process(&data, kafka.brokers())?;
        kafka.delete_topic("plant.data")?;
        std::fs::remove_dir_all(&data)?;
        kafka.make_topic("perf", 3)?;
        let java = producer_performance(&kafka)?;
        kafka.delete_topic("perf")?;
        report(pair, &ours, &java);
    }
    Ok(())
}

fn report(pair: usize, ours: &(f64, Usage), java: &(f64, Usage)) {
    for (name, (rate, usage)) in [("headwater", ours), ("ProducerPerformance", java)] {
        let Usage { seconds, cpu_seconds, peak_mb } = usage;
        println!(
            "pair {pair} {name:>20}: {rate:>8.0} records/s, {seconds:>5.1} s, {cpu_seconds:>5.2} CPU \
             s, {peak_mb:>6.1} MB"
        );
    }
    println!(
        "pair {pair} {:>20}: {:.2} x its rate (bar 1), {:.2} x its CPU (0.5), {:.3} x its memory (0.1)",
        "ratio",
        ours.0 / java.0,
        ours.1.cpu_seconds / java.1.cpu_seconds,
        ours.1.peak_mb / java.1.peak_mb
    );
}

fn fill(dir: &Path, brokers: &str) -> Done<()> {
    std::fs::create_dir_all(dir)?;
    let bench = Bench::open(dir, brokers)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        for number in 0..RECORDS {
            if number % 256 == 0 {
                bench.journal.admit().await;
            }
            bench.append_sized(number, BYTES)?;
        }
        Ok::<_, headwater::journal::AppendError>(())
    })?;
    bench.journal.close();
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Done<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    if done.success() { Ok(()) } else { Err("the journal cannot be copied".into()) }
}

fn forward_process(dir: &Path, brokers: &str) -> Done<(f64, Usage)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("forward")
        .arg(dir)
        .arg(brokers)
        .stdout(Stdio::piped())
        .spawn()?;
    let usage = usage::watch(&mut child)?;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().ok_or("it is piped")?, &mut said)?;
    Ok((said.trim().parse()?, usage))
}

/// The measured process: forwards all that the journal in `dir` holds, and prints records a second
/// from the first confirmed transaction's begin.
pub(crate) fn forward(dir: &Path, brokers: &str) -> Done<()> {
    // As its peer, which does not compress.
    let upstream = format!("brokers = \"{brokers}\"\ncompression = \"none\"\n");
    let bench = Bench::open_with(dir, &upstream, "")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = runtime.block_on(async {
        let forwarder = bench.forwarder()?;
        let status = forwarder.status();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(forwarder.run(stopped));
        let mut began = None;
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let route = status.routes().swap_remove(0);
            if began.is_none() && route.state == headwater::forward::RouteState::Running {
                began = Some(Instant::now());
            }
            if route.lag == 0 && route.records >= RECORDS {
                break;
            }
        }
        let seconds = began.map_or(f64::INFINITY, |began| began.elapsed().as_secs_f64());
        stop.send_replace(true);
        running.await.map_err(|problem| problem.to_string())?;
        Ok::<_, String>(RECORDS as f64 / seconds)
    })?;
    println!("{rate}");
    Ok(())
}

/// Records a second of Kafka's own producer, and what it used.
pub(crate) fn producer_performance(kafka: &Kafka) -> Done<(f64, Usage)> {
    let mut child = kafka
        .tool("org.apache.kafka.tools.ProducerPerformance")?
        .args(["--topic", "perf", "--num-records", &RECORDS.to_string()])
        .args(["--record-size", &BYTES.to_string(), "--throughput", "-1"])
        .args(["--transactional-id", "perf", "--transaction-duration-ms", "100"])
        .args(["--producer-props", "acks=all"])
        .arg(format!("bootstrap.servers={}", kafka.brokers()))
        .stdout(Stdio::piped())
        .spawn()?;
    let usage = usage::watch(&mut child)?;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().ok_or("it is piped")?, &mut said)?;
    // 1000000 records sent, 123456.7 records/sec (23.55 MB/sec), ...
    let rate = said.lines().rev().find_map(|line| {
        let (_, rest) = line.split_once("records sent, ")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    Ok((rate.ok_or_else(|| format!("ProducerPerformance said: {said}"))?, usage))
}
