//! The least of a gateway that a forwarder needs: journal, catalog and streams in a directory.

use std::path::Path;
use std::sync::Arc;

use headwater::catalog::Catalog;
use headwater::config::{Config, LinkConfig};
use headwater::forward::{ForwardMetrics, Forwarder, Identity, Surroundings};
use headwater::journal::{AppendError, Journal, JournalOptions, NewRecord, Ticket};
use headwater::node::Nodes;
use headwater::sparkplug::Sparkplug;
use headwater::stream::{Rows, Streams};
use headwater_shared::envelope::{Envelope, Publish};

use crate::random::Random;

/// Partitions of the stream.
pub const PARTITIONS: u16 = 3;

/// The topic that it goes to.
pub const TOPIC: &str = "plant.data";

/// Devices whose names are the keys.
pub const DEVICES: u64 = 11;

/// Journal, catalog and configuration of one stream `data` with a route to the topic `plant.data`.
pub struct Bench {
    /// The journal.
    pub journal: Journal,
    config: Config,
    catalog: Arc<Catalog>,
    streams: Arc<Streams>,
}

impl Bench {
    /// Opens or makes it in `dir`.
    ///
    /// # Errors
    /// A text that says what could not be opened.
    pub fn open(dir: &Path, brokers: &str) -> Result<Self, String> {
        Self::open_with(dir, &format!("brokers = \"{brokers}\"\n"), "")
    }

    /// Opens or makes it with these lines of the upstream and of the route, in TOML.
    ///
    /// # Errors
    /// A text that says what could not be opened.
    pub fn open_with(dir: &Path, upstream: &str, route: &str) -> Result<Self, String> {
        Self::open_as("bench", TOPIC, dir, upstream, route)
    }

    /// The configuration of the gateway `id` with data in `dir`, with a route to `topic`.
    pub fn config(id: &str, topic: &str, dir: &Path, upstream: &str, route: &str) -> String {
        format!(
            "[gateway]\nid = \"{id}\"\ndata_dir = \"{dir}\"\n\
             [[stream]]\nname = \"data\"\ntopic = \"data/{{device}}\"\nkey = \"device\"\n\
             format = \"json\"\npartitions = {PARTITIONS}\n\
             [[route]]\nstream = \"data\"\nupstream = \"cluster\"\ntopic = \"{topic}\"\n{route}\
             [upstream.cluster]\nkind = \"kafka\"\n{upstream}",
            dir = dir.display()
        )
    }

    /// As [`Bench::open_with`], for the gateway `id` and a route to `topic`.
    ///
    /// # Errors
    /// A text that says what could not be opened.
    pub fn open_as(
        id: &str,
        topic: &str,
        dir: &Path,
        upstream: &str,
        route: &str,
    ) -> Result<Self, String> {
        let text = Self::config(id, topic, dir, upstream, route);
        let config = Config::parse("bench", &text).map_err(|problem| problem.to_string())?;
        let catalog = Catalog::open(&dir.join("catalog.redb")).map_err(|p| p.to_string())?;
        let streams = Streams::new(&config, &catalog).map_err(|problem| problem.to_string())?;
        let options = JournalOptions::default();
        let (journal, _) =
            Journal::open(&dir.join("log"), options).map_err(|problem| problem.to_string())?;
        Ok(Self { journal, config, catalog: Arc::new(catalog), streams: Arc::new(streams) })
    }

    /// Its forwarder; `incarnation` is made where it is not known yet.
    ///
    /// # Errors
    /// A text that says what could not be read.
    pub fn forwarder(&self) -> Result<Forwarder, String> {
        let make = || format!("{:08x}", std::process::id());
        let incarnation =
            self.catalog.fact("incarnation", make).map_err(|problem| problem.to_string())?;
        let sparkplug = Arc::new(Sparkplug::new(&self.streams));
        let rows = Rows::new(Arc::clone(&self.streams), Arc::new(Nodes::default()), sparkplug);
        let with = Surroundings {
            identity: Identity { gateway: self.config.id.clone(), incarnation },
            journal: self.journal.clone(),
            // Each forwarder stands for a start of the gateway.
            opened: self.journal.durable().end,
            catalog: Arc::clone(&self.catalog),
            streams: Arc::clone(&self.streams),
            rows,
            metrics: ForwardMetrics::default(),
        };
        let upstream = (&self.config.upstreams["cluster"], LinkConfig::default());
        Forwarder::new("cluster", upstream, &self.config.routes, with)
            .map_err(|problem| problem.to_string())
    }

    /// The key of the record `number`.
    pub fn key(number: u64) -> String {
        format!("device-{}", number % DEVICES)
    }

    /// The payload of the record `number`.
    pub fn payload(number: u64) -> String {
        format!("{{\"n\":{number},\"text\":\"some more bytes, as a reading has them\"}}")
    }

    /// The partition of the record `number`, from 0.
    ///
    /// # Panics
    /// If the stream is not configured, which [`Bench::open`] does.
    pub fn partition(&self, number: u64) -> u16 {
        let stream = self.streams.get("data").expect("open configures it");
        let partition = stream.partition_of(&Self::key(number));
        self.streams.partition(partition).map_or(0, |place| place.partition)
    }

    /// Appends the record `number`, which is its offset where nothing else is appended.
    ///
    /// # Errors
    /// [`AppendError`].
    ///
    /// # Panics
    /// If the stream is not configured, which [`Bench::open`] does.
    pub fn append(&self, number: u64) -> Result<Ticket, AppendError> {
        self.append_payload(number, Self::payload(number).as_bytes())
    }

    /// The same with a payload of so many bytes (at least 40), of letters without a pattern.
    ///
    /// # Errors
    /// [`AppendError`].
    ///
    /// # Panics
    /// As [`Bench::append`].
    pub fn append_sized(&self, number: u64, bytes: usize) -> Result<Ticket, AppendError> {
        let mut payload = format!("{{\"n\":{number},\"text\":\"");
        let mut random = Random::new(number);
        while payload.len() + 2 < bytes {
            payload.push((b'A' + random.below(26) as u8) as char);
        }
        payload.push_str("\"}");
        self.append_payload(number, payload.as_bytes())
    }

    /// The same with another payload.
    ///
    /// # Errors
    /// [`AppendError`].
    ///
    /// # Panics
    /// If the stream is not configured, which [`Bench::open`] does.
    pub fn append_payload(&self, number: u64, payload: &[u8]) -> Result<Ticket, AppendError> {
        let key = Self::key(number);
        let time_ms = 1_763_700_000_000 + i64::try_from(number).unwrap_or(i64::MAX);
        let topic = format!("data/{key}");
        let envelope = Envelope::Publish(Publish {
            topic: &topic,
            client: "bench",
            arrival_ms: time_ms,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload,
        });
        let stream = self.streams.get("data").expect("open configures it");
        let partition = stream.partition_of(&key);
        self.journal.append(&NewRecord { partition, time_ms, key: &key, envelope: &envelope })
    }

    /// The causes of the stream's dead letters.
    ///
    /// # Panics
    /// If the journal cannot be read.
    pub fn dead_letters(&self) -> Vec<String> {
        let partition = self.streams.dead("data").expect("it is routed").partitions[0];
        let mut reader = self.journal.reader(0);
        let mut causes = Vec::new();
        loop {
            let records = reader.read(1 << 20).expect("a whole journal");
            if records.is_empty() {
                return causes;
            }
            let letters = records.iter().filter(|record| record.partition == partition);
            causes.extend(letters.filter_map(|record| match record.envelope() {
                Ok(Envelope::Publish(letter)) => letter.rejected.map(str::to_owned),
                _ => None,
            }));
        }
    }
}
