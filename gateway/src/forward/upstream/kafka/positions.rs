//! Reading what was committed: the positions of this gateway, or all records of a topic.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::settings::Settings;
use super::topics;
use super::watch::{Watch, Watched};
use super::{POSITIONS, REQUEST, STABLE};
use crate::forward::policy::stored::Stored;
use crate::forward::upstream::Fault;

/// The newest committed position of each key, and the lowest offset of these; `from`: one that an
/// earlier look found, so that only what came since has to be read. Compaction leaves the newest
/// record of a key where it is.
///
/// While any transaction is open on the partition, a committed read ends before it and may miss our
/// own newest position. So: what is there at all, uncommitted, has to become readable first.
///
/// # Errors
/// [`Fault`].
pub(super) fn newest(
    settings: &Settings,
    latest: &BaseConsumer<Watch>,
    (partition, from): (i32, i64),
    keys: &[String],
    watched: &Arc<Watched>,
) -> Result<(Vec<Option<Stored>>, i64), Fault> {
    let fault = |problem: &KafkaError| watched.fault("positions cannot be read", problem);
    let high = high_watermark(latest, partition).map_err(|problem| fault(&problem))?;
    let committed = settings.consumer("read_committed", watched)?;
    let deadline = Instant::now() + STABLE;
    while high_watermark(&committed, partition).map_err(|problem| fault(&problem))? < high {
        if Instant::now() > deadline {
            return Err(Fault::retry(format!(
                "an open transaction holds back {POSITIONS}/{partition}: another gateway's? It \
                 ends by its timeout"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut found = vec![None; keys.len()];
    let mut offsets = vec![0; keys.len()];
    let read = each(&committed, POSITIONS, partition..partition + 1, from, |record| {
        let key = record.key().unwrap_or_default();
        let Some(route) = keys.iter().position(|own| own.as_bytes() == key) else { return Ok(()) };
        let stored = record.payload().map(Stored::decode).transpose();
        found[route] = stored.map_err(|problem| {
            let key = &keys[route];
            Trouble::Fault(Fault::refused(format!("{POSITIONS}, {key}: {problem}")))
        })?;
        offsets[route] = record.offset();
        Ok(())
    });
    read.map_err(|problem| problem.into_fault(fault))?;
    Ok((found, offsets.into_iter().min().unwrap_or_default()))
}

/// Of a `read_committed` consumer: the last stable offset.
fn high_watermark(client: &BaseConsumer<Watch>, partition: i32) -> Result<i64, KafkaError> {
    client.fetch_watermarks(POSITIONS, partition, REQUEST).map(|(_, high)| high)
}

/// How many records of `topic` a `read_committed` reader finds; 0 where there is no such topic.
///
/// # Errors
/// What the client says.
pub(in crate::forward) fn count_committed(brokers: &str, topic: &str) -> Result<u64, String> {
    let count = || -> Result<u64, Trouble> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "headwater-count")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()?;
        let found = topics::find(&consumer, topic, REQUEST)?;
        let partitions = found.map_or(0, |found| found.partitions);
        let mut records = 0;
        each(&consumer, topic, 0..partitions, 0, |_| {
            records += 1;
            Ok(())
        })?;
        Ok(records)
    };
    count().map_err(|problem| {
        let problem = problem.into_fault(|problem| Fault::retry(problem.to_string()));
        format!("{topic} at {brokers}: {problem}")
    })
}

/// All records from an offset on that are there, as far as the consumer's isolation lets it see.
fn each<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: Range<i32>,
    from: i64,
    mut on_record: impl FnMut(&BorrowedMessage<'_>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut places = TopicPartitionList::new();
    let from = if from == 0 { Offset::Beginning } else { Offset::Offset(from) };
    for partition in partitions.clone() {
        places.add_partition_offset(topic, partition, from)?;
    }
    consumer.assign(&places)?;
    let mut ended = 0;
    while ended < partitions.len() {
        match consumer.poll(REQUEST) {
            Some(Ok(message)) => on_record(&message)?,
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            // It is no member of the group that the client makes it name.
            Some(Err(KafkaError::MessageConsumption(Code::GroupAuthorizationFailed))) => {}
            Some(Err(problem)) => return Err(problem.into()),
            None => return Err(KafkaError::OffsetFetch(Code::OperationTimedOut).into()),
        }
    }
    Ok(())
}

/// An error of the client, or one that has its remedy already.
enum Trouble {
    Client(KafkaError),
    Fault(Fault),
}

impl From<KafkaError> for Trouble {
    fn from(problem: KafkaError) -> Self {
        Self::Client(problem)
    }
}

impl Trouble {
    fn into_fault(self, client: impl FnOnce(&KafkaError) -> Fault) -> Fault {
        match self {
            Self::Client(problem) => client(&problem),
            Self::Fault(fault) => fault,
        }
    }
}
