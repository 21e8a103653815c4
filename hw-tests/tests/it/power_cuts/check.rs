//! One power cut: the disk that it leaves, the gateway on it, and what has to be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hw_tests::disk::{History, Image, Keep, Left, LoggedDisk, Tear};
use hw_tests::gateway::{Doors, GatewayProcess};
use hw_tests::random::Random;

use super::logs::{self, Found, Past};
use super::recording::{Recording, segments};
use super::{
    AGE_MS_MAX, CONFIG, JOURNAL, LOGS, OUT, READY, SEGMENT_BYTES, SIZE_BYTES_MAX, STOPPED,
};
use crate::publisher::{Publisher, Task};
use crate::stored::{Journal, What};
use crate::wire::QoS;

/// After the cut, publishers send this many more messages: their packet ids were used before.
const MORE: usize = 30;

/// A gateway whose recovery is cut places and compacts for so long.
const AFTERMATH: Duration = Duration::from_millis(300);

/// Cuts the power of a recording, at one moment after the other.
pub(super) struct Cutter<'a> {
    recording: &'a Recording,
    /// What happened to the disk whose power is cut.
    history: &'a History,
    /// The disk at the moment `at`.
    safe: Image,
    at: usize,
    room: PathBuf,
    image: PathBuf,
}

/// A cut to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) moment: usize,
    /// When the publishers last heard of the gateway: at the moment of the first cut.
    pub(super) heard: u64,
    /// The journal is the recorded one up to this offset at most.
    pub(super) end_max: u64,
    pub(super) keep: Keep,
    /// Of the sectors that are kept.
    pub(super) seed: u64,
    /// Publishers come back afterwards.
    pub(super) go_on: bool,
}

/// What a cut that went well was about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survived {
    /// Messages that had been promised, and of those, how many retention had not deleted.
    pub(super) promised: usize,
    pub(super) present: usize,
    pub(super) found: Found,
    pub(super) left: Left,
    /// The journal had a tail that was cut.
    pub(super) torn: bool,
    /// From the start of the process to the open door.
    pub(super) ready: Duration,
}

/// A gateway that started after a power cut, and what it did to its disk.
pub(super) struct Aftermath {
    history: History,
    base: Image,
    /// It was started, and had ended.
    pub(super) began: usize,
    pub(super) ended: usize,
    /// The end of the journal that it found.
    pub(super) end: u64,
}

/// What recovery said it found.
struct Recovered {
    end: u64,
    torn: bool,
}

impl<'a> Cutter<'a> {
    /// For the power cuts of `recording`.
    pub(super) fn first(recording: &'a Recording) -> Self {
        Self::new(recording, &recording.history, recording.base.clone(), "cut")
    }

    /// For power cuts in the time after another one.
    pub(super) fn second(recording: &'a Recording, after: &'a Aftermath) -> Self {
        Self::new(recording, &after.history, after.base.clone(), "second-cut")
    }

    fn new(recording: &'a Recording, history: &'a History, safe: Image, name: &str) -> Self {
        let room = recording.scratch.room(name).expect("a directory");
        // What the power cut left is looked at, however old it is.
        let config = CONFIG.replace("max_age = \"2s\"\n", "");
        assert_ne!(config, CONFIG, "the configuration has an age");
        fs::write(room.join("headwater.toml"), config).expect("a configuration");
        Self { recording, history, safe, at: 0, image: room.join("image"), room }
    }

    /// Cuts the power and looks what is left. Moments have to come in order.
    pub(super) fn make(&mut self, cut: &Cut) -> Result<Survived, String> {
        let (history, system) = (self.history, self.recording.system);
        let io = |error: std::io::Error| error.to_string();
        let safe = history.safe(cut.moment);
        history.replay(&mut self.safe, self.at, safe).map_err(io)?;
        self.at = safe;
        let left = self.save(cut, &self.image).map_err(io)?;
        let mounted = system.mount(&self.image, &self.room.join("disk")).map_err(io)?;
        let survived = self.look(cut)?;
        mounted.unmount().map_err(io)?;
        Ok(Survived { left, ..survived })
    }

    /// Makes the file `path` of the disk that the last cut left.
    pub(super) fn save(&self, cut: &Cut, path: &Path) -> std::io::Result<Left> {
        let mut random = Random::new(cut.seed);
        let tear = Tear { sector_bytes: self.recording.system.sector_bytes(), keep: cut.keep };
        self.history.survivor(&self.safe, cut.moment, tear, &mut random, path)
    }

    /// Lets a gateway start on the disk of the last cut and run for a moment.
    pub(super) fn aftermath(&self, cut: &Cut) -> Result<Aftermath, String> {
        let io = |error: std::io::Error| error.to_string();
        self.save(cut, &self.image).map_err(io)?;
        let base = Image::read(&self.image).map_err(io)?;
        let contents = self.room.join("history");
        fs::remove_file(&contents).ok();
        let fuse = self.room.join("fuse");
        fs::create_dir_all(&fuse).map_err(io)?;
        let history = History::create(&contents).map_err(io)?;
        let disk = LoggedDisk::mount(&self.image, history, &fuse).map_err(io)?;
        let system = self.recording.system;
        let mounted = system.mount(&disk.file(), &self.room.join("disk")).map_err(io)?;
        let began = disk.clock()() as usize;
        let config = self.room.join("headwater.toml");
        let mut gateway = GatewayProcess::launch(&config).map_err(|error| error.to_string())?;
        gateway.wait_doors(READY).map_err(|error| error.to_string())?;
        std::thread::sleep(AFTERMATH);
        gateway.terminate(STOPPED).map_err(|error| error.to_string())?;
        let ended = disk.clock()() as usize;
        let end = recovered(&gateway.log_text())?.end;
        mounted.unmount().map_err(io)?;
        let history = disk.finish().map_err(io)?;
        Ok(Aftermath { history, base, began, ended, end })
    }

    fn look(&self, cut: &Cut) -> Result<Survived, String> {
        let dir = self.room.join(JOURNAL);
        self.check_retention(&dir, cut)?;
        let began = Instant::now();
        let config = self.room.join("headwater.toml");
        let mut gateway = GatewayProcess::launch(&config).map_err(|error| error.to_string())?;
        let with_log = |what: String, gateway: &GatewayProcess| {
            format!("{what}; the gateway says:\n{}", gateway.log_tail())
        };
        let doors =
            gateway.wait_doors(READY).map_err(|error| with_log(error.to_string(), &gateway))?;
        let ready = began.elapsed();
        let mut publishers: Vec<Publisher> =
            self.recording.publishers.iter().map(|publisher| publisher.at(cut.heard)).collect();
        let promised: Vec<Publisher> = publishers.clone();
        if cut.go_on {
            go_on(&mut publishers, doors);
        }
        let served = cut.go_on.then(|| logs::served(&gateway)).transpose();
        let served = served.map_err(|what| with_log(what, &gateway))?;
        let status = gateway.terminate(STOPPED).map_err(|error| error.to_string())?;
        if !status.is_some_and(|status| status.success()) {
            return Err(with_log(format!("it ended with {status:?}"), &gateway));
        }
        let recovered = recovered(&gateway.log_text()).map_err(|what| with_log(what, &gateway))?;
        let journal = Journal::read(&dir).map_err(|what| with_log(what, &gateway))?;
        let check = || {
            self.check_past(&journal, recovered.end.min(cut.end_max))?;
            let mut counts = (0, 0);
            for publisher in &promised {
                let (all, present) = self.check_promises(publisher, &journal, recovered.end)?;
                counts = (counts.0 + all, counts.1 + present);
            }
            if cut.go_on {
                publishers.iter().try_for_each(|one| self.check_once(one, &journal))?;
            }
            let end = recovered.end.min(cut.end_max);
            let past = Past {
                before: &self.recording.journal,
                end,
                journal: &journal,
                overtaken: &self.recording.overtaken,
            };
            let found = logs::check(&self.room.join(LOGS), &past)?;
            served.iter().try_for_each(|served| logs::check_served(served, &past))?;
            check_rows(&journal)?;
            self.check_files(journal.end())?;
            Ok((counts, found))
        };
        let ((promised, present), found) = check().map_err(|what| with_log(what, &gateway))?;
        Ok(Survived {
            promised,
            present,
            found,
            left: Left::default(),
            torn: recovered.torn,
            ready,
        })
    }

    /// Retention deletes only while there is more than it is told to keep, or what is too old.
    fn check_retention(&self, dir: &Path, cut: &Cut) -> Result<(), String> {
        let names = segments(dir);
        let sizes = names.iter().filter_map(|name| fs::metadata(dir.join(name)).ok());
        let bytes: u64 = sizes.map(|m| m.len()).sum();
        let first = names.first().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        let first: u64 = first.unwrap_or(0);
        // The last message before it came before its segment was written last.
        let came = (0..first)
            .rev()
            .find_map(|offset| self.recording.journal.get(offset).and_then(|one| one.arrival_ms));
        let Some(came) = came else { return Ok(()) };
        let now = self.recording.time_ms(cut.heard);
        if bytes + 2 * SEGMENT_BYTES >= SIZE_BYTES_MAX || came + AGE_MS_MAX <= now {
            return Ok(());
        }
        Err(format!(
            "the journal begins at {first} and has only {bytes} bytes; what was before came {} ms \
             before the cut",
            now - came
        ))
    }

    /// What the journal had when the power came back is what it was, record by record.
    fn check_past(&self, journal: &Journal, end: u64) -> Result<(), String> {
        for offset in journal.start..end.min(journal.end()) {
            let (now, before) = (journal.get(offset), self.recording.journal.get(offset));
            if now != before {
                return Err(format!("offset {offset} was {before:?} and is {now:?}"));
            }
        }
        Ok(())
    }

    /// What was promised before the cut is there, but for what retention deleted.
    fn check_promises(
        &self,
        publisher: &Publisher,
        journal: &Journal,
        end: u64,
    ) -> Result<(usize, usize), String> {
        let (mut all, mut present) = (0, 0);
        for (number, message) in publisher.messages.iter().enumerate() {
            let Some(when) = message.promised() else { continue };
            let places = self.recording.journal.offsets(&publisher.client, number);
            let Some(place) = places.first() else {
                return Err(format!("{} {number} was never stored", publisher.client));
            };
            if *place >= end {
                return Err(format!(
                    "{} {number} was acknowledged at {when} and stood at offset {place}, but the \
                     journal ends at {end}",
                    publisher.client
                ));
            }
            all += 1;
            present += usize::from(*place >= journal.start);
        }
        Ok((all, present))
    }

    /// What was under way at the cut, and sent again after it, is there: QoS 2 once.
    fn check_once(&self, publisher: &Publisher, journal: &Journal) -> Result<(), String> {
        let client = &publisher.client;
        if !publisher.is_done() {
            return Err(format!("{client} is not acknowledged after the cut"));
        }
        if publisher.sessions_lost > 0 {
            return Err(format!("the session of {client} is gone"));
        }
        for number in 0..publisher.messages.len() {
            let places = self.recording.journal.offsets(client, number);
            let deleted = places.iter().filter(|place| **place < journal.start).count();
            let copies = deleted + journal.offsets(client, number).len();
            if copies == 0 || (copies > 1 && publisher.qos == QoS::ExactlyOnce) {
                return Err(format!("{client} {number} is there {copies} times"));
            }
        }
        Ok(())
    }

    /// A file that has its name is whole, its records were durable, and none is in two files.
    fn check_files(&self, end: u64) -> Result<(), String> {
        let out = self.room.join(OUT);
        for topic in fs::read_dir(&out).into_iter().flatten().flatten() {
            for partition in fs::read_dir(topic.path()).into_iter().flatten().flatten() {
                if partition.path().is_dir() {
                    check_partition(&partition.path(), end)?;
                }
            }
        }
        Ok(())
    }
}

/// Publishers come back to their sessions, finish what was under way, and send a few more.
fn go_on(publishers: &mut [Publisher], doors: Doors) {
    std::thread::scope(|scope| {
        for publisher in publishers {
            let enough = publisher.messages.len() + MORE;
            scope.spawn(move || {
                publisher.run(&Task {
                    address: &|| Some(doors.mqtt),
                    clock: &|| u64::MAX,
                    more: &|count| count < enough,
                    due: &|_| true,
                    until: Instant::now() + READY,
                });
            });
        }
    });
}

fn recovered(log: &str) -> Result<Recovered, String> {
    if let Some(line) = log.lines().find(|line| line.contains("ERROR")) {
        return Err(format!("a power cut is no damage, but: {line}"));
    }
    let line = log.lines().find(|line| line.contains("log opened log=\"journal\""));
    let end = line.and_then(|line| line.split_whitespace().find_map(|w| w.strip_prefix("end=")));
    let end = end.and_then(|end| end.parse().ok()).ok_or("it does not say where the log ends")?;
    Ok(Recovered { end, torn: log.contains("an unacknowledged tail was cut") })
}

/// A query's rows are numbered without a gap, and each is there once.
fn check_rows(journal: &Journal) -> Result<(), String> {
    let rows = journal.records.iter().filter_map(|record| match &record.what {
        What::Output { sequence, .. } => Some(*sequence),
        _ => None,
    });
    let rows: Vec<u64> = rows.collect();
    match rows.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        Some(pair) => Err(format!("row {} of the query follows row {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

fn check_partition(dir: &Path, end: u64) -> Result<(), String> {
    let mut ranges = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let range = stem.split_once('-').and_then(|(first, last)| {
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
        });
        let (Some((first, last)), true) = (range, path.extension().is_some_and(|e| e == "ndjson"))
        else {
            continue;
        };
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let offsets: Option<Vec<u64>> = text.lines().map(offset).collect();
        let offsets = offsets.ok_or_else(|| format!("{} is not whole", path.display()))?;
        // The last line may be a gap, which stands for all offsets up to the name's last.
        let rise = offsets.is_sorted_by(|a, b| a < b);
        let within = offsets.last().is_some_and(|offset| *offset <= last) && last < end;
        if offsets.first() != Some(&first) || !rise || !within {
            let fall = offsets.windows(2).find(|pair| pair[1] <= pair[0]);
            return Err(format!(
                "{}: from {:?} to {:?}, with {fall:?}; the journal ends at {end}",
                path.display(),
                offsets.first(),
                offsets.last()
            ));
        }
        ranges.insert(first, last);
    }
    let ranges: Vec<(u64, u64)> = ranges.into_iter().collect();
    match ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        Some(pair) => Err(format!("{} has the same offsets in {pair:?}", dir.display())),
        None => Ok(()),
    }
}

fn offset(line: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(line).ok()?["offset"].as_u64()
}
