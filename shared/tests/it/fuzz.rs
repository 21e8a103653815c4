//! The inputs that fuzzing kept: between them they reach all that was ever reached, and those with
//! a name were faults once.

#[path = "../../../log-lite/fuzz/src/input.rs"]
mod input;
#[path = "../../../log-lite/fuzz/src/replay.rs"]
mod replay;
#[expect(unreachable_pub, reason = "the fuzz targets, in a crate of their own, call them")]
#[path = "../../../log-lite/fuzz/src/wire/mod.rs"]
mod targets;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../log-lite/fuzz/corpus");

#[test]
fn blocks_of_any_bytes_give_rows_or_an_error() {
    replay(CORPORA, "block_bytes", targets::block_bytes);
}

#[test]
fn rows_of_any_values_come_back() {
    replay(CORPORA, "block_rows", targets::block_rows);
}

#[test]
fn messages_of_any_bytes_are_read_or_refused() {
    replay(CORPORA, "node_messages", targets::node_messages);
}

#[test]
fn envelopes_of_any_bytes_are_read_or_refused() {
    replay(CORPORA, "envelope", targets::envelope);
}

#[test]
fn texts_of_any_bytes_are_decimals_or_none() {
    replay(CORPORA, "decimal", targets::decimal);
}

#[test]
fn texts_of_any_bytes_are_topics_of_nodes_or_none() {
    replay(CORPORA, "topic", targets::topic);
}
