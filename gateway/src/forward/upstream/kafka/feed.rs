//! A topic of the cluster, read from given offsets on: for what comes back from the cluster.
//!
//! It is no member of a group: where it goes on is the reader's to say, at each open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::settings::Settings;
use super::watch::{Watch, Watched};
use super::{REQUEST, topics};
use crate::config::KafkaConfig;
use crate::forward::upstream::Fault;

/// The first record of a read is waited for this long.
const WAIT: Duration = Duration::from_millis(100);
/// Between two looks at whether the topic has more partitions.
const LOOK: Duration = Duration::from_mins(1);

const OPENED: &str = "it is connected before it is read";

/// A topic that is being read.
pub(crate) struct TopicFeed {
    settings: Settings,
    topic: String,
    /// Which topic, for messages.
    what: String,
    open: Option<Open>,
}

struct Open {
    consumer: BaseConsumer<Watch>,
    watched: Arc<Watched>,
    partitions: i32,
    looked: Instant,
}

/// A record of the topic.
pub(crate) struct TopicRecord {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// ms since 1970, if it has one.
    pub(crate) time_ms: Option<i64>,
    pub(crate) key: Vec<u8>,
    /// `None`: a delete, in a compacted topic.
    pub(crate) payload: Option<Vec<u8>>,
    /// Headers whose value is a text.
    pub(crate) headers: Vec<(String, String)>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first offset that is there.
    pub(crate) low: i64,
    /// One above the last that a reader of committed records may see.
    pub(crate) high: i64,
}

impl TopicFeed {
    /// `topic` of a cluster, for the gateway of this id.
    pub(crate) fn new(config: &KafkaConfig, gateway: &str, topic: &str) -> Self {
        let what = format!("topic {topic} cannot be read");
        Self { settings: Settings::new(config, gateway), topic: topic.to_owned(), what, open: None }
    }

    /// Connects; the partitions, with what they hold.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn connect(&mut self) -> Result<Vec<Extent>, Fault> {
        self.open = None;
        let watched = Arc::new(Watched::default());
        let consumer = self.settings.feed(&watched)?;
        let fault = |problem: &KafkaError| watched.fault(&self.what, problem);
        let found = topics::find(&consumer, &self.topic, REQUEST).map_err(|e| fault(&e))?;
        let Some(found) = found else {
            return Err(Fault::refused(format!(
                "{}: there is no such topic: make it, or correct the source's topic",
                self.what
            )));
        };
        let mut extents = Vec::new();
        for partition in 0..found.partitions {
            let found = consumer.fetch_watermarks(&self.topic, partition, REQUEST);
            let (low, high) = found.map_err(|e| fault(&e))?;
            extents.push(Extent { low, high });
        }
        let (partitions, looked) = (found.partitions, Instant::now());
        self.open = Some(Open { consumer, watched, partitions, looked });
        Ok(extents)
    }

    /// The first offset of each partition whose record is of `time_ms` or later, and its end where
    /// there is none.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn offsets_at(&self, time_ms: i64, extents: &[Extent]) -> Result<Vec<i64>, Fault> {
        let Open { consumer, watched, .. } = self.opened();
        let fault = |problem: &KafkaError| watched.fault(&self.what, problem);
        let mut times = TopicPartitionList::new();
        for partition in (0..).take(extents.len()) {
            let time = Offset::Offset(time_ms.max(0));
            times.add_partition_offset(&self.topic, partition, time).map_err(|e| fault(&e))?;
        }
        let found = consumer.offsets_for_times(times, REQUEST).map_err(|e| fault(&e))?;
        let of = |(partition, extent): (i32, &Extent)| match found
            .find_partition(&self.topic, partition)
            .map(|found| found.offset())
        {
            Some(Offset::Offset(offset)) => offset,
            _ => extent.high,
        };
        Ok((0..).zip(extents).map(of).collect())
    }

    /// Reads each partition from its offset in `from` on.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn start(&mut self, from: &[i64]) -> Result<(), Fault> {
        let Open { consumer, watched, .. } = self.opened();
        let fault = |problem: &KafkaError| watched.fault(&self.what, problem);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(from) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(*offset))
                .map_err(|e| fault(&e))?;
        }
        consumer.assign(&list).map_err(|e| fault(&e))
    }

    /// The next records, about `bytes_max`; none where none came in a short while.
    ///
    /// # Errors
    /// [`Fault`]; it has to be connected again.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Result<Vec<TopicRecord>, Fault> {
        self.look()?;
        let Open { consumer, watched, .. } = self.opened();
        let mut records = Vec::new();
        let (mut bytes, mut wait) = (0, WAIT);
        while bytes < bytes_max {
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    bytes += message.payload_len() + message.key_len() + size_of::<TopicRecord>();
                    records.push(record(&message));
                    wait = Duration::ZERO;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(problem)) => return Err(watched.fault(&self.what, &problem)),
                None => break,
            }
        }
        Ok(records)
    }

    /// Partitions that were added since are read only after it was connected again.
    fn look(&mut self) -> Result<(), Fault> {
        let open = self.open.as_mut().expect(OPENED);
        if open.looked.elapsed() < LOOK {
            return Ok(());
        }
        open.looked = Instant::now();
        let found = topics::find(&open.consumer, &self.topic, REQUEST);
        let found = found.map_err(|problem| open.watched.fault(&self.what, &problem))?;
        match found {
            Some(found) if found.partitions == open.partitions => Ok(()),
            _ => Err(Fault::retry(format!("{}: its partitions have changed", self.what))),
        }
    }

    fn opened(&self) -> &Open {
        self.open.as_ref().expect(OPENED)
    }
}

fn record(message: &BorrowedMessage<'_>) -> TopicRecord {
    let text = |value: Option<&[u8]>| std::str::from_utf8(value?).ok().map(str::to_owned);
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    TopicRecord {
        partition: message.partition(),
        offset: message.offset(),
        time_ms: message.timestamp().to_millis(),
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .filter_map(|header| Some((header.key.to_owned(), text(header.value)?)))
            .collect(),
    }
}
