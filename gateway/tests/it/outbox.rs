//! An application's outbox as a source, with the binary as a process.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::process::{Gateway, config, get, headwater, text};

const TABLE: &str =
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, payload NOT NULL)";

fn settings(more: &str) -> String {
    format!(
        "[[stream]]\nname = \"orders\"\ntopic = \"shop/{{shop}}/orders\"\nkey = \"shop\"\n\
         format = \"json\"\n\
         [[outbox]]\nname = \"orders\"\ndatabase = \"shop.db\"\ntopic = \"shop/{{key}}/orders\"\n\
         {more}"
    )
}

fn database(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("shop.db")).expect("a database");
    connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    connection
}

/// The numbers `n` of all records of the stream, in their order.
fn stored(gateway: &Gateway) -> Vec<u64> {
    let path = "/api/v1/streams/orders/records?from=earliest&limit=100000";
    let (status, body) = get(gateway.http, path);
    assert_eq!(status, 200, "{body}");
    let number = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        record["value"]["n"].as_u64().expect("a number")
    };
    // Chunks of HTTP have lines of their own.
    body.lines().filter(|line| line.starts_with('{')).map(number).collect()
}

fn wait_for(gateway: &Gateway, count: usize) -> Vec<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let numbers = stored(gateway);
        if numbers.len() >= count || Instant::now() > deadline {
            return numbers;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An application that puts `count` rows into its outbox, a few a transaction, and takes back each
/// seventh transaction.
fn application(dir: &Path, count: u64) -> std::thread::JoinHandle<()> {
    let mut connection = database(dir);
    std::thread::spawn(move || {
        let mut n = 0;
        let mut turn = 0;
        while n < count {
            turn += 1;
            let transaction = connection.transaction().expect("a transaction");
            let end = count.min(n + 1 + turn % 5);
            for n in n..end {
                let key = (b'a' + u8::try_from(n % 3).expect("small")) as char;
                transaction
                    .execute(
                        "INSERT INTO outbox (key, payload) VALUES (?1, ?2)",
                        (key.to_string(), format!(r#"{{"n":{n}}}"#)),
                    )
                    .expect("inserted");
            }
            if turn % 7 == 0 {
                transaction.rollback().expect("rolled back");
                continue;
            }
            transaction.commit().expect("committed");
            n = end;
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

fn rows_come_once_over_kills(more: &str) -> (tempfile::TempDir, Gateway) {
    const ROWS: u64 = 1_500;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let connection = database(dir.path());
    connection.pragma_update(None, "journal_mode", "wal").expect("WAL");
    connection.execute_batch(TABLE).expect("a table");
    let file = config(dir.path(), &settings(more));
    let mut gateway = Gateway::start(&file);
    let application = application(dir.path(), ROWS);
    for round in 1..=6 {
        std::thread::sleep(Duration::from_millis(60 + 37 * round));
        gateway.signal("-KILL");
        drop(gateway);
        gateway = Gateway::start(&file);
    }
    application.join().expect("the application ends");
    let numbers = wait_for(&gateway, usize::try_from(ROWS).expect("small"));
    assert_eq!(numbers, (0..ROWS).collect::<Vec<_>>(), "each once, in order");
    (dir, gateway)
}

#[test]
fn each_row_of_an_outbox_comes_in_once_over_sigkills() {
    let (_dir, gateway) = rows_come_once_over_kills("");
    let (_, body) = get(gateway.http, "/api/v1/sources");
    let sources: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(sources[0]["name"], "outbox/orders");
    assert_eq!(sources[0]["state"], "running");
    assert_eq!(sources[0]["last_error"], serde_json::Value::Null);
}

#[test]
fn rows_are_deleted_once_they_are_stored_where_the_configuration_asks_for_that() {
    let (dir, gateway) = rows_come_once_over_kills("delete = true");
    let deadline = Instant::now() + Duration::from_secs(20);
    let connection = database(dir.path());
    let left = || -> i64 {
        connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("a count")
    };
    // The last rows before a kill stay until another row makes them go.
    connection
        .execute("INSERT INTO outbox (key, payload) VALUES ('a', '{\"n\":1500}')", [])
        .expect("inserted");
    while left() > 0 {
        assert!(Instant::now() < deadline, "{} rows are left", left());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(wait_for(&gateway, 1_501).len(), 1_501);
}

#[test]
fn a_database_that_went_back_stops_its_outbox_and_says_why() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), &settings(""));
    let connection = database(dir.path());
    connection.execute_batch(TABLE).expect("a table");
    let insert = |connection: &Connection, n: u64| {
        let payload = format!(r#"{{"n":{n}}}"#);
        connection
            .execute("INSERT INTO outbox (key, payload) VALUES ('a', ?1)", [payload])
            .expect("inserted");
    };
    (0..3).for_each(|n| insert(&connection, n));
    let gateway = Gateway::start(&file);
    assert_eq!(wait_for(&gateway, 3), [0, 1, 2]);
    drop((gateway, connection));

    std::fs::remove_file(dir.path().join("shop.db")).expect("it was there");
    let connection = database(dir.path());
    connection.execute_batch(TABLE).expect("a table");
    insert(&connection, 9);
    let gateway = Gateway::start(&file);
    let deadline = Instant::now() + Duration::from_secs(20);
    let said = loop {
        let (_, body) = get(gateway.http, "/api/v1/sources");
        if body.contains("an older copy") {
            break body;
        }
        assert!(Instant::now() < deadline, "{body}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(said.contains("UPDATE sqlite_sequence SET seq = 3"), "{said}");
    assert!(said.contains(r#""state":"stopped""#), "{said}");
    assert_eq!(stored(&gateway), [0, 1, 2], "nothing was skipped or taken twice");
}

#[test]
fn check_looks_at_the_table_of_an_outbox() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), &settings(""));
    let path = file.to_str().expect("text");
    let check = || {
        let output = headwater(&["check", "-c", path]);
        (output.status.code(), text(&output.stderr) + &text(&output.stdout))
    };
    assert_eq!(check().0, Some(0), "the application may make its database later");
    let connection = database(dir.path());
    connection.execute_batch("CREATE TABLE other (a)").expect("a table");
    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("outbox.database") && said.contains("CREATE TABLE outbox"), "{said}");
    connection
        .execute_batch("CREATE TABLE outbox (id INTEGER PRIMARY KEY, key TEXT, payload)")
        .expect("a table");
    assert!(check().1.contains("AUTOINCREMENT"), "{}", check().1);
    connection
        .execute_batch(
            "DROP TABLE outbox;
             CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, payload)",
        )
        .expect("a table");
    assert!(check().1.contains("those that the topic names"), "{}", check().1);
    connection.execute_batch("ALTER TABLE outbox ADD COLUMN key TEXT").expect("a column");
    assert_eq!(check().0, Some(0), "{}", check().1);
}
