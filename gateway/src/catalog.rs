//! The catalog: what the gateway has to remember beside its journal, in one redb file.
//!
//! Everything here can lag behind the journal: each entry says the offset that it is true for, and
//! what came after is read again from the journal. The one exception is the numbering of
//! partitions, which is written before the first record that uses it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

/// `stream name / partition` to the number in the log.
const PARTITIONS: TableDefinition<'_, (&str, u16), u16> = TableDefinition::new("partitions");
/// Name of a reader to its position, and to its state where an earlier version wrote it.
const CHECKPOINTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("checkpoints");
/// Name of a reader to its state: apart, so that one that stays the same is not written anew
/// with each position.
const STATES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("states");
/// Upstream and subject to [`SavedSchema`] as JSON.
const SCHEMAS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("schemas");
/// Small facts about this gateway: `incarnation`, `machine`, which routes are paused.
const FACTS: TableDefinition<'_, &str, &str> = TableDefinition::new("facts");

/// redb keeps pages in memory up to this many bytes; the catalog is small.
const CACHE_BYTES: usize = 1 << 20;

/// The catalog could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// redb's own error.
    #[error("the catalog cannot be used: {0}")]
    Engine(#[from] Box<redb::Error>),
    /// All 65,535 partition numbers are taken.
    #[error("65535 partitions are in use; name fewer streams or partitions")]
    Full,
}

fn engine(problem: impl Into<redb::Error>) -> CatalogError {
    CatalogError::Engine(Box::new(problem.into()))
}

fn open(path: &Path) -> Result<Database, CatalogError> {
    if !path.try_exists().map_err(redb::Error::Io).map_err(engine)? {
        make(path)?;
    }
    database(path)
}

/// Makes the file aside, so that it is whole when it has its name: redb refuses one whose making
/// was interrupted.
fn make(path: &Path) -> Result<(), CatalogError> {
    let aside = path.with_extension("new");
    let place = || {
        fs::rename(&aside, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    match fs::remove_file(&aside) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
            return Err(engine(redb::Error::Io(problem)));
        }
        // What was left by an interrupted start held nothing.
        _ => {}
    }
    drop(database(&aside)?);
    place().map_err(redb::Error::Io).map_err(engine)
}

fn database(path: &Path) -> Result<Database, CatalogError> {
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(engine)?;
    let write = database.begin_write().map_err(engine)?;
    write.open_table(PARTITIONS).map_err(engine)?;
    write.open_table(CHECKPOINTS).map_err(engine)?;
    write.open_table(STATES).map_err(engine)?;
    write.open_table(FACTS).map_err(engine)?;
    write.open_table(SCHEMAS).map_err(engine)?;
    write.commit().map_err(engine)?;
    Ok(database)
}

/// State that a reader of the journal keeps, and the position it is true for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The state covers all offsets below this.
    pub position: u64,
    /// The reader's own bytes.
    pub state: Vec<u8>,
}

/// A schema that a registry has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSchema {
    /// The URL of the registry.
    pub registry: String,
    /// The schema's id there.
    pub id: u32,
    /// The schema.
    pub schema: String,
}

/// The catalog's file.
pub struct Catalog {
    path: PathBuf,
    /// `None` after a fault of the disk: redb then refuses everything, and has to be opened again.
    database: Mutex<Option<Database>>,
}

impl Catalog {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`CatalogError`] where the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let database = Mutex::new(Some(open(path)?));
        Ok(Self { path: path.to_path_buf(), database })
    }

    /// Does work, on the file opened again where the disk failed in the work before.
    fn run<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        // What is not committed is rolled back, so a panic leaves nothing half done.
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let result = work(&database);
        let failed = matches!(&result, Err(CatalogError::Engine(error))
            if matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo));
        if !failed {
            *slot = Some(database);
        }
        result
    }

    /// The numbers in the log of the first `count` partitions of `stream`; new ones are given and
    /// synced before this returns. Number 0 is the journal's own.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn partitions(&self, stream: &str, count: u16) -> Result<Vec<u16>, CatalogError> {
        self.run(|database| {
            let write = database.begin_write().map_err(engine)?;
            let numbers = {
                let mut table = write.open_table(PARTITIONS).map_err(engine)?;
                let mut taken = 0;
                for entry in table.iter().map_err(engine)? {
                    taken = taken.max(entry.map_err(engine)?.1.value());
                }
                let mut numbers = Vec::new();
                for partition in 0..count {
                    let known = table.get((stream, partition)).map_err(engine)?.map(|n| n.value());
                    let number = match known {
                        Some(number) => number,
                        None => {
                            taken = taken.checked_add(1).ok_or(CatalogError::Full)?;
                            table.insert((stream, partition), taken).map_err(engine)?;
                            taken
                        }
                    };
                    numbers.push(number);
                }
                numbers
            };
            write.commit().map_err(engine)?;
            Ok(numbers)
        })
    }

    /// Every partition ever numbered: (stream, partition, number).
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn all_partitions(&self) -> Result<Vec<(String, u16, u16)>, CatalogError> {
        self.run(|database| {
            let read = database.begin_read().map_err(engine)?;
            let table = read.open_table(PARTITIONS).map_err(engine)?;
            let mut all = Vec::new();
            for entry in table.iter().map_err(engine)? {
                let (key, number) = entry.map_err(engine)?;
                let (stream, partition) = key.value();
                all.push((stream.to_owned(), partition, number.value()));
            }
            Ok(all)
        })
    }

    /// What `name` saved last.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn checkpoint(&self, name: &str) -> Result<Option<Checkpoint>, CatalogError> {
        self.run(|database| {
            let read = database.begin_read().map_err(engine)?;
            let table = read.open_table(CHECKPOINTS).map_err(engine)?;
            let Some(entry) = table.get(name).map_err(engine)? else { return Ok(None) };
            let (position, earlier) = entry.value();
            let states = read.open_table(STATES).map_err(engine)?;
            let state = states.get(name).map_err(engine)?;
            let state = state.map_or_else(|| earlier.to_vec(), |state| state.value().to_vec());
            Ok(Some(Checkpoint { position, state }))
        })
    }

    /// The highest position that any reader has saved: the journal reached at least this far.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn highest_position(&self) -> Result<u64, CatalogError> {
        self.run(|database| {
            let read = database.begin_read().map_err(engine)?;
            let table = read.open_table(CHECKPOINTS).map_err(engine)?;
            let mut highest = 0;
            for entry in table.iter().map_err(engine)? {
                highest = highest.max(entry.map_err(engine)?.1.value().0);
            }
            Ok(highest)
        })
    }

    /// Saves states; all of them or none, synced.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn save_checkpoints(&self, entries: &[(&str, &Checkpoint)]) -> Result<(), CatalogError> {
        self.run(|database| {
            let write = database.begin_write().map_err(engine)?;
            {
                let mut positions = write.open_table(CHECKPOINTS).map_err(engine)?;
                let mut states = write.open_table(STATES).map_err(engine)?;
                for (name, checkpoint) in entries {
                    let state = checkpoint.state.as_slice();
                    let saved = states.get(*name).map_err(engine)?;
                    if saved.is_none_or(|saved| saved.value() != state) {
                        states.insert(*name, state).map_err(engine)?;
                    }
                    positions
                        .insert(*name, (checkpoint.position, [].as_slice()))
                        .map_err(engine)?;
                }
            }
            write.commit().map_err(engine)
        })
    }

    /// The schema of `subject` as the registry of `upstream` took it last; one that cannot be read
    /// counts as none.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn schema(
        &self,
        upstream: &str,
        subject: &str,
    ) -> Result<Option<SavedSchema>, CatalogError> {
        self.run(|database| {
            let read = database.begin_read().map_err(engine)?;
            let table = read.open_table(SCHEMAS).map_err(engine)?;
            let saved = table.get((upstream, subject)).map_err(engine)?;
            Ok(saved.and_then(|saved| serde_json::from_slice(saved.value()).ok()))
        })
    }

    /// Saves a schema, synced.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn save_schema(
        &self,
        upstream: &str,
        subject: &str,
        schema: &SavedSchema,
    ) -> Result<(), CatalogError> {
        let bytes = serde_json::to_vec(schema).expect("texts and numbers are JSON");
        self.run(|database| {
            let write = database.begin_write().map_err(engine)?;
            {
                let mut table = write.open_table(SCHEMAS).map_err(engine)?;
                table.insert((upstream, subject), bytes.as_slice()).map_err(engine)?;
            }
            write.commit().map_err(engine)
        })
    }

    /// A small fact; `make` gives it where it is not known yet.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn fact(&self, name: &str, make: impl FnOnce() -> String) -> Result<String, CatalogError> {
        self.run(|database| {
            let write = database.begin_write().map_err(engine)?;
            let value = {
                let mut table = write.open_table(FACTS).map_err(engine)?;
                let known = table.get(name).map_err(engine)?.map(|value| value.value().to_owned());
                match known {
                    Some(value) => value,
                    None => {
                        let value = make();
                        table.insert(name, value.as_str()).map_err(engine)?;
                        value
                    }
                }
            };
            write.commit().map_err(engine)?;
            Ok(value)
        })
    }

    /// A small fact, where it is known.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn known_fact(&self, name: &str) -> Result<Option<String>, CatalogError> {
        self.run(|database| {
            let read = database.begin_read().map_err(engine)?;
            let table = read.open_table(FACTS).map_err(engine)?;
            Ok(table.get(name).map_err(engine)?.map(|value| value.value().to_owned()))
        })
    }

    /// Sets a small fact, synced, and gives what it was.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn replace_fact(&self, name: &str, value: &str) -> Result<Option<String>, CatalogError> {
        self.run(|database| {
            let write = database.begin_write().map_err(engine)?;
            let before = {
                let mut table = write.open_table(FACTS).map_err(engine)?;
                let before = table.get(name).map_err(engine)?.map(|value| value.value().to_owned());
                if before.as_deref() != Some(value) {
                    table.insert(name, value).map_err(engine)?;
                }
                before
            };
            write.commit().map_err(engine)?;
            Ok(before)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_keeps_its_number_when_the_catalog_is_opened_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("catalog.redb");
        let first = Catalog::open(&path).expect("new").partitions("climate", 2).expect("two");
        let catalog = Catalog::open(&path).expect("again");
        assert_eq!(catalog.partitions("alarms", 1).expect("one"), [3]);
        assert_eq!(catalog.partitions("climate", 3).expect("three"), [first[0], first[1], 4]);
        assert!(!first.contains(&0), "0 is the journal's own");
    }

    #[test]
    fn what_an_interrupted_first_start_left_is_not_in_the_way() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("catalog.redb");
        // As redb leaves it before the magic number is written.
        fs::write(dir.path().join("catalog.new"), vec![0; 1 << 20]).expect("a file");
        let first = Catalog::open(&path).expect("new").partitions("climate", 1).expect("one");
        assert_eq!(
            Catalog::open(&path).expect("again").partitions("climate", 1).expect("one"),
            first
        );
        let names = fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(names, 1, "nothing is left aside");
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_saved() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("c")).expect("new");
        assert_eq!(catalog.checkpoint("q").expect("read"), None);
        let saved = Checkpoint { position: 7, state: vec![1, 2, 3] };
        catalog.save_checkpoints(&[("q", &saved)]).expect("saved");
        assert_eq!(catalog.checkpoint("q").expect("read"), Some(saved));
        let other = Checkpoint { position: 9, state: Vec::new() };
        catalog.save_checkpoints(&[("r", &other)]).expect("saved");
        assert_eq!(catalog.highest_position().expect("read"), 9);
    }

    #[test]
    fn a_state_that_stays_the_same_is_not_written_with_each_position() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("c");
        let catalog = Catalog::open(&path).expect("new");
        let save = |position, byte| {
            let saved = Checkpoint { position, state: vec![byte; 1 << 20] };
            catalog.save_checkpoints(&[("q", &saved)]).expect("saved");
            assert_eq!(catalog.checkpoint("q").expect("read"), Some(saved));
            fs::metadata(&path).expect("a file").len()
        };
        // What is written anew takes other pages, as the old ones have to outlive a power cut.
        let once = save(0, 7);
        for position in 1..20 {
            assert_eq!(save(position, 7), once);
        }
        assert!(save(20, 8) > once);
    }

    #[test]
    fn a_state_of_an_earlier_version_is_read_where_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let catalog = Catalog::open(&dir.path().join("c")).expect("new");
        let write = |database: &Database| {
            let write = database.begin_write().map_err(engine)?;
            let mut table = write.open_table(CHECKPOINTS).map_err(engine)?;
            table.insert("q", (5, [1, 2].as_slice())).map_err(engine)?;
            drop(table);
            write.commit().map_err(engine)
        };
        catalog.run(write).expect("written");
        let earlier = Checkpoint { position: 5, state: vec![1, 2] };
        assert_eq!(catalog.checkpoint("q").expect("read"), Some(earlier));
        let empty = Checkpoint { position: 6, state: Vec::new() };
        catalog.save_checkpoints(&[("q", &empty)]).expect("saved");
        assert_eq!(catalog.checkpoint("q").expect("read"), Some(empty));
    }
}
