//! Kafka, exactly once. The one room that knows the client library (librdkafka through rdkafka).
//!
//! The position of each route is a record of the compacted topic `headwater.positions`, written in
//! the transaction of the data that it counts, so both are there or neither. A start goes:
//! init of transactions (fences a predecessor and settles what it left), then reading the positions
//! as committed up to the high watermark, then data. After any error the producer is dropped and
//! all of that comes again; nothing is assumed about a request whose answer did not come.
//!
//! `settings` makes clients from the configuration, `oauth` fetches their tokens, `watch` hears what
//! they tell, `remedy` says what an error means; `topics` finds and makes topics, `usable` says which
//! can be used, `positions` reads,
//! `session` writes; `check` asks a cluster whether all of that would work.

pub(in crate::forward) mod check;
mod feed;
#[expect(unsafe_code, reason = "calls of librdkafka that rdkafka does not pass on")]
mod native;
mod oauth;
mod positions;
mod refusals;
mod remedy;
mod session;
pub(in crate::forward) mod settings;
mod topics;
mod usable;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use self::native::Item;
use self::session::Session;
use self::settings::Settings;
use self::topics::{Usable, Wanted};
use self::usable::Survey;
use self::watch::Watched;
use crate::config::KafkaConfig;
use crate::forward::engine::batch::{OutRecord, ValueKind};
use crate::forward::policy::dead::{Cause, Refusal};
use crate::forward::policy::resume::RouteStart;
use crate::forward::policy::stored::Stored;
use crate::forward::run::{Identity, seed};
use crate::forward::status::Wire;
use crate::forward::upstream::{Destination, Fault, Opening, Progress, SendError, Upstream};
use crate::stream::murmur2;

pub(crate) use self::feed::{Extent, TopicFeed, TopicRecord};
pub(in crate::forward) use self::positions::count_committed;

/// The compacted topic of positions...
const POSITIONS: &str = "headwater.positions";
/// ...and its partitions, if the gateway has to make it. One transaction that is left open holds
/// back all positions of its partition, so gateways share few.
const POSITIONS_PARTITIONS: u16 = 16;

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
    settings: Settings,
    transactional_id: String,
    gateway: String,
    /// This start of the gateway.
    boot: String,
    destinations: Vec<Destination>,
    /// Keys of the positions, by route.
    keys: Vec<String>,
    /// Routes whose position this start has written.
    wrote: Vec<bool>,
    /// No newest position of a route is below this offset of its partition.
    positions_from: i64,
    /// Topics that are not as asked for and have been named.
    told: bool,
    /// A right on a topic was missing once.
    asks_rights: bool,
    wire: Wire,
    session: Option<Session>,
}

impl Kafka {
    /// The upstream `name`; connects at the first [`Upstream::open`].
    pub(in crate::forward) fn new(
        name: &str,
        config: &KafkaConfig,
        identity: &Identity,
        destinations: Vec<Destination>,
        wire: Wire,
    ) -> Self {
        let Identity { gateway, incarnation } = identity;
        let key = |to: &Destination| {
            format!("{gateway}/{incarnation}/{name}/{}->{}", to.stream, to.topic)
        };
        Self {
            settings: Settings::new(config, gateway),
            transactional_id: format!("{gateway}.{incarnation}.{name}"),
            gateway: gateway.clone(),
            boot: format!("{:016x}", seed()),
            keys: destinations.iter().map(key).collect(),
            wrote: vec![false; destinations.len()],
            destinations,
            positions_from: 0,
            told: false,
            asks_rights: false,
            wire,
            session: None,
        }
    }

    /// Opens a session; topics and positions of the routes come with it.
    fn connect(&mut self) -> Result<(Session, Vec<Opening>), Fault> {
        let watched = Arc::new(Watched::new(self.wire.clone()));
        let settings = &self.settings;
        let producer = settings.producer(&self.transactional_id, &watched)?;
        session::init(&producer, &watched)
            .map_err(|problem| watched.fault("transactions cannot be started", &problem))?;
        let latest = settings.consumer("read_uncommitted", &watched)?;
        let mut wanted: Vec<Wanted> = self.destinations.iter().map(Wanted::data).collect();
        wanted.push(Wanted::positions(&self.destinations));
        let asks_rights = self.asks_rights;
        let survey = Survey { settings, client: &latest, watched: &watched, asks_rights };
        let mut surveyed = survey.of(&wanted)?;
        let positions = surveyed.topics.pop().expect("it is the last of those wanted")?;
        let explicit = self.compare(&wanted, &surveyed.topics);
        let hash = (murmur2(self.gateway.as_bytes()) & 0x7fff_ffff).cast_signed();
        let partition = hash % positions.partitions.max(1);
        let place = (partition, self.positions_from);
        let (stored, from) = positions::newest(settings, &latest, place, &self.keys, &watched)?;
        self.positions_from = from;
        self.told = true;
        let told = surveyed.rights_are_told;
        let names = self.destinations.iter().map(|to| to.topic.as_str());
        let session = Session::new(producer, watched, names, (explicit, partition), told)?;
        let found = surveyed.topics.into_iter().zip(stored).enumerate();
        let starts = found.map(|(route, (topic, stored))| self.start(route, topic, stored));
        Ok((session, starts.collect::<Result<_, Fault>>()?))
    }

    /// Names what is not as asked for, once, and says which topics have as many partitions as their
    /// stream.
    fn compare(&self, wanted: &[Wanted], topics: &[Usable]) -> Vec<bool> {
        let compare = |((topic, wanted), destination): ((&Usable, &Wanted), &Destination)| {
            let Ok(found) = topic else { return false };
            if !self.told {
                for difference in found.differences(wanted) {
                    tracing::warn!(stream = destination.stream, "{difference}");
                }
            }
            found.partitions == i32::from(destination.partitions)
        };
        topics.iter().zip(wanted).zip(&self.destinations).map(compare).collect()
    }

    /// What was found, as the policy takes it. A position that another start wrote after this one
    /// had written its own is a rival's.
    fn start(&self, route: usize, topic: Usable, stored: Option<Stored>) -> Result<Opening, Fault> {
        let start = match stored {
            Some(stored) if self.wrote[route] && stored.boot != self.boot => {
                return Err(remedy::rival());
            }
            Some(Stored { position, witness, .. }) => RouteStart::truth(Some(position), witness),
            None => RouteStart::truth(None, None),
        };
        Ok(topic.map(|_| start))
    }

    fn survey(&self, routes: &[usize]) -> Result<Vec<Usable>, Fault> {
        let watched = Arc::new(Watched::new(self.wire.clone()));
        let (settings, asks_rights) = (&self.settings, self.asks_rights);
        let client = settings.consumer("read_uncommitted", &watched)?;
        let survey = Survey { settings, client: &client, watched: &watched, asks_rights };
        let wanted = routes.iter().map(|route| Wanted::data(&self.destinations[*route]));
        Ok(survey.of(&wanted.collect::<Vec<_>>())?.topics)
    }
}

impl Upstream for Kafka {
    fn open(&mut self) -> Result<Vec<Opening>, Fault> {
        self.close();
        let (session, starts) = self.connect()?;
        self.session = Some(session);
        Ok(starts)
    }

    fn look(&mut self, barred: &[usize]) -> Vec<Result<(), Fault>> {
        match self.survey(barred) {
            Ok(topics) => topics.into_iter().map(|topic| topic.map(drop)).collect(),
            Err(fault) => vec![Err(fault); barred.len()],
        }
    }

    fn begin(&mut self) -> Result<(), Fault> {
        opened(&mut self.session).begin()
    }

    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError> {
        let session = opened(&mut self.session);
        let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
        let [offset, index] = &mut digits;
        let all = [
            ("hw.gateway", Some(self.gateway.as_str())),
            ("hw.stream", Some(&self.destinations[route].stream)),
            ("hw.offset", Some(offset.format(record.offset))),
            ("hw.topic", record.topic),
            ("hw.index", record.index.map(|number| index.format(number))),
            ("hw.gap", record.gap),
            ("hw.origin", record.origin),
        ];
        let item = Item {
            partition: session.explicit[route].then_some(i32::from(record.partition)),
            key: record.key.as_bytes(),
            // A value of no bytes is a value; without one a compacted topic forgets the key.
            value: Some(record.value).filter(|_| record.kind != ValueKind::Delete),
            // 0 would stand for the time of sending.
            time_ms: Some(record.time_ms.max(1)),
            headers: &all,
        };
        session.send(route, record.offset, &item)
    }

    fn commit(&mut self, progress: &[Progress], now_ms: i64) -> Result<(), Fault> {
        let session = opened(&mut self.session);
        for Progress { route, position, witness } in progress {
            let (position, witness, boot) = (position.clone(), witness.clone(), self.boot.clone());
            let value = Stored { position, witness, boot, time_ms: now_ms }.encode();
            let key = self.keys[*route].as_bytes();
            session.send_position(key, value.as_bytes()).map_err(|problem| match problem {
                SendError::Fault(fault) => fault,
                SendError::TooLarge => Fault::refused(format!(
                    "a position of {} bytes is too large for {POSITIONS}",
                    value.len()
                )),
            })?;
        }
        session.commit()?;
        for Progress { route, .. } in progress {
            self.wrote[*route] = true;
        }
        Ok(())
    }

    fn refusals(&mut self) -> Vec<Refusal> {
        let refusals = self.session.as_ref().map(Session::refusals).unwrap_or_default();
        // Several at once: either a record of the batch is too large, or the batch itself.
        if refusals.len() > 1 && refusals.iter().all(|one| one.cause == Cause::TooLarge) {
            self.settings.halve_batches();
        }
        refusals
    }

    fn rest(&mut self) -> Result<(), Fault> {
        opened(&mut self.session).serve();
        Ok(())
    }

    fn close(&mut self) {
        let session = self.session.take();
        self.asks_rights |= session.is_some_and(|session| session.lacks_right());
    }
}

fn opened(session: &mut Option<Session>) -> &mut Session {
    session.as_mut().expect("the engine opens before it sends, and after each fault")
}
