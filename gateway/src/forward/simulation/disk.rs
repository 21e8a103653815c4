//! A file system that forgets what was not synced, and loses power on cue.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::policy::core::Policy;
use super::super::status::RouteState;
use super::super::upstream::Destination;
use super::super::upstream::directory::Directory;
use super::super::upstream::directory::disk::{Disk, RealDisk};
use super::super::upstream::directory::manifest::{MANIFEST, Manifest, Sum, offsets as covers};
use super::{Clock, PARTITIONS, World};

#[derive(Default)]
struct State {
    files: Vec<(Vec<u8>, usize)>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    steps: u64,
    dies_at: u64,
}

#[derive(Clone, Default)]
struct Platter(Arc<Mutex<State>>);

impl Platter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    /// One step nearer to the power cut.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.steps += 1;
        if state.dies_at != 0 && state.steps >= state.dies_at {
            return Err(io::Error::other("no power"));
        }
        Ok(state)
    }

    /// Power comes back. What was not synced may be there or not: `lucky` keeps names and bytes.
    fn reboot(&self, lucky: bool) {
        let mut state = self.state();
        state.dies_at = 0;
        if lucky {
            return;
        }
        state.names = state.durable.clone();
        for (bytes, synced) in &mut state.files {
            bytes.truncate(*synced);
        }
    }
}

impl Disk for Platter {
    type File = usize;

    fn make_dir(&mut self, _: &Path) -> io::Result<()> {
        self.step().map(|_| ())
    }

    fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.step()?;
        let here = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(here.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
    }

    fn read(&mut self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let state = self.step()?;
        Ok(state.names.get(path).map(|file| state.files[*file].0.clone()))
    }

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        let mut state = self.step()?;
        let file = state.files.len();
        state.files.push((Vec::new(), 0));
        state.names.insert(path.to_owned(), file);
        Ok(file)
    }

    fn append(&mut self, path: &Path) -> io::Result<usize> {
        let state = self.step()?;
        Ok(*state.names.get(path).ok_or(io::ErrorKind::NotFound)?)
    }

    fn scan(&mut self, path: &Path, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let state = self.step()?;
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        take(&state.files[file].0);
        Ok(())
    }

    fn write(&mut self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        self.step()?.files[*file].0.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, file: &mut usize) -> io::Result<()> {
        let mut state = self.step()?;
        state.files[*file].1 = state.files[*file].0.len();
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let is_new = !state.names.contains_key(to) || to.ends_with(MANIFEST);
        assert!(is_new, "{} is there already", to.display());
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut state = self.step()?;
        state.durable.retain(|name, _| name.parent() != Some(path));
        let here: Vec<_> = state
            .names
            .iter()
            .filter(|(name, _)| name.parent() == Some(path))
            .map(|(name, file)| (name.clone(), *file))
            .collect();
        state.durable.extend(here);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?.names.remove(path);
        Ok(())
    }
}

/// All files by name.
fn content(platter: &Platter) -> BTreeMap<PathBuf, Vec<u8>> {
    let state = platter.state();
    let files = state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].0.clone()));
    files.collect()
}

fn directory<D: Disk>(disk: D, path: &Path, incarnation: &str) -> Directory<D> {
    let destinations = World::routes()
        .into_iter()
        .map(|route| Destination {
            stream: route.stream,
            topic: route.topic,
            partitions: PARTITIONS,
            wanted: route.topic_config,
        })
        .collect();
    Directory::new(disk, path.to_owned(), "g", incarnation, destinations)
}

/// Files that close often, so that a short test has many.
const POLICY: Policy = Policy { records_max: 6, ..Policy::DIRECTORY };

/// The offsets in the named files of a topic by partition, each file checked against its name.
fn offsets(files: &BTreeMap<PathBuf, Vec<u8>>, topic: &str) -> BTreeMap<u16, Vec<u64>> {
    let mut ranges = BTreeMap::new();
    for (path, bytes) in files {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let [.., in_topic, partition, name] = parts[..] else { continue };
        let Some(name) = name.strip_suffix(".ndjson").filter(|_| in_topic == topic) else {
            continue;
        };
        let (first, last) = name.split_once('-').expect("first and last");
        let text = std::str::from_utf8(bytes).expect("text");
        assert!(text.ends_with('\n'), "{} is whole", path.display());
        let offsets: Vec<u64> = text
            .lines()
            .map(|line| {
                let json: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
                json["offset"].as_u64().expect("an offset")
            })
            .collect();
        assert_eq!(offsets.first().map(u64::to_string).as_deref(), Some(first));
        assert_eq!(offsets.last().map(u64::to_string).as_deref(), Some(last));
        let partition: u16 = partition.parse().expect("a number");
        ranges.insert((partition, offsets[0]), offsets);
    }
    let mut all: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for ((partition, _), offsets) in ranges {
        all.entry(partition).or_default().extend(offsets);
    }
    all
}

/// Each manifest is true: what it lists is there as it says, or was never synced by its name. With
/// `is_settled` it lists all that is there.
fn check_manifests(all: &BTreeMap<PathBuf, Vec<u8>>, is_settled: bool, case: &str) {
    for (path, bytes) in all.iter().filter(|(path, _)| path.ends_with(MANIFEST)) {
        let manifest = Manifest::parse(bytes);
        let dir = path.parent().expect("a directory");
        for entry in &manifest.entries {
            let file = all.get(&dir.join(&entry.file)).expect(case);
            let mut sum = Sum::default();
            sum.add(file);
            let found = (sum.bytes, sum.lines, sum.sha256());
            assert_eq!(found, (entry.bytes, entry.records, entry.sha256.clone()), "{case}");
        }
        let is_named = |file: &&PathBuf| {
            let name = file.file_name().and_then(|name| name.to_str());
            file.parent() == Some(dir) && name.and_then(covers).is_some()
        };
        let named = all.keys().filter(is_named);
        if is_settled {
            assert_eq!((named.count(), manifest.unreadable), (manifest.entries.len(), 0), "{case}");
        }
    }
}

fn append(world: &World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.append(if number % 4 == 1 { "other" } else { "data" }, number);
    }
}

#[test]
fn every_offset_is_in_one_file_wherever_the_power_is_cut() {
    let mut steps_seen = BTreeSet::new();
    for (lucky, marks_lost) in [(false, false), (true, false), (false, true), (true, true)] {
        for dies_at in 1.. {
            let world = World::new();
            append(&world, 0..25);
            let platter = Platter::default();
            platter.state().dies_at = dies_at;
            let clock = Clock::default();
            let (mut engine, _) =
                world.engine(POLICY, directory(platter.clone(), Path::new("/out"), "i"));
            clock.run(&mut engine, 60);
            drop(engine);
            let died = platter.state().steps >= dies_at;
            platter.reboot(lucky);
            check_manifests(&content(&platter), false, &format!("cut at step {dies_at}"));
            if marks_lost {
                world.log().marks.clear();
            }
            append(&world, 25..30);
            let (mut engine, _) =
                world.engine(POLICY, directory(platter.clone(), Path::new("/out"), "i"));
            clock.run(&mut engine, 60);
            engine.drain(super::Now { ms: clock.ms.get(), unix_ms: 0 });
            assert!(clock.run(&mut engine, 60));
            // What lasts is what counts.
            platter.reboot(false);
            let files = content(&platter);
            check_manifests(&files, true, &format!("settled after a cut at step {dies_at}"));
            for (topic, stream) in [("t.data", "data"), ("t.other", "other")] {
                let case = format!("{topic}, cut at step {dies_at}, lucky {lucky}");
                assert_eq!(offsets(&files, topic), world.expected(stream, 0), "{case}");
            }
            steps_seen.insert(dies_at);
            if !died {
                break;
            }
        }
    }
    assert!(steps_seen.len() > 50, "{} steps", steps_seen.len());
}

#[test]
fn files_that_were_carried_away_are_not_written_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let world = World::new();
    append(&world, 0..25);
    let run = |numbers: std::ops::Range<u64>| {
        append(&world, numbers);
        let clock = Clock::default();
        let (mut engine, _) = world.engine(POLICY, directory(RealDisk, dir.path(), "i"));
        clock.run(&mut engine, 60);
        engine.drain(super::Now { ms: clock.ms.get(), unix_ms: 0 });
        assert!(clock.run(&mut engine, 60));
    };
    run(25..25);
    let taken = named_files(dir.path());
    assert_eq!(offsets(&taken, "t.data"), world.expected("data", 0));
    for path in taken.keys().filter(|path| path.extension().is_some_and(|ext| ext == "ndjson")) {
        std::fs::remove_file(path).expect("carried away");
    }
    run(25..40);
    assert_eq!(offsets(&named_files(dir.path()), "t.data"), world.expected("data", 25));
}

#[test]
fn files_of_another_data_directory_are_not_continued() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let world = World::new();
    append(&world, 0..10);
    let clock = Clock::default();
    for (incarnation, state) in [("i", RouteState::Running), ("j", RouteState::Stopped)] {
        world.log().marks.clear();
        let (mut engine, scores) =
            world.engine(POLICY, directory(RealDisk, dir.path(), incarnation));
        clock.run(&mut engine, 60);
        let status = scores.statuses(10).remove(0);
        assert_eq!(status.state, state, "{status:?}");
        assert_eq!(
            status.last_error.is_some_and(|error| error.contains("another gateway")),
            state == RouteState::Stopped
        );
    }
    // Of one topic they are taken away; the other one waits on.
    std::fs::remove_dir_all(dir.path().join("t.data")).expect("there");
    world.log().marks.clear();
    let (mut engine, scores) = world.engine(POLICY, directory(RealDisk, dir.path(), "j"));
    clock.run(&mut engine, 60);
    let states: Vec<_> = scores.statuses(10).iter().map(|status| status.state).collect();
    assert_eq!(states, [RouteState::Running, RouteState::Stopped]);
    assert_eq!(offsets(&named_files(dir.path()), "t.data"), world.expected("data", 0));
    std::fs::remove_dir_all(dir.path().join("t.other")).expect("there");
    for _ in 0..10 {
        clock.run(&mut engine, 60);
        clock.ms.set(clock.ms.get() + 5_000);
    }
    assert_eq!(scores.statuses(10)[1].state, RouteState::Running);
    assert_eq!(offsets(&named_files(dir.path()), "t.other"), world.expected("other", 0));
}

fn named_files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(named_files(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    files
}
