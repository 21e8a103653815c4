//! Tables from files, with the binary as a process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, MqttOptions, QoS};
use serde_json::{Value as Json, json};

use crate::logs::{bulk, caught_up, publish, wait_until};
use crate::process::{Gateway, config, get, headwater, text};

const TABLE: &str =
    "[[table]]\nname = \"devices\"\nfrom = \"file:devices.csv\"\nkey = \"device\"\n";

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names of devices by key.
type Rows = BTreeMap<String, String>;

/// Writes the file aside and puts it in place, as one should.
fn write(dir: &Path, rows: &Rows) {
    let mut text = "name,device\n".to_owned();
    for (key, name) in rows {
        text.push_str(&format!("{name},{key}\n"));
    }
    put(dir, &text);
}

fn put(dir: &Path, text: &str) {
    std::fs::write(dir.join("devices.new"), text).expect("written");
    std::fs::rename(dir.join("devices.new"), dir.join("devices.csv")).expect("in place");
}

fn lines(body: &str) -> Vec<Json> {
    // Chunks of HTTP have lines of their own.
    let lines = body.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
}

/// The whole table, page by page.
fn table(gateway: &Gateway) -> Rows {
    let mut rows = Rows::new();
    loop {
        let after = rows.last_key_value().map_or(String::new(), |(key, _)| format!("&after={key}"));
        let path = format!("/api/v1/tables/devices?limit=10000{after}");
        let (status, body) = get(gateway.http, &path);
        assert_eq!(status, 200, "{body}");
        let page = lines(&body);
        if page.is_empty() {
            return rows;
        }
        let text = |value: &Json| value.as_str().expect("a text").to_owned();
        rows.extend(page.iter().map(|row| (text(&row["device"]), text(&row["name"]))));
    }
}

fn wait_for(gateway: &Gateway, wanted: &Rows) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = table(gateway);
        if rows == *wanted {
            return;
        }
        let (have, want) = (rows.len(), wanted.len());
        assert!(Instant::now() < deadline, "{have} rows of {want}: {}", status(gateway));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn status(gateway: &Gateway) -> Json {
    let (_, body) = get(gateway.http, "/api/v1/tables");
    serde_json::from_str::<Json>(&body).expect("JSON")[0].clone()
}

fn wait_for_status(gateway: &Gateway, wanted: impl Fn(&Json) -> bool) -> Json {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(gateway);
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All records of the table: (key, name), `None` for a delete.
fn records(gateway: &Gateway) -> Vec<(String, Option<String>)> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/api/v1/streams/devices/records?limit=10000&from={from}");
        let page = lines(&get(gateway.http, &path).1);
        let Some(last) = page.last() else { return all };
        from = last["offset"].as_u64().expect("a number") + 1;
        all.extend(page.iter().map(|record| {
            let key = record["key"].as_str().expect("a text").to_owned();
            (key, record["value"]["name"].as_str().map(str::to_owned))
        }));
    }
}

/// The rows after another round of edits: some change, some go, some come.
fn edited(rows: &Rows, round: u32, count: u32) -> Rows {
    let mut rows: Rows = rows
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 7 != round as usize % 7)
        .map(|(index, (key, name))| {
            let is_new = index % 3 == round as usize % 3;
            (key.clone(), if is_new { format!("{name}+") } else { name.clone() })
        })
        .collect();
    for n in 0..count {
        rows.entry(format!("r{round}-{n:05}")).or_insert(format!("name {n} of {round}"));
    }
    rows
}

#[test]
fn a_csv_file_is_a_table_over_edits_and_sigkills_and_no_row_is_written_twice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), TABLE);
    let mut wanted = edited(&Rows::new(), 0, 20_000);
    write(dir.path(), &wanted);
    let mut gateway = Gateway::start(&file);
    for round in 1..=7 {
        // The file is read at its second look; the kill comes while its rows go in.
        std::thread::sleep(Duration::from_millis(1_000 + 45 * u64::from(round)));
        gateway.signal("-KILL");
        drop(gateway);
        if round % 2 == 0 {
            wanted = edited(&wanted, round, 3_000);
            write(dir.path(), &wanted);
        }
        gateway = Gateway::start(&file);
    }
    wait_for(&gateway, &wanted);
    // And an edit beside a running gateway.
    wanted = edited(&wanted, 9, 10);
    write(dir.path(), &wanted);
    wait_for(&gateway, &wanted);
    let mut last: BTreeMap<String, Option<String>> = BTreeMap::new();
    let records = records(&gateway);
    for (key, name) in &records {
        let before = last.insert(key.clone(), name.clone());
        assert_ne!(before.unwrap_or(None), *name, "{key} was written as it was");
    }
    let status = wait_for_status(&gateway, |status| status["last_error"].is_null());
    assert_eq!(status["keys"], wanted.len());
    assert_eq!(status["state"], "running");
    // It hears of the last commit when it looks again.
    let position = || {
        let (_, body) = get(gateway.http, "/api/v1/sources");
        let sources: Json = serde_json::from_str(&body).expect("JSON");
        sources[0]["positions"]["table/devices"].clone()
    };
    let deadline = Instant::now() + PATIENCE;
    while position() != records.len() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(position(), records.len(), "one position a record");
}

#[test]
fn a_file_that_does_not_fit_leaves_the_table_as_it_was_and_says_which_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), TABLE);
    let gateway = Gateway::start(&file);
    let said = |words: &str| {
        let says = |status: &Json| status["last_error"].as_str().is_some_and(|e| e.contains(words));
        wait_for_status(&gateway, says)
    };
    assert_eq!(said("put the file there")["state"], "stopped");
    let rows = Rows::from([("a".into(), "one".into()), ("b/c".into(), "two".into())]);
    write(dir.path(), &rows);
    wait_for(&gateway, &rows);
    put(dir.path(), "device,name\na,1\nb\n");
    assert_eq!(said("line 3: 1 cell, the header has 2")["state"], "stopped");
    assert_eq!(table(&gateway), rows);
    std::fs::remove_file(dir.path().join("devices.csv")).expect("it was there");
    said("put the file there");
    assert_eq!(table(&gateway), rows, "a file that is gone deletes nothing");
    write(dir.path(), &rows);
    wait_for_status(&gateway, |s| s["last_error"].is_null() && s["state"] == "running");

    let (status, body) = get(gateway.http, "/api/v1/tables/devices?key=b%2Fc");
    assert_eq!((status, lines(&body)), (200, vec![json!({ "device": "b/c", "name": "two" })]));
    assert_eq!(get(gateway.http, "/api/v1/tables/devices?key=x").0, 404);
    assert_eq!(get(gateway.http, "/api/v1/tables/rooms").0, 404);
    assert_eq!(records(&gateway)[1].0, "b/c", "the key of a record is that of its row");
}

#[test]
fn no_client_writes_a_table() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), TABLE);
    let rows = Rows::from([("a".into(), "one".into())]);
    write(dir.path(), &rows);
    let gateway = Gateway::start(&file);
    wait_for(&gateway, &rows);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = MqttOptions::new("forger", "127.0.0.1", gateway.mqtt.port());
        let (client, mut events) = AsyncClient::new(options, 10);
        let payload = "{\"name\":\"forged\"}";
        let topic = "$table/devices/a";
        client.publish(topic, QoS::AtLeastOnce, false, payload).await.expect("queued");
        let ended = async { while events.poll().await.is_ok() {} };
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        ended.expect("the connection of MQTT 3.1.1 is closed");
    });
    publish(&gateway, std::iter::once(("other".to_owned(), b"x".to_vec())));
    assert_eq!(table(&gateway), rows);
    assert_eq!(records(&gateway).len(), 1);
}

#[test]
fn a_table_outlives_the_records_of_the_journal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = "[log]\nsegment_size = \"2 MiB\"\nmax_size = \"4 MiB\"\n";
    let file = config(dir.path(), &format!("{log}{TABLE}"));
    let rows = edited(&Rows::new(), 1, 2_000);
    write(dir.path(), &rows);
    let mut gateway = Gateway::start(&file);
    wait_for(&gateway, &rows);
    wait_until(&gateway, caught_up);
    publish(&gateway, bulk());
    publish(&gateway, bulk());
    wait_until(&gateway, |status| status["journal"]["start"].as_u64() > Some(2_000));
    gateway.signal("-KILL");
    gateway.wait();
    drop(gateway);
    // Without its file it has only its log.
    std::fs::remove_file(dir.path().join("devices.csv")).expect("it was there");
    let gateway = Gateway::start(&file);
    assert_eq!(table(&gateway), rows);
    write(dir.path(), &rows);
    wait_for_status(&gateway, |s| s["last_error"].is_null() && s["state"] == "running");
    assert_eq!(records(&gateway).len(), rows.len(), "nothing was written again");
}

#[test]
fn check_reads_the_file_of_a_table() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = config(dir.path(), TABLE);
    let check = || {
        let output = headwater(&["check", "-c", file.to_str().expect("text")]);
        (output.status.code(), text(&output.stderr) + &text(&output.stdout))
    };
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("devices.csv is not there yet"), "{said}");
    put(dir.path(), "device,name\na,1\na,2\n");
    let (code, said) = check();
    assert!(code == Some(78) && said.contains("line 3: the key \"a\""), "{said}");
    put(dir.path(), "device,name\na,1\n");
    let (code, said) = check();
    assert!(code == Some(0) && said.contains("1 tables") && said.contains("1 rows in"), "{said}");
}
