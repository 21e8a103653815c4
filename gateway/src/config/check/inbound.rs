//! `[[source]]` and `[[outbox]]`.

use std::collections::BTreeMap;

use super::super::{OutboxConfig, RouteConfig, SourceConfig, SourceStart, UpstreamConfig};
use super::super::{parse_time, raw};
use super::upstreams::check_kafka_topic;
use super::{Checker, check_name};
use crate::inbound::{TopicTemplate, check_table};

impl Checker<'_> {
    pub(super) fn sources(
        &mut self,
        raw: &[raw::Source],
        upstreams: &BTreeMap<String, UpstreamConfig>,
        routes: &[RouteConfig],
    ) -> Vec<SourceConfig> {
        let mut sources: Vec<SourceConfig> = Vec::new();
        for raw in raw {
            let Some(source) = self.source(raw, upstreams, routes) else { continue };
            if sources.iter().any(|other| other.name == source.name) {
                let fault = "there is another source of this name; give this one a name = \"...\"";
                self.fault(raw.topic.span().start, "source.name", fault);
                continue;
            }
            sources.push(source);
        }
        sources
    }

    fn source(
        &mut self,
        raw: &raw::Source,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        routes: &[RouteConfig],
    ) -> Option<SourceConfig> {
        let upstream =
            self.take("source.upstream", &raw.upstream, |name| match upstreams.get(name) {
                Some(UpstreamConfig::Kafka(_)) => Ok(name.clone()),
                Some(_) => Err(format!("[upstream.{name}] is no cluster: a source reads kafka")),
                None => Err(format!("there is no [upstream.{name}]; add it")),
            });
        let topic = self.take("source.topic", &raw.topic, |topic| check_kafka_topic(topic));
        let publish = self.take("source.publish", &raw.publish, |text| TopicTemplate::parse(text));
        let expiry = raw.expiry.as_ref().and_then(|expiry| {
            self.take("source.expiry", expiry, |text| match parse_time(text)? {
                time if time.as_secs() == 0 => Err("write at least \"1s\"".to_owned()),
                time => Ok(time),
            })
        });
        let from =
            self.take_or("source.from", raw.from.as_ref(), SourceStart::Latest, |text| start(text));
        let name = raw
            .name
            .as_ref()
            .and_then(|name| self.take("source.name", name, |name| check_name(name)));
        let (upstream, topic, publish) = (upstream?, topic?, publish?);
        if routes.iter().any(|route| route.upstream == upstream && route.topic == topic) {
            let fault = "a route writes this topic, so records would go round for ever: read \
                         another one";
            self.fault(raw.topic.span().start, "source.topic", fault);
            return None;
        }
        let name = name.unwrap_or_else(|| format!("{upstream}/{topic}"));
        let retain = raw.retain.unwrap_or(false);
        Some(SourceConfig { name, upstream, topic, publish, expiry, retain, from })
    }

    pub(super) fn outboxes(&mut self, raw: &[raw::Outbox]) -> Vec<OutboxConfig> {
        let mut outboxes: Vec<OutboxConfig> = Vec::new();
        for raw in raw {
            let name = self.take("outbox.name", &raw.name, |name| {
                if outboxes.iter().any(|other| other.name == *name) {
                    return Err(format!("there is another outbox {name:?}; give one another name"));
                }
                check_name(name)
            });
            let topic = self.take("outbox.topic", &raw.topic, |topic| TopicTemplate::parse(topic));
            let (Some(name), Some(topic)) = (name, topic) else { continue };
            let database = self.path(raw.database.get_ref());
            let table = raw.table.as_ref().map_or("outbox", |table| table.get_ref()).to_owned();
            // The application may make it later.
            if database.exists()
                && let Err(fault) = check_table(&database, &table, topic.names())
            {
                self.fault(raw.database.span().start, "outbox.database", fault);
            }
            let delete = raw.delete.unwrap_or(false);
            outboxes.push(OutboxConfig { name, database, table, topic, delete });
        }
        outboxes
    }
}

fn start(text: &str) -> Result<SourceStart, String> {
    match text {
        "latest" => Ok(SourceStart::Latest),
        "earliest" => Ok(SourceStart::Earliest),
        _ => match text.parse::<jiff::Timestamp>() {
            Ok(time) => Ok(SourceStart::Time(time.as_millisecond())),
            Err(_) => Err(format!(
                "{text:?}: write \"latest\", \"earliest\" or a time such as \
                 \"2026-01-31T00:00:00Z\""
            )),
        },
    }
}
