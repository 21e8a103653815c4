//! A hundred SIGKILLs of the gateway, over one data directory: also while it starts and recovers.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::gateway::{GatewayError, GatewayProcess};
use hw_tests::random::Random;

use crate::publisher::{Publisher, Task};
use crate::stored::Journal;
use crate::wire::QoS;

const ROUNDS: u64 = 100;

/// The longest that a gateway lives, in ms: from its start, where it may die before it is ready, and
/// from when it is.
const START_MS: u64 = 100;
const LIFE_MS: u64 = 300;

/// A gateway opens its doors within this time, and ends within that.
const READY: Duration = Duration::from_secs(30);

/// First starts that are killed, each so long in us at most after its catalog began to be made.
const FIRST_STARTS: u64 = 40;
const CATALOG_US: u64 = 20_000;

/// All together may not take longer.
const LIMIT: Duration = Duration::from_secs(300);

const CONFIG: &str = r#"
[gateway]
id = "kills"
data_dir = "data"
[mqtt]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[log]
segment_size = "2 MiB"
[[stream]]
name = "climate"
topic = "sensors/{device}/climate"
key = "device"
format = "json"
partitions = 3
lateness = "100ms"
idle = "1s"
[[query]]
sql = """CREATE STREAM climate_1s AS SELECT device, window_start, window_end, count(*) AS n
         FROM climate GROUP BY device, tumble(INTERVAL '1' SECOND)"""
[upstream.files]
kind = "directory"
path = "out"
[[route]]
stream = "climate_1s"
upstream = "files"
topic = "plant.climate_1s"
"#;

/// What the killer and the publishers share.
#[derive(Default)]
struct Stage {
    address: Mutex<Option<SocketAddr>>,
    no_more: AtomicBool,
    ticks: AtomicU64,
}

impl Stage {
    fn publish(&self, mut publisher: Publisher, until: Instant) -> Publisher {
        publisher.run(&Task {
            address: &|| *self.address.lock().expect("no thread panicked"),
            clock: &|| self.ticks.fetch_add(1, Ordering::SeqCst),
            more: &|_| !self.no_more.load(Ordering::SeqCst),
            due: &|_| true,
            until,
        });
        publisher
    }
}

#[test]
fn what_was_acknowledged_survives_a_hundred_kills() {
    let seed = std::env::var("HEADWATER_SEED")
        .map_or(20_261_121, |seed| seed.parse().expect("HEADWATER_SEED is a number"));
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = dir.path().join("headwater.toml");
    fs::write(&config, CONFIG).expect("a configuration");
    let stage = Stage::default();
    let began = Instant::now();
    let until = began + LIMIT;
    let mut early = 0;
    let publishers: Vec<Publisher> = thread::scope(|scope| {
        let threads: Vec<_> =
            cast().into_iter().map(|one| scope.spawn(|| stage.publish(one, until))).collect();
        for _ in 0..ROUNDS {
            let mut gateway = GatewayProcess::launch(&config).expect("a gateway");
            let dies_early = random.below(3) == 0;
            let life_ms = random.below(if dies_early { START_MS } else { LIFE_MS });
            early += u64::from(!live(&mut gateway, dies_early, life_ms, &stage));
        }
        let mut gateway = GatewayProcess::launch(&config).expect("a gateway");
        let doors = gateway.wait_doors(READY);
        let doors = doors.unwrap_or_else(|error| panic!("{error}\n{}", gateway.log_tail()));
        *stage.address.lock().expect("no thread panicked") = Some(doors.mqtt);
        stage.no_more.store(true, Ordering::SeqCst);
        let done = threads.into_iter().map(|thread| thread.join().expect("it publishes")).collect();
        let status = gateway.terminate(READY).expect("it can be told");
        assert!(status.is_some_and(|status| status.success()), "{}", gateway.log_tail());
        done
    });
    let journal = Journal::read(&dir.path().join("data/journal")).expect("a whole journal");
    let copies = check(&publishers, &journal);
    println!(
        "{ROUNDS} kills in {:.0} s (seed {seed}), {early} of them before the gateway was ready; {} \
         messages, {copies} second copies at QoS 1, {} records",
        began.elapsed().as_secs_f64(),
        publishers.iter().map(|publisher| publisher.messages.len()).sum::<usize>(),
        journal.end(),
    );
    assert!(early > 0, "some starts are cut short");
}

#[test]
fn a_gateway_whose_first_start_was_killed_starts() {
    let mut random = Random::new(7);
    for round in 0..FIRST_STARTS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("headwater.toml");
        fs::write(&config, CONFIG).expect("a configuration");
        let mut gateway = GatewayProcess::launch(&config).expect("a gateway");
        let end = Instant::now() + READY;
        // The catalog is what it makes last.
        let data = dir.path().join("data");
        let is_made =
            || ["catalog.new", "catalog.redb"].iter().any(|name| data.join(name).exists());
        while !is_made() {
            assert!(Instant::now() < end, "round {round}: no catalog:\n{}", gateway.log_tail());
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_micros(random.below(CATALOG_US)));
        gateway.kill();
        let mut gateway = GatewayProcess::launch(&config).expect("a gateway");
        let doors = gateway.wait_doors(READY);
        doors.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", gateway.log_tail()));
    }
}

/// Lets a gateway live this long, and kills it; says whether it was ready by then.
fn live(gateway: &mut GatewayProcess, dies_early: bool, life_ms: u64, stage: &Stage) -> bool {
    let life = Duration::from_millis(life_ms);
    let began = Instant::now();
    let ready = match gateway.wait_doors(if dies_early { life } else { READY }) {
        Ok(doors) => {
            *stage.address.lock().expect("no thread panicked") = Some(doors.mqtt);
            let spent = if dies_early { began.elapsed() } else { Duration::ZERO };
            thread::sleep(life.saturating_sub(spent));
            true
        }
        Err(GatewayError::NotReady { .. }) if dies_early => false,
        Err(error) => panic!("{error}\n{}", gateway.log_tail()),
    };
    assert!(!gateway.log_text().contains("ERROR"), "{}", gateway.log_tail());
    gateway.kill();
    *stage.address.lock().expect("no thread panicked") = None;
    ready
}

/// All that was sent is there: QoS 2 once, QoS 1 at least once. Returns the second copies.
fn check(publishers: &[Publisher], journal: &Journal) -> usize {
    let mut second = 0;
    for publisher in publishers {
        let client = &publisher.client;
        assert!(publisher.is_done(), "{client} was not acknowledged to the end");
        assert_eq!(publisher.sessions_lost, 0, "the session of {client} was lost");
        assert!(publisher.messages.len() > ROUNDS as usize, "{client} hardly published");
        for number in 0..publisher.messages.len() {
            let copies = journal.offsets(client, number).len();
            assert!(copies > 0, "{client} {number} is missing");
            assert!(
                copies == 1 || publisher.qos != QoS::ExactlyOnce,
                "{client} {number} is double"
            );
            second += copies - 1;
        }
    }
    let rows = &journal.places["climate_1s"];
    assert!(rows.keys().copied().eq(0..rows.len() as u64), "rows are numbered without a gap");
    assert!(rows.values().all(|places| places.len() == 1), "each row is there once");
    second
}

fn cast() -> Vec<Publisher> {
    vec![
        Publisher::new("once-a", QoS::ExactlyOnce, "sensors/a/climate"),
        Publisher::new("once-b", QoS::ExactlyOnce, "alarms/b"),
        Publisher::new("least-c", QoS::AtLeastOnce, "sensors/c/climate"),
    ]
}
