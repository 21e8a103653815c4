//! Power cuts of the real gateway on real file systems: whatever the moment, and whichever of the
//! sectors that no flush covered are there, the gateway starts by itself and what it had
//! acknowledged is there, once.

mod check;
mod logs;
mod recording;

use std::path::Path;
use std::time::{Duration, Instant};

use hw_tests::disk::{FileSystem, Keep, may_mount};
use hw_tests::random::Random;

use check::{Cut, Cutter, Survived};
use recording::Recording;

const CONFIG: &str = include_str!("power_cuts/headwater.toml");
/// Of the configuration.
const SEGMENT_BYTES: u64 = 2 << 20;
const SIZE_BYTES_MAX: u64 = 16 << 20;
const AGE_MS_MAX: i64 = 2_000;
/// Below the directory of the configuration.
const JOURNAL: &str = "disk/data/journal";
const LOGS: &str = "disk/data/logs";
const OUT: &str = "disk/out";

/// A gateway opens its doors within this time, and ends within that.
const READY: Duration = Duration::from_secs(30);
const STOPPED: Duration = Duration::from_secs(30);

/// How long a gateway works for one recording.
const WORK: Duration = Duration::from_secs(12);
/// Cuts of one recording.
const CUTS_EACH: usize = 75;
/// After each so many cuts, the gateway's recovery from the last of them is cut so many times.
const AGAIN_EVERY: usize = 6;
const AGAIN: usize = 3;
/// Of both file systems together.
const CUTS: usize = 300;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[expect(clippy::print_stdout, reason = "the figures of a run")]
fn cut_power_of(system: FileSystem) {
    let seed = number("HEADWATER_SEED").unwrap_or(20_261_121);
    let cuts = number("HEADWATER_CUTS").unwrap_or(CUTS as u64).div_ceil(2) as usize;
    let name = system.name();
    if !may_mount("make power-cuts") {
        return;
    }
    let began = Instant::now();
    let mut all = Vec::new();
    let mut round = 0;
    while all.len() < cuts {
        let recording = Recording::make(system, seed + round, WORK);
        println!(
            "{name}: {:.0} s, {} operations, {} flushes, {} records, {} marks, {} compactions",
            began.elapsed().as_secs_f64(),
            recording.history.len(),
            recording.history.flushes(),
            recording.journal.end(),
            recording.marks.len(),
            recording.compactions,
        );
        all.extend(cut_recording(&recording, (cuts - all.len()).min(CUTS_EACH)));
        round += 1;
    }
    report(name, seed, began.elapsed(), &all);
}

/// As many cuts: a second one follows some of the first.
fn cut_recording(recording: &Recording, count: usize) -> Vec<Survived> {
    let mut random = Random::new(recording.seed ^ 0x00C0_FFEE);
    let again = count / (AGAIN_EVERY + AGAIN);
    let firsts = count - again * AGAIN;
    let mut moments: Vec<usize> = (0..firsts).map(|_| recording.moment(&mut random)).collect();
    moments.sort_unstable();
    let mut cutter = Cutter::first(recording);
    let mut all = Vec::new();
    for (at, moment) in (1..).zip(moments) {
        let (keep, heard, seed) = (Keep::any(&mut random), moment as u64, random.bits());
        let cut = Cut { moment, heard, end_max: u64::MAX, keep, seed, go_on: at % 3 == 0 };
        all.push(made(recording, &mut cutter, &cut));
        if at % AGAIN_EVERY == 0 && at / AGAIN_EVERY <= again {
            all.extend(cut_again(recording, &cutter, &cut, &mut random));
        }
    }
    all
}

/// Cuts the power again while the gateway recovers from a cut, or soon after.
fn cut_again(
    recording: &Recording,
    cutter: &Cutter<'_>,
    first: &Cut,
    random: &mut Random,
) -> Vec<Survived> {
    let after = cutter.aftermath(first);
    let after = after.unwrap_or_else(|what| fail(recording, first, cutter, &what));
    let span = (after.ended - after.began) as u64 + 1;
    let mut moments: Vec<usize> =
        (0..AGAIN).map(|_| after.began + random.below(span) as usize).collect();
    moments.sort_unstable();
    let mut cutter = Cutter::second(recording, &after);
    let cut = |moment| {
        let (keep, seed) = (Keep::any(random), random.bits());
        let cut = Cut { moment, keep, seed, end_max: after.end, ..*first };
        made(recording, &mut cutter, &cut)
    };
    moments.into_iter().map(cut).collect()
}

fn made(recording: &Recording, cutter: &mut Cutter<'_>, cut: &Cut) -> Survived {
    cutter.make(cut).unwrap_or_else(|what| fail(recording, cut, cutter, &what))
}

/// Keeps the disk, since no second recording has the same moments.
fn fail(recording: &Recording, cut: &Cut, cutter: &Cutter<'_>, what: &str) -> ! {
    let (name, seed) = (recording.system.name(), recording.seed);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-cut-{name}-{seed}.img"));
    let kept_where = match cutter.save(cut, &kept) {
        Ok(_) => format!("mount -t {name} -o loop {} DIR", kept.display()),
        Err(error) => format!("it could not be kept: {error}"),
    };
    panic!(
        "{name}, seed {seed}, {cut:?} of {} operations: {what}\nthe disk: {kept_where}\nagain: \
         make power-cuts CUTS={CUTS} SEED={seed}",
        recording.history.len()
    );
}

#[expect(clippy::print_stdout, reason = "the figures of a run")]
fn report(name: &str, seed: u64, took: Duration, all: &[Survived]) {
    let sum = |of: fn(&Survived) -> u64| all.iter().map(of).sum::<u64>();
    let slowest = all.iter().map(|one| one.ready).max().unwrap_or_default();
    println!(
        "{name}, seed {seed}: {} cuts in {:.0} s; {} promises, {} of them not yet deleted by \
         retention; of deleted ones {} kept records and {} last values of keys found, {} overtaken by it; {} sectors lost and {} kept behind the last flush; {} torn tails; ready after \
         {} ms at most",
        all.len(),
        took.as_secs_f64(),
        sum(|one| one.promised as u64),
        sum(|one| one.present as u64),
        sum(|one| one.found.kept as u64),
        sum(|one| one.found.keys as u64),
        sum(|one| one.found.overtaken as u64),
        sum(|one| one.left.lost),
        sum(|one| one.left.kept),
        all.iter().filter(|one| one.torn).count(),
        slowest.as_millis(),
    );
    let lost = all.iter().filter(|one| one.left.lost > 0).count();
    assert!(lost > all.len() / 4, "most cuts lose something, {lost} of {} did", all.len());
    assert!(sum(|one| one.present as u64) > 0, "something was promised");
    assert!(sum(|one| one.found.kept as u64) > 0, "the kept log was needed");
    assert!(sum(|one| one.found.keys as u64) > 0, "the state log was needed");
}

#[test]
fn what_was_acknowledged_survives_power_cuts_on_ext4() {
    cut_power_of(FileSystem::Ext4);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_on_xfs() {
    cut_power_of(FileSystem::Xfs);
}
