//! The inputs that fuzzing kept: between them they reach all that was ever reached, and those with
//! a name were faults once.

#[path = "../../fuzz/src/input.rs"]
mod input;
#[path = "../../fuzz/src/replay.rs"]
mod replay;
#[expect(unreachable_pub, reason = "the fuzz targets, in a crate of their own, call them")]
#[path = "../../fuzz/src/log/mod.rs"]
mod targets;

use replay::replay;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

#[test]
fn chunk_headers_are_survived() {
    replay(CORPORA, "chunk_header", targets::chunk_header);
}

#[test]
fn segments_of_any_bytes_are_read_recovered_and_appended_to() {
    replay(CORPORA, "segments", targets::segments);
}

#[test]
fn summaries_of_any_bytes_are_survived() {
    replay(CORPORA, "summary", targets::summary);
}

#[test]
fn a_journal_keeps_its_promises_through_any_life() {
    replay(CORPORA, "journal_ops", targets::journal_ops);
}

#[test]
fn a_log_of_keys_keeps_its_promises_through_compaction_damage_and_repair() {
    replay(CORPORA, "keyed_ops", targets::keyed_ops);
}

#[test]
fn flash_of_any_bytes_is_mounted_and_written_to() {
    replay(CORPORA, "ring_image", targets::ring_image);
}

#[test]
fn a_ring_keeps_its_promises_through_any_life() {
    replay(CORPORA, "ring_ops", targets::ring_ops);
}
