//! A query over a real journal: crashes of the runner, of the process and of the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headwater::catalog::Catalog;
use headwater::config::Config;
use headwater::journal::{Journal, JournalOptions};
use headwater::node::Nodes;
use headwater::query::{QueryMetrics, QueryRunner, QueryStatus};
use headwater::sparkplug::Sparkplug;
use headwater::stream::{Incoming, Intake, IntakeMetrics, Rows, Streams};
use headwater_shared::envelope::Envelope;
use log_lite::{DirFile, DirStorage, SegmentEntry, SegmentFile, Storage};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SQL: &str = "CREATE STREAM q AS SELECT device, window_start, count(*) AS n, sum(v) AS sum \
                   FROM s GROUP BY device, tumble(INTERVAL '10' SECOND)";

fn config(sql: &str, idle: &str) -> Config {
    let text = format!(
        "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[[stream]]\nname = \"s\"\n\
         topic = \"s/{{device}}\"\nkey = \"device\"\nformat = \"json\"\ntime = \"ts\"\n\
         partitions = 3\nlateness = \"2s\"\nidle = \"{idle}\"\n[[query]]\nsql = \"{sql}\"\n"
    );
    Config::parse("test", &text).expect("a configuration")
}

/// A gateway without a door: its journal, its catalog and one query.
struct Gateway {
    config: Config,
    journal: Journal,
    catalog: Arc<Catalog>,
    streams: Arc<Streams>,
    rows: Rows,
    intake: Intake,
}

/// A query that runs.
struct Running {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    handle: headwater::query::QueryHandle,
}

impl Running {
    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("the query ends by itself");
    }

    async fn die(self) {
        self.task.abort();
        let died = self.task.await;
        assert!(died.is_err_and(|problem| problem.is_cancelled()), "it did not end by itself");
    }

    async fn until(&self, done: impl Fn(&QueryStatus) -> bool) -> QueryStatus {
        loop {
            let status = self.handle.status();
            if done(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Gateway {
    fn open(dir: &Path, config: Config) -> Self {
        let (journal, _) =
            Journal::open(&dir.join("log"), JournalOptions::default()).expect("a journal");
        Self::with(dir, config, journal)
    }

    fn with(dir: &Path, config: Config, journal: Journal) -> Self {
        let catalog = Arc::new(Catalog::open(&dir.join("catalog.redb")).expect("a catalog"));
        let streams = Arc::new(Streams::new(&config, &catalog).expect("streams"));
        let nodes = Arc::new(Nodes::default());
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::clone(&nodes), Arc::clone(&sparkplug));
        let intake = Intake::new(
            journal.clone(),
            Arc::clone(&streams),
            Arc::clone(&nodes),
            sparkplug,
            Arc::default(),
            IntakeMetrics::default(),
        );
        Self { config, journal, catalog, streams, rows, intake }
    }

    fn publish(&self, device: &str, ts: i64, arrival_ms: i64) {
        let (topic, payload) = (format!("s/{device}"), format!("{{\"ts\":{ts},\"v\":{}}}", ts % 7));
        let message = Incoming {
            client: "c",
            topic: &topic,
            payload: payload.as_bytes(),
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            now_ms: arrival_ms,
            relayed: None,
        };
        self.intake.publish(&message).expect("the journal takes it");
    }

    fn run(&self) -> Running {
        let runner = QueryRunner::new(
            &self.config.queries[0].plan,
            self.journal.clone(),
            Arc::clone(&self.catalog),
            &self.streams,
            self.rows.clone(),
            QueryMetrics::default(),
        )
        .expect("the catalog answers");
        let (stop, shutdown) = watch::channel(false);
        let handle = runner.handle();
        Running { task: tokio::spawn(runner.run(shutdown)), stop, handle }
    }

    /// Outputs in the journal, of the stream `name`: number, key, event time, row.
    fn outputs(&self, name: &str) -> Vec<(u64, String, i64, String)> {
        let stream = self.streams.get(name).expect("a stream");
        let mut reader = self.journal.reader(0);
        let mut outputs = Vec::new();
        loop {
            let records = reader.read(1 << 20).expect("the journal is whole");
            if records.is_empty() {
                return outputs;
            }
            for record in records.iter().filter(|r| stream.partitions.contains(&r.partition)) {
                let Ok(Envelope::Output(output)) = record.envelope() else { continue };
                assert_eq!(output.query, name);
                assert!(output.input_offset < record.offset, "made by what came before");
                let row = String::from_utf8(output.payload.to_vec()).expect("JSON");
                outputs.push((output.sequence, record.key_str().to_owned(), record.time_ms, row));
            }
        }
    }
}

/// Readings of three devices, some late, 3 s apart: about 30 windows a device.
fn publish_all(gateway: &Gateway, from: i64, to: i64) {
    for at in from..to {
        for (device, lag_ms) in [("a", 0), ("b", 500), ("c", (at % 7 / 6) * 20_000)] {
            gateway.publish(device, 1_000_000 + at * 3_000 - lag_ms, 5_000_000_000_000);
        }
    }
}

const READINGS: i64 = 100;

/// What a run without any fault writes.
async fn undisturbed() -> [Vec<(u64, String, i64, String)>; 2] {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
    publish_all(&gateway, 0, READINGS);
    let running = gateway.run();
    let end = gateway.journal.end();
    running.until(|status| status.position >= end).await;
    running.stop().await;
    let outputs = [gateway.outputs("q"), gateway.outputs("q.late")];
    gateway.journal.close();
    assert!(outputs[0].len() > 80 && outputs[1].len() > 10, "{} late", outputs[1].len());
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_written_to_the_stream_of_the_query_in_order() {
    let [windows, late] = undisturbed().await;
    for outputs in [&windows, &late] {
        let numbers: Vec<u64> = outputs.iter().map(|output| output.0).collect();
        assert_eq!(numbers, (0..outputs.len() as u64).collect::<Vec<_>>());
    }
    let row = r#"{"device":"a","window_start":1000000,"n":4,"sum":14}"#;
    assert_eq!(windows[1], (1, "a".to_owned(), 1_000_000, row.to_owned()));
    let (_, key, time_ms, row) = &late[0];
    assert_eq!((key.as_str(), row.contains(&format!("\"ts\":{time_ms}"))), ("c", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_dies_again_and_again_writes_every_window_once() {
    let expected = undisturbed().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    for part in 0..10 {
        let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
        publish_all(&gateway, part * READINGS / 10, (part + 1) * READINGS / 10);
        for position in [gateway.journal.end() - 20, gateway.journal.end()] {
            let running = gateway.run();
            running.until(|status| status.position >= position).await;
            match part % 3 {
                0 => running.stop().await,
                // Dies wherever it is: nothing is saved.
                _ => running.die().await,
            }
        }
        gateway.journal.close();
    }
    let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
    let running = gateway.run();
    let end = gateway.journal.end();
    running.until(|status| status.position >= end).await;
    running.stop().await;
    assert_eq!([gateway.outputs("q"), gateway.outputs("q.late")], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_device_has_its_window_closed_by_a_tick_of_the_journal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::open(dir.path(), config(SQL, "100ms"));
    gateway.publish("a", 1_000_000, 1_000_000);
    let running = gateway.run();
    running.until(|status| status.emitted == 1).await;
    running.stop().await;
    let row = r#"{"device":"a","window_start":1000000,"n":1,"sum":1}"#;
    assert_eq!(gateway.outputs("q"), [(0, "a".to_owned(), 1_000_000, row.to_owned())]);
    let records = gateway.journal.reader(0).read(1 << 20).expect("whole");
    assert!(matches!(records[1].envelope(), Ok(Envelope::Tick(_))), "the clock is an input");
    gateway.journal.close();

    // A replay of everything reads the same tick and writes nothing again.
    drop(gateway);
    std::fs::remove_file(dir.path().join("catalog.redb")).expect("the catalog is lost");
    let gateway = Gateway::open(dir.path(), config(SQL, "100ms"));
    let running = gateway.run();
    let status = running.until(|status| status.lag == 0 && status.position > 0).await;
    assert_eq!((status.emitted, status.open_windows), (1, 0));
    running.stop().await;
    assert_eq!(gateway.outputs("q").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_statement_starts_from_now_and_goes_on_with_the_numbers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
    publish_all(&gateway, 0, 20);
    let running = gateway.run();
    let end = gateway.journal.end();
    running.until(|status| status.position >= end).await;
    running.stop().await;
    let before = gateway.outputs("q");
    gateway.journal.close();
    drop(gateway);

    let changed = SQL.replace("sum(v) AS sum", "max(v) AS most");
    let gateway = Gateway::open(dir.path(), config(&changed, "1h"));
    let running = gateway.run();
    running.until(|status| status.lag == 0).await;
    publish_all(&gateway, 20, 40);
    let end = gateway.journal.end();
    running.until(|status| status.position >= end).await;
    running.stop().await;
    let after = gateway.outputs("q");
    assert_eq!(after[..before.len()], before);
    let (sequence, _, _, row) = &after[before.len()];
    assert_eq!(*sequence, before.len() as u64);
    assert!(row.contains("most"), "{row}");
}

/// A disk that fails at the n-th write.
#[derive(Clone)]
struct Flaky {
    writes: Arc<AtomicUsize>,
    fails_at: usize,
}

struct FlakyStorage(DirStorage, Flaky);
struct FlakyFile(DirFile, Flaky);

impl Storage for FlakyStorage {
    type File = FlakyFile;

    fn list(&self) -> io::Result<Vec<SegmentEntry>> {
        self.0.list()
    }

    fn create(&self, base: u64) -> io::Result<FlakyFile> {
        Ok(FlakyFile(self.0.create(base)?, self.1.clone()))
    }

    fn open(&self, base: u64, write: bool) -> io::Result<FlakyFile> {
        Ok(FlakyFile(self.0.open(base, write)?, self.1.clone()))
    }

    fn remove(&self, base: u64) -> io::Result<()> {
        self.0.remove(base)
    }

    fn set_aside(&self, base: u64) -> io::Result<String> {
        self.0.set_aside(base)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

impl SegmentFile for FlakyFile {
    fn len(&self) -> io::Result<u64> {
        SegmentFile::len(&self.0)
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        SegmentFile::read_at(&self.0, at, buf)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.1.writes.fetch_add(1, Ordering::Relaxed) == self.1.fails_at {
            return Err(io::ErrorKind::StorageFull.into());
        }
        SegmentFile::write_at(&self.0, at, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        SegmentFile::sync(&self.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_a_failing_disk_took_back_are_written_again_once() {
    let expected = undisturbed().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log_dir = dir.path().join("log");
    let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
    publish_all(&gateway, 0, READINGS);
    let input = gateway.journal.end();
    gateway.journal.close();
    drop(gateway);

    let mut failed = 0;
    for fails_at in [0, 1, 2, 1, usize::MAX] {
        let writes = Arc::new(AtomicUsize::new(1 << 32));
        let flaky = Flaky { writes: Arc::clone(&writes), fails_at };
        let storage = FlakyStorage(DirStorage::for_writing(&log_dir).expect("free"), flaky);
        let (log, _) = log_lite::Journal::open(storage, JournalOptions::default()).expect("whole");
        writes.store(0, Ordering::Relaxed);
        let gateway = Gateway::with(dir.path(), config(SQL, "1h"), Journal::on(log, &log_dir));
        let running = gateway.run();
        let journal = gateway.journal.clone();
        running.until(|now| now.position >= input || journal.durable().closed).await;
        running.stop().await;
        gateway.journal.close();
        failed += u32::from(gateway.journal.stats().last_error.is_some());
    }
    assert!(failed > 0, "the disk failed");
    let gateway = Gateway::open(dir.path(), config(SQL, "1h"));
    let mut outputs = [gateway.outputs("q"), gateway.outputs("q.late")];
    // A row can overtake those that a failed commit took back; its number says where it belongs.
    outputs.iter_mut().for_each(|outputs| outputs.sort());
    assert_eq!(outputs, expected);
}
