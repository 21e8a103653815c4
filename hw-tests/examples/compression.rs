//! CPU and bytes of each compression on a real broker, for JSON rows and for blocks of readings.
//!
//! `cargo run --release -p hw-tests --example compression`
//!
//! Bytes are what the broker's log holds of the topic (headers of records and batches included), CPU
//! is this process's, which does nothing but produce. Transactions of 500 rows, as the gateway's.
#![expect(clippy::print_stdout, reason = "a tool that prints a table")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use headwater_shared::block::{BlockEncoder, BlockSpec, Clock, Kind};
use hw_tests::kafka::Kafka;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

const LONG: Duration = Duration::from_secs(60);
const BLOCK_READINGS: usize = 256;
const RECORDS: usize = 100_000;
const TRANSACTION: usize = 500;
/// As many blocks as the series has, so that none comes twice in a transaction.
const BLOCKS_TRANSACTION: usize = 58;
/// Ticks a second of the times in /proc.
const TICKS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let kafka = Kafka::start(&dir.path().join("kafka"))?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/uci_energy_T1.txt");
    let series = series(&std::fs::read_to_string(data)?);
    println!(
        "{:>7} {:>5} {:>9} {:>12} {:>9} {:>10}",
        "values", "codec", "records", "payload B", "wire B", "CPU ms"
    );
    for (kind, values, transaction) in
        [("json", rows(&series), TRANSACTION), ("blocks", blocks(&series)?, BLOCKS_TRANSACTION)]
    {
        for codec in ["none", "lz4", "zstd"] {
            let topic = format!("{kind}.{codec}");
            let cpu_ms = produce(kafka.brokers(), &topic, codec, &values, transaction)?;
            let payload: usize = values.iter().map(Vec::len).sum();
            let wire = size_of(&dir.path().join("kafka/logs").join(format!("{topic}-0")))?;
            let count = values.len();
            println!("{kind:>7} {codec:>5} {count:>9} {payload:>12} {wire:>9} {cpu_ms:>10}");
        }
    }
    Ok(())
}

fn series(text: &str) -> Vec<(u64, i64)> {
    let lines = text.lines().filter_map(|line| {
        let (time_ms, value) = line.split_once(' ')?;
        Some((time_ms.parse().ok()?, (value.parse::<f64>().ok()? * 100.0).round() as i64))
    });
    lines.collect()
}

fn rows(series: &[(u64, i64)]) -> Vec<Vec<u8>> {
    let row = |(index, (time_ms, value)): (usize, &(u64, i64))| {
        let (whole, rest) = (value / 100, value % 100);
        let device = index % 11;
        format!(
            "{{\"device\":\"pump-{device}\",\"time\":{time_ms},\"temperature\":{whole}.{rest:02}}}"
        )
        .into_bytes()
    };
    series.iter().cycle().take(RECORDS).enumerate().map(row).collect()
}

fn blocks(series: &[(u64, i64)]) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut all = Vec::new();
    let kinds = [Kind::Decimal { scale: 2 }];
    for (sequence, readings) in series.chunks_exact(BLOCK_READINGS).enumerate() {
        let spec = BlockSpec {
            boot_epoch: 1,
            sequence: sequence as u32,
            first_sample: (sequence * BLOCK_READINGS) as u32,
            clock: Clock::Unix,
            period_ms: 600_000,
            kinds: &kinds,
        };
        let mut space = vec![0; 16 << 10];
        let mut block = BlockEncoder::new(&mut space, &spec, readings[0].0)?;
        for (time_ms, value) in readings {
            block.push(*time_ms, &[*value])?;
        }
        all.push(block.finish().to_vec());
    }
    let count = RECORDS / 10;
    Ok(all.into_iter().cycle().take(count).collect())
}

fn produce(
    brokers: &str,
    topic: &str,
    codec: &str,
    values: &[Vec<u8>],
    size: usize,
) -> Result<u64, Box<dyn Error>> {
    make(brokers, topic)?;
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", topic)
        .set("linger.ms", "2")
        .set("batch.size", "1000000")
        .set("compression.codec", codec)
        .create()?;
    producer.init_transactions(LONG)?;
    let before = cpu_ms()?;
    for (transaction, chunk) in values.chunks(size).enumerate() {
        producer.begin_transaction()?;
        for (index, value) in chunk.iter().enumerate() {
            let offset = (transaction * size + index).to_string();
            let mut headers = OwnedHeaders::new_with_capacity(3);
            for (key, value) in
                [("hw.gateway", "greenhouse-1"), ("hw.stream", "climate"), ("hw.offset", &offset)]
            {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let key = format!("pump-{}", index % 11);
            let record =
                BaseRecord::to(topic).partition(0).key(&key).payload(value).headers(headers);
            producer.send(record).map_err(|(problem, _)| problem)?;
        }
        while producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        producer.commit_transaction(LONG)?;
    }
    Ok(cpu_ms()? - before)
}

fn make(brokers: &str, topic: &str) -> Result<(), Box<dyn Error>> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))?;
    Ok(())
}

fn size_of(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// User and system time of this process.
fn cpu_ms() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks * 1000 / TICKS)
}
