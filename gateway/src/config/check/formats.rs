//! Whether a route can write its stream in its format.

use std::collections::BTreeMap;

use super::super::{
    Config, Format, QueryConfig, RouteConfig, RouteFormat, StreamConfig, UpstreamConfig, raw,
};
use super::Checker;
use crate::forward::Shape;

impl Checker<'_> {
    /// `routes` are the checked ones of `raw`, in its order.
    pub(super) fn formats(
        &mut self,
        raw: &[raw::Route],
        routes: &[RouteConfig],
        streams: &[StreamConfig],
        queries: &[QueryConfig],
        upstreams: &BTreeMap<String, UpstreamConfig>,
    ) {
        for (index, route) in routes.iter().enumerate() {
            let written = raw.iter().find(|raw| {
                *raw.stream.get_ref() == route.stream
                    && *raw.upstream.get_ref() == route.upstream
                    && *raw.topic.get_ref() == route.topic
            });
            let Some(at) = written.and_then(|raw| raw.format.as_ref()) else { continue };
            let others = &routes[..index];
            let checked = match route.format {
                RouteFormat::Blocks => blocks(route, streams),
                RouteFormat::Avro => avro(route, others, streams, queries, upstreams),
                RouteFormat::Json | RouteFormat::Original => Ok(()),
            };
            if let Err(fault) = checked {
                self.fault(at.span().start, "route.format", fault);
            }
        }
    }
}

fn blocks(route: &RouteConfig, streams: &[StreamConfig]) -> Result<(), String> {
    let stream = streams.iter().find(|stream| stream.name == route.stream);
    if stream.is_some_and(|stream| stream.format == Format::Blocks) {
        return Ok(());
    }
    Err(format!(
        "\"blocks\" sends series blocks of nodes, and {} has none: write \"original\" for payloads \
         as they came, or \"json\"",
        route.stream
    ))
}

fn avro(
    route: &RouteConfig,
    others: &[RouteConfig],
    streams: &[StreamConfig],
    queries: &[QueryConfig],
    upstreams: &BTreeMap<String, UpstreamConfig>,
) -> Result<(), String> {
    let name = &route.upstream;
    match upstreams.get(name) {
        None => {}
        Some(UpstreamConfig::Kafka(kafka)) if kafka.registry.is_some() => {}
        Some(UpstreamConfig::Kafka(_)) => {
            return Err(format!(
                "\"avro\" needs a schema registry: add [upstream.{name}.registry] with url = \
                 \"http://HOST:8081\""
            ));
        }
        Some(_) => {
            return Err("\"avro\" goes to a kafka upstream only; write \"json\"".to_owned());
        }
    }
    let is_twice = |other: &&RouteConfig| {
        other.format == RouteFormat::Avro
            && (&other.upstream, &other.topic) == (&route.upstream, &route.topic)
    };
    if let Some(other) = others.iter().find(is_twice) {
        return Err(format!(
            "a topic has one schema, and {} goes to {} already: give {} another topic",
            other.stream, route.topic, route.stream
        ));
    }
    shape(&route.stream, streams, queries).map(drop)
}

impl Config {
    /// The schema that a route of the format `avro` registers.
    pub fn schema_of(&self, route: &RouteConfig) -> Option<String> {
        let is_avro = route.format == RouteFormat::Avro;
        let shape = is_avro.then(|| shape(&route.stream, &self.streams, &self.queries))?;
        shape.ok().map(|shape| shape.text())
    }
}

fn shape(name: &str, streams: &[StreamConfig], queries: &[QueryConfig]) -> Result<Shape, String> {
    if let Some(stream) = streams.iter().find(|stream| stream.name == name) {
        return Shape::of_stream(stream);
    }
    match queries.iter().find(|query| query.plan.name() == name) {
        Some(query) => Shape::of_query(name, query.plan.outputs()),
        None => Shape::of_other(name),
    }
}
