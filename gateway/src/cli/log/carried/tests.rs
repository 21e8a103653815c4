use std::path::Path;

use log_lite::{Journal, JournalOptions, Reader};

use super::course::{Import, Stored};
use super::ledger::Entry;
use super::stick;
use crate::catalog::Catalog;
use crate::cli::log::walk::owned;
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::stream::Streams;

/// Lines of a partition, in files of three.
fn stick(dir: &Path, count: u64) {
    let partition = dir.join("t/0");
    std::fs::create_dir_all(&partition).expect("room");
    let source = r#"{"v":1,"gateway":"far","incarnation":"i","stream":"s"}"#;
    std::fs::write(dir.join("t/.source.json"), source).expect("room");
    let all: Vec<u64> = (0..count).collect();
    for offsets in all.chunks(3) {
        let line = |offset: &u64| {
            let payload = format!("{{\"n\":{offset}}}");
            format!(
                "{{\"offset\":{offset},\"partition\":0,\"time\":5,\"key\":\"k\",\
                 \"topic\":\"s/k\",\"value\":{payload}}}\n"
            )
        };
        let name = format!("{}-{}.ndjson", offsets[0], offsets[offsets.len() - 1]);
        let text: String = offsets.iter().map(line).collect();
        std::fs::write(partition.join(name), text).expect("room");
    }
}

/// A gateway's log to import into.
struct Target<'a> {
    dir: tempfile::TempDir,
    streams: &'a Streams,
}

/// A routing table with the stream `s`.
fn streams() -> Streams {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let catalog = Catalog::open(&dir.path().join("catalog")).expect("new");
    let text = "[gateway]\nid = \"g\"\ndata_dir = \"d\"\n[[stream]]\nname = \"s\"\n\
                topic = \"s/{d}\"\nformat = \"json\"\n";
    let config = Config::parse("test", text).expect("a configuration");
    Streams::new(&config, &catalog).expect("partitions")
}

impl<'a> Target<'a> {
    fn new(streams: &'a Streams) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("log")).expect("room");
        Self { dir, streams }
    }

    fn log(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    fn journal(&self) -> Journal {
        Journal::open_dir(&self.log(), JournalOptions::default()).expect("a log").0
    }

    /// Imports from `entry` on in commits of two records or so, with what is saved kept in
    /// `entry`; dies at the save number `dies_at`, which takes effect before or not.
    fn import(
        &self,
        stick: &Path,
        entry: &mut Entry,
        dies_at: u32,
        takes_effect: bool,
    ) -> Option<Stored> {
        self.import_up_to(None, stick, entry, dies_at, takes_effect)
    }

    /// The same, and what is from `stop` on is damaged.
    fn import_up_to(
        &self,
        stop: Option<u64>,
        stick: &Path,
        entry: &mut Entry,
        dies_at: u32,
        takes_effect: bool,
    ) -> Option<Stored> {
        let parts = stick::find(stick).expect("a stick").parts;
        let mut saves = 0;
        let before = entry.clone();
        let mut save = |new: &Entry| {
            saves += 1;
            if saves != dies_at || takes_effect {
                *entry = new.clone();
            }
            let died = Err(Failure::new(Code::Disk, "no power"));
            if saves == dies_at { died } else { Ok(()) }
        };
        let import = Import {
            part: &parts[0],
            stop,
            stream: "s",
            streams: self.streams,
            journal: &mut self.journal(),
            commit_bytes: 60,
            save: &mut save,
            entry: before,
        };
        import.run(&self.log()).ok()
    }

    /// What the gateway itself stores between two imports.
    fn append_own(&self) {
        let mut journal = self.journal();
        journal.append(1, 7, b"own", b"own").expect("room");
        journal.commit().expect("a disk");
    }

    /// The numbers of the imported records.
    fn numbers(&self) -> Vec<u64> {
        let mut reader = Reader::open_dir(&self.log()).expect("a log");
        let mut numbers = Vec::new();
        while let Some(batch) = reader.next(u64::MAX).expect("whole") {
            for record in batch.records().map(|record| owned(&record)) {
                if &*record.key == b"own" {
                    continue;
                }
                let text = String::from_utf8_lossy(&record.value).into_owned();
                let (_, number) = text.split_once("{\"n\":").expect("a payload");
                numbers.push(number.trim_end_matches('}').parse().expect("a number"));
            }
        }
        numbers
    }
}

#[test]
fn each_line_is_stored_once_wherever_imports_die() {
    const COUNT: u64 = 10;
    let dir = tempfile::tempdir().expect("a temporary directory");
    stick(dir.path(), COUNT);
    let expected: Vec<u64> = (0..COUNT).collect();
    let mut deaths = 0;
    let streams = streams();
    for first in 1..7 {
        for second in 1..4 {
            for case in 0..4 {
                let (early, late, runs_between) = (case & 1 > 0, case & 2 > 0, case != 2);
                let target = Target::new(&streams);
                let mut entry = Entry::default();
                for (dies_at, takes_effect) in [(first, early), (second, late)] {
                    let died =
                        target.import(dir.path(), &mut entry, dies_at, takes_effect).is_none();
                    deaths += u32::from(died);
                    if runs_between {
                        target.append_own();
                    }
                }
                target.import(dir.path(), &mut entry, 0, false).expect("it ends");
                let case = format!("deaths at saves {first} and {second}, case {case}");
                assert_eq!(target.numbers(), expected, "{case}");
                let again = target.import(dir.path(), &mut entry, 0, false);
                assert_eq!(again.map(|stored| stored.records), Some(0), "{case}");
            }
        }
    }
    assert!(deaths > 100, "{deaths} deaths");
}

#[test]
fn an_import_that_died_goes_on_once_also_when_files_are_damaged_in_between() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    stick(dir.path(), 10);
    let streams = streams();
    for dies_at in 1..7 {
        for takes_effect in [false, true] {
            for stop in [0, 3, 6, 9] {
                let case = format!("died at {dies_at}, {takes_effect}, damaged from {stop} on");
                let target = Target::new(&streams);
                let mut entry = Entry::default();
                target.import(dir.path(), &mut entry, dies_at, takes_effect);
                target.append_own();
                target.import_up_to(Some(stop), dir.path(), &mut entry, 0, false).expect("it ends");
                let all: Vec<u64> = (0..10).collect();
                assert!(all.starts_with(&target.numbers()), "{case}: {:?}", target.numbers());
                assert!(target.numbers().len() as u64 >= stop, "{case}");
                target.append_own();
                target.import(dir.path(), &mut entry, 0, false).expect("it ends");
                assert_eq!(target.numbers(), all, "{case}");
            }
        }
    }
}

#[test]
fn a_line_that_does_not_read_stops_what_is_behind_it_until_it_is_whole() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    stick(dir.path(), 6);
    let path = dir.path().join("t/0/3-5.ndjson");
    let whole = std::fs::read(&path).expect("a file");
    std::fs::write(&path, &whole[..whole.len() - 20]).expect("room");
    let streams = streams();
    let target = Target::new(&streams);
    let mut entry = Entry::default();
    let stored = target.import(dir.path(), &mut entry, 0, false).expect("it ends");
    assert_eq!(stored.records, 5);
    assert!(stored.problem.is_some_and(|problem| problem.contains("3-5.ndjson:3")));
    std::fs::write(&path, whole).expect("room");
    let stored = target.import(dir.path(), &mut entry, 0, false).expect("it ends");
    assert_eq!((stored.records, stored.problem), (1, None));
    assert_eq!(target.numbers(), (0..6).collect::<Vec<_>>());
}

#[test]
fn more_files_later_add_what_is_new() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let streams = streams();
    let target = Target::new(&streams);
    let mut entry = Entry::default();
    for (count, new, known) in [(3, 3, 0), (9, 6, 3), (9, 0, 3)] {
        stick(dir.path(), count);
        let stored = target.import(dir.path(), &mut entry, 0, false).expect("it ends");
        assert_eq!(stored.records, new, "{count}");
        assert!(stored.known <= known, "{stored:?}");
    }
    assert_eq!(target.numbers(), (0..9).collect::<Vec<_>>());
}
