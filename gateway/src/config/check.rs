//! From what is written to what is meant, collecting every fault on the way.

mod formats;
mod inbound;
mod logs;
mod mqtt_upstream;
mod registry;
mod tables;
mod upstreams;
mod users;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::raw::{self, Raw};
use super::secret::resolve;
use super::{
    ColumnType, Config, ConfigError, Format, HttpConfig, MqttConfig, Problem, QueryConfig,
    StreamConfig, parse_size, parse_time,
};
use crate::query::Plan;
use crate::stream::{MQTT_STREAM, TopicPattern};
use crate::table::{TOPIC_ROOT, is_table_topic};

const PARTITIONS_MAX: u16 = 64;
/// A packet and what the journal adds to it fit into a record.
const PACKET_BYTES_MAX: u64 = 900 << 10;

pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Missing { file: name.clone(), source })?;
    parse_for(path, &text)
}

pub(super) fn parse_for(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    Checker::new(&path.display().to_string(), text, base).run()
}

pub(super) fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    Checker::new(name, text, Path::new("")).run()
}

struct Checker<'a> {
    file: &'a str,
    text: &'a str,
    /// Relative paths of the configuration start here.
    base: &'a Path,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn new(file: &'a str, text: &'a str, base: &'a Path) -> Self {
        Self { file, text, base, problems: Vec::new() }
    }

    fn run(mut self) -> Result<Config, ConfigError> {
        let Some(raw) = self.read() else { return Err(ConfigError::Invalid(self.problems)) };
        let config = self.config(raw);
        if self.problems.is_empty() {
            Ok(config)
        } else {
            self.problems.sort_by_key(|problem| problem.line);
            Err(ConfigError::Invalid(self.problems))
        }
    }

    fn read(&mut self) -> Option<Raw> {
        let document = match toml::Deserializer::parse(self.text) {
            Ok(document) => document,
            Err(problem) => {
                let at = problem.span().map_or(0, |span| span.start);
                self.fault(at, "(syntax)", problem.message());
                return None;
            }
        };
        match serde_path_to_error::deserialize(document) {
            Ok(raw) => Some(raw),
            Err(problem) => {
                // toml's spanned values show up in paths under a private name.
                let key = problem.path().to_string();
                let key = key.split(".$__").next().unwrap_or_default().to_owned();
                let inner = problem.into_inner();
                let at = inner.span().map_or(0, |span| span.start);
                self.fault(at, &key, inner.message());
                None
            }
        }
    }

    fn fault(&mut self, at: usize, key: &str, fault: impl Into<String>) {
        let line = 1 + self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            fault: fault.into(),
        });
    }

    /// The value, or a fault and `None`.
    fn take<T, V>(
        &mut self,
        key: &str,
        value: &Spanned<T>,
        read: impl FnOnce(&T) -> Result<V, String>,
    ) -> Option<V> {
        match read(value.get_ref()) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(value.span().start, key, fault);
                None
            }
        }
    }

    fn take_or<T, V>(
        &mut self,
        key: &str,
        value: Option<&Spanned<T>>,
        default: V,
        read: impl FnOnce(&T) -> Result<V, String>,
    ) -> V {
        match value {
            None => default,
            Some(value) => self.take(key, value, read).unwrap_or(default),
        }
    }

    fn later(&mut self, key: &str, value: Option<&Spanned<toml::Value>>) {
        if let Some(value) = value {
            let fault = "this version does not have it yet; remove it";
            self.fault(value.span().start, key, fault);
        }
    }

    fn config(&mut self, raw: Raw) -> Config {
        let id = self.take("gateway.id", &raw.gateway.id, |id| check_name(id)).unwrap_or_default();
        let mqtt = self.mqtt(&raw);
        let http = self.http(&raw.http);
        let log = self.log(&raw.log);
        let mut logs = self.logs(&raw.logs);
        let mut streams = Vec::new();
        let mut names = BTreeSet::from([MQTT_STREAM.to_owned()]);
        for stream in &raw.stream {
            if let Some(stream) = self.stream(stream, &mut names, &raw.logs) {
                streams.push(stream);
            }
        }
        let upstreams = self.upstreams(&raw.upstream);
        let tables = self.tables(&raw.table, &upstreams, &mut names);
        self.log_of_tables(&raw, &mut logs);
        let queries = self.queries(&raw.query, &streams, &mut names);
        streams.extend(tables.iter().filter_map(tables::stream));
        let links = self.links(&raw.upstream);
        let routes = self.routes(&raw.route, &raw.upstream, &names, &streams);
        self.formats(&raw.route, &routes, &streams, &queries, &upstreams);
        let sources = self.sources(&raw.source, &upstreams, &routes);
        let outboxes = self.outboxes(&raw.outbox);
        self.no_circles(&raw.table, &tables, &routes);
        let data_dir = self.path(raw.gateway.data_dir.get_ref());
        Config {
            id,
            data_dir,
            mqtt,
            http,
            log,
            logs,
            streams,
            queries,
            upstreams,
            links,
            routes,
            sources,
            outboxes,
            tables,
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    fn mqtt(&mut self, raw: &Raw) -> MqttConfig {
        let mqtt = &raw.mqtt;
        let listen = self.address("mqtt.listen", mqtt.listen.as_ref(), 1883);
        let unix = mqtt.unix.as_ref().and_then(|path| self.unix(path));
        let tls = mqtt.tls.as_ref().map(|tls| self.tls(tls));
        let websocket = mqtt.websocket.as_ref().map(|raw| self.websocket(raw, tls.is_some()));
        let max_connections =
            self.take_or("mqtt.max_connections", mqtt.max_connections.as_ref(), 2000, |number| {
                match number {
                    1..=100_000 => Ok(*number),
                    _ => Err(format!("{number} connections: write 1 to 100000")),
                }
            });
        let max_packet_bytes = self.take_or(
            "mqtt.max_packet_size",
            mqtt.max_packet_size.as_ref(),
            256 << 10,
            |text| match parse_size(text)? {
                bytes @ 1024..=PACKET_BYTES_MAX => {
                    Ok(u32::try_from(bytes).expect("the range fits in 32 bits"))
                }
                _ => Err(format!("{text:?}: write a size from 1 KiB to 900 KiB")),
            },
        );
        let users = self.users(&raw.user);
        let anonymous = raw.anonymous.as_ref().map(|anonymous| self.anonymous(anonymous));
        MqttConfig {
            listen,
            unix,
            tls,
            websocket,
            max_connections,
            max_packet_bytes,
            users,
            anonymous,
        }
    }

    fn http(&mut self, raw: &raw::Http) -> HttpConfig {
        let listen = self.address("http.listen", raw.listen.as_ref(), 8080);
        let base = self.base.to_path_buf();
        let token = raw.token.as_ref().and_then(|token| {
            self.take("http.token", token, |text| resolve(text, &base).map(|t| t.trim().to_owned()))
        });
        if !listen.ip().is_loopback() && token.is_none() && raw.token.is_none() {
            let at = raw.listen.as_ref().map_or(0, |listen| listen.span().start);
            self.fault(
                at,
                "http.listen",
                "beyond loopback the page needs a token: add token = \"file:/etc/headwater/token\" \
                 or listen on 127.0.0.1",
            );
        }
        HttpConfig { listen, token }
    }

    fn address(&mut self, key: &str, text: Option<&Spanned<String>>, port: u16) -> SocketAddr {
        let default = SocketAddr::from(([127, 0, 0, 1], port));
        self.take_or(key, text, default, |text| {
            text.parse().map_err(|_| {
                format!(
                    "{text:?} is not an address: write an IP address and a port, like \
                     \"0.0.0.0:{port}\""
                )
            })
        })
    }

    fn stream(
        &mut self,
        raw: &raw::Stream,
        names: &mut BTreeSet<String>,
        logs: &BTreeMap<Spanned<String>, raw::NamedLog>,
    ) -> Option<StreamConfig> {
        self.later("stream.dedupe", raw.dedupe.as_ref());
        let log = self.log_of_stream(raw.log.as_ref(), logs);
        let name = self.take("stream.name", &raw.name, |name| check_new_name(name, names));
        let topic = self.take("stream.topic", &raw.topic, |topic| match is_table_topic(topic) {
            true => Err(format!("{topic:?}: topics below {TOPIC_ROOT} are those of tables")),
            false => TopicPattern::parse(topic),
        });
        let format = self.take("stream.format", &raw.format, |text| {
            let later = matches!(text.as_str(), "cbor" | "text");
            let fault = if later { " is not there yet" } else { "" };
            Format::from_name(text).ok_or_else(|| {
                format!("{text:?}{fault}: write \"json\", \"blocks\", \"bytes\" or \"sparkplug-b\"")
            })
        });
        let partitions =
            self.take_or("stream.partitions", raw.partitions.as_ref(), 1, |number| match number {
                1..=PARTITIONS_MAX => Ok(*number),
                _ => Err(format!("{number} partitions: write 1 to {PARTITIONS_MAX}")),
            });
        let columns = self.columns(raw.columns.as_ref());
        let lateness = self.time("stream.lateness", raw.lateness.as_ref(), 1);
        let idle = self.time("stream.idle", raw.idle.as_ref(), 60);
        let (name, topic, format) = (name?, topic?, format?);
        if format == Format::SparkplugB {
            self.sparkplug(raw, &topic);
        }
        let payload_columns = format == Format::Json;
        let key = raw.key.as_ref().and_then(|key| {
            self.take("stream.key", key, |key| {
                let is_node = format == Format::SparkplugB && key == "edge_node";
                if payload_columns || is_node || topic.captures().any(|capture| capture == key) {
                    return Ok(key.clone());
                }
                Err(format!(
                    "{key:?} is not a level of the topic: write it as {{{key}}} in topic = ..."
                ))
            })
        });
        let time = raw.time.as_ref().and_then(|time| {
            self.take("stream.time", time, |time| {
                if payload_columns {
                    return Ok(time.clone());
                }
                Err("only a json stream names its time; remove the key".to_owned())
            })
        });
        Some(StreamConfig {
            name,
            topic,
            key,
            format,
            time,
            partitions,
            columns,
            lateness,
            idle,
            is_state: logs.iter().any(|(name, raw)| {
                log.as_ref() == Some(name.get_ref()) && raw.compact == Some(true)
            }),
            log,
        })
    }

    fn sparkplug(&mut self, raw: &raw::Stream, topic: &TopicPattern) {
        if !crate::sparkplug::takes_all(&topic.to_string()) {
            let fault = "a sparkplug-b stream takes all that its edge nodes say, births and deaths \
                         too: write topic = \"spBv1.0/#\", or \"spBv1.0/GROUP/#\" for one group";
            self.fault(raw.topic.span().start, "stream.topic", fault);
        }
        if let Some((name, _)) = raw.columns.as_ref().and_then(|columns| columns.first_key_value())
        {
            let fault = "births say which type a metric has; remove the key";
            self.fault(name.span().start, "stream.columns", fault);
        }
    }

    fn time(&mut self, key: &str, text: Option<&Spanned<String>>, default_s: u64) -> Duration {
        self.take_or(key, text, Duration::from_secs(default_s), |text| parse_time(text))
    }

    fn columns(
        &mut self,
        raw: Option<&BTreeMap<Spanned<String>, Spanned<String>>>,
    ) -> BTreeMap<String, ColumnType> {
        let mut columns = BTreeMap::new();
        for (name, kind) in raw.into_iter().flatten() {
            let kind = self.take(&format!("stream.columns.{}", name.get_ref()), kind, |text| {
                match text.to_ascii_lowercase().as_str() {
                    "double" | "float" => Ok(ColumnType::Double),
                    "integer" | "int" | "bigint" => Ok(ColumnType::Integer),
                    "text" | "varchar" => Ok(ColumnType::Text),
                    "boolean" => Ok(ColumnType::Boolean),
                    _ => Err(format!(
                        "{text:?}: write \"double\", \"integer\", \"text\" or \"boolean\""
                    )),
                }
            });
            if let Some(kind) = kind {
                columns.insert(name.get_ref().clone(), kind);
            }
        }
        columns
    }

    fn queries(
        &mut self,
        raw: &[raw::Query],
        streams: &[StreamConfig],
        names: &mut BTreeSet<String>,
    ) -> Vec<QueryConfig> {
        let mut queries = Vec::new();
        for query in raw {
            let plan = self.take("query.sql", &query.sql, |sql| {
                let plan = Plan::parse(sql, streams)?;
                if !names.insert(plan.name().to_owned()) {
                    return Err(format!("the stream {:?} is taken", plan.name()));
                }
                Ok(plan)
            });
            if let Some(plan) = plan {
                queries.push(QueryConfig { sql: query.sql.get_ref().clone(), plan });
            }
        }
        queries
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The name of a stream that is not in `names` yet; it is then.
fn check_new_name(name: &str, names: &mut BTreeSet<String>) -> Result<String, String> {
    let name = check_name(name)?;
    let is_companion = [".rejected", ".late", ".dead"].iter().any(|end| name.ends_with(end));
    if is_companion || !names.insert(name.clone()) {
        return Err(format!("{name:?} is taken; choose another name"));
    }
    Ok(name)
}

/// Names go into topics, file names, metrics and SQL.
fn check_name(name: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if fits && !name.starts_with('.') {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} is not a name: use 1 to 64 of a-z A-Z 0-9 _ - ."))
    }
}
