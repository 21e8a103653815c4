//! `[upstream.NAME]` and `[[route]]`.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::super::{
    Compression, KafkaConfig, Property, RouteConfig, RouteFormat, TopicConfig, UpstreamConfig, raw,
};
use super::{Checker, join};
use crate::forward::check_kafka;

/// Kafka's own limit for a topic is far beyond; this one keeps a typing error from making thousands.
const TOPIC_PARTITIONS_MAX: u16 = 1000;

impl Checker<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: &BTreeMap<Spanned<String>, raw::Upstream>,
    ) -> BTreeMap<String, UpstreamConfig> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in raw {
            let key = format!("upstream.{}", name.get_ref());
            let checked = match upstream.kind.get_ref().as_str() {
                "kafka" => self.kafka(&key, upstream).map(UpstreamConfig::Kafka),
                "directory" => self.directory(&key, upstream),
                kind => {
                    let later = if kind == "mqtt" { " is not there yet" } else { "" };
                    let fault = format!("{kind:?}{later}: write \"kafka\" or \"directory\"");
                    self.fault(upstream.kind.span().start, &format!("{key}.kind"), fault);
                    None
                }
            };
            if let Some(checked) = checked {
                upstreams.insert(name.get_ref().clone(), checked);
            }
        }
        upstreams
    }

    fn directory(&mut self, key: &str, raw: &raw::Upstream) -> Option<UpstreamConfig> {
        let at = raw.kind.span().start;
        if let Some((name, _)) = raw.properties.first_key_value() {
            let fault = "only a kafka upstream has properties; remove them";
            self.fault(name.span().start, &format!("{key}.properties"), fault);
        }
        if let Some(compression) = &raw.compression {
            let fault = "only a kafka upstream compresses; remove the key";
            self.fault(compression.span().start, &format!("{key}.compression"), fault);
        }
        match &raw.path {
            Some(path) => Some(UpstreamConfig::Directory { path: self.path(path.get_ref()) }),
            None => {
                let fault = "a directory upstream needs path = \"/some/where\"";
                self.fault(at, &format!("{key}.kind"), fault);
                None
            }
        }
    }

    fn kafka(&mut self, key: &str, raw: &raw::Upstream) -> Option<KafkaConfig> {
        let compression = self.take_or(
            &format!("{key}.compression"),
            raw.compression.as_ref(),
            Compression::default(),
            |name| {
                Compression::from_name(name)
                    .ok_or_else(|| format!("{name:?}: write \"none\", \"lz4\" or \"zstd\""))
            },
        );
        let before = self.problems.len();
        let properties = self.properties(key, &raw.properties);
        let Some(brokers) = &raw.brokers else {
            let fault = "a kafka upstream needs brokers = \"host:9092\"";
            self.fault(raw.kind.span().start, &format!("{key}.kind"), fault);
            return None;
        };
        let config = KafkaConfig { brokers: brokers.get_ref().clone(), compression, properties };
        // What a property lacks is not the fault of the others.
        if self.problems.len() == before {
            for (property, fault) in check_kafka(&config) {
                let written = raw.properties.keys().find(|name| *name.get_ref() == property);
                let at = written.map_or(raw.kind.span().start, |name| name.span().start);
                self.fault(at, &format!("{key}.properties.{property}"), fault);
            }
        }
        Some(config)
    }

    fn properties(
        &mut self,
        key: &str,
        raw: &BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> BTreeMap<String, Property> {
        let base = self.base.to_path_buf();
        let mut properties = BTreeMap::new();
        for (name, text) in raw {
            let name = name.get_ref();
            let value = self.take(&format!("{key}.properties.{name}"), text, |text| {
                let value = Property::read(text, &base)?;
                if !name.ends_with(".location") || text == "probe" {
                    return Ok(value);
                }
                let value = value.below(&base);
                match std::fs::metadata(value.value()) {
                    Ok(_) => Ok(value),
                    Err(why) => {
                        Err(format!("{text}: {why}; give the path of a file that is there"))
                    }
                }
            });
            if let Some(value) = value {
                properties.insert(name.clone(), value);
            }
        }
        properties
    }

    pub(super) fn routes(
        &mut self,
        raw: &[raw::Route],
        upstreams: &BTreeMap<Spanned<String>, raw::Upstream>,
        names: &BTreeSet<String>,
    ) -> Vec<RouteConfig> {
        let mut routes: Vec<RouteConfig> = Vec::new();
        for route in raw {
            let stream = self.take("route.stream", &route.stream, |stream| {
                let base = stream.strip_suffix(".rejected").or(stream.strip_suffix(".late"));
                if names.contains(stream) || base.is_some_and(|base| names.contains(base)) {
                    return Ok(stream.clone());
                }
                Err(format!("there is no stream {stream:?}; there are: {}", join(names)))
            });
            let upstream = self.take("route.upstream", &route.upstream, |name| {
                if upstreams.keys().any(|known| known.get_ref() == name) {
                    return Ok(name.clone());
                }
                Err(format!("there is no [upstream.{name}]; add it"))
            });
            let topic = self.take("route.topic", &route.topic, |topic| check_kafka_topic(topic));
            let format =
                self.take_or("route.format", route.format.as_ref(), RouteFormat::Json, |text| {
                    match text.as_str() {
                        "json" => Ok(RouteFormat::Json),
                        "original" => Ok(RouteFormat::Original),
                        "blocks" => Ok(RouteFormat::Blocks),
                        "avro" => Err("\"avro\" is not there yet; write \"json\"".to_owned()),
                        _ => Err(format!("{text:?}: write \"json\", \"original\" or \"blocks\"")),
                    }
                });
            let is_kafka = |name: &String| {
                let raw = upstreams.iter().find(|(known, _)| known.get_ref() == name);
                raw.is_some_and(|(_, raw)| raw.kind.get_ref() == "kafka")
            };
            let topic_config = self.topic_config(route, upstream.as_ref().is_none_or(is_kafka));
            let (Some(stream), Some(upstream), Some(topic)) = (stream, upstream, topic) else {
                continue;
            };
            let twice = routes.iter().any(|other| {
                other.stream == stream && other.upstream == upstream && other.topic == topic
            });
            if twice {
                let fault = "this stream goes to this topic twice; remove one of the routes";
                self.fault(route.stream.span().start, "route.stream", fault);
                continue;
            }
            let priority = route.priority.unwrap_or(0);
            routes.push(RouteConfig { stream, upstream, topic, topic_config, format, priority });
        }
        routes
    }

    fn topic_config(&mut self, route: &raw::Route, is_kafka: bool) -> TopicConfig {
        let create = route.create.as_ref().is_none_or(|create| *create.get_ref());
        let settings = route.topic_config.as_ref().and_then(|all| all.first_key_value());
        let written = [
            ("route.partitions", route.partitions.as_ref().map(Spanned::span)),
            ("route.replication", route.replication.as_ref().map(Spanned::span)),
            ("route.topic_config", settings.map(|(name, _)| name.span())),
            ("route.create", route.create.as_ref().map(Spanned::span)),
        ];
        for (key, at) in written {
            if let Some(at) = at.filter(|_| !is_kafka) {
                self.fault(
                    at.start,
                    key,
                    "only topics of a kafka upstream are made; remove the key",
                );
            }
        }
        let number = |max: u16| {
            move |number: &u16| match number {
                0 => Err("0: write 1 or more".to_owned()),
                _ if *number > max => Err(format!("{number}: write 1 to {max}")),
                _ => Ok(Some(*number)),
            }
        };
        TopicConfig {
            create,
            partitions: self.take_or(
                "route.partitions",
                route.partitions.as_ref(),
                None,
                number(TOPIC_PARTITIONS_MAX),
            ),
            replication: self.take_or(
                "route.replication",
                route.replication.as_ref(),
                None,
                number(100),
            ),
            settings: route.topic_config.iter().flatten().map(text_pair).collect(),
        }
    }
}

fn text_pair((name, value): (&Spanned<String>, &Spanned<String>)) -> (String, String) {
    (name.get_ref().clone(), value.get_ref().clone())
}

/// Kafka's rule for topics, which also makes them safe as names of directories.
fn check_kafka_topic(topic: &str) -> Result<String, String> {
    let fits = (1..=249).contains(&topic.len())
        && !matches!(topic, "." | "..")
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits {
        Ok(topic.to_owned())
    } else {
        Err(format!("{topic:?} is not a topic: use 1 to 249 of a-z A-Z 0-9 _ - ."))
    }
}
