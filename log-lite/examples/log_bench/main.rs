//! What the file journal costs, each figure beside a floor that is measured in the same run.
//!
//! ```text
//! log_bench [DIR [TOPIC...]]      topics: one many device read open
//! ```
//!
//! Everything happens in a directory under DIR, which is removed at the end: choose one on the
//! disk that is to be measured. Bytes that reach the device are counted by the kernel for the
//! whole device, so other writers count too; a loop device of its own is quiet:
//! `truncate -s 4G disk && mkfs.ext4 -q disk && mount -o loop disk DIR`.
#![expect(clippy::print_stdout, reason = "a tool that prints a table")]

mod append;
mod open;
mod read;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;
type Topic = (&'static str, fn(&Path) -> Outcome);

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [open::MAKE, dir] => return open::make(dir.as_ref()),
        [open::MEASURE, dir] => return open::measure(dir.as_ref()),
        _ => {}
    }
    let parent = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let wanted = |topic: &str| arguments.len() < 2 || arguments[1..].iter().any(|arg| arg == topic);
    let dir = tempfile::tempdir_in(parent)?;
    println!("{:<46} {:>20} {:>20} {:>7}  bar", "what", "here", "floor", "ratio");
    let topics: [Topic; 5] = [
        ("one", append::one_writer),
        ("many", append::many_writers),
        ("device", append::device_bytes),
        ("read", read::run),
        ("open", open::run),
    ];
    for (_, run) in topics.into_iter().filter(|(name, _)| wanted(name)) {
        run(dir.path())?;
    }
    Ok(())
}

/// One line of the table.
fn line(what: &str, here: &str, floor: &str, ratio: f64, bar: &str) {
    println!("{what:<46} {here:>20} {floor:>20} {ratio:>7.3}  {bar}");
}

/// The median, in µs.
fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
