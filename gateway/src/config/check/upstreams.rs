//! `[upstream.NAME]` and `[[route]]`.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::super::{
    LinkConfig, QuietHours, RouteConfig, RouteFormat, RouteFrom, RouteOrder, StreamConfig,
    UpstreamConfig, parse_size, raw,
};
use super::mqtt_upstream::check_topic;
use super::{Checker, join};

/// Bytes a second of a link at least.
const RATE_MIN: u64 = 128;

impl Checker<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: &BTreeMap<Spanned<String>, raw::Upstream>,
    ) -> BTreeMap<String, UpstreamConfig> {
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in raw {
            let key = format!("upstream.{}", name.get_ref());
            if upstream.kind.get_ref() == "mqtt" {
                if let Some(mqtt) = self.mqtt_upstream(&key, upstream) {
                    upstreams.insert(name.get_ref().clone(), UpstreamConfig::Mqtt(mqtt));
                }
                continue;
            }
            let base = self.base;
            let checked =
                self.take(&format!("{key}.kind"), &upstream.kind, |kind| match kind.as_str() {
                    "kafka" => {
                        let brokers = upstream
                            .brokers
                            .as_ref()
                            .ok_or("a kafka upstream needs brokers = \"host:9092\"".to_owned())?;
                        Ok(UpstreamConfig::Kafka {
                            brokers: brokers.get_ref().clone(),
                            properties: upstream.properties.clone(),
                        })
                    }
                    "directory" => {
                        let path = upstream.path.as_ref().ok_or(
                            "a directory upstream needs path = \"/some/where\"".to_owned(),
                        )?;
                        Ok(UpstreamConfig::Directory { path: base.join(path.get_ref()) })
                    }
                    _ => Err(format!("{kind:?}: write \"kafka\", \"mqtt\" or \"directory\"")),
                });
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
                    match text.as_str() {
                        "json" => Ok(RouteFormat::Json),
                        "original" => Ok(RouteFormat::Original),
                        "blocks" => Ok(RouteFormat::Blocks),
                        "avro" => Err("\"avro\" is not there yet; write \"json\"".to_owned()),
                        _ => Err(format!("{text:?}: write \"json\", \"original\" or \"blocks\"")),
                    }
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
