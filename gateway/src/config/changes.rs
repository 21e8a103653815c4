//! What of a changed configuration a running gateway takes over, and what it cannot.

use std::collections::BTreeMap;

use super::{Config, MqttConfig, QueryConfig, StreamConfig};

impl Config {
    /// This configuration with what `new` changes in a running gateway: users, anonymous rules,
    /// limits. Says also which keys of `new` need a restart.
    pub fn reloaded(&self, new: Self) -> (Self, Vec<String>) {
        let restarts = self.restarts(&new);
        // Each field has to be thought of: what is taken over here is for Gate and Bounds to hear.
        let MqttConfig {
            listen: _,
            unix: _,
            tls: _,
            websocket: _,
            max_connections,
            max_packet_bytes,
            users,
            anonymous,
        } = new.mqtt;
        let MqttConfig { listen, unix, tls, websocket, .. } = self.mqtt.clone();
        let mqtt = MqttConfig {
            listen,
            unix,
            tls,
            websocket,
            max_connections,
            max_packet_bytes,
            users,
            anonymous,
        };
        (Self { mqtt, ..self.clone() }, restarts)
    }

    fn restarts(&self, new: &Self) -> Vec<String> {
        let Self {
            id,
            data_dir,
            mqtt,
            http,
            log,
            logs,
            streams: _,
            queries,
            upstreams,
            links,
            routes,
            sources,
            outboxes,
            tables,
        } = self;
        let plain = [
            ("gateway.id", *id != new.id),
            ("gateway.data_dir", *data_dir != new.data_dir),
            ("mqtt.listen", mqtt.listen != new.mqtt.listen),
            ("mqtt.unix", mqtt.unix != new.mqtt.unix),
            ("[mqtt.tls]", mqtt.tls != new.mqtt.tls),
            ("[mqtt.websocket]", mqtt.websocket != new.mqtt.websocket),
            ("http.listen", http.listen != new.http.listen),
            ("http.token", http.token != new.http.token),
            ("[log]", *log != new.log),
            ("[[route]]", *routes != new.routes),
            ("[[source]]", *sources != new.sources),
            ("[[outbox]]", *outboxes != new.outboxes),
        ];
        let mut restarts: Vec<String> =
            plain.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.into()).collect();
        restarts.extend(differing(logs, &new.logs).map(|name| format!("[logs.{name}]")));
        let (own, streams) = (self.streams_of_clients(), new.streams_of_clients());
        restarts.extend(changed("[[stream]]", &own, &streams, |stream| &stream.name));
        restarts.extend(changed("[[table]]", tables, &new.tables, |table| &table.name));
        let named = |queries: &[QueryConfig]| -> Vec<(String, String)> {
            let name = |query: &QueryConfig| query.plan.name().to_owned();
            queries.iter().map(|query| (name(query), query.sql.clone())).collect()
        };
        let (own, queries) = (named(queries), named(&new.queries));
        restarts.extend(changed("[[query]]", &own, &queries, |(name, _)| name));
        let mut upstreams: Vec<_> = differing(upstreams, &new.upstreams).collect();
        upstreams.extend(differing(links, &new.links));
        upstreams.sort_unstable();
        upstreams.dedup();
        restarts.extend(upstreams.into_iter().map(|name| format!("[upstream.{name}]")));
        restarts
    }

    /// Streams that are written out, without those of tables.
    fn streams_of_clients(&self) -> Vec<StreamConfig> {
        let is_table = |name: &str| self.tables.iter().any(|table| table.name == name);
        self.streams.iter().filter(|stream| !is_table(&stream.name)).cloned().collect()
    }
}

/// Which of the tables of TOML under `key` differ; their order says which comes first.
fn changed<T: Clone + PartialEq>(
    key: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
) -> Option<String> {
    let named = |all: &[T]| -> BTreeMap<String, T> {
        all.iter().map(|one| (name(one).clone(), one.clone())).collect()
    };
    let names: Vec<_> = differing(&named(old), &named(new)).collect();
    (old != new).then(|| match names {
        names if names.is_empty() => format!("the order of {key}"),
        names => format!("{key} {}", names.join(", ")),
    })
}

/// Names whose values are not the same in both, or are in one only.
fn differing<'a, T: PartialEq>(
    old: &'a BTreeMap<String, T>,
    new: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = String> + 'a {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    gone.chain(changed.map(|(name, _)| name)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r##"
[gateway]
id = "g"
data_dir = "d"
[mqtt]
listen = "127.0.0.1:1883"
max_connections = 10
[anonymous]
publish = ["a/#"]
[http]
token = "t"
[[stream]]
name = "one"
topic = "one/{d}"
format = "json"
[[stream]]
name = "two"
topic = "two/{d}"
format = "json"
[[query]]
sql = "CREATE STREAM n AS SELECT d, window_start, window_end, count(*) AS n FROM one GROUP BY d, tumble(INTERVAL '1' MINUTE)"
[upstream.files]
kind = "directory"
path = "out"
[logs.long]
max_age = "9d"
[[table]]
name = "devices"
from = "file:devices.csv"
key = "device"
"##;

    fn parse(text: &str) -> Config {
        Config::parse("c.toml", text).expect("a configuration")
    }

    #[test]
    fn rules_and_limits_are_taken_over_and_the_rest_stays() {
        let old = parse(BASE);
        let new = BASE.replace("a/#", "b/#").replace("= 10", "= 20").replace("1883", "1884");
        let (running, restarts) = old.reloaded(parse(&new));
        assert_eq!(running.mqtt.max_connections, 20);
        let anonymous = running.mqtt.anonymous.as_ref().expect("it is there");
        assert_eq!(anonymous.rules.publish, ["b/#"]);
        assert_eq!((running.mqtt.listen.port(), restarts), (1883, vec!["mqtt.listen".to_owned()]));
        let (_, restarts) = running.reloaded(parse(&new));
        assert_eq!(restarts, ["mqtt.listen"], "it still needs one");
        assert!(old.reloaded(parse(BASE)).1.is_empty());
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let old = parse(BASE);
        for (from, to, expected) in [
            ("id = \"g\"", "id = \"h\"", "gateway.id"),
            ("\"d\"", "\"e\"", "gateway.data_dir"),
            ("token = \"t\"", "token = \"u\"", "http.token"),
            ("one/{d}", "1/{d}", "[[stream]] one"),
            ("\"two\"", "\"three\"", "[[stream]] two, three"),
            ("'1' MINUTE", "'2' MINUTE", "[[query]] n"),
            ("\"out\"", "\"in\"", "[upstream.files]"),
            ("9d", "8d", "[logs.long]"),
            ("devices.csv", "d.csv", "[[table]] devices"),
            ("key = \"device\"", "key = \"d\"", "[[table]] devices"),
            ("[http]", "[log]\nmax_size = \"9 GiB\"\n[http]", "[log]"),
        ] {
            assert!(BASE.contains(from), "{from}");
            let (_, restarts) = old.reloaded(parse(&BASE.replacen(from, to, 1)));
            assert_eq!(restarts, [expected], "{to}");
        }
    }
}
