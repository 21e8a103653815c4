//! `headwater log verify`: reads everything and checks every checksum.

use std::path::Path;

use log_lite::{Damage, ReadError, Reader, Report};

use super::place::Place;
use super::progress::Bar;
use super::walk;
use super::{deep, human};
use crate::cli::print_line;
use crate::exit::{Code, Failure};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// Decode each record too, as its stream's format says; exit 1 if one does not
    #[arg(long)]
    deep: bool,
}

pub(super) fn verify(args: &Args) -> Result<(), Failure> {
    let log = if args.deep { Some(args.place.open()?) } else { None };
    let report = look(&args.place.segments()?)?;
    print_findings(&report);
    let bytes: u64 = report.segments.iter().map(|segment| segment.used).sum();
    print_line(&format!(
        "{}, {}, {bytes} bytes ({}), {}",
        human::count(report.segments.len() as u64, "segment"),
        human::count(report.records(), "record"),
        human::bytes(bytes),
        human::count(report.damage.len() as u64, "damaged range")
    ));
    let bad = log.map_or(Ok(0), |log| deep::decode_all(&log))?;
    if report.damage.is_empty() && bad == 0 {
        return Ok(());
    }
    if report.damage.is_empty() {
        return Err(Failure::new(
            Code::No,
            "the records above are whole and not what their streams hold: queries and routes pass \
             them over. See them with `headwater log show --format raw`, and check that the format \
             of their stream is the one that it had when they were stored",
        ));
    }
    Err(Failure::new(
        Code::No,
        "the journal is damaged in the ranges above; all else is served and nothing was deleted: \
         keep a copy of the segments, look at the disk, and see `headwater log repair`",
    ))
}

/// Reads the whole log, with a bar.
pub(super) fn look(journal: &Path) -> Result<Report, Failure> {
    let mut bar = Bar::new();
    let report = log_lite::verify(journal, &mut |done, total| bar.set(done, total));
    let mut report = report.map_err(walk::disk)?;
    for found in std::mem::take(&mut report.damage) {
        if lasts(journal, &found)? {
            report.damage.push(found);
        }
    }
    Ok(report)
}

/// Says what is not whole, a line each.
pub(super) fn print_findings(report: &Report) {
    if let Some(torn) = &report.torn_tail {
        print_line(&format!(
            "tail: {} bytes of a commit that is under way or was cut, at {:020}.log byte {}; nothing \
             whole stands behind them",
            torn.bytes, torn.segment, torn.byte
        ));
    }
    for lost in &report.lost {
        print_line(&format!("lost before, and recorded: {lost}"));
    }
    for damage in &report.damage {
        print_line(&format!("damage: {damage}"));
    }
}

/// Whether damage is still there at a second look. A running gateway may have been in the middle
/// of a write at the first, and its retention may have deleted the segment since.
fn lasts(journal: &Path, damage: &Damage) -> Result<bool, Failure> {
    if damage.first == damage.end {
        // A spare copy, which no reader looks at.
        return Ok(true);
    }
    let mut reader = Reader::open_dir(journal).map_err(walk::disk)?;
    reader.seek(damage.first);
    match reader.next(u64::MAX) {
        Ok(Some(batch)) => Ok(batch.first() > damage.first),
        Err(ReadError::Trimmed { .. } | ReadError::Lost { .. }) => Ok(false),
        Ok(None) | Err(ReadError::Damaged { .. }) => Ok(true),
        Err(problem) => Err(walk::disk(problem)),
    }
}
