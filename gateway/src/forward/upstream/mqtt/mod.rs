//! To an MQTT broker, in order and at least once: QoS 1, a bounded number of messages on the way,
//! and the route's own mark as its position. Each copy of a record has the same identity in its
//! user properties (MQTT 5), by which another Headwater gateway drops the second.
//!
//! ```text
//!  send: PUBLISH ->  PUBLISH ->  PUBLISH ->      commit: wait until each has its PUBACK
//! ```
//!
//! `packet` is the codec, `window` and `link` the connection without socket and clock, `wire` the
//! sockets, `topic` the templates, `identity` what travels beside a message.

mod identity;
pub(in crate::forward) mod link;
mod packet;
mod remedy;
pub(crate) mod topic;
mod window;
pub(crate) mod wire;

use headwater_shared::origin::property;

use crate::config::{MqttUpstream, MqttVersion};
use crate::forward::engine::batch::{OutRecord, ValueKind};
use crate::forward::policy::core::Policy;
use crate::forward::policy::position::Position;
use crate::forward::policy::resume::RouteStart;
use crate::forward::run::Identity;
use crate::forward::upstream::{Fault, Opening, Progress, SendError, Upstream};

use self::link::{Broken, Link};
use self::packet::{Hello, Message};
use self::topic::{Names, Template, Topics};
use self::wire::Dial;

/// A transaction is what is acknowledged before the route moves on. It is small, so that a route
/// gets on over a link that is cut again and again.
pub(in crate::forward) const POLICY: Policy = Policy {
    gather_ms: 0,
    records_max: 100,
    bytes_max: 64 << 10,
    catch_up_records_max: 500,
    catch_up_bytes_max: 256 << 10,
    transaction_timeout_ms: u64::MAX,
    stage_records: 100,
    ..Policy::KAFKA
};

/// The mark is all that is known of what the peer has. After a kill, what was acknowledged since it
/// was saved is sent again.
const MARK_EVERY_MS: u64 = 1_000;

/// Connects once, under a client id that no route has, and sends nothing.
///
/// # Errors
/// [`Fault`]: why the peer would not take a connection.
pub(in crate::forward) fn reach(config: &MqttUpstream, gateway: &str) -> Result<(), Fault> {
    let (gateway, incarnation) = (gateway.to_owned(), String::new());
    let config = MqttUpstream { client_id: None, ..config.clone() };
    let identity = Identity { gateway, incarnation };
    let mut peer = Mqtt::new(wire::Tcp::new(&config), "check", &config, &identity, Vec::new());
    peer.open().map(drop)
}

/// A route to the peer.
pub(in crate::forward) struct MqttRoute {
    stream: String,
    /// The topic as it is configured.
    topic: String,
    topics: Topics,
    retain: bool,
}

impl MqttRoute {
    /// The route of `stream` to `topic`, a template that was checked.
    pub(in crate::forward) fn new(
        stream: &str,
        topic: &str,
        retain: bool,
        gateway: &str,
        names: Names<'_>,
    ) -> Self {
        let template = Template::parse(topic).expect("the configuration was checked");
        let topics = Topics::new(template, stream, gateway, names);
        Self { stream: stream.to_owned(), topic: topic.to_owned(), topics, retain }
    }
}

/// An MQTT broker.
pub(in crate::forward) struct Mqtt<D: Dial> {
    dial: D,
    config: MqttUpstream,
    client_id: String,
    identity: Identity,
    routes: Vec<MqttRoute>,
    link: Option<Link<D::Wire>>,
    /// The peer was asked since the start: what it has beyond that came from this journal.
    was_asked: bool,
}

impl<D: Dial> Mqtt<D> {
    /// The upstream `name`.
    pub(in crate::forward) fn new(
        dial: D,
        name: &str,
        config: &MqttUpstream,
        identity: &Identity,
        routes: Vec<MqttRoute>,
    ) -> Self {
        let client_id = config.client_id.clone();
        let client_id = client_id.unwrap_or_else(|| format!("{}-{name}", identity.gateway));
        let (config, identity) = (config.clone(), identity.clone());
        Self { dial, config, client_id, identity, routes, link: None, was_asked: false }
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    /// The connection is of no more use; why.
    fn fault(&mut self, broken: &Broken) -> Fault {
        self.link = None;
        let (broker, client) = (self.broker(), self.client_id.as_str());
        let refusal = |refusal, what| remedy::fault(refusal, what, &broker, client);
        match broken {
            Broken::Io(problem) if problem.kind() == std::io::ErrorKind::InvalidData => {
                Fault::refused(format!(
                    "{broker}: {problem}. Look at tls of the upstream, and at the certificate there"
                ))
            }
            Broken::Io(problem) => {
                Fault::retry(format!("{broker}: {problem}. Is it running, and the way there open?"))
            }
            Broken::Silent => Fault::retry(format!("{broker} gives no answer")),
            Broken::Nonsense(what) => Fault::retry(format!(
                "{broker} answered {what}: is that an MQTT broker of this version?"
            )),
            Broken::Refused(why) => refusal(why, remedy::What::Connection),
            Broken::NotTaken(why, route) => {
                let MqttRoute { stream, topic, .. } = &self.routes[*route];
                refusal(why, remedy::What::Message { stream, topic })
            }
            Broken::SentAway(why) => refusal(why, remedy::What::Link),
            Broken::Unfit(why) => Fault::refused(format!("{broker} {why}")),
        }
    }

    fn connect(&mut self) -> Result<Link<D::Wire>, Broken> {
        let wire = self.dial.dial()?;
        let config = &self.config;
        let login = config.username.as_deref();
        let login = login.map(|user| (user, config.password.as_deref().unwrap_or_default()));
        let says = [
            (property::GATEWAY.to_owned(), self.identity.gateway.clone()),
            (property::INCARNATION.to_owned(), self.identity.incarnation.clone()),
        ];
        let hello = Hello {
            client_id: &self.client_id,
            login,
            keep_alive_s: config.keep_alive_s,
            says: &says,
        };
        let link = Link::open(wire, config.version, &hello)?;
        if self.config.exactly_once && !identity::is_known(&link.welcome.says, &self.identity) {
            return Err(Broken::Unfit(format!(
                "does not take this for the gateway {0:?}, and exactly_once = true: give the \
                 [[user]] there gateway = {0:?}, or remove exactly_once",
                self.identity.gateway
            )));
        }
        if !link.welcome.takes_retained && self.routes.iter().any(|route| route.retain) {
            return Err(Broken::Unfit(
                "keeps no retained messages: remove retain from the routes".to_owned(),
            ));
        }
        Ok(link)
    }
}

impl<D: Dial> Upstream for Mqtt<D> {
    fn open(&mut self) -> Result<Vec<Opening>, Fault> {
        self.link = None;
        let link = self.connect().map_err(|broken| self.fault(&broken))?;
        let says = &link.welcome.says;
        let start = |route| Ok(start(says, route, self.was_asked));
        let starts = self.routes.iter().map(start).collect();
        self.was_asked = true;
        self.link = Some(link);
        Ok(starts)
    }

    fn begin(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn send(&mut self, route: usize, record: &OutRecord<'_>) -> Result<(), SendError> {
        let with = &self.routes[route];
        let Some(topic) = topic_of(&with.topics, record) else { return Err(SendError::TooLarge) };
        let mut record = *record;
        if !identity::fits(&record) {
            if record.gap.is_none() {
                return Err(SendError::TooLarge);
            }
            record.key = "";
        }
        let place = (with.stream.as_str(), with.topic.as_str());
        let message = Message {
            id: 0,
            topic: &topic,
            retain: with.retain,
            payload: record.value,
            is_json: record.kind == ValueKind::Json,
            says: match self.config.version {
                MqttVersion::V4 => Vec::new(),
                MqttVersion::V5 => identity::properties(&self.identity, place, &record, &topic),
            },
        };
        let Some(link) = &mut self.link else {
            return Err(SendError::Fault(Fault::retry("the connection is closed")));
        };
        match link.send(route, message) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SendError::TooLarge),
            Err(broken) => Err(SendError::Fault(self.fault(&broken))),
        }
    }

    fn commit(&mut self, _progress: &[Progress], _now_ms: i64) -> Result<(), Fault> {
        let Some(link) = &mut self.link else {
            return Err(Fault::retry("the connection is closed"));
        };
        link.finish().map_err(|broken| self.fault(&broken))
    }

    fn rest(&mut self) -> Result<(), Fault> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.rest().map_err(|broken| self.fault(&broken))
    }

    fn mark_every_ms(&self) -> Option<u64> {
        Some(MARK_EVERY_MS)
    }

    fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.leave();
        }
    }
}

/// Where a route goes on. Another gateway says what it has; the last of that may lack rows, and is
/// sent again. Its reach is a witness against this journal only at the first asking: what is sent
/// after that is there before a commit says so.
fn start(says: &[(String, String)], route: &MqttRoute, was_asked: bool) -> RouteStart {
    let reached = identity::reached(says, &route.stream, &route.topic);
    let reach = reached.filter(|_| !was_asked).map_or(0, |last| last.saturating_add(1));
    RouteStart { position: reached.map(Position::up_to), reach, witness: None, is_truth: false }
}

/// A gap is told on some topic, whatever its key.
fn topic_of(topics: &Topics, record: &OutRecord<'_>) -> Option<String> {
    let topic = topics.of(record.key, record.topic);
    if topic.is_none() && record.gap.is_some() { topics.of("", None) } else { topic }
}
