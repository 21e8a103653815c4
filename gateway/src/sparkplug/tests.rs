//! The door's view and the projection, side by side.

use headwater_shared::envelope::Publish;
use proptest::prelude::*;

use super::payload::test_bytes;
use super::*;
use crate::journal::Record;
use crate::stream::Value;

const NBIRTH: &str = "spBv1.0/g/NBIRTH/n";
const NDATA: &str = "spBv1.0/g/NDATA/n";

/// A door without a journal.
struct Bench {
    sparkplug: Arc<Sparkplug>,
    projection: Box<dyn Projection>,
    /// Partition of the stream and of what it rejected.
    partitions: [u16; 2],
}

impl Bench {
    fn new() -> Self {
        let partitions = [4, 7];
        let sparkplug =
            Arc::new(Sparkplug { partitions: partitions.into(), ..Sparkplug::default() });
        Self { projection: sparkplug.projection(), sparkplug, partitions }
    }

    /// Takes a message in at the door. The record that it becomes, and whether births are asked for.
    fn take(&self, durable: Durable, offset: u64, topic: &str, payload: &[u8]) -> (Record, bool) {
        let message = Incoming {
            client: "c",
            topic,
            payload,
            qos: 0,
            retain: false,
            packet_id: None,
            properties: &[],
            relayed: None,
            now_ms: i64::try_from(offset).expect("small") * 60_000,
        };
        let mut live = self.sparkplug.live(durable).expect("the projection is there");
        let (refused, asks) = match live.admit(&message) {
            Ok(admission) => {
                let refused = admission.refused.clone();
                (refused, live.accept(admission, offset, message.now_ms).is_some())
            }
            Err(reason) => (Some(reason), false),
        };
        (self.record(offset, &message, refused.as_deref()), asks)
    }

    fn record(&self, offset: u64, message: &Incoming<'_>, rejected: Option<&str>) -> Record {
        let envelope = Envelope::Publish(Publish {
            topic: message.topic,
            client: message.client,
            arrival_ms: message.now_ms,
            qos: message.qos,
            retain: message.retain,
            packet_id: None,
            properties: &[],
            rejected,
            payload: message.payload,
        });
        let mut buffer = vec![0; envelope.size_max()];
        let value = envelope.encode(&mut buffer).expect("room").to_vec().into();
        let partition = self.partitions[usize::from(rejected.is_some())];
        Record { offset, partition, time_ms: message.now_ms, key: "k".into(), value }
    }

    /// The name that alias 1 has in data at `offset`.
    fn name(&self, offset: u64) -> Value {
        let data = test_bytes(Some(1), &[(None, Some(1))]);
        let rows = self.sparkplug.rows(NDATA, offset, &data, 0).expect("a payload");
        let named = rows[0].columns.iter().find(|(column, _)| *column == "metric");
        named.expect("every row has it").1.clone()
    }
}

fn durable(end: u64, generation: u64) -> Durable {
    Durable { end, generation, closed: false }
}

#[test]
fn after_a_failed_commit_the_door_knows_what_is_on_disk_and_no_more() {
    let mut bench = Bench::new();
    bench.sparkplug.open(durable(0, 0));
    let birth = |name| test_bytes(Some(0), &[(Some(name), Some(1))]);
    let data = test_bytes(Some(1), &[(None, Some(1))]);
    let (first, _) = bench.take(durable(0, 0), 0, NBIRTH, &birth("t"));
    let (second, _) = bench.take(durable(0, 0), 1, NDATA, &data);
    bench.take(durable(0, 0), 2, NBIRTH, &birth("p"));
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!((bench.name(1), bench.name(3)), (text("t"), text("p")));

    // The commit with the second birth fails.
    bench.projection.apply(&[Entry::of(&first)]);
    assert!(bench.sparkplug.live(durable(2, 1)).is_none(), "the projection is behind");
    bench.projection.apply(&[Entry::of(&second)]);
    assert!(bench.sparkplug.live(durable(2, 1)).is_some());
    assert_eq!(bench.name(3), text("t"));
    let said = bench.take(durable(2, 1), 2, NDATA, &test_bytes(Some(2), &[(None, Some(1))]));
    assert!(!said.1, "the sequence goes on where the disk ends");
}

#[test]
fn a_restart_finds_the_births_that_were_there() {
    let mut bench = Bench::new();
    bench.sparkplug.open(durable(0, 0));
    let birth = test_bytes(Some(0), &[(Some("t"), Some(1))]);
    let (record, _) = bench.take(durable(0, 0), 0, NBIRTH, &birth);
    bench.projection.apply(&[Entry::of(&record)]);
    let mut later = Bench::new();
    later.projection.restore(&bench.projection.snapshot()).expect("our own bytes");
    assert_eq!(later.name(1), Value::Text("t".to_owned()), "also for a tool without a door");
    later.sparkplug.open(durable(1, 0));
    assert_eq!(later.name(1), Value::Text("t".to_owned()));
    assert!(later.projection.restore(b"\x09").is_err());
}

proptest! {
    #[test]
    fn the_projection_says_the_same_as_the_door_of_whatever_comes(
        run in prop::collection::vec((0..8_usize, 0..5_u8, 0..3_u64), 0..120),
    ) {
        const TOPICS: [&str; 8] = [
            NBIRTH, NDATA, NDATA, "spBv1.0/g/DBIRTH/n/d", "spBv1.0/g/DDATA/n/d",
            "spBv1.0/g/NDEATH/n", "spBv1.0/g/DDEATH/n/d", "spBv1.0/g/NADA/n",
        ];
        let mut bench = Bench::new();
        bench.sparkplug.open(durable(0, 0));
        for (offset, (which, seq, alias)) in (0..).zip(&run) {
            let name = format!("m{alias}");
            let named = which % 3 == 0;
            let metrics = [(named.then_some(&*name), Some(*alias))];
            let mut payload = test_bytes(Some(*seq), &metrics);
            if *seq == 4 {
                payload.pop();
            }
            let (record, _) = bench.take(durable(0, 0), offset, TOPICS[*which], &payload);
            bench.projection.apply(&[Entry::of(&record)]);
        }
        let live = lock(&bench.sparkplug.live).state.clone();
        prop_assert_eq!(live, lock(&bench.sparkplug.projected).state.clone());
    }
}
