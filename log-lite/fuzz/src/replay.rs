//! Runs a target over its corpus; tests include this.

use std::panic::catch_unwind;
use std::path::Path;

/// Runs `target` over the inputs in `corpora/name`, and names the one that it fails at.
pub(crate) fn replay(corpora: &str, name: &str, target: fn(&[u8])) {
    let corpus = Path::new(corpora).join(name);
    let listed = std::fs::read_dir(&corpus).expect("a corpus for each target");
    let mut inputs: Vec<_> = listed.map(|entry| entry.expect("its inputs").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "nothing in {}", corpus.display());
    for input in inputs {
        let bytes = std::fs::read(&input).expect("an input that was just listed");
        assert!(catch_unwind(|| target(&bytes)).is_ok(), "{name} fails at {}", input.display());
    }
}
