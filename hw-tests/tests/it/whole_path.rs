//! The whole path: three emulated nodes, a gateway, a Kafka broker. Each of them dies at random
//! moments; then what `read_committed` readers see is held against the series and against the
//! windows that follow from it.

mod faults;
mod truth;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::gateway::GatewayProcess;
use hw_tests::kafka::Kafka;
use hw_tests::qemu::{QemuConfig, QemuNode, free_port, write_world};

use faults::{Fault, schedule};
use truth::{Delivered, Truth};

const NODES: usize = 3;
/// Samples that each node's world has: two channels each.
const SAMPLES: usize = 3_200;
const PERIOD_MS: u32 = 25;
const READINGS_MAX: u16 = 32;
const WINDOW_MS: i64 = 2_000;
/// Rows of the series that lie between the beginnings of two nodes' worlds.
const STRIDE: usize = 4_500;

const READINGS_TOPIC: &str = "plant.climate";
const WINDOWS_TOPIC: &str = "plant.climate_2s";

/// What dies, and what it leaves.
struct Stage {
    dir: tempfile::TempDir,
    kafka: Kafka,
    gateway: GatewayProcess,
    nodes: Vec<QemuNode>,
    worlds: Vec<Vec<[i64; 2]>>,
}

impl Stage {
    fn set() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let kafka = Kafka::start(&dir.path().join("kafka")).expect("a broker");
        let mqtt_port = free_port().expect("a port");
        let http_port = free_port().expect("a port");
        let config = write_config(dir.path(), mqtt_port, http_port, kafka.brokers());
        let gateway = GatewayProcess::start(&config, http_port).expect("a gateway");
        let mut worlds = Vec::new();
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let (world, rows) = make_world(dir.path(), number);
            worlds.push(rows);
            let config = QemuConfig {
                id: format!("node-{}", number + 1),
                period_ms: PERIOD_MS,
                readings_max: READINGS_MAX,
                age_ms_max: 2_000,
                gateway_port: mqtt_port,
                dir: dir.path().join(format!("node-{}", number + 1)),
                world,
            };
            nodes.push(QemuNode::start(config).expect("a node"));
        }
        for node in &nodes {
            node.wait_for_boots(1, Duration::from_secs(30)).expect("the node boots");
        }
        Self { dir, kafka, gateway, nodes, worlds }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::KillGateway => self.gateway.kill_and_restart().expect("it comes back"),
            Fault::KillBroker => {
                self.kafka.kill().expect("it can be killed");
                // It opens its port again after some ten seconds; the other faults go on meanwhile.
                self.kafka.spawn().expect("it starts");
            }
            Fault::ResetNode => self.nodes[0].reset().expect("it boots again"),
            Fault::CutLink => self.nodes[1].set_link(false).expect("the cable is out"),
            Fault::MendLink => self.nodes[1].set_link(true).expect("the cable is in"),
        }
    }

    /// Waits until the worlds have ended and everything has gone through.
    fn settle(&mut self) {
        let end = Instant::now() + Duration::from_secs(240);
        let mut quiet = 0;
        while quiet < 4 {
            assert!(
                Instant::now() < end,
                "it does not come to rest: {:?}\n{}",
                self.gateway.get("/api/v1/status"),
                self.gateway.log_tail()
            );
            thread::sleep(Duration::from_millis(500));
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
        }
    }

    fn is_quiet(&mut self) -> bool {
        for node in &mut self.nodes {
            assert!(node.is_running(), "the emulator ended:\n{}", node.log().join("\n"));
            if node.world_position().is_ok_and(|position| (position as usize) < SAMPLES) {
                return false;
            }
        }
        let Ok(status) = self.gateway.get("/api/v1/status") else { return false };
        let none_left = |list: &str, count: &str| {
            let list = status[list].as_array();
            list.is_some_and(|all| all.iter().all(|one| one[count].as_u64() == Some(0)))
        };
        none_left("routes", "lag")
            && none_left("queries", "lag")
            && none_left("queries", "open_windows")
    }
}

fn make_world(dir: &Path, number: usize) -> (PathBuf, Vec<[i64; 2]>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let part = |name: &str| {
        let text = fs::read_to_string(data.join(name)).expect("the series is in the repository");
        let lines: Vec<&str> = text.lines().skip(number * STRIDE).take(SAMPLES).collect();
        let path = dir.join(format!("{number}-{name}"));
        fs::write(&path, lines.join("\n")).expect("a temporary file");
        path
    };
    let world = dir.join(format!("world-{number}"));
    let rows = write_world(&part("uci_energy_T1.txt"), &part("uci_energy_RH_1.txt"), &world);
    (world, rows.expect("the series has a row a line"))
}

fn write_config(dir: &Path, mqtt_port: u16, http_port: u16, brokers: &str) -> PathBuf {
    let path = dir.join("headwater.toml");
    let text = include_str!("whole_path/headwater.toml")
        .replace("@MQTT@", &mqtt_port.to_string())
        .replace("@HTTP@", &http_port.to_string())
        .replace("@BROKERS@", brokers);
    fs::write(&path, text).expect("a temporary file");
    path
}

#[test]
fn every_reading_arrives_once_in_order_whatever_dies() {
    let seed = match std::env::var("HEADWATER_SEED") {
        Ok(seed) => seed.parse().expect("HEADWATER_SEED is a number"),
        Err(_) => 20_261_121,
    };
    let mut stage = Stage::set();
    let begin = Instant::now();
    for (at, fault) in schedule(seed) {
        thread::sleep(at.saturating_sub(begin.elapsed()));
        println!("{:5.1} s  {fault:?}", begin.elapsed().as_secs_f64());
        stage.suffer(fault);
    }
    stage.settle();
    println!("{:5.1} s  all is quiet (seed {seed})", begin.elapsed().as_secs_f64());

    let readings = stage.kafka.consume_committed(READINGS_TOPIC).expect("the topic is there");
    let windows = stage.kafka.consume_committed(WINDOWS_TOPIC).expect("the topic is there");
    let delivered = Delivered::read(&readings);
    let mut missing = 0;
    for (node, world) in stage.nodes.iter().zip(&stage.worlds) {
        let truth = Truth { id: &node.config().id, world, boots: &node.boots() };
        missing += truth.hold(&delivered, usize::from(READINGS_MAX) + 1);
    }
    delivered.hold_windows(&windows, WINDOW_MS);
    println!(
        "{} readings of {} samples in {} messages, {} windows, {missing} samples lost with a \
         node's RAM and named by {} gaps; data below {}",
        delivered.rows() * 2,
        NODES * SAMPLES,
        readings.len(),
        windows.len(),
        delivered.gaps(),
        stage.dir.path().display(),
    );
    assert!(delivered.rows() >= NODES * 3_000, "each node sends at least 3,000 samples");
}
