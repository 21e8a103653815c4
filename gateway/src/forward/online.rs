//! Whether upstreams would take what routes carry: asked of them, and nothing is written there.

use std::path::Path;

use super::upstream::kafka::check;
use super::upstream::mqtt;
use super::upstream::{Destination, Fault, FaultKind};
use crate::config::{Config, MqttUpstream, RouteConfig, TableConfig, TableFrom, UpstreamConfig};

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it has to be.
    Good,
    /// Could not be looked at.
    Note,
    /// Not as asked for; records arrive all the same.
    Warning,
    /// May go away by itself; until then nothing arrives.
    Away,
    /// Nothing arrives until somebody cures it.
    Trouble,
}

/// Something that was found about an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub verdict: Verdict,
    /// What it is, and what to do about it.
    pub text: String,
}

impl Finding {
    pub(super) fn good(text: String) -> Self {
        Self { verdict: Verdict::Good, text }
    }

    pub(super) fn note(text: String) -> Self {
        Self { verdict: Verdict::Note, text }
    }

    pub(super) fn warning(text: String) -> Self {
        Self { verdict: Verdict::Warning, text }
    }

    pub(super) fn trouble(fault: &Fault) -> Self {
        let verdict = match fault.kind {
            FaultKind::Retry => Verdict::Away,
            FaultKind::Refused | FaultKind::Fenced => Verdict::Trouble,
        };
        Self { verdict, text: fault.message.clone() }
    }
}

/// Asks each upstream that has routes or tables. Blocks, for some seconds where one does not answer.
pub fn check_online(config: &Config) -> Vec<(String, Vec<Finding>)> {
    let mut all = Vec::new();
    for (name, upstream) in &config.upstreams {
        let routes = config.routes.iter().filter(|route| route.upstream == *name);
        let destinations: Vec<Destination> =
            routes.map(|route| destination(config, route)).collect();
        let tables = topics_of_tables(config, name);
        if destinations.is_empty() && tables.is_empty() {
            continue;
        }
        let findings = match upstream {
            UpstreamConfig::Kafka(kafka) => {
                let packet_bytes = config.mqtt.max_packet_bytes;
                check::check(name, kafka, &config.id, &destinations, &tables, packet_bytes)
            }
            UpstreamConfig::Mqtt(peer) => vec![broker(peer, &config.id)],
            UpstreamConfig::Directory { path, .. } => vec![directory(path)],
        };
        all.push((name.clone(), findings));
    }
    all
}

/// The topics of the cluster `upstream` that tables are made from.
fn topics_of_tables<'a>(config: &'a Config, upstream: &str) -> Vec<&'a str> {
    let topic = |table: &'a TableConfig| match &table.from {
        TableFrom::Topic { upstream: from, topic } if from == upstream => Some(topic.as_str()),
        _ => None,
    };
    config.tables.iter().filter_map(topic).collect()
}

fn destination(config: &Config, route: &RouteConfig) -> Destination {
    // What has no table of its own (rejected rows, queries) has one partition.
    let stream = config.streams.iter().find(|stream| stream.name == route.stream);
    Destination {
        stream: route.stream.clone(),
        topic: route.topic.clone(),
        partitions: stream.map_or(1, |stream| stream.partitions),
        wanted: route.topic_config.clone(),
    }
}

fn broker(config: &MqttUpstream, gateway: &str) -> Finding {
    match mqtt::reach(config, gateway) {
        Ok(()) => {
            Finding::good(format!("{}:{} takes connections of ours", config.host, config.port))
        }
        Err(fault) => Finding::trouble(&fault),
    }
}

fn directory(path: &Path) -> Finding {
    let shown = path.display();
    let there = path.ancestors().find(|part| part.exists());
    match there {
        Some(part) if !part.is_dir() => Finding::trouble(&Fault::refused(format!(
            "{} is a file, so {shown} cannot be a directory: choose another path",
            part.display()
        ))),
        Some(part) if part == path => Finding::good(format!("directory {shown} is there")),
        Some(_) => Finding::good(format!("directory {shown} is not there; it will be made")),
        None => {
            Finding::trouble(&Fault::refused(format!("{shown}: no part of this path is there")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_there_or_will_be_made_or_cannot_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(directory(dir.path()).verdict, Verdict::Good);
        assert!(directory(&dir.path().join("a/b")).text.contains("will be made"));
        let wrong = directory(&file.join("out"));
        assert_eq!(wrong.verdict, Verdict::Trouble);
        assert!(wrong.text.contains("is a file"), "{}", wrong.text);
    }
}
