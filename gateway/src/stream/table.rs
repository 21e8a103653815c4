//! The routing table: topics to streams, streams to partitions of the journal.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, Format, StreamConfig};
use crate::query::Output;
use crate::stream::{Manifest, TopicPattern};

/// The stream of messages whose topic belongs to no other.
pub const MQTT_STREAM: &str = "mqtt";

/// Where a stream's messages go that it cannot parse.
const REJECTED: &str = ".rejected";
/// Where a stream's rows go that came after their window was closed.
const LATE: &str = ".late";
/// Where a stream's records go that an upstream refuses for good.
const DEAD: &str = ".dead";

/// A stream and its partitions.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// How it is configured; `None` for a stream that the gateway makes itself (a query's, a
    /// `.rejected`, `mqtt`).
    pub config: Option<StreamConfig>,
    /// The columns that its query writes; empty for a stream that no query writes.
    pub outputs: Vec<Output>,
    /// The numbers of its partitions in the journal.
    pub partitions: Vec<u16>,
}

impl Stream {
    /// The number in the journal of the partition that `key` belongs to: murmur2, as Kafka's
    /// default partitioner.
    pub fn partition_of(&self, key: &str) -> u16 {
        let count = self.partitions.len();
        if count == 1 {
            return self.partitions[0];
        }
        let positive = murmur2(key.as_bytes()) & 0x7fff_ffff;
        self.partitions[positive as usize % count]
    }
}

/// Which stream and which of its partitions a number in the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRef {
    /// The stream.
    pub stream: String,
    /// From 0.
    pub partition: u16,
}

/// All streams of a gateway.
#[derive(Debug)]
pub struct Streams {
    streams: BTreeMap<String, Stream>,
    /// Configured streams in the order of the file; the first that matches takes the message.
    order: Vec<String>,
    numbers: BTreeMap<u16, PartitionRef>,
}

impl Streams {
    /// Builds the table and numbers new partitions in the catalog.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn new(config: &Config, catalog: &Catalog) -> Result<Self, CatalogError> {
        let mut streams = BTreeMap::new();
        let mut add = |name: &str, config: Option<StreamConfig>, outputs: &[Output]| {
            let count = config.as_ref().map_or(1, |config| config.partitions);
            let partitions = catalog.partitions(name, count)?;
            let (name, outputs) = (name.to_owned(), outputs.to_vec());
            streams.insert(name.clone(), Stream { name, config, outputs, partitions });
            Ok::<(), CatalogError>(())
        };
        add(MQTT_STREAM, None, &[])?;
        for stream in &config.streams {
            add(&stream.name, Some(stream.clone()), &[])?;
            add(&format!("{}{REJECTED}", stream.name), None, &[])?;
        }
        for query in &config.queries {
            add(query.plan.name(), None, query.plan.outputs())?;
            add(&format!("{}{LATE}", query.plan.name()), None, &[])?;
        }
        for route in config.routes.iter().filter(|route| !route.stream.ends_with(DEAD)) {
            add(&format!("{}{DEAD}", route.stream), None, &[])?;
        }
        let numbers = catalog
            .all_partitions()?
            .into_iter()
            .map(|(stream, partition, number)| (number, PartitionRef { stream, partition }))
            .collect();
        let order = config.streams.iter().map(|stream| stream.name.clone()).collect();
        Ok(Self { streams, order, numbers })
    }

    /// The table of a data directory whose gateway may be running, from its manifest.
    pub fn from_manifest(manifest: Manifest) -> Self {
        let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for (name, partition, number) in manifest.partitions {
            let stream = streams.entry(name.clone()).or_insert_with(|| Stream {
                config: manifest.streams.get(&name).and_then(|saved| saved.config(&name)),
                name: name.clone(),
                outputs: Vec::new(),
                partitions: Vec::new(),
            });
            stream.partitions.push(number);
            numbers.insert(number, PartitionRef { stream: name, partition });
        }
        Self { streams, order: Vec::new(), numbers }
    }

    /// What a reader of the data directory has to know.
    pub fn manifest(&self) -> Manifest {
        Manifest::new(
            self.numbers
                .iter()
                .map(|(number, place)| (place.stream.clone(), place.partition, *number)),
            self.streams.values().filter_map(|stream| stream.config.as_ref()),
        )
    }

    /// The stream that takes messages on `topic`.
    pub fn route(&self, topic: &str) -> &Stream {
        let matching = self.order.iter().find_map(|name| {
            let stream = &self.streams[name];
            let config = stream.config.as_ref()?;
            config.topic.matches(topic).then_some(stream)
        });
        matching.unwrap_or_else(|| self.streams.get(MQTT_STREAM).expect("every table has it"))
    }

    /// A stream by its name.
    pub fn get(&self, name: &str) -> Option<&Stream> {
        self.streams.get(name)
    }

    /// Where messages go that `stream` cannot parse.
    pub fn rejected<'a>(&'a self, stream: &'a Stream) -> &'a Stream {
        self.streams.get(&format!("{}{REJECTED}", stream.name)).unwrap_or(stream)
    }

    /// Where rows go that came too late for `query`.
    pub fn late(&self, query: &str) -> Option<&Stream> {
        self.streams.get(&format!("{query}{LATE}"))
    }

    /// Where records of `stream` go that an upstream refuses for good; where they are routed on, they
    /// have no such stream themselves.
    pub fn dead(&self, stream: &str) -> Option<&Stream> {
        self.streams.get(&format!("{stream}{DEAD}"))
    }

    /// The partitions of all streams whose records go to the log `log` too.
    pub fn in_log(&self, log: &str) -> Vec<u16> {
        let goes = |stream: &&Stream| {
            stream.config.as_ref().is_some_and(|config| config.log.as_deref() == Some(log))
        };
        self.streams.values().filter(goes).flat_map(|stream| stream.partitions.clone()).collect()
    }

    /// All streams, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values()
    }

    /// The stream and partition that a number in the journal is; also of streams that are no
    /// longer configured.
    pub fn partition(&self, number: u16) -> Option<&PartitionRef> {
        self.numbers.get(&number)
    }

    /// How payloads of `stream` read; what the gateway wrote itself is JSON.
    pub fn format(&self, stream: &str) -> Option<Format> {
        self.get(stream)?.config.as_ref().map(|config| config.format)
    }

    /// The topic pattern of `stream`, whose named levels are columns.
    pub fn pattern(&self, stream: &str) -> Option<&TopicPattern> {
        self.get(stream)?.config.as_ref().map(|config| &config.topic)
    }
}

/// Kafka's murmur2 (seed 0x9747b28c), so that a key has the same partition number here and there.
/// Source: Austin Appleby's MurmurHash2 with the constants of `org.apache.kafka.common.utils.Utils`.
pub(crate) fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c_u32 ^ length;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("chunks of four"));
        k = k.wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (text, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), expected, "{text}");
        }
    }
}
