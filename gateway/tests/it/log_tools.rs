//! `headwater log` on the directory of a real gateway, through the binary.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::cli::{lines, publish};
use crate::process::{Gateway, config, headwater, text};

const STREAMS: &str = r#"
[[stream]]
name = "climate"
topic = "sensors/{device}/climate"
key = "device"
format = "json"
time = "ts"
partitions = 2
[[stream]]
name = "notes"
topic = "notes/#"
format = "bytes"
"#;

/// 2025-11-21T04:40:00Z
const NOON_MS: i64 = 1_763_700_000_000;

/// A data directory that a gateway has filled: readings of devices a and b, a second apart, a
/// message that is no JSON, and two notes.
struct Filled {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Filled {
    fn new() -> Self {
        let empty = Self::empty();
        let gateway = Gateway::start(&empty.config);
        let readings: Vec<(String, String)> = (0..20)
            .map(|number: i64| {
                let device = if number % 2 == 0 { "a" } else { "b" };
                let ts = NOON_MS + number * 1000;
                (
                    format!("sensors/{device}/climate"),
                    format!("{{\"ts\":{ts},  \"n\":{number},\"t\":21.50}}"),
                )
            })
            .collect();
        let mut messages: Vec<(&str, &str)> =
            readings.iter().map(|(topic, payload)| (&topic[..], &payload[..])).collect();
        messages.extend([
            ("sensors/a/climate", "no JSON"),
            ("notes/x", "first note"),
            ("notes/x", "\"quoted\""),
        ]);
        publish(gateway.mqtt.port(), &messages);
        empty.stop(gateway);
        empty
    }

    /// A data directory of the same streams without a record.
    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = config(dir.path(), STREAMS);
        let filled = Self { dir, config };
        filled.stop(Gateway::start(&filled.config));
        filled
    }

    fn stop(&self, mut gateway: Gateway) {
        gateway.signal("-TERM");
        assert_eq!(gateway.wait(), Some(0), "{}", self.dir.path().display());
    }

    fn data(&self) -> String {
        self.dir.path().join("data").to_str().expect("UTF-8").to_owned()
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Runs `headwater log ARGS --data DIR`; standard output of a run that ended well.
    fn log(&self, args: &[&str]) -> Vec<u8> {
        let (code, stdout, stderr) = self.try_log(args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout
    }

    fn try_log(&self, args: &[&str]) -> (i32, Vec<u8>, String) {
        let data = self.data();
        let all = [&["log"], args, &["--data", &data]].concat();
        let output = headwater(&all);
        (output.status.code().expect("it ended"), output.stdout, text(&output.stderr))
    }
}

fn numbers(records: &[Json]) -> Vec<i64> {
    records.iter().map(|record| record["value"]["n"].as_i64().expect("a number")).collect()
}

/// Stream, partition, time, key and stored bytes of each record: what an import keeps.
fn kept(records: &[Json]) -> Vec<[Json; 5]> {
    let fields = ["stream", "partition", "time", "key", "raw"];
    records.iter().map(|record| fields.map(|field| record[field].clone())).collect()
}

#[test]
fn ls_counts_segments_and_partitions_and_says_what_reaches_the_device() {
    let filled = Filled::new();
    let rows = lines(&filled.log(&["ls"]));
    let (total, segments) = rows.split_last().expect("a total");
    let total = &total["total"];
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0]["segment"], 0);
    assert_eq!(segments[0]["records"], total["records"]);
    assert_eq!(segments[0]["end"], total["end"]);
    assert_eq!(segments[0]["first_time"], NOON_MS);
    assert!(segments[0]["used"].as_u64() < segments[0]["bytes"].as_u64(), "{rows:?}");
    let writes = &total["writes"];
    let of = |field: &str| writes[field].as_u64().unwrap_or_else(|| panic!("{field}: {writes}"));
    assert!(of("commits") > 0 && of("device_bytes") >= 4096 * of("commits"), "{writes}");
    assert!(of("device_bytes") > of("bytes_asked"), "{writes}");

    let rows = lines(&filled.log(&["ls", "--partitions"]));
    let records = |stream: &str| -> u64 {
        let of = rows.iter().filter(|row| row["stream"] == stream);
        of.map(|row| row["records"].as_u64().expect("a number")).sum()
    };
    assert_eq!([records("climate"), records("climate.rejected"), records("notes")], [20, 1, 2]);
    let notes = rows.iter().find(|row| row["stream"] == "notes").expect("a row");
    assert_eq!(notes["raw_bytes"], "first note\"quoted\"".len());
    let ratio = notes["ratio"].as_f64().expect("a ratio");
    assert!(ratio > 0.0 && ratio < 1.0, "small messages take more in the log: {notes}");
    assert!(notes["first_offset"].as_u64() < notes["last_offset"].as_u64(), "{notes}");
}

#[test]
fn ls_of_a_log_without_a_record_is_a_total_of_nothing() {
    let total = lines(&Filled::empty().log(&["ls"])).pop().expect("a total");
    assert_eq!(total["total"]["records"], 0);
    assert_eq!(total["total"]["writes"], Json::Null);
    assert_eq!(total["total"]["ratio"], Json::Null);
}

#[test]
fn show_selects_by_stream_partition_key_offset_and_time() {
    let filled = Filled::new();
    let show =
        |more: &[&str]| lines(&filled.log(&[&["show", "--stream", "climate"], more].concat()));
    let all = show(&[]);
    assert_eq!(numbers(&all).len(), 20);
    assert_eq!(numbers(&show(&["--key", "b"])), (0..10).map(|n| 2 * n + 1).collect::<Vec<_>>());
    assert_eq!(numbers(&show(&["--key", "b", "--limit", "2"])), [1, 3]);
    let halves: Vec<i64> = ["0", "1"]
        .iter()
        .flat_map(|partition| numbers(&show(&["--partition", partition])))
        .collect();
    assert_eq!(halves.len(), 20, "{halves:?}");

    let offset = |at: usize| all[at]["offset"].to_string();
    let range = show(&["--from", &offset(5), "--to", &offset(8)]);
    assert_eq!(range, all[5..8]);
    let times = ["--from", "2025-11-21T04:40:05Z", "--to", "2025-11-21T04:40:08Z"];
    assert_eq!(numbers(&show(&times)), [5, 6, 7]);
    assert!(show(&["--from", "-1h"]).is_empty(), "these readings are older");
    assert_eq!(lines(&filled.log(&["show", "--stream", "notes", "--from", "-1h"])).len(), 2);

    let (code, _, stderr) = filled.try_log(&["show", "--stream", "climat"]);
    assert!(code == 2 && stderr.contains("climate.rejected"), "{code} {stderr}");
    let (code, _, stderr) = filled.try_log(&["show", "--stream", "notes", "--partition", "7"]);
    assert!(code == 2 && stderr.contains("there is no 7"), "{code} {stderr}");
    let (code, _, stderr) = filled.try_log(&["show", "--from", "yesterday"]);
    assert!(code == 2 && stderr.contains("RFC 3339"), "{code} {stderr}");
}

#[test]
fn show_asks_a_running_gateway_as_it_reads_a_directory() {
    let filled = Filled::new();
    let gateway = Gateway::start(&filled.config);
    let url = format!("http://{}", gateway.http);
    let remote = |args: &[&str]| {
        let all = [&["log", "show", "--url", &url], args].concat();
        let output = headwater(&all);
        (output.status.code(), output.stdout, text(&output.stderr))
    };
    let selections: [&[&str]; 5] = [
        &[],
        &["--key", "b", "--limit", "3"],
        &["--partition", "0"],
        &["--from", "2025-11-21T04:40:05Z", "--to", "2025-11-21T04:40:08Z"],
        &["--from", "4", "--to", "9"],
    ];
    for selection in selections {
        let args = [&["--stream", "climate"], selection].concat();
        let local = filled.log(&[&["show"], &args[..]].concat());
        let (code, shown, stderr) = remote(&args);
        assert_eq!(code, Some(0), "{args:?}: {stderr}");
        assert_eq!(text(&shown), text(&local), "{args:?}");
    }
    let (code, _, stderr) = remote(&["--stream", "nope"]);
    assert!(code == Some(2) && stderr.contains("nope"), "{code:?} {stderr}");
    let (code, _, stderr) = remote(&["--stream", "climate", "--format", "raw"]);
    assert!(code == Some(2) && stderr.contains("--data"), "{code:?} {stderr}");
    filled.stop(gateway);
    let (code, _, stderr) = remote(&["--stream", "climate"]);
    assert!(code == Some(75) && stderr.contains("is it running?"), "{code:?} {stderr}");
}

#[test]
fn show_prints_payloads_as_they_came_and_tables() {
    let filled = Filled::new();
    let show = |stream: &str, format: &str| {
        text(&filled.log(&["show", "--stream", stream, "--format", format]))
    };
    assert_eq!(show("notes", "raw"), "first note\"quoted\"");
    assert_eq!(show("notes", "lines"), "first note\n\"quoted\"\n");
    assert!(show("climate", "lines").starts_with("{\"ts\":1763700000000,  \"n\":0,\"t\":21.50}\n"));
    let table = show("climate", "table");
    let header: Vec<_> = table.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(header, ["offset", "time", "stream", "key", "value"]);
    assert!(table.contains("2025-11-21T04:40:00.000Z  climate  a"), "{table}");
}

#[test]
fn what_is_exported_imported_and_exported_again_is_the_same_byte_for_byte() {
    let (from, to) = (Filled::new(), Filled::empty());
    let first = from.log(&["export"]);
    assert_eq!(lines(&first).len(), 23);
    let file = from.file("all.ndjson");
    let said = text(&from.log(&["export", "--out", &file]));
    assert!(said.starts_with("23 records in "), "{said}");
    assert_eq!(std::fs::read(&file).expect("the export"), first);

    let checked = lines(&to.log(&["import", &file, "--check"]));
    assert_eq!(lines(&to.log(&["export"])), [] as [Json; 0], "a check stores nothing");
    let stored = lines(&to.log(&["import", &file]));
    let records =
        |rows: &[Json]| -> u64 { rows.iter().filter_map(|r| r["records"].as_u64()).sum() };
    assert_eq!((records(&checked), records(&stored)), (23, 23));
    let second = lines(&to.log(&["export"]));
    assert_eq!(kept(&second), kept(&lines(&first)));

    // The gateway takes what was imported for its own.
    let mut gateway = Gateway::start(&to.config);
    let (status, body) =
        crate::process::get(gateway.http, "/api/v1/streams/climate/records?limit=1");
    assert!(status == 200 && body.contains("\"key\":\"a\""), "{body}");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn a_plain_export_carries_values_and_no_envelopes() {
    let (from, to) = (Filled::new(), Filled::empty());
    let file = from.file("plain.ndjson");
    for stream in ["climate", "notes"] {
        from.log(&["export", "--stream", stream, "--plain", "--out", &file]);
        let plain = std::fs::read_to_string(&file).expect("the export");
        assert!(!plain.contains("\"raw\"") && !plain.contains("\"stream\""), "{plain}");
        let (code, _, stderr) = to.try_log(&["import", &file]);
        assert!(code == 1 && stderr.contains("--into"), "{stderr}");
        to.log(&["import", &file, "--into", stream]);
        let values = |of: &Filled| -> Vec<[Json; 4]> {
            lines(&of.log(&["show", "--stream", stream]))
                .iter()
                .map(|r| ["key", "time", "partition", "value"].map(|field| r[field].clone()))
                .collect()
        };
        assert_eq!(values(&to), values(&from));
    }
}

#[test]
fn whole_partitions_go_to_a_directory_and_what_is_there_is_not_written_again() {
    let (from, to) = (Filled::new(), Filled::empty());
    let dir = from.file("archive");
    let said = text(&from.log(&["export", "--dir", &dir]));
    assert!(said.starts_with("23 records in 3 new files in "), "{said}");
    let again = text(&from.log(&["export", "--dir", &dir]));
    assert!(again.starts_with("0 records in 0 new files in "), "{again}");

    let gateway = Gateway::start(&from.config);
    publish(gateway.mqtt.port(), &[("notes/y", "a later note")]);
    let more = text(&from.log(&["export", "--dir", &dir, "--stream", "notes"]));
    assert!(more.starts_with("1 record in 1 new file in "), "beside its gateway: {more}");
    let notes = files(&Path::new(&dir).join("notes/0"));
    assert_eq!(notes.len(), 2, "{notes:?}");
    from.stop(gateway);

    to.log(&["import", &dir]);
    let streams = |of: &Filled| kept(&lines(&of.log(&["export"])));
    assert_eq!(streams(&to), streams(&from), "in the order of the log");

    let (code, _, stderr) = Filled::new().try_log(&["export", "--dir", &dir]);
    assert!(code == 1 && stderr.contains("choose another --dir"), "{stderr}");
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into()).collect()
}

#[test]
fn a_line_that_is_no_record_is_named_and_an_import_goes_on_behind_what_is_stored() {
    let (from, to) = (Filled::new(), Filled::empty());
    let export = text(&from.log(&["export"]));
    let mut all: Vec<&str> = export.lines().collect();
    let good = std::mem::replace(&mut all[7], "{\"offset\":7,\"time\":");
    let file = from.file("bad.ndjson");
    std::fs::write(&file, all.join("\n")).expect("room");

    let (code, _, stderr) = to.try_log(&["import", &file, "--check"]);
    assert!(code == 1 && stderr.contains("bad.ndjson:8: not a record"), "{stderr}");
    let (code, _, stderr) = to.try_log(&["import", &file]);
    assert_eq!(code, 1, "{stderr}");
    for part in ["bad.ndjson:8: not a record", "the 7 lines before it are stored", "--skip 7"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    all[7] = good;
    std::fs::write(&file, all.join("\n")).expect("room");
    to.log(&["import", &file, "--skip", "7"]);
    assert_eq!(kept(&lines(&to.log(&["export"]))), kept(&lines(export.as_bytes())));
}

#[test]
fn import_says_what_it_cannot_take() {
    let to = Filled::empty();
    let file = to.file("one.ndjson");
    let refused = |line: &str, why: &str| {
        std::fs::write(&file, line).expect("room");
        let (code, _, stderr) = to.try_log(&["import", &file]);
        assert!(code == 1 && stderr.contains("one.ndjson:1: "), "{line}: {code} {stderr}");
        assert!(stderr.contains(why) && stderr.contains("nothing is stored"), "{why}: {stderr}");
    };
    let start = r#"{"time":1,"key":"a","stream":"#;
    refused("[]", "not a record");
    refused(r#"{"time":1,"key":"a","strem":"x"}"#, "strem");
    refused(&format!("{start}\"nope\"}}"), "configure it");
    refused(&format!("{start}\"climate\",\"partition\":9}}"), "2 partitions here");
    refused(&format!("{start}\"climate\"}}"), "`topic`");
    refused(&format!("{start}\"climate\",\"topic\":\"t\"}}"), "neither `raw` nor `value`");
    refused(&format!("{start}\"climate\",\"topic\":\"t\",\"value\":1}}"), "JSON objects only");
    refused(&format!("{start}\"notes\",\"raw\":\"%\"}}"), "not base64");
    refused(&format!("{start}\"notes\",\"raw\":\"/w==\"}}"), "envelope version 255");
    // A tick, which is the gateway's own.
    refused(&format!("{start}\"notes\",\"raw\":\"AQMC\"}}"), "the gateway itself");
    let (code, _, stderr) = to.try_log(&["import", &to.file("missing.ndjson")]);
    assert!(code == 66 && stderr.contains("missing.ndjson"), "{code} {stderr}");
}

#[test]
fn rows_of_a_query_are_left_out_of_an_import_and_counted() {
    const QUERY: &str = r#"
[[query]]
sql = """CREATE STREAM climate_1m AS SELECT device, window_start, count(*) AS n FROM climate
         GROUP BY device, tumble(INTERVAL '1' SECOND)"""
"#;
    let filled = Filled::empty();
    let content = std::fs::read_to_string(&filled.config).expect("it was written");
    std::fs::write(&filled.config, format!("{content}{QUERY}")).expect("room");
    let gateway = Gateway::start(&filled.config);
    let readings: Vec<String> =
        (0..9).map(|n| format!("{{\"ts\":{}}}", NOON_MS + n * 2000)).collect();
    let messages: Vec<_> = readings.iter().map(|r| ("sensors/a/climate", &r[..])).collect();
    publish(gateway.mqtt.port(), &messages);
    let rows = || lines(&filled.log(&["export", "--stream", "climate_1m"])).len();
    let started = std::time::Instant::now();
    while rows() < 7 {
        assert!(started.elapsed().as_secs() < 30, "the windows are written");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    filled.stop(gateway);
    let (file, rows) = (filled.file("all.ndjson"), rows());
    filled.log(&["export", "--out", &file]);
    let said = lines(&filled.log(&["import", &file]));
    let left_out = said.iter().find(|line| line["left_out"].is_u64()).expect("they are counted");
    assert_eq!((&left_out["stream"], &left_out["left_out"]), (&"climate_1m".into(), &rows.into()));
    let (code, _, stderr) = filled.try_log(&["import", &file, "--into", "climate_1m"]);
    assert!(code == 2 && stderr.contains("a query writes"), "{code} {stderr}");
}

#[test]
fn an_import_beside_a_running_gateway_is_refused_with_75() {
    let filled = Filled::new();
    let file = filled.file("all.ndjson");
    filled.log(&["export", "--out", &file]);
    let gateway = Gateway::start(&filled.config);
    let (code, _, stderr) = filled.try_log(&["import", &file]);
    assert!(code == 75 && stderr.contains("stop it, import, and start it again"), "{stderr}");
    filled.log(&["import", &file, "--check"]);
    let before = lines(&filled.log(&["export"])).len();
    filled.stop(gateway);
    filled.log(&["import", &file]);
    assert_eq!(lines(&filled.log(&["export"])).len(), before + 23, "a second import stores again");
}

#[test]
fn damage_is_named_by_verify_mentioned_by_ls_and_makes_an_export_incomplete() {
    let filled = Filled::new();
    let segment = filled.dir.path().join("data/journal").join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).expect("the first segment");
    let at = bytes.windows(7).position(|part| part == b"no JSON").expect("the message");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("written");

    let (code, stdout, stderr) = filled.try_log(&["verify"]);
    let stdout = text(&stdout);
    assert_eq!(code, 1, "{stderr}");
    for part in ["damage: ", "offset", "00000000000000000000.log", "byte", "1 damaged range"] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let total = lines(&filled.log(&["ls"])).pop().expect("a total");
    let damage = total["total"]["damage"].as_array().expect("a list");
    assert_eq!(damage.len(), 1, "{total}");
    assert!(damage[0]["end"].as_u64() > damage[0]["first"].as_u64(), "{total}");
    let (code, stdout, stderr) = filled.try_log(&["export"]);
    assert!(code == 1 && stderr.contains("1 range of the log cannot be read"), "{code} {stderr}");
    let lost =
        damage[0]["end"].as_u64().expect("a number") - damage[0]["first"].as_u64().expect("one");
    assert_eq!(lines(&stdout).len() as u64, 23 - lost);
}

#[test]
fn repair_says_what_is_lost_does_nothing_unasked_and_keeps_what_was_damaged() {
    let filled = Filled::empty();
    let content = std::fs::read_to_string(&filled.config).expect("it was written");
    std::fs::write(&filled.config, format!("{content}\n[log]\nsegment_size = \"2 MiB\"\n"))
        .expect("room");
    let gateway = Gateway::start(&filled.config);
    let port = gateway.mqtt.port();
    let notes: Vec<String> =
        (0..300).map(|n| format!("note {n:03} {}", "x".repeat(9000))).collect();
    // A commit each at first, so that one damaged byte costs one record.
    notes[..10].iter().for_each(|note| publish(port, &[("notes/x", note)]));
    let rest: Vec<_> = notes[10..].iter().map(|note| ("notes/x", &note[..])).collect();
    rest.chunks(50).for_each(|notes| publish(port, notes));
    filled.stop(gateway);
    let segment = filled.dir.path().join("data/journal").join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).expect("the first segment");
    let at = bytes.windows(8).position(|part| part == b"note 007").expect("a note");
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");

    let (code, stdout, stderr) = filled.try_log(&["repair"]);
    let stdout = text(&stdout);
    assert!(code == 1 && stderr.contains("nothing was changed"), "{code} {stderr}");
    assert!(
        stdout.contains("damage: ") && stdout.contains("lost: 1 record of notes/0"),
        "{stdout}"
    );
    assert_eq!(std::fs::read(&segment).expect("it is there"), bytes);

    let gateway = Gateway::start(&filled.config);
    let (code, _, stderr) = filled.try_log(&["repair", "--yes"]);
    assert!(code == 75 && stderr.contains("stop it, repair"), "{code} {stderr}");
    filled.stop(gateway);

    let done = text(&filled.log(&["repair", "--yes"]));
    assert!(done.contains("1 segment written anew, 1 offset lost"), "{done}");
    let kept = segment.with_extension("damaged-0");
    assert_eq!(std::fs::read(kept).expect("the damaged one"), bytes);
    let verified = text(&filled.log(&["verify"]));
    assert!(verified.contains("lost before") && verified.contains("0 damaged"), "{verified}");
    assert_eq!(text(&filled.log(&["repair", "--yes"])), "nothing is damaged\n");
    let shown = lines(&filled.log(&["export", "--stream", "notes"]));
    assert_eq!(shown.len(), 299);
    filled.stop(Gateway::start(&filled.config));
}

#[test]
fn verify_beside_a_busy_writer_and_its_retention_raises_no_alarm() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = log_lite::JournalOptions {
        segment_size: 64 << 10,
        max_size: Some(256 << 10),
        ..log_lite::JournalOptions::default()
    };
    let (mut log, _) =
        log_lite::Journal::open_dir(&dir.path().join("journal"), options).expect("a log");
    let mut write = move |number: i64| {
        // Commits of several batches, some of them larger than a page.
        for partition in 0..8 {
            let value = vec![partition as u8; 100 << (number % 5)];
            log.append(partition, number, b"key", &value).expect("room");
        }
        log.commit().expect("room on disk");
        log.enforce_retention(number).expect("it deletes");
        log.start()
    };
    let mut number = 0;
    while write(number) == 0 {
        number += 1;
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                number += 1;
                write(number);
            }
        });
        for _ in 0..10 {
            let data = dir.path().to_str().expect("UTF-8");
            let output = headwater(&["log", "verify", "--data", data]);
            let said = text(&output.stdout);
            done.store(output.status.code() != Some(0), Relaxed);
            assert!(!done.load(Relaxed) && said.contains("0 damaged"), "{said}");
        }
        done.store(true, Relaxed);
    });
}
