//! Files of a directory upstream, carried to another gateway, through the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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

const ROUTES: &str = r#"
[upstream.stick]
kind = "directory"
path = "stick"
rotate_size = "64 KiB"
rotate_every = "1s"
[[route]]
stream = "climate"
upstream = "stick"
topic = "plant.climate"
[[route]]
stream = "notes"
upstream = "stick"
topic = "plant.notes"
format = "original"
"#;

fn payload(number: i64) -> String {
    format!("{{\"ts\":{},  \"t\":21.50,\"n\":{number}}}", 1_763_700_000_000 + number)
}

fn publish_numbers(gateway: &Gateway, numbers: std::ops::Range<i64>) {
    let readings: Vec<(String, String)> = numbers
        .map(|number| (format!("sensors/d{}/climate", number % 5), payload(number)))
        .collect();
    let readings: Vec<(&str, &str)> =
        readings.iter().map(|(topic, payload)| (&topic[..], &payload[..])).collect();
    publish(gateway.mqtt.port(), &readings);
}

fn stop(mut gateway: Gateway) {
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
}

/// A gateway that has run once, to import into.
fn target(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).expect("room");
    let path = config(dir, STREAMS);
    stop(Gateway::start(&path));
    path
}

fn import(stick: &Path, config: &Path, more: &[&str]) -> (i32, Vec<Json>, String) {
    let (stick, config) = (stick.to_str().expect("UTF-8"), config.to_str().expect("UTF-8"));
    let output = headwater(&[&["import", stick, "-c", config], more].concat());
    (output.status.code().expect("it ended"), lines(&output.stdout), text(&output.stderr))
}

fn stored(shown: &[Json]) -> u64 {
    shown.iter().filter_map(|line| line["stored"].as_u64()).sum()
}

/// The payloads of a stream, in the order of the log.
fn payloads(config: &Path, stream: &str) -> Vec<Json> {
    let config = config.to_str().expect("UTF-8");
    let output = headwater(&["log", "export", "--plain", "--stream", stream, "-c", config]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    lines(&output.stdout)
}

fn numbers(config: &Path) -> Vec<i64> {
    let all = payloads(config, "climate");
    let mut numbers: Vec<i64> =
        all.iter().map(|line| line["value"]["n"].as_i64().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "ndjson") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_carried_to_another_gateway_is_there_once_however_often_it_comes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = config(dir.path(), &format!("{STREAMS}{ROUTES}"));
    let stick = dir.path().join("stick");
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 0..40);
    publish(gateway.mqtt.port(), &[("notes/x", "first note"), ("notes/x", "\"quoted\"")]);
    stop(gateway);
    let target = target(&dir.path().join("b"));
    let (code, shown, said) = import(&stick, &target, &[]);
    assert_eq!((code, stored(&shown)), (0, 42), "{said}");
    assert_eq!(numbers(&target), (0..40).collect::<Vec<_>>());
    let notes: Vec<Json> =
        payloads(&target, "notes").into_iter().map(|line| line["value"].clone()).collect();
    assert_eq!(notes, ["first note", "quoted"]);
    assert_eq!(stored(&import(&stick, &target, &[]).1), 0, "the same stick again");

    // The files are taken off the stick, and it comes back with more.
    for file in files(&stick) {
        std::fs::remove_file(file).expect("there");
    }
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 40..55);
    stop(gateway);
    let (code, shown, said) = import(&stick, &target, &[]);
    assert_eq!((code, stored(&shown)), (0, 15), "{said}");
    assert_eq!(numbers(&target), (0..55).collect::<Vec<_>>());
}

#[test]
fn a_payload_arrives_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = config(dir.path(), &format!("{STREAMS}{ROUTES}"));
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 0..1);
    stop(gateway);
    let target = target(&dir.path().join("b"));
    let (code, _, said) = import(&dir.path().join("stick"), &target, &[]);
    assert_eq!(code, 0, "{said}");
    let config = target.to_str().expect("UTF-8");
    let output = headwater(&["log", "export", "--stream", "climate", "-c", config]);
    let raw = lines(&output.stdout)[0]["raw"].as_str().expect("base64").to_owned();
    let bytes = base64_decode(&raw);
    let expected = payload(0);
    assert!(
        bytes.windows(expected.len()).any(|part| part == expected.as_bytes()),
        "{}",
        text(&bytes)
    );
}

fn base64_decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::new();
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        bits = bits << 6 | u32::try_from(digit).expect("below 64");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("a byte"));
        }
    }
    bytes
}

#[test]
fn damaged_and_missing_files_are_named_and_hold_back_only_what_comes_after_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = config(dir.path(), &format!("{STREAMS}{ROUTES}"));
    let stick = dir.path().join("stick");
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 0..40);
    stop(gateway);
    // A second file in each partition.
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 40..80);
    publish(gateway.mqtt.port(), &[("notes/x", "a note")]);
    stop(gateway);
    let check = |stick: &Path| {
        let output = headwater(&["import", "--check", stick.to_str().expect("UTF-8")]);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(check(&stick).0, Some(0));
    let first_and_last = |partition: &str| {
        let mut all = files(&stick.join("plant.climate").join(partition));
        all.sort_by_key(|path| {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("offsets");
            name.split('-').next().and_then(|first| first.parse::<u64>().ok()).expect("a number")
        });
        assert!(all.len() >= 2, "{all:?}");
        (all[0].clone(), all[all.len() - 1].clone())
    };
    // Of one partition the first file is missing, of the other the last one is damaged.
    let ((missing, _), (_, damaged)) = (first_and_last("0"), first_and_last("1"));
    let lines_of = |path: &Path| std::fs::read_to_string(path).expect("a file").lines().count();
    let good: usize = files(&stick.join("plant.climate/1")).iter().map(|path| lines_of(path)).sum();
    let good = good - lines_of(&damaged);
    let (kept, whole) = (std::fs::read(&missing), std::fs::read(&damaged).expect("a file"));
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("room");
    std::fs::remove_file(&missing).expect("there");
    let (code, said) = check(&stick);
    assert_eq!(code, Some(1));
    let name = |path: &Path| path.display().to_string();
    assert!(said.contains(&format!("{}: damaged", name(&damaged))), "{said}");
    assert!(said.contains(&format!("{}: missing", name(&missing))), "{said}");
    assert!(said.contains("2 files are damaged or missing"), "{said}");
    let target = target(&dir.path().join("b"));
    let (code, shown, said) = import(&stick, &target, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("only what comes before is stored"), "{said}");
    assert_eq!((numbers(&target).len(), payloads(&target, "notes").len()), (good, 1));
    assert_eq!(stored(&shown), good as u64 + 1);
    let (code, shown, _) = import(&stick, &target, &[]);
    assert_eq!((code, stored(&shown)), (1, 0), "the same again");
    std::fs::write(&damaged, whole).expect("room");
    std::fs::write(&missing, kept.expect("a file")).expect("room");
    let (code, shown, said) = import(&stick, &target, &[]);
    assert_eq!((code, stored(&shown)), (0, 80 - good as u64), "{said}");
    assert_eq!(numbers(&target), (0..80).collect::<Vec<_>>());
    std::fs::write(stick.join("plant.notes/.source.json"), "no JSON").expect("room");
    let (code, shown, said) = import(&stick, &target, &[]);
    assert_eq!((code, stored(&shown)), (1, 0));
    assert!(said.contains("plant.notes/.source.json: damaged"), "{said}");
    let nothing = headwater(&["import", "--check", dir.path().join("b").to_str().expect("UTF-8")]);
    assert_eq!(nothing.status.code(), Some(66), "no directory of a route");
}

#[test]
fn a_stream_that_is_not_there_is_named_and_another_can_be_given() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let source = config(dir.path(), &format!("{STREAMS}{ROUTES}"));
    let gateway = Gateway::start(&source);
    publish_numbers(&gateway, 0..10);
    stop(gateway);
    let other = dir.path().join("b");
    std::fs::create_dir(&other).expect("room");
    let target =
        config(&other, "[[stream]]\nname = \"weather\"\ntopic = \"w/#\"\nformat = \"json\"\n");
    stop(Gateway::start(&target));
    let topic = dir.path().join("stick/plant.climate");
    let (code, _, said) = import(&topic, &target, &[]);
    assert_eq!(code, 2);
    assert!(said.contains("\"climate\"") && said.contains("--into"), "{said}");
    let (code, shown, said) = import(&topic, &target, &["--into", "weather"]);
    assert_eq!((code, stored(&shown)), (0, 10), "{said}");
    assert_eq!(payloads(&target, "weather").len(), 10);
}

/// A stick as a route writes it, with one file whose manifest is not there yet.
fn large_stick(dir: &Path, count: i64) -> PathBuf {
    let stick = dir.join("stick");
    let partition = stick.join("t/0");
    std::fs::create_dir_all(&partition).expect("room");
    let source = r#"{"v":1,"gateway":"far","incarnation":"i","stream":"climate"}"#;
    std::fs::write(stick.join("t/.source.json"), source).expect("room");
    let mut text = String::new();
    for number in 0..count {
        text += &format!(
            "{{\"offset\":{number},\"partition\":0,\"time\":{number},\"key\":\"d{}\",\
             \"topic\":\"sensors/d/climate\",\"value\":{}}}\n",
            number % 5,
            payload(number)
        );
    }
    std::fs::write(partition.join(format!("0-{}.ndjson", count - 1)), text).expect("room");
    stick
}

#[test]
fn an_import_that_is_killed_again_and_again_stores_each_record_once() {
    const COUNT: i64 = 60_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let stick = large_stick(dir.path(), COUNT);
    let target = target(&dir.path().join("b"));
    let mut between = 0;
    for round in 0..8 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["import".as_ref(), stick.as_os_str(), "-c".as_ref(), target.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        std::thread::sleep(Duration::from_millis(250 + 170 * round));
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        if round % 3 == 1 {
            // The gateway goes on with its own records where the import stopped.
            let gateway = Gateway::start(&target);
            publish_numbers(&gateway, COUNT + between..COUNT + between + 3);
            between += 3;
            stop(gateway);
        }
    }
    let (code, _, said) = import(&stick, &target, &[]);
    assert_eq!(code, 0, "{said}");
    let numbers = numbers(&target);
    let first = numbers.iter().zip(0..).position(|(number, expected)| *number != expected);
    assert_eq!((first, numbers.len()), (None, usize::try_from(COUNT + between).expect("few")));
}
