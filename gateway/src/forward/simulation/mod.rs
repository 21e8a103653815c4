//! The engine in simulated time, over a journal and upstreams that fail on cue.

mod cluster;
mod disk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use headwater_shared::envelope::{Envelope, Publish};

use super::engine::{Engine, Lay, Now, Step};
use super::format::Encoder;
use super::local::{Local, Source};
use super::policy::core::Policy;
use super::policy::resume::Mark;
use super::status::{ForwardMetrics, Scores};
use super::upstream::Upstream;
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, RouteConfig, RouteFormat, TopicConfig};
use crate::journal::{ReadError, Record};
use crate::node::Nodes;
use crate::sparkplug::Sparkplug;
use crate::stream::{Rows, Streams};

const PARTITIONS: u16 = 3;

/// A journal of two streams, `data` and `other`, and the marks of the catalog. It survives crashes
/// of the engine.
#[derive(Clone)]
struct World {
    streams: Arc<Streams>,
    rows: Rows,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    start: u64,
    marks: BTreeMap<String, Mark>,
    kept: BTreeMap<String, u64>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
        let stream = |name: &str| {
            format!(
                "[[stream]]\nname = \"{name}\"\ntopic = \"{name}/{{device}}\"\nkey = \"device\"\n\
                 format = \"json\"\npartitions = {PARTITIONS}\n"
            )
        };
        let text = format!(
            "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n{}{}",
            stream("data"),
            stream("other")
        );
        let config = Config::parse("test", &text).expect("a configuration");
        let streams = Arc::new(Streams::new(&config, &catalog).expect("partitions"));
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::new(Nodes::default()), sparkplug);
        Self { streams, rows, log: Arc::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no test panics with it")
    }

    /// Appends a record of device `number % 7` and gives its partition.
    fn append(&self, stream: &str, number: u64) -> u16 {
        let key = format!("d{}", number % 7);
        let payload = format!("{{\"n\":{number}}}");
        let topic = format!("{stream}/{key}");
        let envelope = Envelope::Publish(Publish {
            topic: &topic,
            client: "c",
            arrival_ms: 5,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload: payload.as_bytes(),
        });
        let mut value = vec![0; envelope.size_max()];
        let used = envelope.encode(&mut value).expect("an upper bound").len();
        value.truncate(used);
        let partition = self.streams.get(stream).expect("configured").partition_of(&key);
        let mut log = self.log();
        let offset = log.records.len() as u64;
        let (key, value) = (key.into(), value.into());
        log.records.push(Record { offset, partition, time_ms: 5, key, value });
        partition
    }

    /// The offsets that a stream has from `from` on, by index of the partition.
    fn expected(&self, stream: &str, from: u64) -> BTreeMap<u16, Vec<u64>> {
        let numbers = &self.streams.get(stream).expect("configured").partitions;
        let mut all: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
        for record in self.log().records.iter().filter(|record| record.offset >= from) {
            if let Some(index) = numbers.iter().position(|number| *number == record.partition) {
                all.entry(u16::try_from(index).expect("few")).or_default().push(record.offset);
            }
        }
        all
    }

    fn routes() -> Vec<RouteConfig> {
        let route = |stream: &str, priority| RouteConfig {
            stream: stream.into(),
            upstream: "up".into(),
            topic: format!("t.{stream}"),
            topic_config: TopicConfig::default(),
            format: RouteFormat::Json,
            priority,
        };
        vec![route("data", 0), route("other", 1)]
    }

    fn engine<U: Upstream>(&self, policy: Policy, upstream: U) -> (Engine<U, World>, Scores) {
        let routes = Self::routes();
        let scores = Scores::new(&routes, &ForwardMetrics::default());
        let lay = |(index, route): (usize, &RouteConfig)| Lay {
            name: route.topic.clone(),
            numbers: self.streams.get(&route.stream).expect("configured").partitions.clone(),
            encoder: Encoder::new(
                index,
                &route.stream,
                route.format,
                self.rows.clone(),
                &self.streams,
            ),
            priority: route.priority,
        };
        let lays = routes.iter().enumerate().map(lay).collect();
        let engine = Engine::new(policy, 7, upstream, self.clone(), lays, scores.clone());
        (engine.expect("marks are there"), scores)
    }
}

struct FakeSource {
    log: Arc<Mutex<Log>>,
    position: u64,
}

impl Source for FakeSource {
    fn read(&mut self, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let log = self.log.lock().expect("no test panics with it");
        if self.position < log.start {
            let first = std::mem::replace(&mut self.position, log.start);
            return Err(ReadError::Trimmed { first, end: log.start });
        }
        let mut left = bytes_max;
        let mut out = Vec::new();
        for record in log.records.iter().skip(usize::try_from(self.position).expect("few")) {
            out.push(record.clone());
            self.position += 1;
            left = left.saturating_sub(record.value.len());
            if left == 0 {
                break;
            }
        }
        Ok(out)
    }
}

impl Local for World {
    type Source = FakeSource;

    fn end(&self) -> u64 {
        self.log().records.len() as u64
    }

    fn start(&self, _partitions: &[u16]) -> u64 {
        self.log().start
    }

    fn source(&self, _partitions: &[u16], from: u64) -> FakeSource {
        FakeSource { log: Arc::clone(&self.log), position: from }
    }

    fn keep(&self, route: &str, _partitions: &[u16], position: u64) {
        self.log().kept.insert(route.to_owned(), position);
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError> {
        Ok(self.log().marks.get(route).copied())
    }

    fn save_marks(&self, marks: &[(&str, Mark)]) -> Result<(), CatalogError> {
        for (route, mark) in marks {
            self.log().marks.insert((*route).to_owned(), *mark);
        }
        Ok(())
    }
}

/// Time that passes only when the engine waits.
#[derive(Default)]
struct Clock {
    ms: std::cell::Cell<u64>,
}

impl Clock {
    /// Runs until nothing is left to do for good, or `turns` are over, and says whether it ended.
    fn run<U: Upstream>(&self, engine: &mut Engine<U, World>, turns: u32) -> bool {
        let now = || Now { ms: self.ms.get(), unix_ms: 1_000_000 };
        for _ in 0..turns {
            match engine.turn(&now) {
                Step::Again => {}
                Step::Halt => return true,
                Step::Wait { beyond: Some(_), until_ms } if until_ms - self.ms.get() >= 10_000 => {
                    return true;
                }
                Step::Wait { until_ms, .. } => self.ms.set(until_ms.max(self.ms.get() + 1)),
            }
        }
        false
    }
}
