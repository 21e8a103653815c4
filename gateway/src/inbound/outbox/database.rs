//! The one file that knows SQLite.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::Fault;

/// An application that writes holds its lock for less than this, or it is tried again later.
const BUSY: Duration = Duration::from_millis(500);
/// Rows that are read at a time.
const ROWS_MAX: usize = 1_000;
/// A larger payload is not read: the journal would not take it.
const PAYLOAD_BYTES_MAX: i64 = 900 << 10;
/// What of a column goes into a topic, in characters.
const COLUMN_CHARS_MAX: usize = 256;

/// The database of an application.
pub(super) struct Database {
    connection: Connection,
    /// In messages.
    name: String,
    table: String,
    select: String,
    /// The columns that the topic asks for.
    columns: Vec<String>,
}

/// A row of the outbox.
pub(super) struct Row {
    pub(super) id: i64,
    payload_bytes: i64,
    pub(super) payload: Vec<u8>,
    /// The columns that the topic asks for, as texts.
    pub(super) columns: Vec<(String, String)>,
}

/// Looks whether `table` of the database at `path` can be an outbox with these columns in its topic.
///
/// # Errors
/// What is wrong, and what to do.
pub fn check_table<'a>(
    path: &Path,
    table: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    Database::open(path, table, columns, false).map(drop).map_err(|fault| fault.message)
}

impl Database {
    /// Opens it, to read alone where nothing is to be deleted.
    pub(super) fn open<'a>(
        path: &Path,
        table: &str,
        columns: impl Iterator<Item = &'a str>,
        deletes: bool,
    ) -> Result<Self, Fault> {
        let name = format!("{}, table {table}", path.display());
        let access = match deletes {
            true => OpenFlags::SQLITE_OPEN_READ_WRITE,
            false => OpenFlags::SQLITE_OPEN_READ_ONLY,
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| fault(&name, &e))?;
        connection.busy_timeout(BUSY).map_err(|e| fault(&name, &e))?;
        let columns: Vec<String> = columns.map(str::to_owned).collect();
        let select = select(table, &columns);
        let table = table.to_owned();
        let database = Self { connection, name, table, select, columns };
        database.check()?;
        Ok(database)
    }

    fn check(&self) -> Result<(), Fault> {
        let Self { name, table, .. } = self;
        let made: Option<String> = self
            .connection
            .query_row(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1",
                [table],
                |row| row.get(0),
            )
            .optional()
            .map_err(|e| self.fault(&e))?;
        let Some(made) = made else {
            return Err(Fault::stopped(format!(
                "{name}: there is no such table; make it: CREATE TABLE {table} (id INTEGER PRIMARY \
                 KEY AUTOINCREMENT, key TEXT, payload NOT NULL)"
            )));
        };
        if !made.to_ascii_uppercase().contains("AUTOINCREMENT") {
            return Err(Fault::stopped(format!(
                "{name}: id has to be INTEGER PRIMARY KEY AUTOINCREMENT, or SQLite gives the id of \
                 a deleted row to another, which would be taken for the first"
            )));
        }
        self.connection.prepare(&self.select).map(drop).map_err(|e| {
            Fault::stopped(format!(
                "{name}: {e}: it needs the columns id, payload and those that the topic names"
            ))
        })
    }

    /// Whether it has given at least the ids below `next`: one that was restored from a copy of
    /// before would give them again to other rows.
    pub(super) fn check_not_older(&self, next: u64) -> Result<(), Fault> {
        let Self { name, table, .. } = self;
        let given: Option<i64> = self
            .connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0))
            .optional()
            .map_err(|e| self.fault(&e))?;
        let given = given.unwrap_or(0);
        if i64::try_from(next).is_ok_and(|next| given >= next.saturating_sub(1)) {
            return Ok(());
        }
        Err(Fault::stopped(format!(
            "{name}: rows up to id {} have been read, and the database has given ids up to {given} \
             only: it is another one, or an older copy. Its next rows would be taken for read. Give \
             the outbox another name in the configuration to read all of its rows, or set the \
             sequence: UPDATE sqlite_sequence SET seq = {} WHERE name = '{table}'",
            next.saturating_sub(1),
            next.saturating_sub(1),
        )))
    }

    /// Changes with each commit of another connection.
    pub(super) fn version(&self) -> Result<i64, Fault> {
        self.connection
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(|e| self.fault(&e))
    }

    /// Rows from `first` on, in the order of their ids, about `bytes_max`.
    pub(super) fn rows(&self, first: i64, bytes_max: usize) -> Result<Vec<Row>, Fault> {
        let mut statement = self.connection.prepare(&self.select).map_err(|e| self.fault(&e))?;
        let mut found = statement.query([first]).map_err(|e| self.fault(&e))?;
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some(found) = found.next().map_err(|e| self.fault(&e))? {
            let row = self.row(found)?;
            if row.id < 1 || row.payload_bytes > PAYLOAD_BYTES_MAX {
                // What is before it comes in first.
                return if rows.is_empty() { Err(self.unfit(&row)) } else { Ok(rows) };
            }
            bytes += row.payload.len();
            rows.push(row);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(rows)
    }

    fn row(&self, found: &rusqlite::Row<'_>) -> Result<Row, Fault> {
        let value = |index| found.get_ref(index).map_err(|e| self.fault(&e));
        let mut columns = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let text = bytes_of(value(index + 3)?);
            columns.push((column.clone(), String::from_utf8_lossy(&text).into_owned()));
        }
        Ok(Row {
            id: found.get(0).map_err(|e| self.fault(&e))?,
            payload_bytes: found.get::<_, Option<i64>>(1).map_err(|e| self.fault(&e))?.unwrap_or(0),
            payload: bytes_of(value(2)?),
            columns,
        })
    }

    fn unfit(&self, row: &Row) -> Fault {
        let (name, Row { id, payload_bytes, .. }) = (&self.name, row);
        let what = match *id < 1 {
            true => "ids have to be above 0, as SQLite gives them".to_owned(),
            false => {
                format!("its payload has {payload_bytes} bytes, at most {PAYLOAD_BYTES_MAX} fit")
            }
        };
        Fault::stopped(format!(
            "{name}: the row with id {id} cannot come in: {what}. Change or delete it; no row \
             behind it comes in before"
        ))
    }

    /// Deletes the rows whose id is below `next`.
    pub(super) fn delete_below(&mut self, next: u64) -> Result<(), Fault> {
        let delete = format!("DELETE FROM {} WHERE id < ?1", quote(&self.table));
        let next = i64::try_from(next).unwrap_or(i64::MAX);
        let done = self.connection.prepare(&delete).and_then(|mut delete| delete.execute([next]));
        done.map(drop).map_err(|e| self.fault(&e))
    }

    fn fault(&self, problem: &rusqlite::Error) -> Fault {
        fault(&self.name, problem)
    }
}

fn fault(name: &str, problem: &rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, NotADatabase, PermissionDenied,
        ReadOnly,
    };
    let code = problem.sqlite_error_code();
    let remedy = match code {
        Some(DatabaseBusy | DatabaseLocked) => "an application writes; it is tried again",
        Some(CannotOpen) => "is the file there, and may the gateway's user read it?",
        Some(PermissionDenied | ReadOnly) => {
            "give the gateway's user the right to write it and its directory (WAL mode needs that \
             also to read), or remove delete = true"
        }
        Some(NotADatabase | DatabaseCorrupt) => "it is not a sound SQLite database; restore it",
        _ => "it is tried again",
    };
    let message = format!("{name}: {problem}: {remedy}");
    match code {
        Some(PermissionDenied | ReadOnly | NotADatabase | DatabaseCorrupt) => {
            Fault::stopped(message)
        }
        _ => Fault::retry(message),
    }
}

/// A value that is too large is left where it is.
fn select(table: &str, columns: &[String]) -> String {
    let text = |column: &String| {
        format!(", substr(CAST({} AS TEXT), 1, {COLUMN_CHARS_MAX})", quote(column))
    };
    let columns: String = columns.iter().map(text).collect();
    format!(
        "SELECT id, octet_length(payload), \
         CASE WHEN octet_length(payload) <= {PAYLOAD_BYTES_MAX} THEN payload END{columns} \
         FROM {} WHERE id >= ?1 ORDER BY id LIMIT {ROWS_MAX}",
        quote(table)
    )
}

fn bytes_of(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    }
}

/// A name in SQL. In double quotes a column that is not there would read as a text.
fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
