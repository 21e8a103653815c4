//! Appends records to a journal and forwards them, until all are at the cluster: a process that
//! tests can kill. `forwarder DIR BROKERS COUNT RATE`
//!
//! It goes on where an earlier one was killed, so that in the end the journal has COUNT records.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hw_tests::journal::Bench;
use tokio::sync::watch;

/// Records are appended in steps of this length.
const STEP: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime
        .map_err(|problem| problem.to_string())
        .and_then(|runtime| runtime.block_on(forward(std::env::args().skip(1).collect())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            #[expect(clippy::print_stderr, reason = "a program of the tests' own")]
            {
                eprintln!("forwarder: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn forward(args: Vec<String>) -> Result<(), String> {
    let [dir, brokers, count, rate] = args.as_slice() else {
        return Err("forwarder DIR BROKERS COUNT RATE".into());
    };
    let count: u64 = count.parse().map_err(|problem| format!("COUNT: {problem}"))?;
    let rate: u64 = rate.parse().map_err(|problem| format!("RATE: {problem}"))?;
    let bench = Bench::open(Path::new(dir), brokers)?;
    let forwarder = bench.forwarder()?;
    let status = forwarder.status();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(forwarder.run(stopped));
    let per_step = (rate * u64::try_from(STEP.as_millis()).unwrap_or(1) / 1000).max(1);
    let mut ticks = tokio::time::interval(STEP);
    while bench.journal.end() < count {
        ticks.tick().await;
        bench.journal.admit().await;
        let end = bench.journal.end();
        for number in end..count.min(end + per_step) {
            bench.append(number).map_err(|problem| problem.to_string())?;
        }
    }
    loop {
        ticks.tick().await;
        let routes = status.routes();
        if bench.journal.durable().end >= count && routes.iter().all(|route| route.lag == 0) {
            break;
        }
    }
    stop.send_replace(true);
    running.await.map_err(|problem| problem.to_string())?;
    bench.journal.close();
    Ok(())
}
