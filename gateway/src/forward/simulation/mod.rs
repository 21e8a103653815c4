//! The engine in simulated time, over a journal and upstreams that fail on cue.

mod barred;
mod broker;
mod cluster;
mod dead;
mod disk;
mod links;
mod live_first;
mod witness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use headwater_shared::envelope::{Envelope, Publish};

use super::engine::lane::Ahead;
use super::engine::{Engine, Lay, Now, Rules, Step};
use super::format::Encoder;
use super::format::tests::in_avro;
use super::local::{Local, Source, letter};
use super::policy::allowance::Spent;
use super::policy::core::Policy;
use super::policy::resume::Mark;
use super::status::{ForwardMetrics, Scores};
use super::upstream::{Fault, Upstream};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{
    Config, LinkConfig, RouteConfig, RouteFormat, RouteFrom, RouteOrder, TopicConfig,
};
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
    /// Live data goes first in all routes.
    ahead: Option<Ahead>,
    /// Where all routes begin.
    from: RouteFrom,
    /// What the link may carry.
    link: LinkConfig,
    /// Routes send Avro, in which `n` is an integer.
    is_avro: bool,
    /// Fails what is written locally for dead letters, by the number of the write.
    local_plan: Arc<Mutex<(u64, Option<cluster::Plan>)>>,
}

#[derive(Clone, Default)]
struct Log {
    records: Vec<Record>,
    start: u64,
    /// The end when the gateway started.
    opened: u64,
    marks: BTreeMap<String, Mark>,
    kept: BTreeMap<String, u64>,
    spent: Spent,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
        let stream = |name: &str| {
            format!(
                "[[stream]]\nname = \"{name}\"\ntopic = \"{name}/{{device}}\"\nkey = \"device\"\n\
                 format = \"json\"\npartitions = {PARTITIONS}\ncolumns = {{ n = \"integer\" }}\n"
            )
        };
        let route = |stream: &str| {
            format!("[[route]]\nstream = \"{stream}\"\nupstream = \"up\"\ntopic = \"t.{stream}\"\n")
        };
        let text = format!(
            "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[upstream.up]\nkind = \"directory\"\n\
             path = \"p\"\n{}{}{}{}",
            stream("data"),
            stream("other"),
            route("data"),
            route("other"),
        );
        let config = Config::parse("test", &text).expect("a configuration");
        let streams = Arc::new(Streams::new(&config, &catalog).expect("partitions"));
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::new(Nodes::default()), sparkplug);
        Self {
            streams,
            rows,
            log: Arc::default(),
            ahead: None,
            from: RouteFrom::Earliest,
            link: LinkConfig::default(),
            is_avro: false,
            local_plan: Arc::default(),
        }
    }

    /// A copy of the data directory.
    fn copy(&self) -> Self {
        let log = self.log().clone();
        Self { log: Arc::new(Mutex::new(log)), ..self.clone() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no test panics with it")
    }

    /// Appends a record of device `number % 7` and gives its partition.
    fn append(&self, stream: &str, number: u64) -> u16 {
        self.append_payload(stream, number, &format!("{{\"n\":{number}}}"))
    }

    fn append_payload(&self, stream: &str, number: u64, payload: &str) -> u16 {
        let key = format!("d{}", number % 7);
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

    fn append_all(&self, stream: &str, count: u64) {
        for number in 0..count {
            self.append(stream, number);
        }
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
            order: RouteOrder::Log,
            from: RouteFrom::Earliest,
            urgent: false,
            retain: false,
        };
        vec![route("data", 0), route("other", 1)]
    }

    /// A write of what dead letters need, which may fail before or after taking effect.
    fn local_write(&self, act: impl FnOnce()) -> Result<(), ()> {
        let mut plan = self.local_plan.lock().expect("no test panics with it");
        plan.0 += 1;
        let number = plan.0;
        let failure = plan.1.as_mut().and_then(|plan| plan(number));
        if failure != Some(cluster::Failure::Before) {
            act();
        }
        failure.map_or(Ok(()), |_| Err(()))
    }

    fn write_letter(&self, partition: u16, record: &Record, text: &str) -> Result<(), Fault> {
        self.local_write(|| {
            let envelope = Envelope::Publish(Publish {
                topic: "dead",
                client: "",
                arrival_ms: 5,
                qos: 0,
                retain: false,
                packet_id: None,
                properties: &[],
                rejected: Some(text),
                payload: &record.value,
            });
            let mut value = vec![0; envelope.size_max()];
            let used = envelope.encode(&mut value).expect("an upper bound").len();
            value.truncate(used);
            let mut log = self.log();
            let offset = log.records.len() as u64;
            let (key, value) = (record.key.clone(), value.into());
            log.records.push(Record { offset, partition, time_ms: 5, key, value });
        })
        .map_err(|()| Fault::retry("the disk failed"))
    }

    fn encoder(&self, route: usize, stream: &str) -> Encoder {
        let format = if self.is_avro { RouteFormat::Avro } else { RouteFormat::Json };
        let encoder = Encoder::new(route, stream, format, self.rows.clone(), &self.streams);
        if self.is_avro {
            return in_avro(encoder, self.streams.get(stream).expect("configured"));
        }
        encoder
    }

    fn engine<U: Upstream>(&self, policy: Policy, upstream: U) -> (Engine<U, World>, Scores) {
        let routes = Self::routes();
        let scores = Scores::new(&routes, &ForwardMetrics::default());
        {
            let mut log = self.log();
            log.opened = log.records.len() as u64;
        }
        let lay = |(index, route): (usize, &RouteConfig)| Lay {
            name: route.topic.clone(),
            numbers: self.streams.get(&route.stream).expect("configured").partitions.clone(),
            encoder: self.encoder(index, &route.stream),
            priority: route.priority,
            ahead: self.ahead,
            from: self.from,
            urgent: route.priority > 0,
            dead: self.streams.dead(&route.stream).map(|dead| dead.partitions[0]),
        };
        let lays = routes.iter().enumerate().map(lay).collect();
        let rules = Rules { policy, link: self.link.clone(), seed: 7 };
        let engine = Engine::new(rules, upstream, self.clone(), lays, scores.clone());
        (engine.expect("marks are there"), scores)
    }
}

struct FakeSource {
    log: Arc<Mutex<Log>>,
    position: u64,
    only: Vec<u16>,
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
            self.position += 1;
            if !self.only.contains(&record.partition) {
                continue;
            }
            out.push(record.clone());
            left = left.saturating_sub(record.value.len());
            if left == 0 {
                break;
            }
        }
        Ok(out)
    }

    fn position(&self) -> u64 {
        self.position
    }
}

impl Local for World {
    type Source = FakeSource;

    fn end(&self) -> u64 {
        self.log().records.len() as u64
    }

    fn opened(&self) -> u64 {
        self.log().opened
    }

    fn source(&self, partitions: &[u16], from: u64) -> FakeSource {
        FakeSource { log: Arc::clone(&self.log), position: from, only: partitions.to_vec() }
    }

    fn begin(&self, _partitions: &[u16], from: RouteFrom) -> Result<u64, ReadError> {
        Ok(match from {
            RouteFrom::Earliest => self.log().start,
            RouteFrom::Latest | RouteFrom::Time(_) => self.opened(),
            RouteFrom::Offset(offset) => offset,
        })
    }

    fn write_letters(&self, partition: u16, letters: &[(&Record, String)]) -> Result<(), Fault> {
        for (record, text) in letters {
            self.write_letter(partition, record, text)?;
        }
        Ok(())
    }

    fn letters(&self, partition: u16, from: u64, each: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        let log = self.log();
        let from = usize::try_from(from).expect("few");
        log.records[from..].iter().filter_map(|record| letter(record, partition)).for_each(each);
        Ok(())
    }

    fn spent(&self) -> Result<Spent, CatalogError> {
        Ok(self.log().spent)
    }

    fn save_spent(&self, spent: Spent) -> Result<(), CatalogError> {
        self.log().spent = spent;
        Ok(())
    }

    fn record_at(&self, _partitions: &[u16], offset: u64) -> Result<Option<Record>, Fault> {
        let log = self.log();
        let index = usize::try_from(offset).expect("few");
        Ok(log.records.get(index).filter(|_| offset >= log.start).cloned())
    }

    fn keep(&self, route: &str, _partitions: &[u16], position: u64) {
        self.log().kept.insert(route.to_owned(), position);
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn mark(&self, route: &str) -> Result<Option<Mark>, CatalogError> {
        Ok(self.log().marks.get(route).cloned())
    }

    fn save_marks(&self, marks: &[(&str, &Mark)]) -> Result<(), CatalogError> {
        let save = || {
            for (route, mark) in marks {
                self.log().marks.insert((*route).to_owned(), (*mark).clone());
            }
        };
        if marks.iter().all(|(_, mark)| mark.dead.is_empty()) {
            save();
            return Ok(());
        }
        self.local_write(save).map_err(|()| CatalogError::Full)
    }
}

/// Time that passes only when the engine waits.
#[derive(Default)]
struct Clock {
    ms: std::cell::Cell<u64>,
}

impl Clock {
    fn unix_ms(&self) -> i64 {
        1_000_000 + i64::try_from(self.ms.get()).expect("simulated time is short")
    }

    /// Runs until nothing is left to do for good, or `turns` are over, and says whether it ended.
    fn run<U: Upstream>(&self, engine: &mut Engine<U, World>, turns: u32) -> bool {
        let now = || Now { ms: self.ms.get(), unix_ms: self.unix_ms() };
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
