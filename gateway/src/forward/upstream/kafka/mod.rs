//! Kafka, exactly once. The one file that knows the client library (librdkafka through rdkafka).
//!
//! The position of each route is a record of the compacted topic `headwater.positions`, written in
//! the transaction of the data that it counts, so both are there or neither. A start goes:
//! init of transactions (fences a predecessor and settles what it left), then reading the positions
//! as committed up to the high watermark, then data. After any error the producer is dropped and
//! all of that comes again; nothing is assumed about a request whose answer did not come.

mod remedy;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::forward::engine::batch::OutRecord;
use crate::forward::policy::resume::RouteStart;
use crate::forward::policy::stored::Stored;
use crate::forward::run::{Identity, seed};
use crate::forward::upstream::{Destination, Fault, Progress, SendError, Upstream};
use crate::stream::murmur2;

/// The compacted topic of positions...
const POSITIONS: &str = "headwater.positions";
/// ...and its partitions, if the gateway has to make it. One transaction that is left open holds
/// back all positions of its partition, so gateways share few.
const POSITIONS_PARTITIONS: u16 = 16;

/// The broker settles a transaction that is open this long.
const TRANSACTION_TIMEOUT_MS: &str = "30000";
/// The answer to one request at most.
const REQUEST: Duration = Duration::from_secs(5);
/// Init waits for the coordinator to settle what a predecessor left.
const INIT: Duration = Duration::from_secs(10);
/// Acknowledgements of all records, and the commit; each below the transaction's own timeout.
const SETTLE: Duration = Duration::from_secs(12);
/// A neighbour's open transaction holds the positions back until its timeout, and the broker looks
/// for such ones every 10 s.
const STABLE: Duration = Duration::from_secs(45);

/// A cluster.
pub(in crate::forward) struct Kafka {
    common: ClientConfig,
    transactional_id: String,
    gateway: String,
    /// This start of the gateway.
    boot: String,
    destinations: Vec<Destination>,
    /// Keys of the positions, by route.
    keys: Vec<String>,
    /// Routes whose position this start has written.
    wrote: Vec<bool>,
    session: Option<Session>,
}

/// A producer from its init to its first error.
struct Session {
    producer: ThreadedProducer<Watch>,
    watched: Arc<Watched>,
    /// True where the topic has as many partitions as the stream.
    explicit: Vec<bool>,
    positions_partition: i32,
    sent: u64,
}

/// What librdkafka's threads tell.
#[derive(Default)]
struct Watched {
    deliveries: Mutex<Deliveries>,
    news: Condvar,
    last_error: Mutex<Option<(Code, String)>>,
}

#[derive(Default)]
struct Deliveries {
    acknowledged: u64,
    failed: Option<KafkaError>,
}

struct Watch(Arc<Watched>);

impl ClientContext for Watch {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            *lock(&self.0.last_error) = Some((code, reason.to_owned()));
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut deliveries = lock(&self.0.deliveries);
        match result {
            Ok(_) => deliveries.acknowledged += 1,
            Err((error, _)) => {
                deliveries.failed.get_or_insert_with(|| error.clone());
            }
        }
        drop(deliveries);
        self.0.news.notify_one();
    }
}

impl Kafka {
    /// The upstream `name`; connects at the first [`Upstream::open`].
    pub(in crate::forward) fn new(
        name: &str,
        brokers: &str,
        properties: &BTreeMap<String, String>,
        identity: &Identity,
        destinations: Vec<Destination>,
    ) -> Self {
        let Identity { gateway, incarnation } = identity;
        let mut common = ClientConfig::new();
        common
            .set("client.id", format!("headwater-{gateway}"))
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (property, value) in properties {
            common.set(property, value);
        }
        common.set("bootstrap.servers", brokers);
        let key = |to: &Destination| {
            format!("{gateway}/{incarnation}/{name}/{}->{}", to.stream, to.topic)
        };
        Self {
            common,
            transactional_id: format!("{gateway}.{incarnation}.{name}"),
            gateway: gateway.clone(),
            boot: format!("{:016x}", seed()),
            keys: destinations.iter().map(key).collect(),
            wrote: vec![false; destinations.len()],
            destinations,
            session: None,
        }
    }

    fn producer(&self, watched: &Arc<Watched>) -> Result<ThreadedProducer<Watch>, Fault> {
        let mut config = ClientConfig::new();
        config
            .set("linger.ms", "2")
            .set("batch.size", "1000000")
            .set("message.max.bytes", "1048588")
            .set("queue.buffering.max.kbytes", "16384")
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        for (property, value) in self.common.config_map() {
            config.set(property, value);
        }
        // What the promise rests on is not for properties to change.
        config
            .set("transactional.id", &self.transactional_id)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true");
        config
            .create_with_context(Watch(Arc::clone(watched)))
            .map_err(|problem| configuration(&problem))
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer, Fault> {
        let mut config = self.common.clone();
        config
            .set("group.id", format!("headwater.{}", self.transactional_id))
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "1024");
        config.create().map_err(|problem| configuration(&problem))
    }

    /// Opens a session; the positions come with it.
    fn connect(&self, watched: &Arc<Watched>) -> Result<(Session, Vec<Option<Stored>>), Fault> {
        let fault = |what: &str, problem: &KafkaError| fault(what, problem, watched);
        let producer = self.producer(watched)?;
        init(&producer).map_err(|problem| fault("transactions cannot be started", &problem))?;
        let latest = self.consumer("read_uncommitted")?;
        let mut explicit = Vec::new();
        for destination in &self.destinations {
            let Destination { topic, partitions, .. } = destination;
            // Event times are the devices', ahead of the broker's clock or not.
            let any_time = ("message.timestamp.after.max.ms", "9223372036854775807");
            let found = self.topic(&latest, topic, *partitions, &[any_time], watched)?;
            explicit.push(found == i32::from(*partitions));
        }
        let compact = ("cleanup.policy", "compact");
        let count = self.topic(&latest, POSITIONS, POSITIONS_PARTITIONS, &[compact], watched)?;
        let hash = (murmur2(self.gateway.as_bytes()) & 0x7fff_ffff).cast_signed();
        let positions_partition = hash % count.max(1);
        let stored = self
            .read_positions(&latest, positions_partition)
            .map_err(|problem| problem.into_fault(|p| fault("positions cannot be read", p)))?;
        let watched = Arc::clone(watched);
        Ok((Session { producer, watched, explicit, positions_partition, sent: 0 }, stored))
    }

    /// The partitions of a topic; makes it if it is not there.
    fn topic(
        &self,
        client: &BaseConsumer,
        topic: &str,
        partitions: u16,
        settings: &[(&str, &str)],
        watched: &Watched,
    ) -> Result<i32, Fault> {
        let what = format!("topic {topic} cannot be used");
        let fault = |problem: &KafkaError| fault(&what, problem, watched);
        let deadline = Instant::now() + INIT;
        let mut created = false;
        loop {
            match partitions_of(client, topic).map_err(|problem| fault(&problem))? {
                Some(count) => return Ok(count),
                None if !created => {
                    let made = match self.create(topic, partitions, settings) {
                        // Older brokers do not know all settings.
                        Err(KafkaError::AdminOp(Code::InvalidConfig)) => {
                            self.create(topic, partitions, &[])
                        }
                        made => made,
                    };
                    made.map_err(|problem| fault(&problem))?;
                    created = true;
                }
                None if Instant::now() > deadline => {
                    return Err(Fault::retry(format!("topic {topic} was made and has no leader")));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn create(
        &self,
        topic: &str,
        partitions: u16,
        settings: &[(&str, &str)],
    ) -> Result<(), KafkaError> {
        let admin = AdminClient::from_config(&self.common)?;
        // -1: the broker's default.
        let replication = TopicReplication::Fixed(-1);
        let mut new = NewTopic::new(topic, i32::from(partitions), replication);
        for (setting, value) in settings {
            new = new.set(setting, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        let made = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|problem| KafkaError::AdminOpCreation(problem.to_string()))?
            .block_on(admin.create_topics([&new], &options))?;
        match made.into_iter().next() {
            Some(Err((_, code))) if code != Code::TopicAlreadyExists => {
                Err(KafkaError::AdminOp(code))
            }
            _ => Ok(()),
        }
    }

    /// The newest committed position of each route.
    ///
    /// While any transaction is open on the partition, a committed read ends before it and may miss
    /// our own newest position. So: what is there at all, uncommitted, has to become readable first.
    fn read_positions(
        &self,
        latest: &BaseConsumer,
        partition: i32,
    ) -> Result<Vec<Option<Stored>>, Trouble> {
        let (_, high) = latest.fetch_watermarks(POSITIONS, partition, REQUEST)?;
        let committed = self.consumer("read_committed").map_err(Trouble::Fault)?;
        let deadline = Instant::now() + STABLE;
        while committed.fetch_watermarks(POSITIONS, partition, REQUEST)?.1 < high {
            if Instant::now() > deadline {
                return Err(Trouble::Fault(Fault::retry(format!(
                    "an open transaction holds back {POSITIONS}/{partition}: another gateway's? \
                     It ends by its timeout"
                ))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut found = vec![None; self.keys.len()];
        each(&committed, POSITIONS, partition..partition + 1, |key, value| {
            let Some(route) = self.keys.iter().position(|own| own.as_bytes() == key) else {
                return Ok(());
            };
            let stored = value.map(Stored::decode).transpose().map_err(|problem| {
                let key = &self.keys[route];
                Trouble::Fault(Fault::refused(format!("{POSITIONS}, {key}: {problem}")))
            })?;
            found[route] = stored;
            Ok(())
        })?;
        Ok(found)
    }

    /// What was found, as the policy takes it. A position that another start wrote after this one
    /// had written its own is a rival's.
    fn starts(&self, found: Vec<Option<Stored>>) -> Result<Vec<RouteStart>, Fault> {
        let start = |(route, stored): (usize, Option<Stored>)| match stored {
            Some(stored) if self.wrote[route] && stored.boot != self.boot => Err(remedy::rival()),
            Some(Stored { position, witness, .. }) => {
                Ok(RouteStart::truth(Some(position), witness))
            }
            None => Ok(RouteStart::truth(None, None)),
        };
        found.into_iter().enumerate().map(start).collect()
    }
}

impl Upstream for Kafka {
    fn open(&mut self) -> Result<Vec<RouteStart>, Fault> {
        self.close();
        let (session, found) = self.connect(&Arc::default())?;
        let starts = self.starts(found)?;
        self.session = Some(session);
        Ok(starts)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        let session = opened(&mut self.session);
        let begun = session.producer.begin_transaction();
        begun.map_err(|problem| session.fault("a transaction cannot begin", &problem))
    }

    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError> {
        let session = opened(&mut self.session);
        let Destination { stream, topic, .. } = &self.destinations[route];
        let offset = record.offset.to_string();
        let index = record.index.map(|index| index.to_string());
        let mut headers = OwnedHeaders::new_with_capacity(7);
        let all = [
            ("hw.gateway", Some(self.gateway.as_str())),
            ("hw.stream", Some(stream)),
            ("hw.offset", Some(&offset)),
            ("hw.topic", record.topic),
            ("hw.index", index.as_deref()),
            ("hw.gap", record.gap),
            ("hw.origin", record.origin),
        ];
        for (key, value) in all {
            if value.is_some() {
                headers = headers.insert(Header { key, value });
            }
        }
        let mut message = BaseRecord::to(topic)
            .key(record.key.as_bytes())
            .payload(record.value)
            // 0 would stand for the time of sending.
            .timestamp(record.time_ms.max(1))
            .headers(headers);
        if session.explicit[route] {
            message = message.partition(i32::from(record.partition));
        }
        session.send(message)
    }

    fn commit(&mut self, progress: &[Progress], now_ms: i64) -> Result<(), Fault> {
        let session = opened(&mut self.session);
        for Progress { route, position, witness } in progress {
            let (position, witness, boot) = (position.clone(), witness.clone(), self.boot.clone());
            let value = Stored { position, witness, boot, time_ms: now_ms }.encode();
            let message = BaseRecord::to(POSITIONS)
                .key(self.keys[*route].as_bytes())
                .payload(value.as_bytes())
                .partition(session.positions_partition);
            session.send(message).map_err(|problem| match problem {
                SendError::Fault(fault) => fault,
                SendError::TooLarge => Fault::refused(format!(
                    "a position of {} bytes is too large for {POSITIONS}",
                    value.len()
                )),
            })?;
        }
        session.acknowledged()?;
        session
            .producer
            .commit_transaction(SETTLE)
            .map_err(|problem| session.fault("a transaction was not confirmed", &problem))?;
        for Progress { route, .. } in progress {
            self.wrote[*route] = true;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.session = None;
    }
}

fn opened(session: &mut Option<Session>) -> &mut Session {
    session.as_mut().expect("the engine opens before it sends, and after each fault")
}

impl Session {
    fn send(&mut self, mut message: BaseRecord<'_, [u8], [u8]>) -> Result<(), SendError> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.producer.send(message) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(Code::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    message = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    return Err(SendError::TooLarge);
                }
                Err((problem, _)) => {
                    return Err(SendError::Fault(self.fault("a record was not taken", &problem)));
                }
            }
        }
    }

    /// Waits until the brokers have all that was sent. rdkafka's commit flushes first, and its flush
    /// sleeps 100 ms on a queue that its own thread empties; with nothing in flight it does not.
    fn acknowledged(&self) -> Result<(), Fault> {
        let deliveries = lock(&self.watched.deliveries);
        let (deliveries, _) = self
            .watched
            .news
            .wait_timeout_while(deliveries, SETTLE, |deliveries| {
                deliveries.acknowledged < self.sent && deliveries.failed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        let failed = deliveries.failed.clone();
        let missing = self.sent - deliveries.acknowledged;
        drop(deliveries);
        match failed {
            Some(problem) => Err(self.fault("a record was refused", &problem)),
            None if missing > 0 => {
                let timeout = KafkaError::Flush(Code::OperationTimedOut);
                Err(self.fault(&format!("{missing} records were not acknowledged"), &timeout))
            }
            None => Ok(()),
        }
    }

    fn fault(&self, what: &str, problem: &KafkaError) -> Fault {
        fault(what, problem, &self.watched)
    }
}

/// Init on the same handle until it works: it may take the coordinator a while to settle what a
/// predecessor left.
fn init(producer: &ThreadedProducer<Watch>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + INIT;
    loop {
        match producer.init_transactions(REQUEST) {
            Err(KafkaError::Transaction(problem))
                if problem.is_retriable() && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
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
        let partitions = partitions_of(&consumer, topic)?.unwrap_or(0);
        let mut records = 0;
        each(&consumer, topic, 0..partitions, |_, _| {
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

/// Key and value of all records that are there, as far as the consumer's isolation lets it see.
fn each(
    consumer: &BaseConsumer,
    topic: &str,
    partitions: std::ops::Range<i32>,
    mut on_record: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut from = TopicPartitionList::new();
    for partition in partitions.clone() {
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let mut ended = 0;
    while ended < partitions.len() {
        match consumer.poll(REQUEST) {
            Some(Ok(message)) => on_record(message.key().unwrap_or_default(), message.payload())?,
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(problem)) => return Err(problem.into()),
            None => return Err(KafkaError::OffsetFetch(Code::OperationTimedOut).into()),
        }
    }
    Ok(())
}

/// `None` if there is no such topic, or none with leaders yet.
fn partitions_of(client: &BaseConsumer, topic: &str) -> Result<Option<i32>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), REQUEST)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    if let Some(problem) = found.error() {
        let code = Code::from(problem);
        return match code {
            Code::UnknownTopicOrPartition | Code::LeaderNotAvailable => Ok(None),
            _ => Err(KafkaError::MetadataFetch(code)),
        };
    }
    let all_led = found.partitions().iter().all(|partition| partition.leader() >= 0);
    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
    Ok((count > 0 && all_led).then_some(count))
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

fn configuration(problem: &KafkaError) -> Fault {
    Fault::refused(format!("{problem}: see properties of the upstream in the configuration"))
}

/// What an error means and what to do about it. A timeout says little; the connection's own trouble
/// says why.
fn fault(what: &str, problem: &KafkaError, watched: &Watched) -> Fault {
    let number = problem.rdkafka_error_code().map(|code| code as i32);
    let last = lock(&watched.last_error).clone();
    let last = last.as_ref().map(|(code, reason)| (*code as i32, reason.as_str()));
    remedy::fault(what, &problem.to_string(), number, last)
}

/// No lock is held over code that can leave its data half changed, so a poisoned one is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
