//! The one way by which a message becomes a record.

mod relay;
mod sparkplug;

use std::borrow::Cow;
use std::sync::Arc;

use headwater_shared::envelope::{Envelope, Publish};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::chain::{Chain, Relayed};
use crate::config::{Format, StreamConfig};
use crate::journal::{AppendError, Journal, NewRecord, Ticket};
use crate::node::{Admission, Nodes};
use crate::sparkplug::Sparkplug;
use crate::stream::{Stream, Streams, json};
use crate::table::value_of;

/// A message at the door.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The client id of the publisher; empty for the gateway itself.
    pub client: &'a str,
    /// A valid topic name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// Quality of service: 0, 1 or 2.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The packet id of a QoS 2 publish.
    pub packet_id: Option<u16>,
    /// MQTT 5 properties that travel, encoded; see [`Publish::properties`].
    pub properties: &'a [u8],
    /// The clock, ms since 1970.
    pub now_ms: i64,
    /// It was in the journal of another gateway, which may say so.
    pub relayed: Option<&'a Relayed<'a>>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The publisher may be acknowledged once this is durable.
    pub ticket: Ticket,
    /// It was there already: a second copy of a node's block.
    pub duplicate: bool,
}

/// Why a message was not taken; its publisher must not be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The journal did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// After a failed commit the gateway is still finding out what is on disk.
    #[error("the gateway is recovering from a failed commit; send again")]
    Recovering,
    /// Another gateway has more routes than are known here.
    #[error(
        "there is no room for another route of this gateway: remove routes there, or give it \
         another gateway.id"
    )]
    RoutesFull,
}

/// What the door counts.
#[derive(Clone, Debug, Default)]
pub struct IntakeMetrics {
    /// Messages that became records.
    pub messages: Counter,
    /// Payload bytes of them.
    pub bytes: Counter,
    /// Messages that their stream could not parse.
    pub rejected: Counter,
    /// Second copies that were dropped.
    pub duplicates: Counter,
    /// Gap records written for nodes and Sparkplug edge nodes.
    pub gaps: Counter,
    /// Births that a Sparkplug edge node was asked for.
    pub rebirths: Counter,
    /// Births of Sparkplug for which there was no room.
    pub births_refused: Counter,
}

impl IntakeMetrics {
    /// Names the counters.
    pub fn register(&self, registry: &mut Registry) {
        let mut add =
            |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        add("intake_messages", "Messages stored", &self.messages);
        add("intake_payload_bytes", "Payload bytes stored", &self.bytes);
        add("intake_rejected", "Messages stored as rejected by their stream", &self.rejected);
        add("intake_duplicates", "Second copies dropped", &self.duplicates);
        add("intake_gaps", "Gap records written for nodes", &self.gaps);
        add("sparkplug_rebirths", "Births that edge nodes were asked for", &self.rebirths);
        let refused = &self.births_refused;
        add("sparkplug_births_refused", "Births rejected for want of room", refused);
    }
}

/// Routes messages to streams and appends them.
#[derive(Clone)]
pub struct Intake {
    journal: Journal,
    streams: Arc<Streams>,
    nodes: Arc<Nodes>,
    sparkplug: Arc<Sparkplug>,
    chain: Arc<Chain>,
    metrics: IntakeMetrics,
}

impl Intake {
    /// The way into `journal`.
    pub fn new(
        journal: Journal,
        streams: Arc<Streams>,
        nodes: Arc<Nodes>,
        sparkplug: Arc<Sparkplug>,
        chain: Arc<Chain>,
        metrics: IntakeMetrics,
    ) -> Self {
        Self { journal, streams, nodes, sparkplug, chain, metrics }
    }

    /// The journal behind it.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is here of other gateways.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Stores a message in its stream, or in the `.rejected` stream where it cannot be parsed.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing was stored.
    pub fn publish(&self, message: &Incoming<'_>) -> Result<Accepted, IntakeError> {
        match message.relayed {
            Some(relayed) => self.relay(message, relayed),
            None => self.take(message),
        }
    }

    fn take(&self, message: &Incoming<'_>) -> Result<Accepted, IntakeError> {
        let stream = self.streams.route(message.topic);
        let format = stream.config.as_ref().map(|config| config.format);
        match format {
            Some(Format::Blocks) => self.publish_block(stream, message),
            Some(Format::SparkplugB) => self.publish_metrics(stream, message),
            Some(Format::Json) => {
                let config = stream.config.as_ref().expect("only a configured stream is JSON");
                if config.is_state && message.payload.is_empty() {
                    return self.delete(stream, config, message);
                }
                match json::parse(config, message.payload) {
                    Ok(parsed) => {
                        let time_ms = parsed.time_ms.unwrap_or(message.now_ms);
                        let captured;
                        let key = match &parsed.key {
                            Some(key) => key.as_str(),
                            None => {
                                captured = key_of(stream, message.topic);
                                &captured
                            }
                        };
                        self.append(stream, message, time_ms, key, None)
                    }
                    Err(reason) => self.reject(stream, message, &reason),
                }
            }
            Some(Format::Bytes) | None => {
                let key = key_of(stream, message.topic);
                let accepted = self.append(stream, message, message.now_ms, &key, None)?;
                self.attend_node(message)?;
                Ok(accepted)
            }
        }
    }

    /// Stores a message that is not what it should be where its stream's rejected ones are.
    ///
    /// # Errors
    /// [`IntakeError`]; nothing was stored.
    pub fn refuse(&self, message: &Incoming<'_>, reason: &str) -> Result<Accepted, IntakeError> {
        self.reject(self.streams.route(message.topic), message, reason)
    }

    /// A node's message beside its blocks: takes note of it and answers a time request.
    fn attend_node(&self, message: &Incoming<'_>) -> Result<(), IntakeError> {
        self.nodes.observe(message);
        // Who relays a request for the time has answered it.
        if message.relayed.is_some() {
            return Ok(());
        }
        let Some((topic, payload)) = self.nodes.time_reply(message) else { return Ok(()) };
        let reply = Incoming {
            client: "",
            topic: &topic,
            payload: &payload,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            now_ms: message.now_ms,
            relayed: None,
        };
        let stream = self.streams.route(&topic);
        self.append(stream, &reply, message.now_ms, &key_of(stream, &topic), None)?;
        Ok(())
    }

    /// An empty payload deletes a key of a state stream.
    fn delete(
        &self,
        stream: &Stream,
        config: &StreamConfig,
        message: &Incoming<'_>,
    ) -> Result<Accepted, IntakeError> {
        let in_topic = |key: &String| config.topic.captures().any(|capture| capture == key);
        if config.key.as_ref().is_none_or(in_topic) {
            let key = key_of(stream, message.topic);
            return self.append(stream, message, message.now_ms, &key, None);
        }
        let reason = "an empty payload deletes its key, and the key is not a level of the topic";
        self.reject(stream, message, reason)
    }

    fn publish_block(
        &self,
        stream: &Stream,
        message: &Incoming<'_>,
    ) -> Result<Accepted, IntakeError> {
        let durable = self.journal.durable();
        let mut live = self.nodes.live(durable).ok_or(IntakeError::Recovering)?;
        match live.admit(message) {
            Admission::Fresh { time_ms, gaps, mark } => {
                let key = key_of(stream, message.topic);
                let key = key.as_ref();
                let partition = stream.partition_of(key);
                // Another gateway has named what is missing, and sends that too.
                for gap in gaps.iter().filter(|_| message.relayed.is_none()) {
                    let envelope = Envelope::Gap(gap.as_gap());
                    let record = NewRecord { partition, time_ms, key, envelope: &envelope };
                    self.journal.append(&record)?;
                    self.metrics.gaps.inc();
                }
                let accepted = self.append(stream, message, time_ms, key, None)?;
                live.accept(mark, message.now_ms);
                Ok(accepted)
            }
            Admission::Duplicate => Ok(self.second_copy(durable.generation)),
            Admission::Rejected(reason) => self.reject(stream, message, &reason),
        }
    }

    fn second_copy(&self, generation: u64) -> Accepted {
        self.metrics.duplicates.inc();
        // The first may not be on disk yet: all that is appended so far has to be.
        let offset = self.journal.end().saturating_sub(1);
        Accepted { ticket: Ticket { offset, generation }, duplicate: true }
    }

    fn reject(
        &self,
        stream: &Stream,
        message: &Incoming<'_>,
        reason: &str,
    ) -> Result<Accepted, IntakeError> {
        self.metrics.rejected.inc();
        let rejected = self.streams.rejected(stream);
        self.append(rejected, message, message.now_ms, message.topic, Some(reason))
    }

    fn append(
        &self,
        stream: &Stream,
        message: &Incoming<'_>,
        time_ms: i64,
        key: &str,
        rejected: Option<&str>,
    ) -> Result<Accepted, IntakeError> {
        let envelope = Envelope::Publish(Publish {
            topic: message.topic,
            client: message.client,
            arrival_ms: message.now_ms,
            qos: message.qos,
            retain: message.retain,
            packet_id: message.packet_id,
            properties: message.properties,
            rejected,
            payload: message.payload,
        });
        let ticket = match message.relayed {
            None => {
                let partition = stream.partition_of(key);
                self.journal.append(&NewRecord { partition, time_ms, key, envelope: &envelope })?
            }
            Some(relayed) => self.append_relayed(stream, relayed, &envelope)?,
        };
        self.metrics.messages.inc();
        self.metrics.bytes.inc_by(message.payload.len() as u64);
        Ok(Accepted { ticket, duplicate: false })
    }
}

/// The key from the topic: what the named level stands for, or the topic itself.
fn key_of<'a>(stream: &'a Stream, topic: &'a str) -> Cow<'a, str> {
    let Some(config) = &stream.config else { return Cow::Borrowed(topic) };
    let Some(key) = &config.key else { return Cow::Borrowed(topic) };
    let mut captured = config.topic.capture(topic).into_iter().flatten();
    let level = captured.find_map(|(name, level)| (name == key).then_some(level));
    level.map_or(Cow::Borrowed(topic), |level| value_of(topic, level))
}
