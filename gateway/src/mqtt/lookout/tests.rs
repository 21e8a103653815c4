use headwater_shared::envelope::{Envelope, Publish};
use tempfile::TempDir;

use super::*;
use crate::journal::{JournalOptions, NewRecord};
use crate::stream::filter_matches;

struct Bench {
    journal: Journal,
    lookout: Lookout,
    reader: Reader,
    /// By offset.
    topics: Vec<String>,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (journal, _) =
            Journal::open(dir.path(), JournalOptions::default()).expect("a new journal");
        let reader = journal.reader(0);
        Self { journal, lookout: Lookout::new(0), reader, topics: Vec::new(), _dir: dir }
    }

    async fn publish(&mut self, topic: &str) {
        let envelope = Envelope::Publish(Publish {
            topic,
            client: "c",
            arrival_ms: 0,
            qos: 1,
            retain: false,
            packet_id: None,
            properties: &[],
            rejected: None,
            payload: b"x",
        });
        let record = NewRecord { partition: 1, time_ms: 0, key: topic, envelope: &envelope };
        let ticket = self.journal.append(&record).expect("room");
        self.journal.wait(ticket).await.expect("on disk");
        self.topics.push(topic.to_owned());
    }

    fn look(&mut self) {
        while self.lookout.look(&mut self.reader, &self.journal) {}
    }
}

/// A subscriber with one filter.
struct Subscriber {
    watch: Watch,
    wake: Arc<Notify>,
    filter: String,
    since: u64,
    position: u64,
    reader: Reader,
    got: Vec<u64>,
    looked_at: usize,
}

impl Subscriber {
    fn new(bench: &Bench, filter: &str) -> Self {
        let wake = Arc::default();
        let watch = bench.lookout.join(&wake);
        let since = bench.journal.end();
        watch.add(&bench.lookout, filter, since, bench.journal.durable().end);
        Self {
            watch,
            wake,
            filter: filter.to_owned(),
            since,
            position: since,
            reader: bench.journal.reader(since),
            got: Vec::new(),
            looked_at: 0,
        }
    }

    fn read(&mut self, bench: &Bench) {
        loop {
            match self.watch.next(&bench.lookout, self.position) {
                Look::At(range) => {
                    self.reader.seek(range.start);
                    let records = self.reader.read_to(range.end, 300).expect("it is there");
                    self.looked_at += records.len();
                    self.position = self.reader.position();
                    let topic = |offset: u64| &bench.topics[usize::try_from(offset).expect("few")];
                    let ours = records.iter().map(|record| record.offset);
                    let ours = ours.filter(|offset| filter_matches(&self.filter, topic(*offset)));
                    self.got.extend(ours);
                }
                Look::NothingBefore(end) => {
                    self.position = self.position.max(end);
                    return;
                }
            }
        }
    }

    fn expected(&self, topics: &[String]) -> Vec<u64> {
        let matching =
            (0_u64..).zip(topics).filter(|(_, topic)| filter_matches(&self.filter, topic));
        matching.map(|(offset, _)| offset).filter(|offset| *offset >= self.since).collect()
    }

    fn is_woken(&self) -> bool {
        let mut notified = std::pin::pin!(self.wake.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        notified.as_mut().poll(&mut context).is_ready()
    }
}

/// A small generator, so that a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test]
async fn whoever_comes_and_goes_each_subscriber_finds_each_record_that_is_for_it() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut bench = Bench::new();
        let mut subscribers: Vec<Subscriber> = Vec::new();
        for _ in 0..150 {
            match random.below(10) {
                0..5 => bench.publish(&format!("t/{}", random.below(4))).await,
                5 => {
                    let filter = ["t/0", "t/1", "t/+", "#", "u"][random.below(5) as usize];
                    subscribers.push(Subscriber::new(&bench, filter));
                }
                6 if !subscribers.is_empty() => {
                    let index = random.below(subscribers.len() as u64) as usize;
                    let Subscriber { watch, filter, .. } = subscribers.swap_remove(index);
                    watch.leave(&bench.lookout, [filter.as_str()].into_iter());
                }
                7 if !subscribers.is_empty() => {
                    let index = random.below(subscribers.len() as u64) as usize;
                    subscribers[index].read(&bench);
                }
                _ => {
                    bench.lookout.look(&mut bench.reader, &bench.journal);
                }
            }
        }
        bench.look();
        for subscriber in &mut subscribers {
            subscriber.read(&bench);
            assert_eq!(subscriber.got, subscriber.expected(&bench.topics), "seed {seed}");
            assert_eq!(subscriber.position, bench.journal.end().max(subscriber.since));
        }
        bench.journal.close();
    }
}

#[tokio::test]
async fn a_subscriber_is_woken_for_what_is_for_it_and_looks_at_nothing_else() {
    let mut bench = Bench::new();
    let mut ours = Subscriber::new(&bench, "t/1");
    let mut other = Subscriber::new(&bench, "t/2");
    for number in 0..40 {
        bench.publish(if number == 20 { "t/1" } else { "t/0" }).await;
    }
    bench.look();
    assert!(ours.is_woken() && !other.is_woken());
    ours.read(&bench);
    other.read(&bench);
    assert_eq!((ours.got.as_slice(), ours.looked_at, ours.position), (&[20][..], 1, 40));
    assert_eq!((other.looked_at, other.position), (0, 40));
    bench.journal.close();
}

#[test]
fn after_a_stride_all_are_woken_and_what_cannot_be_read_is_left_to_each() {
    let lookout = Lookout::new(0);
    let wakes: [Arc<Notify>; 2] = Default::default();
    let watches = wakes.each_ref().map(|wake| lookout.join(wake));
    lookout.compare(&[], STRIDE - 1);
    lookout.compare(&[], STRIDE);
    for wake in &wakes {
        let mut notified = std::pin::pin!(wake.notified());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(notified.as_mut().poll(&mut context).is_ready());
    }
    assert_eq!(watches[0].next(&lookout, 7), Look::NothingBefore(STRIDE));
    lookout.tell_all(STRIDE..STRIDE + 5);
    assert_eq!(watches[1].next(&lookout, STRIDE + 2), Look::At(STRIDE + 2..STRIDE + 5));
}
