use super::*;

const GOOD: &str = r#"
[gateway]
id = "greenhouse-1"
data_dir = "data"

[mqtt]
listen = "127.0.0.1:0"
max_packet_size = "256 KiB"

[[stream]]
name = "climate"
topic = "sensors/{device}/climate"
key = "device"
format = "json"
time = "ts"
partitions = 4
columns = { temperature = "double" }

[upstream.files]
kind = "directory"
path = "out"

[[route]]
stream = "climate"
upstream = "files"
topic = "plant.climate"
"#;

fn problems(text: &str) -> Vec<Problem> {
    match Config::parse("headwater.toml", text) {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_configuration_is_read_with_its_defaults() {
    let config = Config::parse("headwater.toml", GOOD).expect("it is good");
    assert_eq!(config.streams[0].partitions, 4);
    assert_eq!(config.mqtt.max_packet_bytes, 256 << 10);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.routes[0].format, RouteFormat::Json);
}

#[test]
fn what_a_link_may_carry_and_where_a_route_begins_is_read() {
    let link = "path = \"out\"\nmax_rate = \"64 KiB\"\ndaily_budget = \"50 MiB\"\n\
                quiet_hours = [\"22:00-06:00\"]";
    let text = GOOD.replace("path = \"out\"", link);
    let config = Config::parse("headwater.toml", &text).expect("it is good");
    let link = &config.links["files"];
    assert_eq!((link.max_rate, link.daily_budget), (Some(64 << 10), Some(50 << 20)));
    assert_eq!(link.quiet_hours[0].to_string(), "22:00-06:00");
    for (from, expected) in [
        ("\"latest\"", RouteFrom::Latest),
        ("17", RouteFrom::Offset(17)),
        ("\"1970-01-01T00:00:05Z\"", RouteFrom::Time(5_000)),
        ("1970-01-01T00:00:05Z", RouteFrom::Time(5_000)),
    ] {
        let text = format!("{GOOD}from = {from}\nurgent = true\npriority = 9\n");
        let route = Config::parse("headwater.toml", &text).expect("good").routes.remove(0);
        assert_eq!((route.from, route.urgent, route.priority), (expected, true, 9));
    }
}

/// What is written for what, the line the message must name, the key, and words of the message.
#[test]
fn each_fault_names_line_key_fault_and_remedy() {
    for (from, to, line, key, words) in [
        ("[mqtt]", "[mqtt]\nport = 1", 7, "mqtt.port", "unknown field `port`"),
        ("\"127.0.0.1:0\"", "\"localhost\"", 7, "mqtt.listen", "0.0.0.0:1883"),
        ("\"256 KiB\"", "\"256 kib\"", 8, "mqtt.max_packet_size", "KiB, MiB"),
        ("partitions = 4", "partitions = 0", 16, "stream.partitions", "1 to 64"),
        ("format = \"json\"", "format = \"xml\"", 14, "stream.format", "\"json\""),
        ("format = \"json\"", "format = \"cbor\"", 14, "stream.format", "not there yet"),
        ("key = \"device\"", "key = 7", 13, "stream[0].key", "expected a string"),
        ("upstream = \"files\"", "upstream = \"kafka\"", 25, "route.upstream", "[upstream.kafka]"),
        ("stream = \"climate\"", "stream = \"clima\"", 24, "route.stream", "climate, mqtt"),
        ("\"plant.climate\"", "\"t\"\nfrom = \"now\"", 27, "route.from", "RFC 3339"),
        ("\"plant.climate\"", "\"t\"\nfrom = -1", 27, "route.from", "0 or more"),
        ("\"plant.climate\"", "\"t\"\norder = \"live-first\"", 27, "route.order", "directory"),
        (
            "path = \"out\"",
            "path = \"out\"\nmax_rate = \"9 B\"",
            22,
            "upstream.files.max_rate",
            "128 B",
        ),
        (
            "path = \"out\"",
            "path = \"out\"\ndaily_budget = \"x\"",
            22,
            "upstream.files.daily_budget",
            "MiB",
        ),
        (
            "path = \"out\"",
            "path = \"out\"\nquiet_hours = [\"22\"]",
            22,
            "upstream.files.quiet_hours",
            "UTC",
        ),
        ("\"double\"", "\"number\"", 17, "stream.columns.temperature", "\"double\""),
        ("id = \"greenhouse-1\"", "id = \"a b\"", 3, "gateway.id", "1 to 64"),
        ("id = \"greenhouse-1\"", "id = ", 3, "(syntax)", ""),
        ("{device}", "{device", 12, "stream.topic", "{name}"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let found = problems(&GOOD.replace(from, to));
        let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(
            found.iter().any(|p| p.line == line && p.key == key && p.fault.contains(words)),
            "{to}: wanted line {line}, key {key}, {words:?}, got:\n{text}"
        );
    }
}

#[test]
fn logs_are_read_with_their_retention_and_each_fault_says_what_to_write() {
    let good = GOOD.replace("partitions = 4", "log = \"state\"")
        + "[log]\nmax_age = \"30d\"\nwhen_full = \"block\"\n\
           [logs.state]\nmax_age = \"365d\"\ncompact = true\ntombstone_grace = \"2h\"\n\
           [logs.alarms]\nsegment_size = \"4 MiB\"\nmax_size = \"1 GiB\"\n";
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!((config.log.max_age, config.log.when_full), (Some(hours(720)), WhenFull::Block));
    assert_eq!(config.logs["state"].compact, Some(hours(2)));
    assert_eq!(
        (config.logs["alarms"].max_bytes, config.logs["alarms"].compact),
        (Some(1 << 30), None)
    );
    assert!(config.streams[0].is_state && config.streams[0].log.as_deref() == Some("state"));
    let masked = config.masked();
    assert_eq!(masked["log"]["when_full"], "block");
    assert_eq!(masked["logs"]["state"]["compact"], true);
    for (from, to, key, words) in [
        ("\"block\"", "\"blok\"", "log.when_full", "\"drop-oldest\" or \"block\""),
        ("\"30d\"", "\"0s\"", "log.max_age", "at least 1s"),
        ("\"365d\"", "\"a year\"", "logs.state.max_age", "ms, s, m, h or d"),
        ("compact = true", "compact = false", "logs.state.tombstone_grace", "compact = true"),
        ("\"1 GiB\"", "\"1 MiB\"", "logs.alarms.max_size", "two segments"),
        ("log = \"state\"", "log = \"stat\"", "stream.log", "[logs.stat]"),
        ("[logs.alarms]", "[logs.\"a b\"]", "logs.a b", "1 to 64"),
        ("compact = true", "compakt = true", "logs.?.compakt", "unknown field"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 0 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
    }
}

#[test]
fn a_table_has_a_stream_and_a_log_and_each_fault_says_what_to_write() {
    let good = GOOD.to_owned()
        + "[upstream.cluster]\nkind = \"kafka\"\nbrokers = \"b:9092\"\n\
           [[table]]\nname = \"devices\"\nfrom = \"file:devices.csv\"\nkey = \"device\"\n\
           max_size = \"1 MiB\"\n\
           [[table]]\nname = \"rooms\"\nfrom = \"cluster:plant.rooms\"\nkey = \"room\"\n";
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    let [devices, rooms] = &config.tables[..] else { panic!("{:?}", config.tables) };
    assert_eq!(devices.from, TableFrom::File("devices.csv".into()));
    assert_eq!((devices.max_bytes, rooms.max_bytes), (1 << 20, 64 << 20));
    let stream = &config.streams[1];
    assert_eq!((stream.name.as_str(), stream.key.as_deref()), ("devices", Some("device")));
    assert_eq!(stream.topic.to_string(), "$table/devices/{device}");
    assert!(stream.is_state && stream.log.as_deref() == Some(TABLES_LOG));
    assert!(config.logs[TABLES_LOG].compact.is_some());
    assert_eq!(config.masked()["table"][1]["from"], "cluster:plant.rooms");
    let written = format!("{good}[logs.tables]\ncompact = true\ntombstone_grace = \"2h\"\n");
    let config = Config::parse("headwater.toml", &written).expect("it is good");
    assert_eq!(config.logs[TABLES_LOG].compact, Some(Duration::from_hours(2)));
    for (from, to, key, words) in [
        ("\"devices\"", "\"climate\"", "table.name", "is taken"),
        ("\"rooms\"", "\"devices\"", "table.name", "is taken"),
        ("key = \"room\"", "key = \"a room\"", "table.key", "letters, digits and _"),
        ("key = \"room\"", "kay = \"room\"", "table[1].kay", "unknown field"),
        ("file:devices.csv", "devices.csv", "table.from", "\"file:PATH\""),
        ("file:devices.csv", "file:devices.xls", "table.from", ".csv, .ndjson or .jsonl"),
        ("cluster:plant.rooms", "clusta:plant.rooms", "table.from", "no [upstream.clusta]"),
        ("cluster:plant.rooms", "files:plant.rooms", "table.from", "no cluster"),
        ("cluster:plant.rooms", "cluster:a b", "table.from", "not a topic"),
        ("\"1 MiB\"", "\"1 KiB\"", "table.max_size", "64 KiB to 4 GiB"),
        ("sensors/{device}/climate", "$table/devices/{device}", "stream.topic", "those of tables"),
        (
            "[[table]]",
            "[logs.tables]\nmax_age = \"1d\"\n[[table]]",
            "logs.tables",
            "compact = true",
        ),
        (
            "[[table]]",
            "[[route]]\nstream = \"rooms\"\nupstream = \"cluster\"\ntopic = \"plant.rooms\"\n[[table]]",
            "table.from",
            "for ever",
        ),
        (
            "[[table]]",
            "[[query]]\nsql = \"CREATE STREAM q AS SELECT count(*) AS n FROM rooms GROUP BY room, \
             tumble(INTERVAL '1' MINUTE)\"\n[[table]]",
            "query.sql",
            "no stream \"rooms\"",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 1 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
    }
}

#[test]
fn a_sparkplug_stream_takes_all_that_its_edge_nodes_say_and_has_its_own_columns() {
    let stream = "[[stream]]\nname = \"line\"\ntopic = \"spBv1.0/{group}/#\"\nkey = \"edge_node\"\n\
                  format = \"sparkplug-b\"\n";
    let good = format!("{GOOD}{stream}");
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    assert_eq!(config.streams[1].format, Format::SparkplugB);
    for (from, to, key, words) in [
        ("spBv1.0/{group}/#", "spBv1.0/+/NDATA/#", "stream.topic", "spBv1.0/#"),
        ("\"edge_node\"", "\"metric\"", "stream.key", "not a level of the topic"),
        ("key = \"edge_node\"", "time = \"ts\"", "stream.time", "only a json stream"),
        (
            "key = \"edge_node\"",
            "columns = { value = \"double\" }",
            "stream.columns",
            "births say which type",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 26 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let text = GOOD.replace("partitions = 4", "partitions = 0").replace("256 KiB", "1 GiB");
    let found = problems(&text);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_page_beyond_loopback_needs_a_token() {
    let text = format!("{GOOD}\n[http]\nlisten = \"0.0.0.0:80\"\n");
    assert!(problems(&text)[0].fault.contains("token"));
    let text = format!("{GOOD}\n[http]\nlisten = \"0.0.0.0:80\"\ntoken = \"t0p\"\n");
    let config = Config::parse("c", &text).expect("it has a token");
    assert!(!config.masked().to_string().contains("t0p"), "a secret is masked");
}

#[test]
fn users_have_rules_and_limits_and_each_fault_says_what_to_write() {
    let hash = crate::mqtt::hash_password("pw").expect("a hash");
    let good = format!(
        "{GOOD}[[user]]\nname = \"u\"\npassword = \"{hash}\"\npublish = [\"a/{{user}}/{{client}}/#\"]\n\
         max_connections = 2\nmax_rate = 100\nmax_bytes = \"64 KiB\"\n\
         [anonymous]\ndeny = [\"x/#\"]\nmax_rate = 5\n"
    );
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    let limits = config.mqtt.users[0].limits;
    assert_eq!((limits.max_connections, limits.max_rate), (Some(2), Some(100)));
    assert_eq!(limits.max_bytes, Some(64 << 10));
    let anonymous = config.mqtt.anonymous.as_ref().expect("it is there");
    assert_eq!((anonymous.limits.max_rate, anonymous.limits.max_bytes), (Some(5), None));
    let masked = config.masked().to_string();
    assert!(masked.contains("\"max_rate\":100") && !masked.contains("argon2"), "{masked}");
    let twice = format!("name = \"u\"\npassword = \"{hash}\"\n[[user]]\nname = \"u\"");
    for (from, to, key, words) in [
        ("{client}", "{device}", "user.publish", "{user} and {client}"),
        ("a/{user}", "a#", "user.publish", "not a topic filter"),
        ("max_rate = 100", "max_rate = 0", "user.max_rate", "write 1 or more"),
        ("max_rate = 5", "max_rate = \"5/s\"", "anonymous.max_rate", "expected u32"),
        ("max_connections = 2", "max_connections = 0", "user.max_connections", "no limit"),
        ("\"64 KiB\"", "\"64 B\"", "user.max_bytes", "1 KiB or more"),
        ("\"x/#\"", "\"x/#/y\"", "anonymous.deny", "not a topic filter"),
        ("name = \"u\"", &twice, "user.name", "two users"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 0 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
    }
}

/// A configuration with a route of this format and this more.
fn routed(format: &str, stream: &str, more: &str) -> Result<Config, String> {
    let text = format!(
        "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n\
         [[stream]]\nname = \"s\"\ntopic = \"s/{{d}}\"\nformat = \"json\"\n{stream}\n\
         [upstream.up]\nkind = \"kafka\"\nbrokers = \"b:9092\"\n{more}\n\
         [[route]]\nstream = \"s\"\nupstream = \"up\"\ntopic = \"t\"\nformat = \"{format}\"\n"
    );
    Config::parse("test", &text).map_err(|problem| problem.to_string())
}

#[test]
fn avro_needs_a_registry_and_columns() {
    let registry = "[upstream.up.registry]\nurl = \"http://r:8081\"";
    let columns = "columns = { v = \"double\" }";
    let config = routed("avro", columns, registry).expect("good");
    let schema = config.schema_of(&config.routes[0]).expect("it has one");
    assert!(schema.contains("\"name\":\"v\""), "{schema}");
    for (stream, more, says) in [
        (columns, "", "[upstream.up.registry]"),
        ("", registry, "columns ="),
        (columns, "[upstream.up.registry]\nurl = \"r:8081\"", "upstream.up.registry.url"),
        (
            columns,
            "[upstream.up.registry]\nurl = \"http://r\"\nusername = \"u\"",
            "username and password",
        ),
    ] {
        let problem = routed("avro", stream, more).expect_err(says);
        assert!(problem.contains(says), "{problem}");
    }
}

#[test]
fn what_a_registry_wants_to_know_stays_a_secret() {
    let registry =
        "[upstream.up.registry]\nurl = \"http://r\"\nusername = \"u\"\npassword = \"p4ss\"";
    let config = routed("avro", "columns = { v = \"double\" }", registry).expect("good");
    let shown = config.masked().to_string();
    assert!(shown.contains("\"username\":\"u\"") && !shown.contains("p4ss"), "{shown}");
}

#[test]
fn blocks_are_sent_of_streams_that_have_them() {
    let problem = routed("blocks", "", "").expect_err("json is no block");
    assert!(problem.contains("route.format") && problem.contains("original"), "{problem}");
}

#[test]
fn files_close_by_size_and_time() {
    let upstream = |more: &str| {
        let text = format!(
            "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[upstream.f]\nkind = \"directory\"\n\
             path = \"p\"\n{more}\n"
        );
        Config::parse("test", &text).map(|mut config| config.upstreams.remove("f"))
    };
    let rotation = |more: &str| match upstream(more) {
        Ok(Some(UpstreamConfig::Directory { rotation, .. })) => rotation,
        other => panic!("{other:?}"),
    };
    assert_eq!(rotation(""), RotationConfig::default());
    let hourly = rotation("rotate_size = \"1 MiB\"\nrotate_every = \"1h\"");
    assert_eq!((hourly.size_bytes, hourly.every.as_secs()), (1 << 20, 3600));
    for wrong in ["rotate_size = \"1 KiB\"", "rotate_every = \"10ms\""] {
        let problem = upstream(wrong).expect_err(wrong).to_string();
        assert!(problem.contains("write a"), "{problem}");
    }
    let problem = routed("json", "", "rotate_every = \"1h\"").expect_err("no files");
    assert!(problem.contains("only a directory upstream"), "{problem}");
}

#[test]
fn an_mqtt_upstream_is_read_with_its_defaults_and_each_fault_says_what_to_write() {
    let good = format!(
        "{GOOD}\n[upstream.site]\nkind = \"mqtt\"\nbroker = \"site.local\"\nversion = \"5\"\n\
         username = \"u\"\npassword = \"s3cret\"\nkeep_alive = \"20s\"\nexactly_once = true\n\
         [[route]]\nstream = \"climate\"\nupstream = \"site\"\ntopic = \"up/{{device}}/{{key}}\"\n\
         retain = true\n"
    );
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    let UpstreamConfig::Mqtt(mqtt) = &config.upstreams["site"] else { panic!("{config:?}") };
    assert_eq!((mqtt.host.as_str(), mqtt.port, mqtt.keep_alive_s), ("site.local", 1883, 20));
    assert!(config.routes[1].retain && !config.routes[0].retain);
    let shown = format!("{} {config:?}", config.masked());
    assert!(!shown.contains("s3cret"), "a secret is masked: {shown}");
    let key = |name: &str| format!("upstream.site.{name}");
    for (from, to, key, words) in [
        ("broker = \"site.local\"", "", key("broker"), "broker = \"host:1883\""),
        ("\"site.local\"", "\"mqtt://site\"", key("broker"), "host:1883"),
        ("\"site.local\"", "\"site:port\"", key("broker"), "host:1883"),
        ("version = \"5\"", "version = \"3\"", key("version"), "\"5\" or \"3.1.1\""),
        ("version = \"5\"", "version = \"3.1.1\"", key("exactly_once"), "version = \"5\""),
        ("username = \"u\"", "", key("password"), "add username"),
        ("\"s3cret\"", "\"file:/no/such/file\"", key("password"), "put the value there"),
        ("\"s3cret\"", "\"env:HEADWATER_NO_SUCH\"", key("password"), "set it"),
        ("\"20s\"", "\"1s\"", key("keep_alive"), "5s to 18h"),
        ("exactly_once = true", "tls = { ca = \"/no/ca\" }", key("tls"), "/no/ca"),
        ("up/{device}", "up/{hall}", "route.topic".into(), "{key}, {stream}, {gateway}"),
        ("up/{device}", "up/#/{device}", "route.topic".into(), "no + and no #"),
        ("retain = true", "order = \"live-first\"", "route.order".into(), "in order"),
        (
            "topic = \"plant.climate\"",
            "topic = \"a\"\nretain = true",
            "route.retain".into(),
            "mqtt",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 0 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
    }
}

#[test]
fn a_cluster_has_properties_secrets_and_topics_and_each_fault_says_what_to_write() {
    let good = GOOD.replace("topic = \"plant.climate\"\n", "")
        + "topic = \"plant.climate\"\n[upstream.cluster]\nkind = \"kafka\"\nbrokers = \"a:1\"\n\
           compression = \"zstd\"\ninterval = \"5s\"\n\
           properties = { \"security.protocol\" = \"SASL_SSL\", \"sasl.password\" = \"s3cret\", \
           \"sasl.username\" = \"env:PATH\" }\n\
           [[route]]\nstream = \"climate\"\nupstream = \"cluster\"\ntopic = \"t\"\n\
           create = false\npartitions = 6\nreplication = 3\n\
           topic_config = { \"retention.ms\" = \"1000\" }\n";
    let config = Config::parse("headwater.toml", &good).expect("it is good");
    let topic = &config.routes[1].topic_config;
    assert_eq!((topic.create, topic.partitions, topic.replication), (false, Some(6), Some(3)));
    assert_eq!(config.routes[0].topic_config, TopicConfig::default());
    let masked = config.masked();
    let shown = &masked["upstream"]["cluster"];
    assert_eq!((&shown["compression"], &shown["brokers"]), (&"zstd".into(), &"a:1".into()));
    assert_eq!(shown["interval_ms"], 5_000);
    assert_eq!(shown["properties"]["sasl.password"], "***");
    assert_eq!(shown["properties"]["sasl.username"], "env:PATH");
    assert_eq!(masked["route"][1]["topic_config"]["retention.ms"], "1000");
    assert!(!format!("{config:?}").contains("s3cret"), "no log line shows it either");
    for (from, to, key, words) in [
        ("\"zstd\"", "\"gzip\"", "upstream.cluster.compression", "\"none\", \"lz4\""),
        ("\"5s\"", "\"2m\"", "upstream.cluster.interval", "from 100ms to 1m"),
        ("\"5s\"", "\"soon\"", "upstream.cluster.interval", "soon"),
        ("env:PATH", "file:none", "upstream.cluster.properties.sasl.username", "file none: No"),
        ("sasl.username", "sasl.user", "upstream.cluster.properties.sasl.user", "No such"),
        ("SASL_SSL", "SSL", "upstream.cluster.properties.sasl.password", "SASL_SSL"),
        ("\"s3cret\"", "\"env:HW_NONE\"", "upstream.cluster.properties.sasl.password", "HW_NONE"),
        (
            "\"sasl.password\" = \"s3cret\"",
            "\"ssl.ca.location\" = \"no.pem\"",
            "upstream.cluster.properties.ssl.ca.location",
            "a file that is there",
        ),
        ("brokers = \"a:1\"\n", "", "upstream.cluster.kind", "brokers ="),
        ("partitions = 6", "partitions = 0", "route.partitions", "1 or more"),
        ("replication = 3", "replication = 300", "route.replication", "1 to 100"),
        ("upstream = \"cluster\"", "upstream = \"files\"", "route.create", "kafka upstream"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = problems(&good.replacen(from, to, 1));
        let fits = |p: &Problem| p.line > 20 && p.key == key && p.fault.contains(words);
        assert!(found.iter().any(fits), "{to}: wanted {key}, {words:?}, got {found:?}");
        assert!(found.iter().all(|p| !p.fault.contains("s3cret")), "{found:?}");
    }
}
