//! The table of `docs/mqtt-conformance.md` against the tests: each statement that has a test names
//! one that exists, and each test that is named after a statement is in the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// `3::connect::mqtt_3_1_0_1_what_comes...` for each statement's test of a version.
fn tests(version: char) -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/spec/v{version}"));
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("the tests of a version") {
        let path = entry.expect("a file").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a source");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let names = words.filter(|word| word.starts_with("mqtt_"));
        found.extend(names.map(|name| format!("{version}::{module}::{name}")));
    }
    found
}

/// The same names from the table, and the statements that have none.
fn table() -> (BTreeSet<String>, usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mqtt-conformance.md");
    let text = fs::read_to_string(path).expect("the table");
    let mut found = BTreeSet::new();
    let (mut version, mut without, mut seen) = (' ', 0, BTreeSet::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## MQTT ") {
            version = title.chars().next().expect("a version");
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, test, ..] = cells[..] else { continue };
        if !id.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        assert!(seen.insert((version, id.to_owned())), "MQTT-{id} is in the table twice");
        let Some(tests) = test.strip_prefix('`') else {
            assert!(test.len() > 5, "MQTT-{id} has neither a test nor a reason");
            without += 1;
            continue;
        };
        let prefix = format!("mqtt_{}_", id.replace(['.', '-'], "_"));
        for test in tests.split("<br>") {
            let (module, sentence) = test.trim_matches('`').split_once("` ").expect("a sentence");
            let name = sentence.trim().replace(' ', "_");
            found.insert(format!("{version}::{module}::{prefix}{name}"));
        }
    }
    (found, without)
}

#[test]
fn every_statement_of_the_table_has_its_test_or_its_reason() {
    let tests: BTreeSet<String> = ['3', '5'].into_iter().flat_map(tests).collect();
    let (table, without) = table();
    let missing: Vec<_> = table.difference(&tests).collect();
    assert!(missing.is_empty(), "in the table, and there is no such test: {missing:#?}");
    let unlisted: Vec<_> = tests.difference(&table).collect();
    assert!(unlisted.is_empty(), "a test that the table does not have: {unlisted:#?}");
    assert!(tests.len() > 300 && without < 70, "{} tests, {without} without", tests.len());
}
