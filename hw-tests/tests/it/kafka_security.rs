//! Each way to log in to a real broker, and what `check --online` says where it does not go.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use headwater::forward::{RouteState, RouteStatus};
use hw_tests::gateway::binary;
use hw_tests::journal::{Bench, PARTITIONS};
use hw_tests::kafka::secure::{
    GUEST, Operation, Papers, Permission, Resource, SUBJECT, USER, options, rule,
};
use hw_tests::kafka::{Consumed, Kafka};
use hw_tests::tokens::Tokens;

use crate::kafka::Running;

/// Lines of an upstream in TOML.
fn upstream(brokers: &str, compression: &str, properties: &[(&str, &str)]) -> String {
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"")).collect();
    format!(
        "brokers = \"{brokers}\"\ncompression = \"{compression}\"\nproperties = {{ {} }}\n",
        properties.join(", ")
    )
}

fn password<'a>(
    mechanism: &'a str,
    protocol: &'a str,
    user: &'a str,
    password: &'a str,
) -> Vec<(&'a str, &'a str)> {
    vec![
        ("security.protocol", protocol),
        ("sasl.mechanism", mechanism),
        ("sasl.username", user),
        ("sasl.password", password),
    ]
}

/// Forwards `0..count` of a bench of its own, and reads the topic as a committed reader does.
fn forward(kafka: &Kafka, dir: &Path, id: &str, upstream: &str, route: &str) -> Vec<Consumed> {
    const COUNT: u64 = 60;
    let dir = dir.join(id);
    std::fs::create_dir(&dir).expect("a directory");
    let topic = format!("plant.{id}");
    let bench = Bench::open_as(id, &topic, &dir, upstream, route).expect("the bench");
    for number in 0..COUNT {
        bench.append(number).expect("appended");
    }
    let running = Running::start(&bench);
    running.wait(id, |status| status.position == COUNT);
    running.stop();
    let records = consume(kafka, &topic, COUNT);
    for record in &records {
        assert_eq!(record.value, Bench::payload(offset(record)).as_bytes(), "{id}");
    }
    records
}

/// All records of the topic, which are `0..count`, each once.
fn consume(kafka: &Kafka, topic: &str, count: u64) -> Vec<Consumed> {
    // A commit is confirmed before its markers are in the partitions.
    let visible = || kafka.consume_committed(topic).expect("the topic can be read");
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut records = visible();
    while (records.len() as u64) < count && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        records = visible();
    }
    let mut offsets: Vec<u64> = records.iter().map(offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..count).collect::<Vec<_>>(), "{topic}: each once");
    records
}

fn offset(record: &Consumed) -> u64 {
    record.header("hw.offset").expect("a header").parse().expect("a number")
}

#[test]
fn every_way_to_log_in_works_and_what_does_not_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let papers = Papers::make(dir.path()).expect("certificates");
    let tokens = Tokens::start(SUBJECT, Duration::from_secs(4)).expect("a token endpoint");
    let options = options(dir.path(), &papers, &tokens).expect("options");
    let kafka = Kafka::start_with(&dir.path().join("kafka"), options).expect("a broker");
    let each = Each { kafka: &kafka, dir: dir.path(), papers: &papers, tokens: &tokens };
    let parts = [
        Each::password_and_compression,
        Each::certificate,
        Each::token,
        Each::topic_as_asked,
        Each::troubles,
        Each::rules,
    ];
    // At the same time, since they mostly wait; a part that fails says so itself.
    let failed = std::thread::scope(|scope| {
        let each = &each;
        let parts = parts.map(|part| scope.spawn(move || part(each)));
        parts.into_iter().filter_map(|part| part.join().err()).count()
    });
    assert_eq!(failed, 0, "parts that failed");
}

struct Each<'a> {
    kafka: &'a Kafka,
    dir: &'a Path,
    papers: &'a Papers,
    tokens: &'a Tokens,
}

impl Each<'_> {
    fn forward(&self, id: &str, upstream: &str, route: &str) -> Vec<Consumed> {
        forward(self.kafka, self.dir, id, upstream, route)
    }

    /// PLAIN and SCRAM, with and without TLS, each with another compression.
    fn password_and_compression(&self) {
        let ca = self.papers.path("ca.pem");
        std::fs::write(self.dir.join("password"), format!("{}\n", USER.1)).expect("written");
        let from_file = format!("file:{}", self.dir.join("password").display());
        for (id, mechanism, listener, compression, secret) in [
            ("plain", "PLAIN", "SASL_PLAINTEXT", "none", USER.1),
            ("plain-tls", "PLAIN", "SASL_SSL", "lz4", from_file.as_str()),
            ("scram-256", "SCRAM-SHA-256", "SASL_PLAINTEXT", "zstd", USER.1),
            ("scram-512-tls", "SCRAM-SHA-512", "SASL_SSL", "zstd", from_file.as_str()),
        ] {
            let mut properties = password(mechanism, listener, USER.0, secret);
            if listener == "SASL_SSL" {
                properties.push(("ssl.ca.location", &ca));
            }
            let brokers = self.kafka.listener(listener);
            self.forward(id, &upstream(brokers, compression, &properties), "");
            self.good(id, &upstream(brokers, compression, &properties), "may write");
        }
    }

    fn certificate(&self) {
        let paths = ["ca.pem", "client.pem", "client.key"].map(|name| self.papers.path(name));
        let properties = [
            ("security.protocol", "SSL"),
            ("ssl.ca.location", paths[0].as_str()),
            ("ssl.certificate.location", &paths[1]),
            ("ssl.key.location", &paths[2]),
        ];
        let brokers = self.kafka.listener("SSL");
        self.forward("certificate", &upstream(brokers, "lz4", &properties), "");
        let without = upstream(brokers, "lz4", &properties[..2]);
        self.trouble("certificate", &without, "", 1, &["check ssl.* in properties"]);
    }

    /// Tokens live 4 s, so a route of 6 s needs a second one.
    fn token(&self) {
        let ca = self.papers.path("ca.pem");
        for (id, listener) in [("token", "SASL_PLAINTEXT"), ("token-tls", "SASL_SSL")] {
            let properties = self.token_properties(listener, &ca, Tokens::CLIENT.1);
            self.forward(id, &upstream(self.kafka.listener(listener), "lz4", &properties), "");
        }
        let issued = self.tokens.issued();
        assert!((1..=6).contains(&issued), "clients of an upstream share a token: {issued}");
        self.refresh(&ca);
        let properties = self.token_properties("SASL_SSL", &ca, "wrong");
        let wrong = upstream(self.kafka.listener("SASL_SSL"), "lz4", &properties);
        let words = ["401 invalid_client (wrong secret)", "sasl.oauthbearer.client.secret"];
        self.trouble("token", &wrong, "", 1, &words);
    }

    fn token_properties<'a>(
        &'a self,
        protocol: &'a str,
        ca: &'a str,
        secret: &'a str,
    ) -> Vec<(&'a str, &'a str)> {
        vec![
            ("security.protocol", protocol),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", self.tokens.url()),
            ("sasl.oauthbearer.client.id", Tokens::CLIENT.0),
            ("sasl.oauthbearer.client.secret", secret),
            ("sasl.oauthbearer.scope", "plant write"),
            ("ssl.ca.location", ca),
        ]
    }

    fn refresh(&self, ca: &str) {
        let dir = self.dir.join("refresh");
        std::fs::create_dir(&dir).expect("a directory");
        let properties = self.token_properties("SASL_SSL", ca, Tokens::CLIENT.1);
        let upstream = upstream(self.kafka.listener("SASL_SSL"), "lz4", &properties);
        let bench = Bench::open_as("refresh", "plant.refresh", &dir, &upstream, "");
        let bench = bench.expect("the bench");
        let running = Running::start(&bench);
        let before = self.tokens.issued();
        for number in 0..12 {
            bench.append(number).expect("appended");
            std::thread::sleep(Duration::from_millis(500));
        }
        let status = running.wait("refresh", |status| status.position == 12);
        assert_eq!((status.records, status.last_error), (12, None));
        assert!(self.tokens.issued() > before, "a new token was fetched");
        running.stop();
    }

    /// Partitions and settings of a new topic, and keys in a topic of another number than the
    /// stream's, as Java's partitioner places them.
    fn topic_as_asked(&self) {
        let plain = upstream(self.kafka.brokers(), "lz4", &[]);
        let route =
            "partitions = 5\nreplication = 1\ntopic_config = { \"retention.ms\" = \"86400000\" }\n";
        self.good("asked", &plain, "plant.asked is not there; it will be made: 5 partitions");
        let records = self.forward("asked", &plain, route);
        let mut placed: BTreeMap<String, i32> = BTreeMap::new();
        for record in records {
            placed.insert(record.key.expect("a key"), record.partition);
        }
        let expected: BTreeMap<String, i32> =
            JAVA_OF_5.iter().map(|(k, p)| ((*k).into(), *p)).collect();
        assert_eq!(placed, expected);
        self.good_with("asked", &plain, route, "plant.asked: 5 partitions, 1 replica");
        let other = "partitions = 8\ntopic_config = { \"retention.ms\" = \"1000\" }\n";
        let said = self.check("asked", &plain, other);
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        let said = String::from_utf8_lossy(&said.stdout);
        assert!(said.contains("--alter --topic plant.asked --partitions 8"), "{said}");
        assert!(said.contains("retention.ms=86400000, not 1000"), "{said}");
    }

    /// Each has a message of its own, in `check --online` and in the route's last error.
    fn troubles(&self) {
        let plain = upstream(self.kafka.brokers(), "lz4", &[]);
        let closed = upstream("127.0.0.1:9", "lz4", &[]);
        self.trouble("away", &closed, "", 75, &["is the cluster up"]);
        let ca = self.papers.path("ca.pem");
        let brokers = self.kafka.listener("SASL_SSL");
        let mut wrong = password("SCRAM-SHA-512", "SASL_SSL", USER.0, "wrong");
        wrong.push(("ssl.ca.location", &ca));
        let wrong = upstream(brokers, "lz4", &wrong);
        let words = ["does not know this user and password"];
        self.trouble("wrong", &wrong, "", 1, &words);
        let other_ca = self.papers.path("other-ca.pem");
        let mut stranger = password("SCRAM-SHA-512", "SASL_SSL", USER.0, USER.1);
        stranger.push(("ssl.ca.location", &other_ca));
        let stranger = upstream(brokers, "lz4", &stranger);
        self.trouble("stranger", &stranger, "", 1, &["is ssl.ca.location the CA of the brokers"]);
        let absent = ["there is no topic plant.absent and create = false", "--create --topic"];
        self.trouble("absent", &plain, "create = false\n", 1, &absent);
        let long = upstream(self.kafka.brokers(), "lz4", &[("transaction.timeout.ms", "900001")]);
        self.trouble("long", &long, "", 1, &["raise transaction.max.timeout.ms"]);
        let small = "topic_config = { \"max.message.bytes\" = \"2000\" }\n";
        self.forward("small", &plain, small);
        let said = self.check("small", &plain, small);
        let said = String::from_utf8_lossy(&said.stdout);
        assert!(said.contains("takes 2000 bytes at most"), "{said}");
        self.cured(&wrong, brokers, &ca);
    }

    /// What waited while the password was wrong arrives once when it is right.
    fn cured(&self, wrong: &str, brokers: &str, ca: &str) {
        let dir = self.dir.join("cured");
        std::fs::create_dir(&dir).expect("a directory");
        {
            let bench = Bench::open_as("cured", "plant.cured", &dir, wrong, "").expect("the bench");
            for number in 0..40 {
                bench.append(number).expect("appended");
            }
            let running = Running::start(&bench);
            let status = running.wait("it says so", |status| status.last_error.is_some());
            let error = status.last_error.expect("an error");
            assert!(error.contains("does not know this user and password"), "{error}");
            running.stop();
            bench.journal.close();
        }
        let mut right = password("SCRAM-SHA-512", "SASL_SSL", USER.0, USER.1);
        right.push(("ssl.ca.location", ca));
        let right = upstream(brokers, "lz4", &right);
        // The first one's thread may still be about to end.
        let deadline = Instant::now() + Duration::from_secs(15);
        let bench = loop {
            match Bench::open_as("cured", "plant.cured", &dir, &right, "") {
                Ok(bench) => break bench,
                Err(problem) => assert!(Instant::now() < deadline, "{problem}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let running = Running::start(&bench);
        running.wait("it goes on", |status| status.position == 40);
        running.stop();
        consume(self.kafka, "plant.cured", 40);
    }

    /// A user gets its rights one by one; each that is missing is named, and nothing is lost.
    fn rules(&self) {
        use Operation::{Create, Describe, DescribeConfigs, Read, Write};
        let properties = password("PLAIN", "SASL_PLAINTEXT", GUEST.0, GUEST.1);
        let guest = upstream(self.kafka.listener("SASL_PLAINTEXT"), "lz4", &properties);
        let dir = self.dir.join("guest");
        std::fs::create_dir(&dir).expect("a directory");
        let bench = Bench::open_as("guest", "guest.data", &dir, &guest, "").expect("the bench");
        for number in 0..30 {
            bench.append(number).expect("appended");
        }
        // Each a new start, which does not wait until it is time to try again.
        let error = |words: &str| {
            let running = Running::start(&bench);
            running.wait(words, |status| {
                status.last_error.as_ref().is_some_and(|error| error.contains(words))
            });
            running.stop();
        };
        error("Write and Describe on transactional ids that begin with the gateway's id");
        let words = ["on transactional ids", "Write and Describe on the topic"];
        self.trouble_of("guest", "guest.data", &guest, "", 1, &words);
        for operation in [Write, Describe] {
            self.allow(Resource::TransactionalId, "guest.", operation);
        }
        // Without it nothing goes, whatever is said of other topics.
        error("topic headwater.positions cannot be used");
        self.allow(Resource::Topic, "headwater.", Describe);
        let words = ["topic headwater.positions: the user has no right Write"];
        self.trouble_of("guest", "guest.data", &guest, "", 1, &words);
        self.allow(Resource::Topic, "headwater.", Write);
        self.allow(Resource::Topic, "headwater.", Read);
        error("topic guest.data cannot be used");
        for operation in [Write, Describe, Create] {
            self.allow(Resource::Topic, "guest.", operation);
        }
        let running = Running::start(&bench);
        let status = running.wait("with all rights", |status| status.position == 30);
        assert_eq!(status.records, 30);
        running.stop();
        let said = self.check_of("guest", "guest.data", &guest, "");
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(0), "{text}");
        assert!(text.contains("note: transaction.max.timeout.ms cannot be seen"), "{text}");
        self.allow(Resource::Cluster, "", DescribeConfigs);
        let said = self.check_of("guest", "guest.data", &guest, "");
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(text.contains("may stay open 30000 ms of at most 900000"), "{text}");
        let records = consume(self.kafka, "guest.data", 30);
        assert!(records.iter().all(|record| record.partition < i32::from(PARTITIONS)));
        self.apart(&guest);
    }

    /// Of two routes of an upstream one lacks its rights, gets them one by one, and loses one again;
    /// the other one goes on all the time.
    fn apart(&self, guest: &str) {
        use Operation::{Create, Describe, Write};
        let dir = self.dir.join("apart");
        std::fs::create_dir(&dir).expect("a directory");
        for operation in [Write, Describe] {
            self.allow(Resource::TransactionalId, "apart.", operation);
        }
        for operation in [Write, Describe, Create] {
            self.allow(Resource::Topic, "apart.open", operation);
        }
        // The records' times are long past, and this takes longer than until the broker looks for such.
        let keep = "topic_config = { \"retention.ms\" = \"-1\" }\n";
        let routes = format!(
            "{keep}[[route]]\nstream = \"data\"\nupstream = \"cluster\"\n\
             topic = \"apart.barred\"\n{keep}"
        );
        let bench = Bench::open_as("apart", "apart.open", &dir, guest, &routes).expect("the bench");
        let running = Running::start(&bench);
        let goes_on = |numbers: std::ops::Range<u64>| {
            let end = numbers.end;
            for number in numbers {
                bench.append(number).expect("appended");
            }
            running.wait("the one goes on", |status| status.position == end);
        };
        goes_on(0..20);
        let barred = wait_second(&running, |status| status.state == RouteState::Stopped);
        let error = barred.last_error.expect("an error");
        assert!(error.contains("topic apart.barred cannot be used"), "{error}");
        assert_eq!((barred.position, barred.records), (0, 0));
        for operation in [Describe, Create] {
            self.allow(Resource::Topic, "apart.barred", operation);
        }
        let lacks_write = |status: &RouteStatus| {
            let error = status.last_error.as_ref();
            let is_said = error.is_some_and(|error| error.contains("has no right Write"));
            status.state == RouteState::Stopped && is_said
        };
        wait_second(&running, lacks_write);
        goes_on(20..30);
        self.allow(Resource::Topic, "apart.barred", Write);
        let cured = wait_second(&running, |status| status.position == 30);
        assert_eq!(cured.records, 30);
        consume(self.kafka, "apart.barred", 30);
        rule(self.kafka.brokers(), Resource::Topic, "apart.barred", Write, Permission::Deny)
            .expect("denied");
        goes_on(30..40);
        wait_second(&running, lacks_write);
        goes_on(40..50);
        running.stop();
        consume(self.kafka, "apart.open", 50);
        consume(self.kafka, "apart.barred", 30);
    }

    fn allow(&self, resource: Resource, name: &str, operation: Operation) {
        let brokers = self.kafka.brokers();
        rule(brokers, resource, name, operation, Permission::Allow).expect("allowed");
    }

    fn check(&self, id: &str, upstream: &str, route: &str) -> Output {
        self.check_of(id, &format!("plant.{id}"), upstream, route)
    }

    fn check_of(&self, id: &str, topic: &str, upstream: &str, route: &str) -> Output {
        let text = Bench::config(id, topic, &self.dir.join("none"), upstream, route);
        let config = self.dir.join(format!("{id}.toml"));
        std::fs::write(&config, text).expect("written");
        Command::new(binary().expect("the binary"))
            .args(["check", "--online", "-c"])
            .arg(&config)
            .output()
            .expect("it runs")
    }

    fn good(&self, id: &str, upstream: &str, words: &str) {
        let route = if id == "asked" { "partitions = 5\n" } else { "" };
        self.good_with(id, upstream, route, words);
    }

    fn good_with(&self, id: &str, upstream: &str, route: &str, words: &str) {
        let said = self.check(id, upstream, route);
        let text = String::from_utf8_lossy(&said.stdout);
        assert_eq!(said.status.code(), Some(0), "{id}: {text}{said:?}");
        assert!(text.contains(words) && !text.contains("trouble"), "{id}: {text}");
        assert!(text.contains("transactions can be started"), "{id}: {text}");
    }

    fn trouble(&self, id: &str, upstream: &str, route: &str, code: i32, words: &[&str]) {
        self.trouble_of(id, &format!("plant.{id}"), upstream, route, code, words);
    }

    fn trouble_of(
        &self,
        id: &str,
        topic: &str,
        upstream: &str,
        route: &str,
        code: i32,
        words: &[&str],
    ) {
        // A rule that was given holds a moment later.
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let said = self.check_of(id, topic, upstream, route);
            let text = String::from_utf8_lossy(&said.stdout);
            let is_said = words.iter().all(|words| text.contains(words));
            if is_said && said.status.code() == Some(code) {
                return;
            }
            assert!(Instant::now() < deadline, "{id}: {code}, {words:?}: {text}{said:?}");
        }
    }
}

/// Waits for the second route; what is barred is looked at again after 30 s.
fn wait_second(running: &Running, until: impl Fn(&RouteStatus) -> bool) -> RouteStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = running.routes().remove(1);
        if until(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Keys of the bench and their partitions of 5 as Kafka's own Java client computes them:
/// `Utils.toPositive(Utils.murmur2(key)) % 5`.
const JAVA_OF_5: [(&str, i32); 11] = [
    ("device-0", 0),
    ("device-1", 3),
    ("device-2", 4),
    ("device-3", 1),
    ("device-4", 0),
    ("device-5", 0),
    ("device-6", 4),
    ("device-7", 4),
    ("device-8", 3),
    ("device-9", 3),
    ("device-10", 1),
];
