//! From the configuration of a cluster to clients of it.

use std::sync::Arc;

use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};

use super::native;
use super::oauth::{self, Endpoint, Tokens};
use super::watch::{Watch, Watched};
use crate::config::KafkaConfig;
use crate::forward::upstream::Fault;

/// The broker settles a transaction that is open this long.
pub(super) const TRANSACTION_TIMEOUT_MS: u32 = 30_000;
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
const PROTOCOL: &str = "security.protocol";
const BATCH: &str = "batch.size";
const BATCH_BYTES: u32 = 1_000_000;
/// Below this batches cost more than they help.
const BATCH_BYTES_MIN: u32 = 16 << 10;

/// Of producers, where properties do not say otherwise.
const PRODUCER: [(&str, &str); 5] = [
    ("linger.ms", "2"),
    ("message.max.bytes", "1048588"),
    ("queue.buffering.max.kbytes", "4096"),
    // Each takes some hundred bytes beside its own.
    ("queue.buffering.max.messages", "4000"),
    ("statistics.interval.ms", "10000"),
];

/// What the promise rests on is not for properties to change.
const FIXED: [&str; 9] = [
    "bootstrap.servers",
    "transactional.id",
    "enable.idempotence",
    "partitioner",
    "group.id",
    "isolation.level",
    "enable.auto.commit",
    "enable.partition.eof",
    "delivery.report.only.error",
];

/// What is wrong with properties, by property; nothing is connected.
pub(in crate::forward) fn check(config: &KafkaConfig) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for (name, property) in &config.properties {
        if FIXED.contains(&name.as_str()) {
            let fault = match name.as_str() {
                "bootstrap.servers" => "write it as brokers = \"host:9092\" of the upstream",
                _ => "what arrives once rests on it, so it is not to be changed; remove it",
            };
            faults.push((name.clone(), fault.to_owned()));
        } else if !oauth::OWN.contains(&name.as_str()) {
            let alone = ClientConfig::new().set(name, property.value()).create_native_config();
            if let Err(KafkaError::ClientConfig(_, fault, ..)) = alone {
                // What a file or a variable holds is not for a message.
                let fault = fault.replace(property.value(), property.shown(false));
                let fault = format!("{fault}; see librdkafka's CONFIGURATION.md for what there is");
                faults.push((name.clone(), fault));
            }
        }
    }
    faults.extend(check_sasl(config));
    faults
}

fn check_sasl(config: &KafkaConfig) -> Option<(String, String)> {
    let (name, _) = config.properties.iter().find(|(name, _)| name.starts_with("sasl."))?;
    if !protocol(config).starts_with("SASL_") {
        let fault = "has no effect without security.protocol = \"SASL_SSL\" (or \"SASL_PLAINTEXT\" \
                     on a network that nobody else reads)";
        return Some((name.clone(), fault.to_owned()));
    }
    if is_oauth(config) { Endpoint::read(&config.properties).err() } else { None }
}

fn protocol(config: &KafkaConfig) -> String {
    let protocol = config.properties.get(PROTOCOL).map(|protocol| protocol.value());
    protocol.unwrap_or("PLAINTEXT").to_ascii_uppercase()
}

fn is_oauth(config: &KafkaConfig) -> bool {
    let mechanism = |name| config.properties.get(name).map(|mechanism| mechanism.value());
    mechanism("sasl.mechanism")
        .or(mechanism("sasl.mechanisms"))
        .is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER"))
}

/// How clients of a cluster are made.
pub(super) struct Settings {
    common: ClientConfig,
    tokens: Option<Arc<Tokens>>,
    /// Of a producer's batch, at most.
    batch_bytes: u32,
}

impl Settings {
    /// For the gateway of this id; `config` is one that [`check`] found good.
    pub(super) fn new(config: &KafkaConfig, gateway: &str) -> Self {
        let mut common = ClientConfig::new();
        common
            .set("client.id", format!("headwater-{gateway}"))
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set_log_level(RDKafkaLogLevel::Warning);
        let has_ca = |name: &str| config.properties.contains_key(name);
        if protocol(config).ends_with("SSL") && !has_ca("ssl.ca.location") && !has_ca("ssl.ca.pem")
        {
            // The OpenSSL that is linked in does not know where this system keeps its CAs.
            common.set("ssl.ca.location", "probe");
        }
        let given = config.properties.iter().map(|(name, property)| (name, property.value()));
        for (name, value) in given.filter(|(name, _)| !oauth::OWN.contains(&name.as_str())) {
            common.set(name, value);
        }
        if !common.config_map().keys().any(|name| name.starts_with("compression.")) {
            common.set("compression.codec", config.compression.name());
        }
        common.set("bootstrap.servers", &config.brokers);
        let endpoint = is_oauth(config).then(|| Endpoint::read(&config.properties));
        let tokens = endpoint.and_then(Result::ok).map(|endpoint| Arc::new(Tokens::new(endpoint)));
        let batch_bytes = common.get(BATCH).and_then(|text| text.parse().ok());
        Self { common, tokens, batch_bytes: batch_bytes.unwrap_or(BATCH_BYTES) }
    }

    /// A batch was refused for its size: the next producer makes smaller ones.
    pub(super) fn halve_batches(&mut self) {
        self.batch_bytes = (self.batch_bytes / 2).max(BATCH_BYTES_MIN.min(self.batch_bytes));
    }

    /// The broker settles an open transaction of ours after this, ms.
    pub(super) fn transaction_timeout_ms(&self) -> u32 {
        let written = self.common.get(TRANSACTION_TIMEOUT).and_then(|text| text.parse().ok());
        written.unwrap_or(TRANSACTION_TIMEOUT_MS)
    }

    /// A producer of transactions.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn producer(
        &self,
        transactional_id: &str,
        watched: &Arc<Watched>,
    ) -> Result<BaseProducer<Watch>, Fault> {
        self.producer_with(transactional_id, self.transaction_timeout_ms(), watched)
    }

    /// A producer whose transactions the broker settles after `timeout_ms`.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn producer_with(
        &self,
        transactional_id: &str,
        timeout_ms: u32,
        watched: &Arc<Watched>,
    ) -> Result<BaseProducer<Watch>, Fault> {
        // A clone, since what reads as a map has no passwords in it.
        let mut config = self.common.clone();
        for (property, value) in PRODUCER {
            if config.get(property).is_none() {
                config.set(property, value);
            }
        }
        config
            .set(BATCH, self.batch_bytes.to_string())
            .set("delivery.report.only.error", "true")
            .set(TRANSACTION_TIMEOUT, timeout_ms.to_string())
            .set("transactional.id", transactional_id)
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true");
        let producer: BaseProducer<Watch> = self.create(&config, watched)?;
        self.authenticate(producer.client())?;
        Ok(producer)
    }

    /// A consumer that is no member of a group.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn consumer(
        &self,
        isolation: &str,
        watched: &Arc<Watched>,
    ) -> Result<BaseConsumer<Watch>, Fault> {
        let mut config = self.common.clone();
        config
            .set("group.id", "headwater")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "1024");
        let consumer: BaseConsumer<Watch> = self.create(&config, watched)?;
        self.authenticate(consumer.client())?;
        Ok(consumer)
    }

    /// A consumer of a topic that comes in: where it goes on is said to it, and an offset that is
    /// not there is an error, not a guess.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn feed(&self, watched: &Arc<Watched>) -> Result<BaseConsumer<Watch>, Fault> {
        let mut config = self.common.clone();
        config
            .set("group.id", "headwater")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "1024");
        let consumer: BaseConsumer<Watch> = self.create(&config, watched)?;
        self.authenticate(consumer.client())?;
        Ok(consumer)
    }

    /// A client for topics and their settings.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn admin(&self, watched: &Arc<Watched>) -> Result<AdminClient<Watch>, Fault> {
        let admin: AdminClient<Watch> = self.create(&self.common, watched)?;
        self.authenticate(admin.inner())?;
        Ok(admin)
    }

    fn create<T: FromClientConfigAndContext<Watch>>(
        &self,
        config: &ClientConfig,
        watched: &Arc<Watched>,
    ) -> Result<T, Fault> {
        let watch = Watch { watched: Arc::clone(watched), tokens: self.tokens.clone() };
        config.create_with_context(watch).map_err(|problem| {
            Fault::refused(format!(
                "{problem}: see properties of the upstream in the configuration"
            ))
        })
    }

    /// Only the thread that polls a client may answer its wish for a token, and not all clients are
    /// polled before they are used: so each begins with one.
    fn authenticate<C: ClientContext>(&self, client: &Client<C>) -> Result<(), Fault> {
        match &self.tokens {
            None => Ok(()),
            Some(tokens) => native::give_token(client, &tokens.current()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Compression;

    fn config(properties: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig {
            brokers: "127.0.0.1:9092".to_owned(),
            compression: Compression::Zstd,
            interval: std::time::Duration::from_secs(1),
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect(),
            registry: None,
        }
    }

    #[test]
    fn each_wrong_property_is_named_with_what_to_write() {
        for (properties, name, words) in [
            (&[("linger.mss", "1")][..], "linger.mss", "No such configuration property"),
            (&[("linger.ms", "soon")], "linger.ms", "CONFIGURATION.md"),
            (&[("transactional.id", "x")], "transactional.id", "remove it"),
            (&[("bootstrap.servers", "x")], "bootstrap.servers", "brokers ="),
            (&[("sasl.username", "x")], "sasl.username", "SASL_SSL"),
            (
                &[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "OAUTHBEARER")],
                "sasl.oauthbearer.token.endpoint.url",
                "OAUTHBEARER needs it",
            ),
        ] {
            let faults = check(&config(properties));
            let fits = |(found, fault): &(String, String)| found == name && fault.contains(words);
            assert!(faults.len() == 1 && faults.iter().any(fits), "{name}: {faults:?}");
        }
        let good = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "a"),
            ("sasl.password", "b"),
        ];
        assert_eq!(check(&config(&good)), []);
    }

    #[test]
    fn properties_go_to_the_client_and_those_of_tokens_do_not() {
        let oauth = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", "https://idp.example/token"),
            ("sasl.oauthbearer.client.id", "a"),
            ("sasl.oauthbearer.client.secret", "b"),
            ("transaction.timeout.ms", "60000"),
        ];
        assert_eq!(check(&config(&oauth)), []);
        let settings = Settings::new(&config(&oauth), "g");
        let of = |name| settings.common.get(name);
        assert!(settings.tokens.is_some());
        assert_eq!(of("ssl.ca.location"), Some("probe"));
        assert_eq!(of("sasl.oauthbearer.client.secret"), None);
        assert_eq!(of("compression.codec"), Some("zstd"));
        assert_eq!(settings.transaction_timeout_ms(), 60_000);
        let own = Settings::new(&config(&[("compression.type", "gzip")]), "g");
        assert_eq!(own.common.get("compression.codec"), None);
        assert_eq!(own.common.get("ssl.ca.location"), None);
    }

    #[test]
    fn batches_that_a_topic_refuses_become_smaller_up_to_a_floor() {
        let halved = |properties: &[(&str, &str)], times| {
            let mut settings = Settings::new(&config(properties), "g");
            (0..times).for_each(|_| settings.halve_batches());
            settings.batch_bytes
        };
        assert_eq!((halved(&[], 0), halved(&[], 1)), (BATCH_BYTES, BATCH_BYTES / 2));
        assert_eq!(halved(&[], 40), BATCH_BYTES_MIN);
        assert_eq!(halved(&[("batch.size", "5000")], 3), 5_000, "what is written is the least");
    }
}
