//! The configuration as the API shows it.

use serde_json::{Value as Json, json};

use super::secret::MASK;
use super::{
    Config, KafkaConfig, LimitsConfig, LinkConfig, MqttVersion, OutboxConfig, RegistryConfig,
    RegistryLogin, RouteConfig, RouteOrder, RulesConfig, SourceConfig, SourceStart, TableConfig,
    UpstreamConfig, WhenFull,
};

/// Client properties whose value is a secret, by a part of their name.
const SECRET: [&str; 6] =
    ["password", "passphrase", "secret", "key.pem", "jaas.config", "oauthbearer.config"];

impl Config {
    /// The configuration as JSON, with secrets masked.
    pub fn masked(&self) -> Json {
        let streams = self.streams.iter().map(|stream| {
            json!({
                "name": stream.name,
                "topic": stream.topic.to_string(),
                "key": stream.key,
                "format": stream.format.name(),
                "time": stream.time,
                "partitions": stream.partitions,
                "lateness_ms": millis(stream.lateness),
                "idle_ms": millis(stream.idle),
                "log": stream.log,
            })
        });
        let logs = self.logs.iter().map(|(name, log)| {
            let shown = json!({
                "segment_bytes": log.segment_bytes,
                "max_bytes": log.max_bytes,
                "max_age_ms": log.max_age.map(millis),
                "compact": log.compact.is_some(),
                "tombstone_grace_ms": log.compact.map(millis),
            });
            (name.clone(), shown)
        });
        let users = self.mqtt.users.iter().map(|user| {
            let mut shown = role(&user.rules, user.limits);
            shown.insert("name".to_owned(), json!(user.name));
            shown.insert("password".to_owned(), json!(MASK));
            shown.insert("gateway".to_owned(), json!(user.rules.gateway));
            Json::Object(shown)
        });
        let anonymous = self.mqtt.anonymous.as_ref().map(|a| role(&a.rules, a.limits));
        let upstreams = self
            .upstreams
            .iter()
            .map(|(name, upstream)| (name.clone(), linked(masked(upstream), self.links.get(name))));
        json!({
            "gateway": { "id": self.id, "data_dir": self.data_dir },
            "mqtt": {
                "listen": self.mqtt.listen,
                "unix": self.mqtt.unix,
                "tls": self.mqtt.tls.as_ref().map(|tls| json!({
                    "listen": tls.listen,
                    "certificate": tls.certificate,
                    "key": tls.key,
                    "client_ca": tls.client_ca,
                })),
                "websocket": self.mqtt.websocket.map(|websocket| json!({
                    "listen": websocket.listen,
                    "tls": websocket.tls,
                })),
                "max_connections": self.mqtt.max_connections,
                "max_packet_bytes": self.mqtt.max_packet_bytes,
            },
            "user": users.collect::<Vec<_>>(),
            "anonymous": anonymous,
            "http": { "listen": self.http.listen, "token": self.http.token.as_ref().map(|_| MASK) },
            "log": {
                "segment_bytes": self.log.segment_bytes,
                "max_bytes": self.log.max_bytes,
                "max_age_ms": self.log.max_age.map(millis),
                "when_full": match self.log.when_full {
                    WhenFull::DropOldest => "drop-oldest",
                    WhenFull::Block => "block",
                },
            },
            "logs": logs.collect::<serde_json::Map<_, _>>(),
            "stream": streams.collect::<Vec<_>>(),
            "query": self.queries.iter().map(|query| &query.sql).collect::<Vec<_>>(),
            "upstream": upstreams.collect::<serde_json::Map<_, _>>(),
            "route": self.routes.iter().map(route).collect::<Vec<_>>(),
            "source": self.sources.iter().map(source).collect::<Vec<_>>(),
            "outbox": self.outboxes.iter().map(outbox).collect::<Vec<_>>(),
            "table": self.tables.iter().map(table).collect::<Vec<_>>(),
        })
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn role(rules: &RulesConfig, limits: LimitsConfig) -> serde_json::Map<String, Json> {
    let limits = [
        ("max_connections", limits.max_connections.map(u64::from)),
        ("max_rate", limits.max_rate.map(u64::from)),
        ("max_bytes", limits.max_bytes),
    ];
    let rules =
        [("publish", &rules.publish), ("subscribe", &rules.subscribe), ("deny", &rules.deny)];
    let rules = rules.into_iter().map(|(key, list)| (key.to_owned(), json!(list)));
    rules.chain(limits.into_iter().map(|(key, limit)| (key.to_owned(), json!(limit)))).collect()
}

fn source(source: &SourceConfig) -> Json {
    json!({
        "name": source.name,
        "upstream": source.upstream,
        "topic": source.topic,
        "publish": source.publish.to_string(),
        "expiry_ms": source.expiry.map(millis),
        "retain": source.retain,
        "from": match source.from {
            SourceStart::Latest => json!("latest"),
            SourceStart::Earliest => json!("earliest"),
            SourceStart::Time(time_ms) => json!(time_ms),
        },
    })
}

fn outbox(outbox: &OutboxConfig) -> Json {
    json!({
        "name": outbox.name,
        "database": outbox.database,
        "table": outbox.table,
        "topic": outbox.topic.to_string(),
        "delete": outbox.delete,
    })
}

fn table(table: &TableConfig) -> Json {
    json!({
        "name": table.name,
        "from": table.from.to_string(),
        "key": table.key,
        "max_bytes": table.max_bytes,
    })
}

fn route(route: &RouteConfig) -> Json {
    json!({
        "stream": route.stream,
        "upstream": route.upstream,
        "topic": route.topic,
        "format": format!("{:?}", route.format).to_lowercase(),
        "priority": route.priority,
        "order": match route.order {
            RouteOrder::Log => "log",
            RouteOrder::LiveFirst => "live-first",
        },
        "urgent": route.urgent,
        "retain": route.retain,
        "create": route.topic_config.create,
        "partitions": route.topic_config.partitions,
        "replication": route.topic_config.replication,
        "topic_config": route.topic_config.settings,
    })
}

fn linked(mut upstream: Json, link: Option<&LinkConfig>) -> Json {
    if let Some(link) = link {
        let hours: Vec<String> = link.quiet_hours.iter().map(ToString::to_string).collect();
        upstream["max_rate"] = json!(link.max_rate);
        upstream["daily_budget"] = json!(link.daily_budget);
        upstream["quiet_hours"] = json!(hours);
    }
    upstream
}

fn masked(upstream: &UpstreamConfig) -> Json {
    match upstream {
        UpstreamConfig::Kafka(kafka) => {
            let KafkaConfig { brokers, compression, interval, properties, registry } = kafka;
            let shown = properties.iter().map(|(name, value)| {
                let is_secret = SECRET.iter().any(|part| name.contains(part));
                (name.clone(), json!(value.shown(is_secret)))
            });
            let properties: serde_json::Map<_, _> = shown.collect();
            json!({
                "kind": "kafka",
                "brokers": brokers,
                "compression": compression.name(),
                "interval_ms": u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
                "properties": properties,
                "registry": registry.as_ref().map(masked_registry),
            })
        }
        UpstreamConfig::Mqtt(mqtt) => json!({
            "kind": "mqtt",
            "broker": format!("{}:{}", mqtt.host, mqtt.port),
            "version": match mqtt.version { MqttVersion::V4 => "3.1.1", MqttVersion::V5 => "5" },
            "client_id": mqtt.client_id,
            "username": mqtt.username,
            "password": mqtt.password.as_ref().map(|_| MASK),
            "keep_alive_s": mqtt.keep_alive_s,
            "exactly_once": mqtt.exactly_once,
            "tls": mqtt.tls.as_ref().map(|tls| json!({
                "ca": tls.ca,
                "certificate": tls.own.as_ref().map(|(certificate, _)| certificate),
                "key": tls.own.as_ref().map(|(_, key)| key),
            })),
        }),
        UpstreamConfig::Directory { path, rotation } => json!({
            "kind": "directory",
            "path": path,
            "rotate_size_bytes": rotation.size_bytes,
            "rotate_every_ms": millis(rotation.every),
        }),
    }
}

fn masked_registry(registry: &RegistryConfig) -> Json {
    let (username, password, token) = match &registry.login {
        Some(RegistryLogin::Basic { username, .. }) => (Some(username), Some(MASK), None),
        Some(RegistryLogin::Token(_)) => (None, None, Some(MASK)),
        None => (None, None, None),
    };
    json!({
        "url": registry.url,
        "username": username,
        "password": password,
        "token": token,
        "ca": registry.ca,
    })
}
