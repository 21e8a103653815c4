//! `headwater log verify`: reads everything and checks every checksum.

use log_lite::{Damage, ReadError, Reader};

use super::human;
use super::place::Place;
use super::progress::Bar;
use super::walk;
use crate::cli::{journal_dir, print_line};
use crate::exit::{Code, Failure};

pub(super) fn verify(place: &Place) -> Result<(), Failure> {
    let journal = journal_dir(&place.dir()?);
    let mut bar = Bar::new();
    let mut report =
        log_lite::verify(&journal, &mut |done, total| bar.set(done, total)).map_err(walk::disk)?;
    drop(bar);
    let mut damage = Vec::new();
    for found in std::mem::take(&mut report.damage) {
        if lasts(&journal, &found)? {
            damage.push(found);
        }
    }
    if let Some(torn) = &report.torn_tail {
        print_line(&format!(
            "tail: {} bytes of a commit that is under way or was cut, at {:020}.log byte {}; nothing \
             whole stands behind them",
            torn.bytes, torn.segment, torn.byte
        ));
    }
    for damage in &damage {
        print_line(&format!("damage: {damage}"));
    }
    let bytes: u64 = report.segments.iter().map(|segment| segment.used).sum();
    print_line(&format!(
        "{}, {}, {bytes} bytes ({}), {}",
        human::count(report.segments.len() as u64, "segment"),
        human::count(report.records(), "record"),
        human::bytes(bytes),
        human::count(damage.len() as u64, "damaged range")
    ));
    if damage.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::No,
        "the journal is damaged in the ranges above; all else is served and nothing was deleted: \
         keep a copy of the segments, then look at the disk",
    ))
}

/// Whether damage is still there at a second look. A running gateway may have been in the middle
/// of a write at the first, and its retention may have deleted the segment since.
fn lasts(journal: &std::path::Path, damage: &Damage) -> Result<bool, Failure> {
    let mut reader = Reader::open_dir(journal).map_err(walk::disk)?;
    reader.seek(damage.first);
    match reader.next(u64::MAX) {
        Ok(Some(batch)) => Ok(batch.first() > damage.first),
        Err(ReadError::Trimmed { .. }) => Ok(false),
        Ok(None) | Err(ReadError::Damaged { .. }) => Ok(true),
        Err(problem) => Err(walk::disk(problem)),
    }
}
