//! `[upstream.NAME]` and `[[route]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use toml::Spanned;

use super::super::{
    Compression, KafkaConfig, LinkConfig, Property, QuietHours, RotationConfig, RouteConfig,
    RouteFormat, RouteFrom, RouteOrder, StreamConfig, TopicConfig, UpstreamConfig, parse_size,
    parse_time, raw,
};
use super::mqtt_upstream::check_topic;
use super::{Checker, join};
use crate::forward::check_kafka;

/// Kafka's own limit for a topic is far beyond; this one keeps a typing error from making thousands.
const TOPIC_PARTITIONS_MAX: u16 = 1000;

/// Between transactions to a Kafka cluster.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Beyond that a full stage comes first nearly always.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Bytes a second of a link at least.
const RATE_MIN: u64 = 128;
/// Files that are smaller are more names than data...
const ROTATE_BYTES_MIN: u64 = 64 << 10;
/// ...and what is not named yet is written again after a crash.
const ROTATE_BYTES_MAX: u64 = 1 << 30;
const ROTATE_MIN: Duration = Duration::from_secs(1);
const ROTATE_MAX: Duration = Duration::from_secs(86_400);

impl Checker<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: &BTreeMap<Spanned<String>, raw::Upstream>,
    ) -> BTreeMap<String, UpstreamConfig> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in raw {
            let key = format!("upstream.{}", name.get_ref());
            let rotation = self.rotation(&key, upstream);
            let checked = match upstream.kind.get_ref().as_str() {
                "kafka" => self.kafka(&key, upstream).map(UpstreamConfig::Kafka),
                "mqtt" => self.mqtt_upstream(&key, upstream).map(UpstreamConfig::Mqtt),
                "directory" => self.directory(&key, upstream, rotation),
                kind => {
                    let fault = format!("{kind:?}: write \"kafka\", \"mqtt\" or \"directory\"");
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

    /// What links may carry, of those upstreams where it is bounded.
    pub(super) fn links(
        &mut self,
        raw: &BTreeMap<Spanned<String>, raw::Upstream>,
    ) -> BTreeMap<String, LinkConfig> {
        let mut links = BTreeMap::new();
        for (name, upstream) in raw {
            let key = |what: &str| format!("upstream.{}.{what}", name.get_ref());
            let rate = |text: &String| match parse_size(text)? {
                rate if rate < RATE_MIN => Err(format!("{text:?} is too little: 128 B or more")),
                rate => Ok(rate),
            };
            let size = |text: &String| parse_size(text);
            let rate = upstream.max_rate.as_ref().map(|t| self.take(&key("max_rate"), t, rate));
            let budget =
                upstream.daily_budget.as_ref().map(|t| self.take(&key("daily_budget"), t, size));
            let hours = upstream.quiet_hours.iter();
            let hours = hours.map(|t| self.take(&key("quiet_hours"), t, |t| QuietHours::parse(t)));
            let link = LinkConfig {
                quiet_hours: hours.collect::<Vec<_>>().into_iter().flatten().collect(),
                max_rate: rate.flatten(),
                daily_budget: budget.flatten(),
            };
            if link != LinkConfig::default() {
                links.insert(name.get_ref().clone(), link);
            }
        }
        links
    }

    /// When files of a directory upstream get their names; refuses what belongs to another kind.
    fn rotation(&mut self, key: &str, raw: &raw::Upstream) -> RotationConfig {
        let default = RotationConfig::default();
        let kind = raw.kind.get_ref().as_str();
        let foreign = [
            ("rotate_size", "directory", raw.rotate_size.as_ref().map(Spanned::span)),
            ("rotate_every", "directory", raw.rotate_every.as_ref().map(Spanned::span)),
            ("interval", "kafka", raw.interval.as_ref().map(Spanned::span)),
            ("registry", "kafka", raw.registry.as_ref().map(|registry| registry.url.span())),
        ];
        for (name, of, at) in foreign {
            if let Some(at) = at.filter(|_| kind != of) {
                let fault = format!("only a {of} upstream has it; remove it");
                self.fault(at.start, &format!("{key}.{name}"), fault);
            }
        }
        let size = |text: &String| match parse_size(text)? {
            bytes @ ROTATE_BYTES_MIN..=ROTATE_BYTES_MAX => Ok(bytes),
            _ => Err(format!("{text:?}: write a size from 64 KiB to 1 GiB")),
        };
        let every = |text: &String| match parse_time(text)? {
            time if (ROTATE_MIN..=ROTATE_MAX).contains(&time) => Ok(time),
            _ => Err(format!("{text:?}: write a time from 1s to 1d")),
        };
        let size_key = format!("{key}.rotate_size");
        let every_key = format!("{key}.rotate_every");
        RotationConfig {
            size_bytes: self.take_or(&size_key, raw.rotate_size.as_ref(), default.size_bytes, size),
            every: self.take_or(&every_key, raw.rotate_every.as_ref(), default.every, every),
        }
    }

    fn directory(
        &mut self,
        key: &str,
        raw: &raw::Upstream,
        rotation: RotationConfig,
    ) -> Option<UpstreamConfig> {
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
            Some(path) => {
                Some(UpstreamConfig::Directory { path: self.path(path.get_ref()), rotation })
            }
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
        let interval =
            self.take_or(&format!("{key}.interval"), raw.interval.as_ref(), INTERVAL, |text| {
                match parse_time(text)? {
                    time if (INTERVAL_MIN..=INTERVAL_MAX).contains(&time) => Ok(time),
                    _ => Err(format!("{text:?}: write a time from 100ms to 1m")),
                }
            });
        let before = self.problems.len();
        let properties = self.properties(key, &raw.properties);
        let Some(brokers) = &raw.brokers else {
            let fault = "a kafka upstream needs brokers = \"host:9092\"";
            self.fault(raw.kind.span().start, &format!("{key}.kind"), fault);
            return None;
        };
        let brokers = brokers.get_ref().clone();
        let registry = raw.registry.as_ref().and_then(|registry| self.registry(key, registry));
        let config = KafkaConfig { brokers, compression, interval, properties, registry };
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
        streams: &[StreamConfig],
    ) -> Vec<RouteConfig> {
        let mut routes: Vec<RouteConfig> = Vec::new();
        for route in raw {
            let stream = self.take("route.stream", &route.stream, |stream| {
                let companion = |stream: &str| {
                    let base = stream.strip_suffix(".rejected").or(stream.strip_suffix(".late"));
                    names.contains(stream) || base.is_some_and(|base| names.contains(base))
                };
                // Dead letters are there for what is routed.
                let dead = stream.strip_suffix(".dead");
                let routed = |base: &str| raw.iter().any(|other| other.stream.get_ref() == base);
                if companion(stream) || dead.is_some_and(|base| companion(base) && routed(base)) {
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
            let is_mqtt = upstream.as_ref().is_some_and(|name| is_mqtt(upstreams, name));
            let topic = self.take("route.topic", &route.topic, |topic| match is_mqtt {
                true => check_topic(topic, stream.as_deref(), streams),
                false => check_kafka_topic(topic),
            });
            let retain = self.take_or("route.retain", route.retain.as_ref(), false, |retain| {
                if *retain && !is_mqtt {
                    return Err("only a route to an mqtt upstream is retained; remove it".into());
                }
                Ok(*retain)
            });
            let format =
                self.take_or("route.format", route.format.as_ref(), RouteFormat::Json, |text| {
                    check_format(text)
                });
            let order =
                self.take_or("route.order", route.order.as_ref(), RouteOrder::Log, |text| {
                    let kind = upstreams
                        .iter()
                        .find(|(known, _)| known.get_ref() == route.upstream.get_ref())
                        .map(|(_, upstream)| upstream.kind.get_ref().as_str());
                    check_order(text, kind)
                });
            let from =
                self.take_or("route.from", route.from.as_ref(), RouteFrom::Earliest, |from| {
                    check_from(from)
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
            let urgent = route.urgent;
            let route = RouteConfig {
                stream,
                upstream,
                topic,
                topic_config,
                format,
                priority,
                order,
                from,
                urgent,
                retain,
            };
            routes.push(route);
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

fn check_format(text: &str) -> Result<RouteFormat, String> {
    match text {
        "json" => Ok(RouteFormat::Json),
        "original" => Ok(RouteFormat::Original),
        "blocks" => Ok(RouteFormat::Blocks),
        "avro" => Ok(RouteFormat::Avro),
        _ => Err(format!("{text:?}: write \"json\", \"original\", \"blocks\" or \"avro\"")),
    }
}

fn check_from(from: &toml::Value) -> Result<RouteFrom, String> {
    match from {
        toml::Value::Integer(offset) => u64::try_from(*offset)
            .map(RouteFrom::Offset)
            .map_err(|_| format!("{offset} is no offset: write 0 or more")),
        toml::Value::String(text) if text == "earliest" => Ok(RouteFrom::Earliest),
        toml::Value::String(text) if text == "latest" => Ok(RouteFrom::Latest),
        other => {
            let text = match other {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let time: Result<jiff::Timestamp, _> = text.parse();
            time.map(|time| RouteFrom::Time(time.as_millisecond())).map_err(|_| {
                format!("{text:?}: write \"earliest\", \"latest\", an RFC 3339 time, or an offset")
            })
        }
    }
}

fn check_order(text: &str, kind: Option<&str>) -> Result<RouteOrder, String> {
    match text {
        "log" => Ok(RouteOrder::Log),
        "live-first" if kind == Some("directory") => {
            Err("\"live-first\" does not go with a directory, whose files are in the order of the \
             log; write \"log\""
                .to_owned())
        }
        "live-first" if kind == Some("mqtt") => Err(
            "\"live-first\" does not go with an mqtt upstream, which gets a route in order; write \
             \"log\""
                .to_owned(),
        ),
        "live-first" => Ok(RouteOrder::LiveFirst),
        _ => Err(format!("{text:?}: write \"log\" or \"live-first\"")),
    }
}

fn is_mqtt(upstreams: &BTreeMap<Spanned<String>, raw::Upstream>, name: &str) -> bool {
    upstreams.get(name).is_some_and(|upstream| upstream.kind.get_ref() == "mqtt")
}

/// Kafka's rule for topics, which also makes them safe as names of directories.
pub(super) fn check_kafka_topic(topic: &str) -> Result<String, String> {
    let fits = (1..=249).contains(&topic.len())
        && !matches!(topic, "." | "..")
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits {
        Ok(topic.to_owned())
    } else {
        Err(format!("{topic:?} is not a topic: use 1 to 249 of a-z A-Z 0-9 _ - ."))
    }
}
