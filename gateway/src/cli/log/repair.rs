//! `headwater log repair`: says what damage costs and, where asked, moves it aside.

use std::collections::BTreeMap;
use std::path::Path;

use log_lite::{Damage, JournalError, Reader, Report};

use super::human;
use super::place::{Log, Place};
use super::progress::Bar;
use super::verify;
use super::walk::{self, Sizes, with_source};
use crate::cli::print_line;
use crate::exit::{Code, Failure};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    place: Place,
    /// Do it: write damaged segments anew, and keep the damaged ones beside them. The gateway has
    /// to be stopped
    #[arg(long)]
    yes: bool,
}

pub(super) fn repair(args: &Args) -> Result<(), Failure> {
    let data = args.place.dir()?;
    let log = args.place.open()?;
    let report = verify::look(&log.journal)?;
    if report.damage.is_empty() && report.torn_tail.is_none() {
        print_line("nothing is damaged");
        return Ok(());
    }
    print_losses(&log, &report)?;
    if args.yes {
        return carry_out(&log, &data);
    }
    if report.damage.is_empty() {
        print_line("nothing else is damaged: the next start of the gateway clears the tail");
        return Ok(());
    }
    Err(Failure::new(
        Code::No,
        format!(
            "nothing was changed: stop the gateway and give --yes, and {} will be written anew \
             with what is whole, the damaged kept aside",
            human::count(segments(&report.damage), "segment")
        ),
    ))
}

/// Says what is damaged, and which streams lose how much by it.
fn print_losses(log: &Log, report: &Report) -> Result<(), Failure> {
    verify::print_findings(report);
    if report.damage.is_empty() {
        return Ok(());
    }
    let offsets = report.damage.iter().map(|damage| damage.end - damage.first);
    let offsets = offsets.fold(0, u64::saturating_add);
    let (lost, known) = losses(log, report)?;
    for (number, records) in &lost {
        print_line(&format!(
            "lost: {} of {}",
            human::count(*records, "record"),
            log.label(*number)
        ));
    }
    let unknown = offsets.saturating_sub(lost.values().sum());
    if unknown > 0 || !known {
        print_line(&format!(
            "lost: {} of streams that are not known",
            human::count(unknown, "record")
        ));
    }
    Ok(())
}

/// Lost records of each partition: what a segment's summary counts and the segment no longer has.
/// `false`: a damaged segment has no summary that can be believed.
fn losses(log: &Log, report: &Report) -> Result<(BTreeMap<u16, u64>, bool), Failure> {
    let reader = Reader::open_dir(&log.journal).map_err(walk::disk)?;
    let damaged = |base| report.damage.iter().any(|damage| damage.segment == base);
    let sizes = Sizes::of(&log.journal)?;
    let (mut lost, mut known) = (BTreeMap::new(), true);
    for entry in sizes.segments().iter().filter(|entry| damaged(entry.base)) {
        let Some(info) = reader.segment_info(*entry).map_err(walk::disk)? else {
            known = false;
            continue;
        };
        let found = report.segments.iter().find(|segment| segment.base == entry.base);
        for (number, records) in info.partitions {
            let whole = found.and_then(|found| found.partitions.get(&number)).copied();
            let missing = records.saturating_sub(whole.unwrap_or(0));
            if missing > 0 {
                *lost.entry(number).or_default() += missing;
            }
        }
    }
    Ok((lost, known))
}

fn carry_out(log: &Log, data: &Path) -> Result<(), Failure> {
    let mut bar = Bar::new();
    let report = log_lite::repair(&log.journal, &mut |done, total| bar.set(done, total));
    drop(bar);
    let report = report.map_err(|problem| match problem {
        JournalError::Locked { .. } => Failure::new(
            Code::TryAgain,
            format!(
                "the gateway of {} is running: stop it, repair, and start it again",
                data.display()
            ),
        ),
        other => Failure::new(Code::Disk, with_source(&other)),
    })?;
    for repaired in &report.repaired {
        print_line(&format!(
            "repaired: {:020}.log, which has {} now; the damaged one is kept as {}",
            repaired.segment,
            human::count(repaired.records, "record"),
            repaired.kept_as
        ));
    }
    for aside in &report.recovery.set_aside {
        print_line(&format!("set aside: {:020}.log as {}", aside.segment, aside.name));
    }
    print_line(&format!(
        "{} written anew, {} lost; readers are told which offsets",
        human::count(report.repaired.len() as u64, "segment"),
        human::count(report.lost(), "offset")
    ));
    Ok(())
}

fn segments(damage: &[Damage]) -> u64 {
    let bases: std::collections::BTreeSet<u64> = damage.iter().map(|d| d.segment).collect();
    bases.len() as u64
}
