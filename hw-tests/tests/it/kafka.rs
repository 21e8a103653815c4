//! The forwarder against a real broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use headwater::forward::{ForwardStatus, RouteState, RouteStatus, Stored};
use hw_tests::journal::{Bench, PARTITIONS, TOPIC};
use hw_tests::kafka::{Consumed, Kafka};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tokio::sync::watch;

const POSITIONS: &str = "headwater.positions";

/// Nothing here takes as long on a machine that works.
const LONG: Duration = Duration::from_secs(180);

fn forwarder(dir: &Path, kafka: &Kafka, count: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_forwarder"))
        .arg(dir)
        .args([kafka.brokers(), &count.to_string(), "2000"])
        .spawn()
        .expect("the forwarder starts")
}

fn kill(mut child: Child) {
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
}

fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Each of `0..count` once, in its partition, in order, with key, value and headers.
fn check_records(bench: &Bench, kafka: &Kafka, count: u64) {
    let mut expected: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for number in 0..count {
        expected.entry(i32::from(bench.partition(number))).or_default().push(number);
    }
    let records = kafka.consume_committed(TOPIC).expect("the topic can be read");
    let mut seen: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for record in &records {
        let offset: u64 = record.header("hw.offset").expect("a header").parse().expect("a number");
        seen.entry(record.partition).or_default().push(offset);
        assert_eq!(record.value, Bench::payload(offset).as_bytes(), "byte for byte");
        assert_eq!(record.key, Some(Bench::key(offset)));
    }
    for partition in 0..i32::from(PARTITIONS) {
        let (seen, expected) = (&seen[&partition], &expected[&partition]);
        let first = seen.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(first, None, "partition {partition}: the first that differs");
        assert_eq!(seen.len(), expected.len(), "partition {partition}");
    }
    let first = records.iter().find(|record| record.header("hw.offset") == Some("0"));
    let first = first.expect("offset 0");
    assert_eq!(first.time_ms, Some(1_763_700_000_000));
    assert_eq!(first.header("hw.gateway"), Some("bench"));
    assert_eq!(first.header("hw.stream"), Some("data"));
    assert_eq!(first.header("hw.topic"), Some("data/device-0"));
    assert_eq!(first.header("hw.gap"), None);
}

/// The newest position of the one route.
fn position(kafka: &Kafka) -> (Consumed, Stored) {
    let newest = kafka.consume_committed(POSITIONS).expect("the topic can be read");
    let newest = newest.last().expect("a position").clone();
    let stored = Stored::decode(&newest.value).expect("ours");
    (newest, stored)
}

#[test]
fn every_record_arrives_once_although_forwarder_and_broker_are_killed() {
    const COUNT: u64 = 24_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let mut kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let first = forwarder(&data, &kafka, COUNT);
    sleep_ms(2_300);
    kill(first);
    let second = forwarder(&data, &kafka, COUNT);
    sleep_ms(2_100);
    kafka.kill().expect("killed");
    sleep_ms(1_000);
    // The forwarder dies while the broker is away, too.
    kill(second);
    let third = forwarder(&data, &kafka, COUNT);
    kafka.restart().expect("the broker comes back");
    sleep_ms(1_700);
    kill(third);
    let mut last = forwarder(&data, &kafka, COUNT);
    let deadline = Instant::now() + LONG;
    let ended = loop {
        if let Some(status) = last.try_wait().expect("it can be waited for") {
            break status;
        }
        if Instant::now() > deadline {
            kill(last);
            panic!("the forwarder did not come to its end");
        }
        sleep_ms(50);
    };
    assert!(ended.success());
    let bench = Bench::open(&data, kafka.brokers()).expect("the bench");
    assert_eq!(bench.journal.durable().end, COUNT);
    check_records(&bench, &kafka, COUNT);
    let (record, stored) = position(&kafka);
    assert_eq!(stored.position.ranges(), [(0, COUNT)]);
    assert!(record.key.is_some_and(|key| key.ends_with("/cluster/data->plant.data")));
}

/// Runs the bench's forwarder on a runtime of its own until the test drops or stops it.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    status: ForwardStatus,
}

impl Running {
    pub(crate) fn start(bench: &Bench) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let forwarder = bench.forwarder().expect("a forwarder");
        let status = forwarder.status();
        let (stop, stopped) = watch::channel(false);
        let task = runtime.spawn(forwarder.run(stopped));
        Self { runtime, stop, task, status }
    }

    pub(crate) fn wait(&self, what: &str, until: impl Fn(&RouteStatus) -> bool) -> RouteStatus {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.status.routes().remove(0);
            if until(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{what}: {status:?}");
            sleep_ms(20);
        }
    }

    /// All routes, where there is more than the one of [`Running::wait`].
    pub(crate) fn routes(&self) -> Vec<RouteStatus> {
        self.status.routes()
    }

    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        self.runtime.block_on(self.task).expect("it ends");
    }
}

fn append(bench: &Bench, numbers: std::ops::Range<u64>) {
    for number in numbers {
        bench.append(number).expect("appended");
    }
}

#[test]
fn a_zombie_is_fenced_says_so_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let bench = Bench::open(dir.path(), kafka.brokers()).expect("the bench");
    append(&bench, 0..100);
    let first = Running::start(&bench);
    first.wait("the first forwards", |status| status.position == 100);
    let second = Running::start(&bench);
    second.wait("the second takes over", |status| status.state == RouteState::Running);
    append(&bench, 100..200);
    let stopped = first.wait("the first stops", |status| status.state == RouteState::Stopped);
    assert!(stopped.last_error.is_some_and(|error| error.contains("took over")));
    second.wait("the second forwards", |status| status.position == 200);
    append(&bench, 200..300);
    second.wait("the second goes on", |status| status.position == 300);
    first.stop();
    second.stop();
    check_records(&bench, &kafka, 300);
}

/// All committed records, and the newest position.
fn state(kafka: &Kafka) -> (usize, Stored) {
    (kafka.consume_committed(TOPIC).expect("the topic can be read").len(), position(kafka).1)
}

/// The gateway in `dir` starts, takes these records in, and lives until `done` says so.
fn live(
    dir: &Path,
    kafka: &Kafka,
    numbers: std::ops::Range<u64>,
    done: impl Fn(&RouteStatus) -> bool,
) -> RouteStatus {
    let bench = Bench::open(dir, kafka.brokers()).expect("the bench");
    // How far the journal is when a start begins counts, and what comes after.
    let running = Running::start(&bench);
    append(&bench, numbers);
    let status = running.wait("forwards or stops", done);
    running.stop();
    bench.journal.close();
    status
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(done.success());
}

fn is_stopped(status: &RouteStatus) -> bool {
    status.state == RouteState::Stopped
}

#[test]
fn a_restored_backup_and_a_cloned_directory_stop_with_an_alarm_and_the_original_goes_on() {
    const GAVE: &str = "this journal gave it those below";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let [original, backup, clone] = ["original", "backup", "clone"].map(|n| dir.path().join(n));
    std::fs::create_dir(&original).expect("a directory");
    let reaches = |end| move |status: &RouteStatus| status.position == end;
    live(&original, &kafka, 0..100, reaches(100));
    copy(&original, &backup);
    live(&original, &kafka, 100..150, reaches(150));
    let before = state(&kafka);
    assert_eq!(before.0, 150);
    // It takes other records in at offsets that the cluster has, and beyond.
    let told = live(&backup, &kafka, 5_000..5_200, is_stopped).last_error.expect("an alarm");
    assert!(told.contains(GAVE), "{told}");
    let told = live(&backup, &kafka, 0..0, is_stopped).last_error.expect("an alarm");
    assert!(told.contains("this journal"), "it stays so: {told}");
    assert_eq!(state(&kafka), before, "nothing of it arrived");
    live(&original, &kafka, 150..200, reaches(200));
    // Both at once: the one that starts later goes on, and the other says so, now and later.
    copy(&original, &clone);
    let bench = Bench::open(&original, kafka.brokers()).expect("the bench");
    let first = Running::start(&bench);
    first.wait("the original runs", |status| status.state == RouteState::Running);
    live(&clone, &kafka, 200..260, reaches(260));
    append(&bench, 6_000..6_030);
    let stopped = first.wait("the original stops", is_stopped);
    assert!(stopped.last_error.is_some_and(|error| error.contains("took over")));
    first.stop();
    bench.journal.close();
    drop(bench);
    let told = live(&original, &kafka, 6_030..6_040, is_stopped).last_error.expect("an alarm");
    assert!(told.contains("this journal"), "{told}");
    live(&clone, &kafka, 260..300, reaches(300));
    check_records(&Bench::open(&clone, kafka.brokers()).expect("the bench"), &kafka, 300);
}

/// While a neighbour's transaction is open on the same partition of the position topic, a committed
/// read ends before our newest position.
#[test]
fn a_position_behind_a_neighbours_open_transaction_is_waited_for() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let bench = Bench::open(dir.path(), kafka.brokers()).expect("the bench");
    append(&bench, 0..50);
    let first = Running::start(&bench);
    first.wait("the topics are there", |status| status.position == 50);
    let (newest, _) = position(&kafka);
    let neighbour: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("transactional.id", "neighbour")
        .set("transaction.timeout.ms", "8000")
        .create()
        .expect("a producer");
    neighbour.init_transactions(LONG).expect("init");
    neighbour.begin_transaction().expect("begun");
    let held = BaseRecord::to(POSITIONS).partition(newest.partition).key("neighbour").payload("{}");
    neighbour.send(held).map_err(|(problem, _)| problem).expect("sent");
    neighbour.flush(LONG).expect("it is there");
    append(&bench, 50..150);
    first.wait("the position is written behind it", |status| status.position == 150);
    first.stop();
    let (_, visible) = position(&kafka);
    assert_eq!(visible.position.next(), 50, "the trap: what is readable is old");
    append(&bench, 150..200);
    let second = Running::start(&bench);
    second.wait("the second goes on", |status| status.position == 200);
    second.stop();
    check_records(&bench, &kafka, 200);
}

#[test]
fn a_cluster_that_is_away_is_named_with_a_remedy_and_gets_everything_when_it_comes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    kafka.stop().expect("stopped");
    let bench = Bench::open(dir.path(), kafka.brokers()).expect("the bench");
    append(&bench, 0..500);
    let running = Running::start(&bench);
    let status = running.wait("it says so", |status| status.last_error.is_some());
    assert_eq!((status.state, status.lag), (RouteState::Retrying, 500));
    let error = status.last_error.expect("an error");
    assert!(error.contains("is the cluster up"), "{error}");
    kafka.restart().expect("it comes");
    let status = running.wait("it catches up", |status| status.lag == 0);
    assert_eq!((status.records, status.last_error), (500, None));
    running.stop();
    check_records(&bench, &kafka, 500);
}

/// The broker refuses a batch; the one record in it that is too large has to be found.
#[test]
fn a_record_that_the_topic_refuses_is_a_gap_there_and_a_dead_letter_here() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().expect("a client");
    let topic = NewTopic::new(TOPIC, i32::from(PARTITIONS), TopicReplication::Fixed(1))
        .set("max.message.bytes", "100000");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
    assert!(made.expect("made")[0].is_ok());
    let upstream = format!("brokers = \"{}\"\ncompression = \"none\"\n", kafka.brokers());
    let bench = Bench::open_with(dir.path(), &upstream, "").expect("the bench");
    append(&bench, 0..200);
    bench.append_payload(200, &vec![b' '; 200_000]).expect("appended");
    append(&bench, 201..300);
    let running = Running::start(&bench);
    let status = running.wait("all is there", |status| status.position >= 300);
    running.stop();
    assert_eq!((status.refused, status.last_error), (1, None));
    let letters = bench.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert!(letter.contains("refused offset 200: larger than max.message.bytes"), "{letter}");
    let records = kafka.consume_committed(TOPIC).expect("the topic can be read");
    let offset = |record: &Consumed| record.header("hw.offset").expect("a header").to_owned();
    let gaps = records.iter().filter(|record| record.header("hw.gap").is_some());
    assert_eq!(gaps.map(offset).collect::<Vec<_>>(), ["200"]);
    let mut offsets: Vec<u64> =
        records.iter().map(|record| offset(record).parse().expect("a number")).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_takes_only_small_batches_gets_everything_and_refuses_nothing() {
    const COUNT: u64 = 12_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
    let upstream = format!("brokers = \"{}\"\ncompression = \"none\"\n", kafka.brokers());
    let route = "topic_config = { \"max.message.bytes\" = \"40000\" }\n";
    let bench = Bench::open_with(dir.path(), &upstream, route).expect("the bench");
    append(&bench, 0..COUNT);
    let running = Running::start(&bench);
    let status = running.wait("all is there", |status| status.position >= COUNT);
    running.stop();
    assert_eq!(status.refused, 0);
    assert!((1..=12).contains(&status.retries), "it learns what fits: {status:?}");
    check_records(&bench, &kafka, COUNT);
}
