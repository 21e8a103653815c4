//! Formats on their way through a real broker: Avro read back by the library, and what blocks cost
//! on the wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use headwater::catalog::Catalog;
use headwater::config::{Config, LinkConfig};
use headwater::forward::{
    ForwardMetrics, ForwardStatus, Forwarder, Identity, RouteState, RouteStatus, Surroundings,
};
use headwater::journal::{Journal, JournalOptions, NewRecord};
use headwater::node::Nodes;
use headwater::sparkplug::Sparkplug;
use headwater::stream::{Rows, Streams};
use headwater_shared::block::{BlockEncoder, BlockSpec, Clock, Kind, Step, Value};
use headwater_shared::envelope::{Envelope, Publish};
use hw_tests::kafka::Kafka;
use hw_tests::proxy::Proxy;
use tokio::sync::watch;

use crate::registry::{Content, Double};

/// Nothing here takes as long on a machine that works.
const LONG: Duration = Duration::from_secs(120);

/// Journal, streams and a forwarder that runs until the value is dropped.
struct Bench {
    journal: Journal,
    streams: Arc<Streams>,
    status: ForwardStatus,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn start(dir: &Path, text: &str) -> Self {
        let config = Config::parse("bench", text).expect("a configuration");
        let catalog = Arc::new(Catalog::open(&dir.join("catalog.redb")).expect("new"));
        let streams = Arc::new(Streams::new(&config, &catalog).expect("partitions"));
        let options = JournalOptions::default();
        let (journal, _) = Journal::open(&dir.join("log"), options).expect("a journal");
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::new(Nodes::default()), sparkplug);
        let with = Surroundings {
            identity: Identity { gateway: config.id.clone(), incarnation: "bench".to_owned() },
            opened: journal.durable().end,
            journal: journal.clone(),
            catalog,
            streams: Arc::clone(&streams),
            rows,
            metrics: ForwardMetrics::default(),
        };
        let upstream = &config.upstreams["cluster"];
        let forwarder =
            Forwarder::new("cluster", (upstream, LinkConfig::default()), &config.routes, with)
                .expect("a forwarder");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let status = forwarder.status();
        let (stop, stopped) = watch::channel(false);
        let task = Some(runtime.spawn(forwarder.run(stopped)));
        Self { journal, streams, status, stop, task, runtime }
    }

    fn append(&self, stream: &str, key: &str, topic: &str, time_ms: i64, payload: &[u8]) {
        let envelope = Envelope::Publish(Publish {
            topic,
            client: "bench",
            arrival_ms: time_ms,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload,
        });
        let partition = self.streams.get(stream).expect("configured").partition_of(key);
        let record = NewRecord { partition, time_ms, key, envelope: &envelope };
        self.journal.append(&record).expect("room");
    }

    fn wait(&self, what: &str, topic: &str, until: impl Fn(&RouteStatus) -> bool) {
        let deadline = Instant::now() + LONG;
        loop {
            let routes = self.status.routes();
            if routes.iter().any(|route| route.topic == topic && until(route)) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {routes:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A forwarder that broke down has said so in what the test looks at.
            drop(self.runtime.block_on(task));
        }
    }
}

fn avro_config(dir: &Path, brokers: &str, registry: &str) -> String {
    format!(
        "[gateway]\nid = \"bench\"\ndata_dir = \"{}\"\n\
         [[stream]]\nname = \"climate\"\ntopic = \"s/{{device}}\"\nkey = \"device\"\n\
         format = \"json\"\ncolumns = {{ t = \"double\", n = \"integer\" }}\n\
         [upstream.cluster]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\n\
         [upstream.cluster.registry]\nurl = \"{registry}\"\n\
         [[route]]\nstream = \"climate\"\nupstream = \"cluster\"\ntopic = \"avro\"\n\
         format = \"avro\"\ntopic_config = {{ \"retention.ms\" = \"-1\" }}\n\
         [[route]]\nstream = \"climate\"\nupstream = \"cluster\"\ntopic = \"json\"\n",
        dir.display()
    )
}

/// The registry is a double: see docs/status.md.
#[test]
fn avro_waits_for_its_first_schema_alone_and_is_read_back_row_by_row() {
    const COUNT: u32 = 500;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let content = Arc::<std::sync::Mutex<Content>>::default();
    let away = Double::start(0, Arc::clone(&content)).expect("a port");
    let (url, port) = (away.url(), away.address.port());
    drop(away);
    let bench = Bench::start(dir.path(), &avro_config(dir.path(), kafka.brokers(), &url));
    for n in 0..COUNT {
        let payload = format!("{{\"t\":{}.5,\"n\":{n},\"more\":[{n}]}}", n % 40);
        bench.append("climate", "pump", "s/pump", 1_763_700_000_000, payload.as_bytes());
    }
    bench.append("climate", "pump", "s/pump", 1_763_700_000_000, b"{\"t\":\"warm\"}");
    bench.wait("json goes on", "json", |route| route.lag == 0);
    bench.wait("avro waits", "avro", |route| {
        let says = |error: &String| error.contains("subject avro-value");
        route.state == RouteState::Retrying && route.last_error.as_ref().is_some_and(says)
    });
    let _registry = Double::start(port, Arc::clone(&content)).expect("the port is still free");
    bench.wait("avro goes", "avro", |route| route.lag == 0 && route.last_error.is_none());

    let schema = content.lock().expect("whole").schemas[0].clone();
    let schema = Schema::parse_str(&schema).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let records = kafka.consume_committed("avro").expect("the topic can be read");
    assert_eq!(records.len(), COUNT as usize + 1);
    let (gap, rows) = records.split_last().expect("records");
    for (n, record) in (0..).zip(rows) {
        assert_eq!(record.value[..5], [0, 0, 0, 0, 1], "magic and id");
        let value = reader.read_value(&mut &record.value[5..]).expect("a record");
        let Avro::Record(fields) = value else { panic!("{value:?}") };
        let fields: BTreeMap<String, Avro> = fields.into_iter().collect();
        let some = |branch, value| Avro::Union(branch, Box::new(value));
        assert_eq!(fields["t"], some(1, Avro::Double(f64::from(n % 40) + 0.5)));
        assert_eq!(fields["n"], some(1, Avro::Long(i64::from(n))));
        assert_eq!(fields["device"], Avro::String("pump".to_owned()));
        assert_eq!(fields["time"], Avro::TimestampMillis(1_763_700_000_000));
        let others = [("more".to_owned(), Avro::String(format!("[{n}]")))];
        assert_eq!(fields["undeclared"], some(1, Avro::Map(others.into_iter().collect())));
    }
    assert_eq!(gap.header("hw.gap"), Some("schema"), "what does not fit is named");
    assert!(String::from_utf8_lossy(&gap.value).contains("column t"));
    bench.wait("it is a dead letter too", "avro", |route| route.refused == 1);
}

/// Readings of a file of `<unix ms> <value>` lines on a grid of a third of 0.01, as a node makes it
/// that averages three readings.
fn series(text: &str) -> Vec<(u64, i64)> {
    text.lines()
        .map(|line| {
            let (time, value) = line.split_once(' ').expect("two words");
            let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
            let digits = format!("{whole}{fraction:0<8}");
            (time.parse().expect("ms"), digits.parse().expect("8 decimals at most"))
        })
        .collect()
}

/// The blocks of a series, of `rows` readings each.
fn blocks(readings: &[(u64, i64)], rows: usize) -> Vec<(i64, Vec<u8>)> {
    let step = Step { up: 1, parts: 300 };
    let kinds = [Kind::Grid { scale: 8, step }];
    let whole = readings.chunks_exact(rows);
    whole
        .zip(0..)
        .map(|(chunk, sequence)| {
            let spec = BlockSpec {
                boot_epoch: 1,
                sequence,
                first_sample: sequence * u32::try_from(rows).expect("few"),
                clock: Clock::Unix,
                period_ms: 600_000,
                kinds: &kinds,
            };
            let mut buffer = vec![0; 16 << 10];
            let mut block = BlockEncoder::new(&mut buffer, &spec, chunk[0].0).expect("a block");
            for (time_ms, value) in chunk {
                block.push_values(*time_ms, &[Value::Decimal(*value)]).expect("it fits");
            }
            (chunk[0].0.cast_signed(), block.finish().to_vec())
        })
        .collect()
}

/// Readings that go as blocks of 256 cost at most this, Kafka's own bytes included.
const BYTES_A_READING_MAX: f64 = 1.3;

#[test]
fn a_reading_in_a_block_of_256_costs_little_on_the_wire() {
    const ROWS: usize = 256;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let proxy = Proxy::start().expect("a port");
    let port = proxy.address().port();
    let kafka = Kafka::start_behind(&dir.path().join("kafka"), port).expect("a broker");
    proxy.set_target(Some(kafka.brokers().parse().expect("an address")));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let mut all = Vec::new();
    for name in ["uci_energy_T1.txt", "uci_energy_RH_1.txt"] {
        let text = std::fs::read_to_string(data.join(name)).expect("the series");
        all.extend(blocks(&series(&text), ROWS));
    }
    let own: usize = all.iter().map(|(_, block)| block.len()).sum();
    let text = format!(
        "[gateway]\nid = \"greenhouse-1\"\ndata_dir = \"{}\"\n\
         [[stream]]\nname = \"readings\"\ntopic = \"headwater/v1/{{node}}/blocks\"\n\
         key = \"node\"\nformat = \"blocks\"\n\
         [upstream.cluster]\nkind = \"kafka\"\nbrokers = \"127.0.0.1:{port}\"\n\
         properties = {{ \"compression.codec\" = \"lz4\" }}\n\
         [[route]]\nstream = \"readings\"\nupstream = \"cluster\"\ntopic = \"plant.readings\"\n\
         format = \"blocks\"\n",
        dir.path().display()
    );
    let bench = Bench::start(dir.path(), &text);
    let append = |node: usize, (time_ms, block): &(i64, Vec<u8>)| {
        let key = format!("node-{}", node % 20);
        let topic = format!("headwater/v1/{key}/blocks");
        bench.append("readings", &key, &topic, *time_ms, block);
    };
    let settled = |count: u64| move |route: &RouteStatus| route.records >= count;
    append(0, &all[0]);
    bench.wait("it is connected", "plant.readings", settled(1));
    let mut sent = 1;
    let mut measure = |blocks: &[(i64, Vec<u8>)], each: bool| {
        std::thread::sleep(Duration::from_millis(1_500));
        let before = proxy.passed();
        for (node, block) in blocks.iter().enumerate() {
            append(node, block);
            sent += 1;
            if each {
                bench.wait("it is sent", "plant.readings", settled(sent));
            }
        }
        bench.wait("all is sent", "plant.readings", settled(sent));
        let after = proxy.passed();
        let readings = (blocks.len() * ROWS) as f64;
        ((after.0 - before.0) as f64 / readings, (after.1 - before.1) as f64 / readings)
    };
    let (up, down) = measure(&all[1..], false);
    let (up_alone, down_alone) = measure(&all[1..6], true);
    let count = all.len();
    eprintln!(
        "{count} blocks of {ROWS} readings, {:.3} bytes a reading by themselves; on the wire {:.3} \
         (up {up:.3}, down {down:.3}); a block a transaction {:.3} (up {up_alone:.3}, down \
         {down_alone:.3})",
        own as f64 / (count * ROWS) as f64,
        up + down,
        up_alone + down_alone,
    );
    assert!(up + down <= BYTES_A_READING_MAX, "{:.3} bytes a reading", up + down);
}
