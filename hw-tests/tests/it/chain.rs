//! Two gateways in a chain, both killed and the link between them cut: each record of the field is
//! in the last directory once, in order, and with its origin.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use headwater::mqtt::hash_password;
use hw_tests::gateway::GatewayProcess;
use hw_tests::proxy::Proxy;
use hw_tests::random::Random;
use serde_json::Value as Json;

use crate::feed::Feed;

const ROUNDS: u64 = 30;
/// Between two faults at most.
const PAUSE_MS: u64 = 250;
const LIMIT: Duration = Duration::from_secs(300);
const READY: Duration = Duration::from_secs(60);

fn field(site: SocketAddr) -> String {
    format!(
        r#"
[gateway]
id = "field-1"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[[stream]]
name = "numbers"
topic = "n/{{device}}"
key = "device"
format = "json"
partitions = 2
[upstream.site]
kind = "mqtt"
broker = "{site}"
username = "field"
password = "secret"
exactly_once = true
[[route]]
stream = "numbers"
upstream = "site"
topic = "{{topic}}"
format = "original"
[upstream.files]
kind = "directory"
path = "out"
[[route]]
stream = "numbers"
upstream = "files"
topic = "numbers"
"#
    )
}

fn site() -> String {
    let hash = hash_password("secret").expect("a hash");
    format!(
        r#"
[gateway]
id = "site"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:0"
[[user]]
name = "field"
password = "{hash}"
publish = ["n/#"]
gateway = "field-1"
[http]
listen = "127.0.0.1:0"
[[stream]]
name = "numbers"
topic = "n/{{device}}"
key = "device"
format = "json"
partitions = 3
[upstream.files]
kind = "directory"
path = "out"
[[route]]
stream = "numbers"
upstream = "files"
topic = "numbers"
"#
    )
}

/// A line of a directory, in short.
#[derive(Debug)]
struct Line {
    offset: u64,
    key: String,
    time: i64,
    origin: Option<u64>,
    value: Json,
}

/// All lines below a directory, by partition in order.
fn lines(dir: &Path) -> BTreeMap<String, Vec<Line>> {
    let mut all = BTreeMap::new();
    for partition in fs::read_dir(dir.join("out/numbers")).expect("a topic") {
        let partition = partition.expect("an entry").path();
        if !partition.is_dir() {
            continue;
        }
        let mut found = Vec::new();
        for file in fs::read_dir(&partition).expect("a partition") {
            let file = file.expect("an entry").path();
            // The manifest beside them has no records.
            if file.extension().is_none_or(|extension| extension != "ndjson") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("a file");
            found.extend(text.lines().map(line));
        }
        found.sort_by_key(|line: &Line| line.offset);
        all.insert(partition.display().to_string(), found);
    }
    all
}

fn line(text: &str) -> Line {
    let json: Json = serde_json::from_str(text).expect("NDJSON");
    let origin = json["origin"].as_str().map(|origin| {
        let (before, offset) = origin.rsplit_once('/').expect("an origin");
        assert!(before.starts_with("field-1/") && before.ends_with("/numbers"), "{origin}");
        offset.parse().expect("an offset")
    });
    Line {
        offset: json["offset"].as_u64().expect("an offset"),
        key: json["key"].as_str().expect("a key").to_owned(),
        time: json["time"].as_i64().expect("a time"),
        origin,
        value: json["value"].clone(),
    }
}

struct Chain {
    field_file: std::path::PathBuf,
    site_file: std::path::PathBuf,
    field: GatewayProcess,
    site: GatewayProcess,
    proxy: Proxy,
    feed: Arc<Feed>,
}

impl Chain {
    fn start(dir: &Path) -> Self {
        let proxy = Proxy::start().expect("a proxy");
        let [field_file, site_file] = ["field", "site"].map(|name| {
            fs::create_dir(dir.join(name)).expect("a directory");
            dir.join(name).join("headwater.toml")
        });
        fs::write(&field_file, field(proxy.address())).expect("a configuration");
        fs::write(&site_file, site()).expect("a configuration");
        let (feed, site) = (Arc::<Feed>::default(), GatewayProcess::launch(&site_file));
        let field = GatewayProcess::launch(&field_file).expect("a gateway");
        let site = site.expect("a gateway");
        let mut chain = Self { field_file, site_file, field, site, proxy, feed };
        chain.await_field();
        chain.await_site();
        chain
    }

    fn await_field(&mut self) {
        let doors = self.field.wait_doors(READY);
        let doors = doors.unwrap_or_else(|error| panic!("{error}\n{}", self.field.log_tail()));
        self.feed.set_address(Some(doors.mqtt));
    }

    fn await_site(&mut self) {
        let doors = self.site.wait_doors(READY);
        let doors = doors.unwrap_or_else(|error| panic!("{error}\n{}", self.site.log_tail()));
        self.proxy.set_target(Some(doors.mqtt));
    }

    fn fault(&mut self, kind: u64) {
        match kind {
            0 => {
                self.feed.set_address(None);
                self.field.kill();
                self.field = GatewayProcess::launch(&self.field_file).expect("a gateway");
                self.await_field();
            }
            1 => {
                self.site.kill();
                self.proxy.set_target(None);
                self.proxy.cut();
                self.site = GatewayProcess::launch(&self.site_file).expect("a gateway");
                self.await_site();
            }
            _ => drop(self.proxy.cut()),
        }
    }

    /// Waits until the site has all of the field, and ends both.
    fn end(&mut self, until: Instant) {
        loop {
            let routes = self.field.get("/api/v1/routes").expect("routes");
            let of = |upstream: &str| {
                let found = routes.as_array().and_then(|routes| {
                    routes.iter().find(|route| route["upstream"] == upstream).cloned()
                });
                found.expect("a route")
            };
            let route = of("site");
            if route["lag"] == 0 && route["state"] == "running" {
                break;
            }
            assert!(Instant::now() < until, "{route}\n{}", self.field.log_tail());
            thread::sleep(Duration::from_millis(100));
        }
        for gateway in [&mut self.field, &mut self.site] {
            let status = gateway.terminate(READY).expect("it can be told");
            assert!(status.is_some_and(|status| status.success()), "{}", gateway.log_tail());
        }
    }
}

#[test]
fn each_record_of_the_field_is_in_the_last_directory_once_and_in_order() {
    let seed = std::env::var("HEADWATER_SEED")
        .map_or(20_261_128, |seed| seed.parse().expect("HEADWATER_SEED is a number"));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut chain = Chain::start(dir.path());
    let until = Instant::now() + LIMIT;
    let feed = Arc::clone(&chain.feed);
    let sent = thread::scope(|scope| {
        let feeding = scope.spawn(|| feed.run(until));
        for _ in 0..ROUNDS {
            thread::sleep(Duration::from_millis(random.below(PAUSE_MS)));
            chain.fault(random.below(4));
        }
        feed.stop.store(true, Ordering::SeqCst);
        feeding.join().expect("it feeds")
    });
    chain.end(until);
    let there: Vec<Line> = lines(&dir.path().join("field")).into_values().flatten().collect();
    let here = lines(&dir.path().join("site"));
    check(&there, &here);
    let count = there.len();
    println!("{ROUNDS} faults (seed {seed}): {sent} acknowledged, {count} records at both ends");
    assert!(count as u64 >= sent && sent > 0);
}

fn check(there: &[Line], here: &BTreeMap<String, Vec<Line>>) {
    let mut left: BTreeMap<u64, &Line> = there.iter().map(|line| (line.offset, line)).collect();
    assert_eq!(left.len(), there.len());
    for lines in here.values() {
        let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
        for line in lines {
            let origin = line.origin.expect("it came from the field");
            let first = left.remove(&origin);
            let first = first.unwrap_or_else(|| panic!("twice, or of nowhere: {line:?}"));
            assert_eq!((&first.key, first.time, &first.value), (&line.key, line.time, &line.value));
            let before = highest.insert(&line.key, origin);
            assert!(before < Some(origin), "{line:?} after {before:?}");
        }
    }
    assert!(left.is_empty(), "not at the site: {left:?}");
}
