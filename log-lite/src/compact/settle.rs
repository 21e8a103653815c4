//! What a cut compaction or repair left beside the log.

use std::io::{self, ErrorKind};

use crate::segment;
use crate::storage::Storage;

/// Removes files that never took the place of a segment, and segments that were merged into one
/// before them. A swap that merges leaves a file beside the second of its segments until all that
/// were merged away are removed, so only where such a file is does anything have to be looked at.
pub(crate) fn settle<S: Storage>(storage: &S) -> io::Result<()> {
    let asides = storage.asides()?;
    if asides.is_empty() {
        return Ok(());
    }
    // No segment is removed before what took its place is there for good.
    storage.sync_dir()?;
    let mut segments: Vec<u64> = storage.list()?.iter().map(|segment| segment.base).collect();
    segments.sort_unstable();
    let mut removed = false;
    for aside in &asides {
        let after = segments.partition_point(|base| base <= aside);
        // The marked segment itself may be gone already, or be the one that is looked for.
        let Some(merged_into) = after.checked_sub(1) else { continue };
        for holds in merged_into.saturating_sub(1)..=merged_into {
            removed |= remove_covered(storage, segments[holds], &segments)?;
        }
    }
    if removed {
        storage.sync_dir()?;
    }
    for aside in asides {
        ignore_missing(storage.remove_aside(aside))?;
    }
    Ok(())
}

/// Removes the segments that this one covers, if it is a compacted one.
fn remove_covered<S: Storage>(storage: &S, holds: u64, segments: &[u64]) -> io::Result<bool> {
    let file = match storage.open(holds, false) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let Some(extent) = segment::read_head(&file, holds)?.ok().and_then(|head| head.extent) else {
        return Ok(false);
    };
    let covered = segments.iter().filter(|base| (holds + 1..extent.end).contains(base));
    let mut removed = false;
    for base in covered {
        ignore_missing(storage.remove(*base))?;
        removed = true;
    }
    Ok(removed)
}

pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
