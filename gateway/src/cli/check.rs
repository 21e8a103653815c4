//! `headwater check`

use super::{ConfigArg, print_line};
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::forward::{Finding, Verdict, check_online};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Ask the upstreams whether they would take what the routes carry; nothing is written there.
    /// Exit 1 if one would not, 75 if one does not answer
    #[arg(long)]
    online: bool,
}

pub(super) fn check(args: &Args) -> Result<(), Failure> {
    let path = args.config.path();
    let config = Config::load(&path)?;
    print_line(&format!(
        "{}: good: gateway {}, {} streams, {} queries, {} routes",
        path.display(),
        config.id,
        config.streams.len(),
        config.queries.len(),
        config.routes.len(),
    ));
    if !args.online {
        return Ok(());
    }
    let mut findings = Vec::new();
    for (upstream, found) in check_online(&config) {
        for finding in found {
            print_line(&line(&upstream, &finding));
            findings.push(finding.verdict);
        }
    }
    let count = |verdict| findings.iter().filter(|found| **found == verdict).count();
    let (troubles, away) = (count(Verdict::Trouble), count(Verdict::Away));
    let failure = |code, many: usize| {
        let things = if many == 1 { "1 trouble".to_owned() } else { format!("{many} troubles") };
        Err(Failure::new(code, format!("{things}; the lines above say what to do")))
    };
    match (troubles, away) {
        (0, 0) => Ok(()),
        (0, away) => failure(Code::TryAgain, away),
        (troubles, away) => failure(Code::No, troubles + away),
    }
}

fn line(upstream: &str, finding: &Finding) -> String {
    let kind = match finding.verdict {
        Verdict::Good => "",
        Verdict::Note => "note: ",
        Verdict::Warning => "warning: ",
        Verdict::Away | Verdict::Trouble => "trouble: ",
    };
    format!("{upstream}: {kind}{}", finding.text)
}
