//! A gateway at work on a logged disk: what it wrote, what it promised, and what its journal was.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hw_tests::disk::{FileSystem, History, Image, LoggedDisk, Scratch};
use hw_tests::gateway::GatewayProcess;
use hw_tests::random::Random;

use super::logs::{self, KEPT, STATE};
use super::{CONFIG, JOURNAL, LOGS, READY, SEGMENT_BYTES, SIZE_BYTES_MAX, STOPPED};
use crate::publisher::{Publisher, Task};
use crate::stored::Journal;
use crate::wire::{PubAck, QoS, Received, Subscribe, Wire};

/// Everything has to be acknowledged this long after the last message was sent.
const SETTLED: Duration = Duration::from_secs(30);
/// On a busy machine a gateway works this much longer, until all that is to be cut has happened.
const LATE: Duration = Duration::from_secs(60);

/// Messages of each publisher in a millisecond at most, so that the history of the disk has room.
const PER_MS: u128 = 1;

/// In the middle of the work nobody publishes for so long: retention by age goes on.
const QUIET: Duration = Duration::from_secs(3);

/// What a run of the gateway left.
pub(super) struct Recording {
    pub(super) scratch: Scratch,
    pub(super) system: FileSystem,
    pub(super) seed: u64,
    pub(super) history: History,
    /// The disk before the first operation.
    pub(super) base: Image,
    /// The gateway was started for the first time.
    pub(super) began: u64,
    /// It had ended. What comes after is the file system's own way to unmount.
    pub(super) ended: u64,
    /// Moments at which something rare happened: a start, a stop, a new segment, a checkpoint.
    pub(super) marks: Vec<u64>,
    /// The time in ms since 1970 at some moments, in order.
    times: Vec<(u64, i64)>,
    /// Rounds of compaction of the state log.
    pub(super) compactions: u64,
    /// What retention deleted before it was placed in the logs beside the journal.
    pub(super) overtaken: Vec<(u64, u64)>,
    /// How often retention by age had left less than retention by size does.
    aged: usize,
    /// The journal as if nothing had been deleted from it.
    pub(super) journal: Journal,
    pub(super) publishers: Vec<Publisher>,
}

impl Recording {
    /// Lets a gateway work for this long. It is killed once and restarted once meanwhile.
    pub(super) fn make(system: FileSystem, seed: u64, work: Duration) -> Self {
        let scratch = Scratch::new().expect("room for a disk");
        let image = scratch.path().join("image");
        system.make(&image).expect("a file system");
        let base = Image::read(&image).expect("the file system");
        let history = History::create(&scratch.path().join("history")).expect("a history");
        let at = scratch.room("fuse").expect("a directory");
        let disk = LoggedDisk::mount(&image, history, &at).expect("a disk");
        let room = scratch.room("recording").expect("a directory");
        let config = room.join("headwater.toml");
        fs::write(&config, CONFIG).expect("a configuration");
        let mounted = system.mount(&disk.file(), &room.join("disk")).expect("a mounted disk");

        let clock = disk.clock();
        let stage = Stage::new(&config, &scratch.room("archive").expect("a directory"), &clock);
        let (began, publishers) = stage.play(&mut Random::new(seed), work);
        let ended = clock();
        let Stage { archive, marks, watched, compactions, .. } = stage;
        let journal = Journal::read(&archive).expect("a whole journal");
        let overtaken = logs::overtaken(&room.join(LOGS), &journal).expect("a whole log");
        mounted.unmount().expect("nothing uses the disk");
        drop(clock);
        let history = disk.finish().expect("nothing uses the disk");
        let marks = marks.into_inner().expect("no thread panicked");
        let Watched { times, aged } = watched.into_inner().expect("no thread panicked");
        let compactions = compactions.into_inner();
        let recording = Self {
            scratch,
            system,
            seed,
            history,
            base,
            began,
            ended,
            marks,
            times,
            compactions,
            overtaken,
            aged,
            journal,
            publishers,
        };
        recording.check();
        fs::remove_file(image).expect("the image is no longer used");
        recording
    }

    /// A moment at which to cut the power: any, or near one at which something rare happened.
    pub(super) fn moment(&self, random: &mut Random) -> usize {
        const NEAR: u64 = 120;
        let end = self.ended;
        let moment = if random.below(2) == 0 {
            self.began + random.below(end - self.began)
        } else {
            let mark = self.marks[random.below(self.marks.len() as u64) as usize];
            (mark + random.below(2 * NEAR)).saturating_sub(NEAR).clamp(self.began, end)
        };
        moment as usize
    }

    /// The time at a moment or soon after it, in ms since 1970.
    pub(super) fn time_ms(&self, moment: u64) -> i64 {
        let after = self.times.iter().find(|(at, _)| *at >= moment);
        after.map_or(i64::MAX, |(_, time_ms)| *time_ms)
    }

    /// Without a power cut everything is there: QoS 2 once, QoS 1 at least once.
    fn check(&self) {
        assert!(self.compactions > 0, "the state log was never compacted");
        assert!(self.aged > 0, "retention by age never went further than by size");
        assert_eq!(self.journal.start, 0, "the archive begins with the first record");
        for publisher in &self.publishers {
            assert!(publisher.is_done(), "{} was not acknowledged to the end", publisher.client);
            assert_eq!(publisher.sessions_lost, 0, "{} lost its session", publisher.client);
            for number in 0..publisher.messages.len() {
                let copies = self.journal.offsets(&publisher.client, number).len();
                let good = copies == 1 || (copies > 1 && publisher.qos == QoS::AtLeastOnce);
                assert!(good, "{} {number} is there {copies} times", publisher.client);
            }
        }
    }
}

/// What the threads around a gateway share.
struct Stage<'a> {
    config: PathBuf,
    archive: PathBuf,
    clock: &'a (dyn Fn() -> u64 + Sync),
    address: Mutex<Option<SocketAddr>>,
    marks: Mutex<Vec<u64>>,
    watched: Mutex<Watched>,
    compactions: AtomicU64,
    no_more: AtomicBool,
    over: AtomicBool,
}

/// What was seen of the disk while a gateway worked.
#[derive(Debug, Default)]
struct Watched {
    times: Vec<(u64, i64)>,
    aged: usize,
}

impl<'a> Stage<'a> {
    fn new(config: &Path, archive: &Path, clock: &'a (dyn Fn() -> u64 + Sync)) -> Self {
        Self {
            config: config.to_path_buf(),
            archive: archive.to_path_buf(),
            clock,
            address: Mutex::default(),
            marks: Mutex::default(),
            watched: Mutex::default(),
            compactions: AtomicU64::new(0),
            no_more: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// When the gateway was started, and what was published.
    fn play(&self, random: &mut Random, work: Duration) -> (u64, Vec<Publisher>) {
        let began = (self.clock)();
        let mut gateway = self.start();
        let end = Instant::now() + work;
        let publishers = thread::scope(|scope| {
            let cast: Vec<_> = cast()
                .into_iter()
                .map(|publisher| scope.spawn(move || self.publish(publisher, work, end)))
                .collect();
            scope.spawn(|| self.subscribe());
            scope.spawn(|| self.keep_archive());
            let _over = Over(self);
            let third = work.as_millis() as u64 / 3;
            thread::sleep(Duration::from_millis(third / 2 + random.below(third)));
            self.count(&gateway);
            gateway.kill();
            gateway = self.start();
            thread::sleep(Duration::from_millis(third / 2 + random.below(third)));
            self.stop(&mut gateway);
            gateway = self.start();
            thread::sleep(end.saturating_duration_since(Instant::now()));
            // A busy machine stores less in that time, and compacts late.
            while self.compactions(&gateway) == 0 && Instant::now() < end + LATE {
                thread::sleep(Duration::from_millis(100));
            }
            self.no_more.store(true, Ordering::SeqCst);
            let done = cast.into_iter().map(|thread| thread.join().expect("it publishes"));
            let done: Vec<_> = done.collect();
            self.stop(&mut gateway);
            done
        });
        (began, publishers)
    }

    fn start(&self) -> GatewayProcess {
        self.mark();
        let mut gateway = GatewayProcess::launch(&self.config).expect("a gateway");
        let doors = gateway.wait_doors(READY);
        let doors = doors.unwrap_or_else(|error| panic!("{error}\n{}", gateway.log_tail()));
        *self.address.lock().expect("no thread panicked") = Some(doors.mqtt);
        self.mark();
        gateway
    }

    fn stop(&self, gateway: &mut GatewayProcess) {
        self.count(gateway);
        self.mark();
        let status = gateway.terminate(STOPPED).expect("it can be told");
        let well = status.is_some_and(|status| status.success());
        assert!(well, "it ends well, not {status:?}:\n{}", gateway.log_tail());
        self.mark();
    }

    fn mark(&self) {
        self.marks.lock().expect("no thread panicked").push((self.clock)());
    }

    /// Rounds of compaction of this gateway and those before it.
    fn compactions(&self, gateway: &GatewayProcess) -> u64 {
        let status = gateway.get("/api/v1/status").expect("its status");
        let logs = status["logs"].as_array().into_iter().flatten();
        let done: u64 = logs.filter_map(|log| log["compactions"].as_u64()).sum();
        done + self.compactions.load(Ordering::SeqCst)
    }

    /// Counts what a gateway that is about to end has done.
    fn count(&self, gateway: &GatewayProcess) {
        self.compactions.store(self.compactions(gateway), Ordering::SeqCst);
    }

    fn publish(&self, mut publisher: Publisher, work: Duration, end: Instant) -> Publisher {
        let began = Instant::now();
        let quiet = work / 2..work / 2 + QUIET;
        publisher.run(&Task {
            address: &|| *self.address.lock().expect("no thread panicked"),
            clock: self.clock,
            more: &|_| !self.no_more.load(Ordering::SeqCst),
            due: &|count| {
                let passed = began.elapsed();
                !quiet.contains(&passed) && (count as u128) < passed.as_millis() * PER_MS
            },
            until: end + LATE + SETTLED,
        });
        publisher
    }

    /// A subscriber with a lasting session, whose position the gateway has to save.
    fn subscribe(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let address = *self.address.lock().expect("no thread panicked");
            // It comes back, whatever ended its connection.
            address.map(|address| self.follow(address));
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn follow(&self, address: SocketAddr) -> std::io::Result<()> {
        let (mut wire, present) = Wire::connect(address, "subscriber")?;
        if !present {
            let mut subscribe = Subscribe::new("alarms/#", QoS::AtLeastOnce);
            subscribe.pkid = 1;
            wire.send(&[Received::Subscribe(subscribe)])?;
        }
        while !self.over.load(Ordering::SeqCst) {
            if let Some(Received::Publish(publish)) = wire.receive()?
                && publish.pkid != 0
            {
                wire.send(&[Received::PubAck(PubAck::new(publish.pkid))])?;
            }
        }
        Ok(())
    }

    /// Copies each segment when the next has begun, before retention deletes it, and the last at
    /// the end. Watches the catalog for checkpoints and the state log for compaction.
    fn keep_archive(&self) {
        let dir = self.config.with_file_name(JOURNAL);
        let catalog = dir.with_file_name("catalog.redb");
        let state = self.config.with_file_name(LOGS).join("state");
        let (mut kept, mut saved, mut files) = (BTreeSet::new(), None, Vec::new());
        loop {
            let over = self.over.load(Ordering::SeqCst);
            let segments = segments(&dir);
            let sealed = if over { segments.len() } else { segments.len().saturating_sub(1) };
            for name in &segments[..sealed] {
                if kept.insert(name.clone()) {
                    fs::copy(dir.join(name), self.archive.join(name)).expect("a copy");
                    self.mark();
                }
            }
            let changed = fs::metadata(&catalog).and_then(|meta| meta.modified()).ok();
            if changed != saved {
                saved = changed;
                self.mark();
            }
            let now = names(&state);
            if now != files {
                files = now;
                self.mark();
            }
            self.watch(&dir, &segments);
            if over {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Notes the time, and whether age has deleted more than size would have.
    fn watch(&self, dir: &Path, segments: &[String]) {
        let at = (self.clock)();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        let time_ms = i64::try_from(time.as_millis()).expect("a time in range");
        let sizes = segments.iter().filter_map(|name| fs::metadata(dir.join(name)).ok());
        let bytes: u64 = sizes.map(|meta| meta.len()).sum();
        let whole = segments.first().is_none_or(|name| name.trim_matches('0') == ".log");
        let mut watched = self.watched.lock().expect("no thread panicked");
        watched.times.push((at, time_ms));
        watched.aged += usize::from(!whole && bytes + 2 * SEGMENT_BYTES < SIZE_BYTES_MAX);
    }
}

/// Ends the threads around a gateway, also where a panic ends what they wait for.
struct Over<'a>(&'a Stage<'a>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.no_more.store(true, Ordering::SeqCst);
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// Names of the segments in a journal's directory, oldest first.
pub(super) fn segments(dir: &Path) -> Vec<String> {
    let mut names = names(dir);
    names.retain(|name| name.ends_with(".log"));
    names
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn cast() -> Vec<Publisher> {
    vec![
        Publisher::new("once-a", QoS::ExactlyOnce, "sensors/a/climate"),
        Publisher::new(KEPT, QoS::ExactlyOnce, "alarms/b"),
        Publisher::new("least-c", QoS::AtLeastOnce, "sensors/c/climate"),
        Publisher::new("least-d", QoS::AtLeastOnce, "sensors/d/climate"),
        Publisher::of_keys(STATE, QoS::ExactlyOnce, "state"),
    ]
}
