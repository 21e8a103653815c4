//! Whether forwarding to a cluster would work. Nothing is written there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::settings::Settings;
use super::topics::{self, Found, Wanted, counted};
use super::watch::{Watch, Watched};
use super::{POSITIONS, REQUEST, native, remedy, session};
use crate::config::KafkaConfig;
use crate::forward::online::Finding;
use crate::forward::upstream::{Destination, Fault};

/// No broker accepts transactions that stay open this long (nearly 25 days; librdkafka adds to it), and it says so only to who may
/// have transactions, before it has changed anything.
const TOO_LONG_MS: u32 = i32::MAX.unsigned_abs() - 1_000;

/// A broker that does not answer is tried again this long.
const REACH: Duration = Duration::from_secs(8);

/// Of the upstream `name`; `tables` are topics that tables are made from, `packet_bytes` is the
/// largest packet that devices may send.
pub(in crate::forward) fn check(
    name: &str,
    config: &KafkaConfig,
    gateway: &str,
    destinations: &[Destination],
    tables: &[&str],
    packet_bytes: u32,
) -> Vec<Finding> {
    let settings = Settings::new(config, gateway);
    let cluster = match Cluster::reach(&settings, &config.brokers) {
        Ok(cluster) => cluster,
        Err(fault) => return vec![Finding::trouble(&fault)],
    };
    let mut findings = vec![Finding::good(format!(
        "{} reached, {}, logged in",
        config.brokers,
        counted(cluster.brokers.len(), "broker")
    ))];
    findings.extend(cluster.tables(tables));
    if destinations.is_empty() {
        return findings;
    }
    let mut wanted: Vec<Wanted> = destinations.iter().map(Wanted::data).collect();
    wanted.push(Wanted::positions(destinations));
    let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    let seen = cluster.settings(&names);
    for wanted in &wanted {
        let limit = Some(packet_bytes).filter(|_| wanted.name != POSITIONS);
        findings.extend(cluster.topic(wanted, seen.get(&wanted.name), limit));
    }
    findings.push(transactions(&settings, &format!("{gateway}.check.{name}"), &cluster.watched));
    findings.push(timeout(&settings, seen.get("")));
    findings
}

struct Cluster {
    consumer: BaseConsumer<Watch>,
    admin: AdminClient<Watch>,
    watched: Arc<Watched>,
    brokers: Vec<i32>,
}

impl Cluster {
    fn reach(settings: &Settings, brokers: &str) -> Result<Self, Fault> {
        let watched = Arc::<Watched>::default();
        let consumer = settings.consumer("read_committed", &watched)?;
        let deadline = Instant::now() + REACH;
        let what = format!("{brokers} cannot be used");
        let brokers = loop {
            // A topic that need not be there; that of all topics can be a long answer.
            let answer = consumer.fetch_metadata(Some(POSITIONS), Duration::from_secs(2));
            // What the connection has to say comes with polls, lines of its log among it.
            for _ in 0..20 {
                drop(consumer.poll(Duration::from_millis(if answer.is_ok() { 0 } else { 10 })));
            }
            match answer {
                Ok(metadata) => {
                    break metadata.brokers().iter().map(|broker| broker.id()).collect();
                }
                Err(problem) if watched.is_refused() || Instant::now() > deadline => {
                    return Err(watched.fault(&what, &problem));
                }
                Err(_) => {}
            }
        };
        let admin = settings.admin(&watched)?;
        Ok(Self { consumer, admin, watched, brokers })
    }

    /// Settings of topics, and of a broker under an empty name, as far as they may be seen.
    fn settings(&self, topics: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
        let broker = self.brokers.first().copied().unwrap_or(0);
        topics::settings(&self.admin, topics, broker).unwrap_or_default()
    }

    fn topic(
        &self,
        wanted: &Wanted,
        settings: Option<&BTreeMap<String, String>>,
        packet_bytes: Option<u32>,
    ) -> Vec<Finding> {
        let Wanted { name, create, .. } = wanted;
        match topics::find(&self.consumer, name, REQUEST) {
            Err(problem) => {
                let what = format!("topic {name} cannot be used");
                vec![Finding::trouble(&self.watched.fault(&what, &problem))]
            }
            Ok(None) if !create => vec![Finding::trouble(&wanted.absent())],
            Ok(None) => vec![self.creation(wanted)],
            Ok(Some(found)) => {
                let mut findings = vec![self.rights(wanted, found)];
                let settings = settings.filter(|settings| !settings.is_empty());
                findings.extend(as_asked(wanted, found, settings));
                findings.extend(size(name, settings, packet_bytes));
                findings
            }
        }
    }

    fn tables(&self, topics: &[&str]) -> Vec<Finding> {
        let settings = match topics {
            [] => BTreeMap::new(),
            _ => self.settings(topics),
        };
        topics.iter().flat_map(|topic| self.table(topic, settings.get(*topic))).collect()
    }

    /// A topic that a table is made from.
    fn table(&self, name: &str, settings: Option<&BTreeMap<String, String>>) -> Vec<Finding> {
        let found = match topics::find(&self.consumer, name, REQUEST) {
            Err(problem) => {
                let what = format!("topic {name} cannot be read");
                return vec![Finding::trouble(&self.watched.fault(&what, &problem))];
            }
            Ok(None) => {
                return vec![Finding::trouble(&Fault::refused(format!(
                    "there is no topic {name} for a table: make it: kafka-topics.sh --create \
                     --topic {name} --config cleanup.policy=compact"
                )))];
            }
            Ok(Some(found)) => found,
        };
        let there = format!("topic {name}: {}", found.described());
        let told = native::rights(self.consumer.client(), &BTreeSet::from([name]), REQUEST);
        let read = match told.get(name).map(|rights| rights.read) {
            Some(true) => Finding::good(format!("{there}, may read")),
            Some(false) => Finding::trouble(&remedy::right(name, "Read")),
            None => Finding::note(format!("{there}; the cluster does not say who may read")),
        };
        [Some(read), policy(name, settings)].into_iter().flatten().collect()
    }

    fn creation(&self, wanted: &Wanted) -> Finding {
        let (name, described) = (&wanted.name, wanted.described());
        match topics::create(&self.admin, wanted, true) {
            Ok(_) => {
                Finding::good(format!("topic {name} is not there; it will be made: {described}"))
            }
            Err(problem) => {
                let what = format!("topic {name} is not there and cannot be made ({described})");
                Finding::trouble(&self.watched.fault(&what, &problem))
            }
        }
    }

    fn rights(&self, wanted: &Wanted, found: Found) -> Finding {
        let name = &wanted.name;
        let there = format!("topic {name}: {}", found.described());
        let asked = BTreeSet::from([name.as_str()]);
        let told = native::rights(self.consumer.client(), &asked, REQUEST);
        let Some(rights) = told.get(name) else {
            return Finding::note(format!("{there}; the cluster does not say who may write"));
        };
        let reads = name == POSITIONS;
        match topics::lacking(name, *rights) {
            Some(fault) => Finding::trouble(&fault),
            None if reads => Finding::good(format!("{there}, may read and write")),
            None => Finding::good(format!("{there}, may write")),
        }
    }
}

fn as_asked(
    wanted: &Wanted,
    found: Found,
    settings: Option<&BTreeMap<String, String>>,
) -> Vec<Finding> {
    let mut differences = found.differences(wanted);
    if let Some(settings) = settings {
        differences.extend(topics::setting_differences(wanted, settings));
    }
    let mut findings: Vec<Finding> = differences.into_iter().map(Finding::warning).collect();
    if settings.is_none() && !wanted.settings.is_empty() {
        let name = &wanted.name;
        findings.push(Finding::note(format!(
            "settings of topic {name} cannot be seen (right DescribeConfigs): not compared"
        )));
    }
    findings
}

/// A table needs the last value of each key, however old.
fn policy(name: &str, settings: Option<&BTreeMap<String, String>>) -> Option<Finding> {
    let Some(policy) = settings.and_then(|settings| settings.get("cleanup.policy")) else {
        let right = "right DescribeConfigs";
        return Some(Finding::note(format!(
            "cleanup.policy of topic {name} cannot be seen ({right}): a table needs compact"
        )));
    };
    (policy != "compact").then(|| {
        Finding::warning(format!(
            "topic {name} has cleanup.policy={policy}, so it deletes rows by their age: \
             kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config \
             cleanup.policy=compact"
        ))
    })
}

/// A record that is too large for its topic is not lost, but it does not arrive as it is either.
fn size(
    name: &str,
    settings: Option<&BTreeMap<String, String>>,
    packet_bytes: Option<u32>,
) -> Option<Finding> {
    let limit: u64 = settings?.get("max.message.bytes")?.parse().ok()?;
    let packet_bytes = u64::from(packet_bytes?);
    (limit < packet_bytes).then(|| {
        Finding::warning(format!(
            "topic {name} takes {limit} bytes at most, a packet may have {packet_bytes}: raise \
             max.message.bytes of the topic, or lower mqtt.max_packet_size to {} KiB",
            limit >> 10
        ))
    })
}

/// Whether this user may have transactions whose id begins with that of the gateway. Another id than
/// the gateway's own, which would be fenced if a cluster took the time after all.
fn transactions(settings: &Settings, id: &str, watched: &Arc<Watched>) -> Finding {
    let good = || Finding::good("transactions can be started".to_owned());
    let producer = match settings.producer_with(id, TOO_LONG_MS, watched) {
        Ok(producer) => producer,
        Err(fault) => return Finding::trouble(&fault),
    };
    match session::init(&producer, watched) {
        Ok(()) => good(),
        Err(KafkaError::Transaction(problem))
            if problem.code() == Code::InvalidTransactionTimeout =>
        {
            good()
        }
        Err(problem) => {
            let what = format!("transactions cannot be started (asked as {id})");
            Finding::trouble(&watched.fault(&what, &problem))
        }
    }
}

fn timeout(settings: &Settings, broker: Option<&BTreeMap<String, String>>) -> Finding {
    let ours_ms = settings.transaction_timeout_ms();
    let max_ms = broker.and_then(|all| all.get("transaction.max.timeout.ms"));
    match max_ms.and_then(|text| text.parse::<u32>().ok()) {
        None => Finding::note(format!(
            "transaction.max.timeout.ms cannot be seen (right DescribeConfigs on the cluster): it \
             has to be {ours_ms} or more, as it is by default"
        )),
        Some(max_ms) if max_ms < ours_ms => Finding::trouble(&remedy::timeout(ours_ms, max_ms)),
        Some(max_ms) => {
            Finding::good(format!("transactions may stay open {ours_ms} ms of at most {max_ms}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::online::Verdict;

    #[test]
    fn a_topic_of_a_table_has_to_be_compacted() {
        let told = |name: &str| {
            let settings = BTreeMap::from([("cleanup.policy".to_owned(), name.to_owned())]);
            policy("t", Some(&settings)).map(|finding| (finding.verdict, finding.text))
        };
        assert_eq!(told("compact"), None);
        let (verdict, text) = told("compact,delete").expect("a finding");
        assert_eq!(verdict, Verdict::Warning);
        assert!(text.contains("cleanup.policy=compact,delete") && text.contains("--add-config"));
        assert_eq!(policy("t", None).map(|finding| finding.verdict), Some(Verdict::Note));
    }

    #[test]
    fn a_topic_that_takes_less_than_a_packet_is_told() {
        let settings =
            |bytes: &str| BTreeMap::from([("max.message.bytes".to_owned(), bytes.to_owned())]);
        assert_eq!(size("t", None, Some(1)), None);
        assert_eq!(size("t", Some(&settings("1048588")), Some(262_144)), None);
        let told = size("t", Some(&settings("100000")), Some(262_144)).expect("a finding");
        assert_eq!(told.verdict, Verdict::Warning);
        assert!(told.text.contains("max.message.bytes") && told.text.contains("97 KiB"));
    }
}
