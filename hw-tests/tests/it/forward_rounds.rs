//! Rounds of faults between a gateway and its cluster, under load: in the end the cluster has each
//! record of the journal once, in order, and the positions say the same.

mod faults;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use headwater::forward::Stored;
use headwater_shared::envelope::Envelope;
use hw_tests::gateway::GatewayProcess;
use hw_tests::kafka::Kafka;
use hw_tests::proxy::Proxy;
use hw_tests::qemu::free_port;
use hw_tests::random::Random;

use crate::feed::Feed;
use faults::Fault;

/// How many, if `HEADWATER_ROUNDS` does not say.
const ROUNDS: u64 = 12;
const SEED: u64 = 20_261_128;
const TOPIC: &str = "plant.n";
/// Faults end, and everything has gone through, within this.
const LONG: Duration = Duration::from_secs(240);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// A gateway that publishers feed, a broker, and the link between them.
struct Stage {
    dir: tempfile::TempDir,
    link: Proxy,
    broker: SocketAddr,
    kafka: Kafka,
    gateway: GatewayProcess,
    feed: Arc<Feed>,
    feeding: thread::JoinHandle<u64>,
}

impl Stage {
    fn set(limit: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let link = Proxy::start().expect("a port");
        // The broker tells clients the address of the link, so they never go around it.
        let port = link.address().port();
        let kafka = Kafka::start_behind(&dir.path().join("kafka"), port).expect("a broker");
        let broker = kafka.brokers().parse().expect("an address");
        link.set_target(Some(broker));
        let (mqtt, http) = (free_port().expect("a port"), free_port().expect("a port"));
        let config = write_config(dir.path(), mqtt, http, &link.address().to_string());
        let gateway = GatewayProcess::start(&config, http).expect("a gateway");
        let feed = Arc::new(Feed::default());
        feed.set_address(Some(SocketAddr::from(([127, 0, 0, 1], mqtt))));
        let feeds = Arc::clone(&feed);
        let until = Instant::now() + limit;
        let feeding = thread::spawn(move || feeds.run(until));
        Self { dir, link, broker, kafka, gateway, feed, feeding }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::KillGateway => self.gateway.kill_and_restart().expect("it comes back"),
            Fault::KillBroker => {
                self.kafka.kill().expect("it can be killed");
                self.kafka.restart().expect("it comes back");
            }
            Fault::Cut(time) => {
                self.cut();
                thread::sleep(time);
                self.mend();
            }
            Fault::Stall(time) => {
                self.link.set_stalled(true);
                thread::sleep(time);
                self.link.set_stalled(false);
            }
            Fault::StopGateway(time) => {
                self.gateway.signal("-STOP").expect("it runs");
                thread::sleep(time);
                self.gateway.signal("-CONT").expect("it runs");
            }
            Fault::StopBroker(time) => {
                self.kafka.signal("-STOP").expect("it runs");
                thread::sleep(time);
                self.kafka.signal("-CONT").expect("it runs");
            }
            Fault::KillWhileCut(time) => {
                self.cut();
                thread::sleep(time / 2);
                self.gateway.kill_and_restart().expect("it comes back");
                thread::sleep(time / 2);
                self.mend();
            }
        }
    }

    fn cut(&self) {
        self.link.set_target(None);
        self.link.cut();
    }

    fn mend(&self) {
        self.link.set_target(Some(self.broker));
    }

    /// Lets all go through, holds it against the journal, and says how many messages were
    /// acknowledged and how many records there are.
    fn settle(self) -> (u64, usize) {
        // Readers come by the link too.
        let Self { dir, link: _link, kafka, mut gateway, feed, feeding, .. } = self;
        feed.stop.store(true, Ordering::SeqCst);
        let acknowledged = feeding.join().expect("the feed ends");
        let deadline = Instant::now() + LONG;
        loop {
            let routes = gateway.get("/api/v1/routes").expect("the API answers");
            if routes[0]["lag"] == 0 {
                break;
            }
            let tail = || gateway.log_tail();
            assert!(Instant::now() < deadline, "{routes}\n{}", tail());
            thread::sleep(Duration::from_millis(100));
        }
        let ended = gateway.terminate(Duration::from_secs(30)).expect("it can be told");
        assert!(ended.is_some_and(|status| status.success()), "{}", gateway.log_tail());
        let count = check(dir.path(), &kafka);
        assert!(count as u64 >= acknowledged, "{count} stored, {acknowledged} acknowledged");
        (acknowledged, count)
    }
}

fn write_config(dir: &Path, mqtt: u16, http: u16, brokers: &str) -> PathBuf {
    let text = format!(
        "[gateway]\nid = \"rounds\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\n\
         [[stream]]\nname = \"n\"\ntopic = \"n/{{device}}\"\nkey = \"device\"\nformat = \"json\"\n\
         partitions = 3\n\
         [upstream.cluster]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\n\
         [[route]]\nstream = \"n\"\nupstream = \"cluster\"\ntopic = \"{TOPIC}\"\n\
         format = \"original\"\n"
    );
    let path = dir.join("headwater.toml");
    fs::write(&path, text).expect("a configuration");
    path
}

/// The payloads of the stream in a journal, by offset, with their keys.
fn journal_of(dir: &Path) -> BTreeMap<u64, (String, Vec<u8>)> {
    let mut reader = log_lite::Reader::open_dir(&dir.join("data/journal")).expect("a journal");
    let mut all = BTreeMap::new();
    while let Some(batch) = reader.next(u64::MAX).expect("whole") {
        for record in batch.records() {
            if let Ok(Envelope::Publish(publish)) = Envelope::decode(record.value)
                && publish.topic.starts_with("n/")
            {
                let key = String::from_utf8(record.key.to_vec()).expect("text");
                all.insert(record.offset, (key, publish.payload.to_vec()));
            }
        }
    }
    all
}

/// Every record of the journal is at the cluster, once, and those of a partition in their order.
fn check(dir: &Path, kafka: &Kafka) -> usize {
    let mut missing = journal_of(dir);
    let count = missing.len();
    let records = kafka.consume_committed(TOPIC).expect("the topic can be read");
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    for record in records {
        let offset: u64 = record.header("hw.offset").expect("a header").parse().expect("a number");
        let (key, payload) = missing.remove(&offset).unwrap_or_else(|| {
            panic!("offset {offset} is doubled, or is none of the journal's");
        });
        assert_eq!((record.key, record.value), (Some(key), payload), "offset {offset}");
        let before = last.insert(record.partition, offset);
        assert!(before.is_none_or(|before| before < offset), "{before:?} before {offset}");
    }
    let lost: Vec<&u64> = missing.keys().take(10).collect();
    assert!(lost.is_empty(), "{} of {count} are lost: {lost:?}...", missing.len());
    let highest = last.values().max().copied().expect("records");
    let positions = kafka.consume_committed("headwater.positions").expect("a topic");
    let newest = Stored::decode(&positions.last().expect("a position").value).expect("ours");
    let ranges = newest.position.ranges().to_vec();
    assert!(matches!(ranges.as_slice(), [(0, end)] if *end == highest + 1), "{ranges:?}");
    count
}

#[test]
fn each_record_is_at_the_cluster_once_whatever_breaks() {
    let rounds = number("HEADWATER_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("HEADWATER_SEED").unwrap_or(SEED);
    let mut random = Random::new(seed);
    let began = Instant::now();
    let each = Duration::from_secs(60);
    let mut stage = Stage::set(each * u32::try_from(rounds).expect("not that many"));
    for round in 1..=rounds {
        thread::sleep(Duration::from_millis(200 + random.below(1_300)));
        let fault = Fault::draw(&mut random);
        println!("round {round}, {:.1} s: {fault:?}", began.elapsed().as_secs_f64());
        stage.suffer(fault);
    }
    let (acknowledged, count) = stage.settle();
    println!(
        "{rounds} rounds of seed {seed} in {:.0} s: {acknowledged} acknowledged, {count} stored, all of \
         them at the cluster once",
        began.elapsed().as_secs_f64()
    );
}

/// What eKuiper, Telegraf and Redpanda Connect were put through: 20 s without Kafka, a SIGKILL under
/// load, and a SIGKILL while Kafka is away. Theirs: 2,706 lost, 924 doubled, 147 lost.
#[test]
fn an_outage_and_kills_that_others_lose_or_double_records_in_cost_nothing() {
    let mut stage = Stage::set(LONG);
    thread::sleep(Duration::from_secs(3));
    stage.cut();
    thread::sleep(Duration::from_secs(20));
    stage.mend();
    thread::sleep(Duration::from_secs(2));
    stage.gateway.kill_and_restart().expect("it comes back");
    thread::sleep(Duration::from_secs(3));
    stage.suffer(Fault::KillWhileCut(Duration::from_secs(6)));
    thread::sleep(Duration::from_secs(2));
    let (acknowledged, count) = stage.settle();
    println!("{acknowledged} acknowledged, {count} stored, 0 lost, 0 doubled");
}
