//! Topics: found, made, and compared with what a route asks for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::native::Rights;
use super::watch::{Watch, Watched};
use super::{INIT, POSITIONS, POSITIONS_PARTITIONS, REQUEST, remedy};
use crate::forward::upstream::{Destination, Fault};

/// Another one has made a topic: its leaders are there soon, or not at all.
const LED: Duration = Duration::from_secs(1);

/// What a topic is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) create: bool,
    pub(super) partitions: u16,
    /// Whether the number was asked for, or is only the stream's.
    pub(super) is_asked: bool,
    pub(super) replication: Option<u16>,
    pub(super) settings: BTreeMap<String, String>,
    /// Settings of a new topic that older brokers may not know.
    extra: Vec<(&'static str, &'static str)>,
}

impl Wanted {
    /// The topic of a route.
    pub(super) fn data(destination: &Destination) -> Self {
        let Destination { topic, partitions, wanted, .. } = destination;
        Self {
            name: topic.clone(),
            create: wanted.create,
            partitions: wanted.partitions.unwrap_or(*partitions),
            is_asked: wanted.partitions.is_some(),
            replication: wanted.replication,
            settings: wanted.settings.clone(),
            // Event times are the devices', ahead of the broker's clock or not.
            extra: vec![("message.timestamp.after.max.ms", "9223372036854775807")],
        }
    }

    /// The topic of positions, kept as the topics of routes are.
    pub(super) fn positions(destinations: &[Destination]) -> Self {
        Self {
            name: POSITIONS.to_owned(),
            create: destinations.iter().any(|to| to.wanted.create),
            partitions: POSITIONS_PARTITIONS,
            is_asked: false,
            replication: destinations.iter().filter_map(|to| to.wanted.replication).max(),
            // Small segments: the last one is never compacted, and each start reads a partition.
            settings: [("cleanup.policy", "compact"), ("segment.bytes", "1048576")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            extra: Vec::new(),
        }
    }

    /// As a sentence goes on: "with 3 partitions".
    pub(super) fn described(&self) -> String {
        let mut text = counted(self.partitions.into(), "partition");
        if let Some(replication) = self.replication {
            text.push_str(", ");
            text.push_str(&counted(replication.into(), "replica"));
        }
        for (name, value) in &self.settings {
            text.push_str(&format!(", {name}={value}"));
        }
        text
    }

    /// That it is not there and must not be made.
    pub(super) fn absent(&self) -> Fault {
        let (name, described) = (&self.name, self.described());
        let flags = self.flags();
        Fault::refused(format!(
            "there is no topic {name} and create = false: make it ({described}): kafka-topics.sh \
             --create --topic {name}{flags}, or write create = true for the route"
        ))
    }

    fn leaderless(&self) -> Fault {
        let name = &self.name;
        Fault::refused(format!("topic {name} has a partition without a leader: is a broker down?"))
    }

    fn flags(&self) -> String {
        let mut flags = format!(" --partitions {}", self.partitions);
        if let Some(replication) = self.replication {
            flags.push_str(&format!(" --replication-factor {replication}"));
        }
        for (name, value) in &self.settings {
            flags.push_str(&format!(" --config {name}={value}"));
        }
        flags
    }
}

/// A topic of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) partitions: i32,
    /// Copies of the partition with the fewest.
    pub(super) replication: usize,
}

impl Found {
    /// "3 partitions, 1 replica".
    pub(super) fn described(&self) -> String {
        let partitions = usize::try_from(self.partitions).unwrap_or_default();
        let replicas = counted(self.replication, "replica");
        format!("{}, {replicas}", counted(partitions, "partition"))
    }

    /// In what it is not as asked for, and what to do; records arrive all the same.
    pub(super) fn differences(&self, wanted: &Wanted) -> Vec<String> {
        let Wanted { name, partitions, replication, is_asked, .. } = wanted;
        let mut all = Vec::new();
        let found = self.partitions;
        if *is_asked && found != i32::from(*partitions) {
            let remedy = if found < i32::from(*partitions) {
                format!(
                    "kafka-topics.sh --alter --topic {name} --partitions {partitions}, or write"
                )
            } else {
                "Kafka cannot take partitions away: write".to_owned()
            };
            all.push(format!(
                "topic {name} has {}, the route says {partitions}; keys go where Java's partitioner \
                 would send them. {remedy} partitions = {found}",
                counted(usize::try_from(found).unwrap_or_default(), "partition")
            ));
        }
        if let Some(asked) = replication.filter(|asked| usize::from(*asked) != self.replication) {
            let found = self.replication;
            all.push(format!(
                "topic {name} has {}, the route says {asked}: \
                 kafka-reassign-partitions.sh changes that, or write replication = {found}",
                counted(found, "replica")
            ));
        }
        all
    }
}

/// "1 broker", "3 brokers".
pub(super) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// In which settings a topic is not as asked for.
pub(super) fn setting_differences(
    wanted: &Wanted,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let name = &wanted.name;
    let differing = wanted.settings.iter().filter_map(|(setting, asked)| {
        let is = found.get(setting)?;
        (is != asked).then(|| {
            format!(
                "topic {name} has {setting}={is}, not {asked}: kafka-configs.sh --alter \
                 --entity-type topics --entity-name {name} --add-config {setting}={asked}, or \
                 change it here"
            )
        })
    });
    differing.collect()
}

/// The right that is missing on a topic, if one is; those of routes are only written.
pub(super) fn lacking(topic: &str, rights: Rights) -> Option<Fault> {
    let missing = match (rights.write, rights.read || topic != POSITIONS) {
        (true, true) => return None,
        (false, _) => "Write",
        (true, false) => "Read",
    };
    Some(remedy::right(topic, missing))
}

/// A topic, or why just this one cannot be used.
pub(super) type Usable = Result<Found, Fault>;

/// Finds a topic, or makes it.
///
/// # Errors
/// [`Fault`], which is not of the topic alone.
pub(super) fn ensure(
    client: &BaseConsumer<Watch>,
    admin: &dyn Fn() -> Result<AdminClient<Watch>, Fault>,
    wanted: &Wanted,
    watched: &Watched,
) -> Result<Usable, Fault> {
    let mut deadline = None;
    loop {
        match find(client, &wanted.name, REQUEST) {
            Ok(Some(found)) => return Ok(Ok(found)),
            Ok(None) if !wanted.create => return Ok(Err(wanted.absent())),
            Ok(None) => match deadline {
                None => match create(&admin()?, wanted, false) {
                    Ok(Made::Now) => deadline = Some(Instant::now() + INIT),
                    Ok(Made::Before) => deadline = Some(Instant::now() + LED),
                    Err(problem) => return unusable(wanted, &problem, watched),
                },
                Some(at) if Instant::now() > at => return Ok(Err(wanted.leaderless())),
                Some(_) => std::thread::sleep(Duration::from_millis(50)),
            },
            Err(problem) => return unusable(wanted, &problem, watched),
        }
    }
}

/// Whether an error is of this topic, or of all that is asked of the cluster.
fn unusable(wanted: &Wanted, problem: &KafkaError, watched: &Watched) -> Result<Usable, Fault> {
    let fault = watched.fault(&format!("topic {} cannot be used", wanted.name), problem);
    let is_topics = remedy::is_of_topic(problem.rdkafka_error_code().map(|code| code as i32));
    if is_topics { Ok(Err(fault)) } else { Err(fault) }
}

/// When a topic was made.
pub(super) enum Made {
    /// Now.
    Now,
    /// It was there.
    Before,
}

/// Makes a topic, or only asks whether it could be made.
///
/// # Errors
/// What the cluster says.
pub(super) fn create(
    admin: &AdminClient<Watch>,
    wanted: &Wanted,
    only_ask: bool,
) -> Result<Made, KafkaError> {
    match create_with(admin, wanted, &wanted.extra, only_ask) {
        Err(KafkaError::AdminOp(Code::InvalidConfig)) if !wanted.extra.is_empty() => {
            create_with(admin, wanted, &[], only_ask)
        }
        made => made,
    }
}

fn create_with(
    admin: &AdminClient<Watch>,
    wanted: &Wanted,
    extra: &[(&str, &str)],
    only_ask: bool,
) -> Result<Made, KafkaError> {
    // -1: the broker's default.
    let replication = TopicReplication::Fixed(wanted.replication.map_or(-1, i32::from));
    let mut new = NewTopic::new(&wanted.name, i32::from(wanted.partitions), replication);
    for (name, value) in extra.iter().filter(|(name, _)| !wanted.settings.contains_key(*name)) {
        new = new.set(name, value);
    }
    for (name, value) in &wanted.settings {
        new = new.set(name, value);
    }
    let options = AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST))
        .validate_only(only_ask);
    let made = block_on(admin.create_topics([&new], &options))?;
    match made.into_iter().next() {
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(Made::Before),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        _ => Ok(Made::Now),
    }
}

/// Settings of topics, and of the broker `broker` under an empty name. What the user may not see
/// has none.
pub(super) fn settings(
    admin: &AdminClient<Watch>,
    topics: &[&str],
    broker: i32,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, KafkaError> {
    let resources: Vec<_> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST));
    let mut described = block_on(admin.describe_configs(&resources, &options))?;
    // Another request, since the answer comes from that broker.
    let broker = [ResourceSpecifier::Broker(broker)];
    described.extend(block_on(admin.describe_configs(&broker, &options))?);
    let mut all = BTreeMap::new();
    for resource in described.into_iter().flatten() {
        let name = match resource.specifier {
            OwnedResourceSpecifier::Topic(name) => name,
            _ => String::new(),
        };
        let entries = resource.entries.into_iter();
        let entries = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
        all.insert(name, entries);
    }
    Ok(all)
}

fn block_on<T>(ask: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|problem| KafkaError::AdminOpCreation(problem.to_string()))?
        .block_on(ask)
}

/// `None` if there is no such topic, or none with leaders yet.
///
/// # Errors
/// What the client says.
pub(super) fn find<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    within: Duration,
) -> Result<Option<Found>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), within)?;
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
    let partitions = found.partitions();
    let all_led = partitions.iter().all(|partition| partition.leader() >= 0);
    let replication = partitions.iter().map(|partition| partition.replicas().len()).min();
    Ok(replication.filter(|_| all_led).map(|replication| Found {
        partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
        replication,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicConfig;

    fn wanted(topic: TopicConfig) -> Wanted {
        Wanted::data(&Destination {
            stream: "s".to_owned(),
            topic: "t".to_owned(),
            partitions: 4,
            wanted: topic,
        })
    }

    #[test]
    fn a_topic_that_is_not_as_asked_for_is_told_with_a_remedy() {
        let found = Found { partitions: 6, replication: 1 };
        assert_eq!(found.differences(&wanted(TopicConfig::default())), Vec::<String>::new());
        let asked = |partitions, replication| {
            let topic = TopicConfig { partitions, replication, ..TopicConfig::default() };
            found.differences(&wanted(topic)).join("\n")
        };
        assert_eq!(asked(Some(6), Some(1)), "");
        assert!(asked(Some(8), None).contains("--alter --topic t --partitions 8"));
        assert!(asked(Some(3), None).contains("cannot take partitions away"));
        assert!(asked(None, Some(3)).contains("has 1 replica, the route says 3"));
    }

    #[test]
    fn settings_that_differ_are_told_and_those_that_cannot_be_seen_are_not() {
        let settings = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let wanted = wanted(TopicConfig { settings, create: false, ..TopicConfig::default() });
        let found = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
        assert_eq!(setting_differences(&wanted, &found("5")), Vec::<String>::new());
        assert_eq!(setting_differences(&wanted, &BTreeMap::new()), Vec::<String>::new());
        let told = setting_differences(&wanted, &found("7")).join("\n");
        assert!(told.contains("retention.ms=7, not 5") && told.contains("--add-config"), "{told}");
        let absent = wanted.absent().message;
        assert!(absent.contains("--partitions 4 --config retention.ms=5"), "{absent}");
    }
}
