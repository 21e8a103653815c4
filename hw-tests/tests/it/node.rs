//! The firmware alone: an emulated node against a broker that knows nothing of Headwater.

use headwater_shared::{block::BlockDecoder, topic};
use hw_tests::qemu::{QemuConfig, QemuNode, free_port, write_world};
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(90);
const READINGS_MAX: u16 = 32;
const POISONED: &str = "the other holder has not panicked";

/// Mosquitto, until it is dropped.
struct Broker(Child);

impl Broker {
    fn start(dir: &Path, port: u16) -> Self {
        let settings = dir.join("mosquitto.conf");
        fs::write(&settings, format!("listener {port} 127.0.0.1\nallow_anonymous true\n"))
            .expect("a folder of the test");
        // Debian keeps it where only root's PATH looks.
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|program| Path::new(program).exists())
            .unwrap_or("mosquitto");
        let broker = Command::new(program)
            .args(["-c".as_ref(), settings.as_os_str()])
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts: install the package mosquitto");
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "mosquitto does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Self(broker)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// By boot epoch and sample.
type Rows = BTreeMap<(u32, u32), [i64; 2]>;

/// What came.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Rows>>);

impl Received {
    fn subscribe(port: u16) -> Self {
        let received = Self::default();
        let options = MqttOptions::new("reader", "127.0.0.1", port);
        let (client, mut connection) = Client::new(options, 16);
        client.subscribe("headwater/v1/+/blocks", QoS::AtLeastOnce).expect("room for a request");
        let writer = received.clone();
        thread::spawn(move || {
            // Ends with the broker; the client is kept until then.
            let _client = client;
            for event in connection.iter().map_while(Result::ok) {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    assert!(topic::parse(&publish.topic).is_some(), "{}", publish.topic);
                    writer.take(&publish.payload);
                }
            }
        });
        received
    }

    fn take(&self, block: &[u8]) {
        let mut decoder = BlockDecoder::new(block).expect("a whole block");
        let mut rows = self.0.lock().expect(POISONED);
        let (epoch, mut sample) = (decoder.header().boot_epoch, decoder.header().first_sample);
        let mut values = [0; 2];
        while let Some(row) = decoder.next_row(&mut values) {
            row.expect("a whole row");
            let known = rows.insert((epoch, sample), values);
            assert!(known.is_none_or(|known| known == values), "a second copy differs");
            sample += 1;
        }
    }

    fn of_epoch(&self, epoch: u32) -> Vec<(u32, [i64; 2])> {
        let rows = self.0.lock().expect(POISONED);
        rows.range((epoch, 0)..=(epoch, u32::MAX)).map(|((_, s), v)| (*s, *v)).collect()
    }

    fn wait_for(&self, epoch: u32, count: usize, node: &mut QemuNode) {
        let end = Instant::now() + PATIENCE;
        while self.of_epoch(epoch).len() < count {
            assert!(node.is_running(), "the emulator has ended:\n{}", node.log().join("\n"));
            assert!(Instant::now() < end, "too few rows:\n{}", node.log().join("\n"));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

#[test]
fn a_node_brings_its_world_to_a_broker_through_a_cut_link_and_a_reset() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("world");
    let truth = write_world(&data("uci_energy_T1.txt"), &data("uci_energy_RH_1.txt"), &world);
    let truth = truth.unwrap();
    let port = free_port().unwrap();
    let _broker = Broker::start(dir.path(), port);
    let received = Received::subscribe(port);
    let config = QemuConfig {
        id: "smoke-1".to_owned(),
        period_ms: 25,
        readings_max: READINGS_MAX,
        age_ms_max: 2_000,
        gateway_port: port,
        dir: dir.path().join("node"),
        world,
    };
    let mut node = QemuNode::start(config).unwrap();

    received.wait_for(1, 200, &mut node);
    node.set_link(false).unwrap();
    thread::sleep(Duration::from_secs(3));
    node.set_link(true).unwrap();
    received.wait_for(1, 400, &mut node);
    node.reset().unwrap();
    received.wait_for(2, 200, &mut node);

    let boots = node.boots();
    assert_eq!(boots.iter().map(|boot| boot.epoch).collect::<Vec<_>>(), [1, 2]);
    for boot in &boots {
        for (number, (sample, values)) in received.of_epoch(boot.epoch).into_iter().enumerate() {
            assert_eq!(sample as usize, number, "epoch {}: a hole", boot.epoch);
            let row = boot.world_position as usize + number;
            assert_eq!(values, truth[row], "epoch {} row {row}", boot.epoch);
        }
    }
    let measured = boots[1].world_position - boots[0].world_position;
    let missing = measured as usize - received.of_epoch(1).len();
    // What was in RAM: at most a block, and the reading that was being taken.
    assert!(missing <= usize::from(READINGS_MAX) + 1, "{missing}");
}
