//! A disk that fills while the gateway runs: nobody is acknowledged in vain, the gateway stays up
//! and says what is wrong, and goes on by itself once there is room.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use headwater::catalog::{Catalog, Checkpoint};
use hw_tests::disk::{Scratch, may_mount, mount_small};
use hw_tests::gateway::GatewayProcess;

use crate::publisher::{Publisher, Task};
use crate::stored::Journal;
use crate::wire::QoS;

/// Runs these tests.
const COMMAND: &str = "cargo test --package hw-tests full_disk";

const DISK_BYTES: u64 = 14 << 20;
/// Something else on the disk, which is deleted when it is full.
const BALLAST_BYTES: usize = 6 << 20;
/// Records that have to be stored after there is room again.
const MORE: u64 = 200;

/// Everything happens within this time.
const WITHIN: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[gateway]
id = "full-disk"
data_dir = "disk/data"
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
lateness = "100ms"
idle = "1s"
[[query]]
sql = """CREATE STREAM climate_1s AS SELECT device, window_start, window_end, count(*) AS n
         FROM climate GROUP BY device, tumble(INTERVAL '1' SECOND)"""
"#;

/// Waits until this is so.
fn wait(what: &str, gateway: &GatewayProcess, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + WITHIN;
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen:\n{}", gateway.log_tail());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Status and body of a path.
fn get(gateway: &GatewayProcess, path: &str) -> (u16, String) {
    gateway.request(path).expect("the gateway answers")
}

fn metric(gateway: &GatewayProcess, name: &str) -> u64 {
    let (_, text) = get(gateway, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is counted");
    line.trim().parse().expect("a whole number")
}

fn fill_and_free(gateway: &GatewayProcess, ballast: &std::path::Path) {
    wait("the full disk", gateway, || get(gateway, "/ready").0 == 503);
    let (_, reason) = get(gateway, "/ready");
    assert!(reason.contains("the disk is full"), "/ready says why: {reason}");
    assert_eq!(get(gateway, "/live").0, 200, "it stays up");
    let (status, records) = get(gateway, "/api/v1/streams/climate/records?from=earliest&limit=3");
    assert_eq!((status, records.lines().count()), (200, 3), "what is stored can be read");
    assert!(metric(gateway, "headwater_journal_failed_commits_total") > 0);
    assert!(gateway.log_text().contains("commit failed"), "the log says so");

    fs::remove_file(ballast).expect("it is there");
    let stored = || metric(gateway, "headwater_journal_records_total");
    let before = stored();
    wait("another acknowledgement", gateway, || stored() >= before + MORE);
    wait("being ready again", gateway, || get(gateway, "/ready").0 == 200);
}

#[test]
fn a_disk_that_fills_stops_acknowledgements_and_nothing_else() {
    if !may_mount(COMMAND) {
        return;
    }
    let scratch = Scratch::new().expect("a directory");
    let room = scratch.room("full").expect("a directory");
    let config = room.join("headwater.toml");
    fs::write(&config, CONFIG).expect("a configuration");
    let mounted = mount_small(DISK_BYTES, &room.join("disk")).expect("a disk");
    let ballast = room.join("disk/ballast");
    fs::write(&ballast, vec![7; BALLAST_BYTES]).expect("there is room");

    let mut gateway = GatewayProcess::launch(&config).expect("a gateway");
    let doors = gateway.wait_doors(WITHIN).expect("it starts");
    let no_more = AtomicBool::new(false);
    let publishers: Vec<Publisher> = thread::scope(|scope| {
        let threads: Vec<_> = cast()
            .into_iter()
            .map(|mut publisher| {
                let no_more = &no_more;
                scope.spawn(move || {
                    publisher.run(&Task {
                        address: &|| Some(doors.mqtt),
                        clock: &|| 0,
                        more: &|_| !no_more.load(Ordering::SeqCst),
                        due: &|_| true,
                        until: Instant::now() + 3 * WITHIN,
                    });
                    publisher
                })
            })
            .collect();
        fill_and_free(&gateway, &ballast);
        no_more.store(true, Ordering::SeqCst);
        threads.into_iter().map(|thread| thread.join().expect("it publishes")).collect()
    });
    let status = gateway.terminate(WITHIN).expect("it can be told");
    assert!(status.is_some_and(|status| status.success()), "{}", gateway.log_tail());

    let journal = Journal::read(&room.join("disk/data/journal")).expect("a whole journal");
    for publisher in &publishers {
        let client = &publisher.client;
        assert!(publisher.is_done(), "{client} was not acknowledged to the end");
        assert_eq!(publisher.sessions_lost, 0, "{client} lost its session");
        for number in 0..publisher.messages.len() {
            let copies = journal.offsets(client, number).len();
            let good = copies == 1 || (copies > 1 && publisher.qos == QoS::AtLeastOnce);
            assert!(good, "{client} {number} is there {copies} times");
        }
    }
    mounted.unmount().expect("nothing uses the disk");
}

#[test]
fn a_catalog_that_met_a_full_disk_saves_again_once_there_is_room() {
    if !may_mount(COMMAND) {
        return;
    }
    let scratch = Scratch::new().expect("a directory");
    let disk = scratch.path().join("disk");
    let mounted = mount_small(DISK_BYTES, &disk).expect("a disk");
    let catalog = Catalog::open(&disk.join("catalog.redb")).expect("a catalog");
    let saved = |position: u64| Checkpoint { position, state: vec![1; 1 << 20] };
    catalog.save_checkpoints(&[("first", &saved(1))]).expect("there is room");
    let ballast = disk.join("ballast");
    // It fails when the disk is full, and what fits is there.
    fs::write(&ballast, vec![7; DISK_BYTES as usize]).expect_err("it does not fit");
    let full = catalog
        .save_checkpoints(&[("second", &Checkpoint { position: 2, state: vec![2; 8 << 20] })]);
    full.expect_err("there is no room");
    assert_eq!(catalog.checkpoint("first").expect("it can be read"), Some(saved(1)));
    fs::remove_file(&ballast).expect("it is there");
    catalog.save_checkpoints(&[("first", &saved(3))]).expect("there is room again");
    drop(catalog);
    let catalog = Catalog::open(&disk.join("catalog.redb")).expect("it opens again");
    assert_eq!(catalog.checkpoint("first").expect("it can be read"), Some(saved(3)));
    drop(catalog);
    mounted.unmount().expect("nothing uses the disk");
}

fn cast() -> Vec<Publisher> {
    vec![
        Publisher::new("once-a", QoS::ExactlyOnce, "sensors/a/climate"),
        Publisher::new("least-b", QoS::AtLeastOnce, "sensors/b/climate"),
    ]
}
