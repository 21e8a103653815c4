//! `headwater demo`: simulated nodes on the firmware's own code, a gateway, windows, an upstream,
//! the page; at the end every count has to agree.

mod count;
mod flash;
mod node;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{init_tracing, print_line, runtime};
use crate::app::App;
use crate::config::{Config, parse_time};
use crate::exit::{Code, Failure};
use node::{Sent, SimulatedNode};

/// From reading to reading of a simulated node.
const PERIOD_MS: u32 = 100;

/// How long the last readings may take through windows and upstream.
const SETTLE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(super) struct Args {
    /// How long nodes sample
    #[arg(long = "for", default_value = "30s", value_parser = parse_time, value_name = "TIME")]
    duration: Duration,
    /// Simulated nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=500))]
    devices: u32,
    /// Forward to this cluster instead of a directory
    #[arg(long, value_name = "BROKERS")]
    kafka: Option<String>,
    /// Keep journal and output here [default: a directory that is removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the page listens [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

pub(super) fn demo(args: &Args) -> Result<(), Failure> {
    init_tracing("warn");
    let place = Place::new(args.data.as_deref())?;
    runtime().block_on(run(args, &place.dir))
}

/// The demo's directory; removed at the end unless the user named it.
struct Place {
    dir: PathBuf,
    temporary: bool,
}

impl Place {
    fn new(named: Option<&Path>) -> Result<Self, Failure> {
        let temporary = named.is_none();
        let dir = named.map_or_else(
            || std::env::temp_dir().join(format!("headwater-demo-{}", std::process::id())),
            Path::to_path_buf,
        );
        let used = dir.join(crate::app::JOURNAL_DIR).exists();
        if used {
            let fault =
                format!("{}: there is a journal already; name another --data", dir.display());
            return Err(Failure::new(Code::Usage, fault));
        }
        std::fs::create_dir_all(&dir)
            .map_err(|problem| Failure::new(Code::Disk, format!("{}: {problem}", dir.display())))?;
        Ok(Self { dir, temporary })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is left to the system's cleaning of temporary files.
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

async fn run(args: &Args, dir: &Path) -> Result<(), Failure> {
    let config = config(args, dir)?;
    let app = App::start(config).await?;
    say(&format!("page     http://{}/", app.http_addr()));
    say(&format!("mqtt     {}", app.mqtt_addr()));
    say(&format!(
        "nodes    {} simulated, a reading of two channels each {PERIOD_MS} ms, for {} s",
        args.devices,
        args.duration.as_secs()
    ));
    let sent = sample(args, app.mqtt_addr()).await;
    say("nodes    done; waiting for the last windows and the upstream");
    let report = settle(args, &app, dir, &sent).await;
    app.stop().await;
    let report = report?;
    print_line(&report.to_string());
    if report["ok"] == Json::Bool(true) {
        Ok(())
    } else {
        Err(Failure::new(Code::No, "the counts above do not agree"))
    }
}

/// Runs the nodes until their last block is acknowledged.
async fn sample(args: &Args, gateway: SocketAddr) -> Sent {
    let (stop, stopped) = watch::channel(false);
    let mut nodes = JoinSet::new();
    for number in 0..args.devices {
        nodes.spawn(SimulatedNode::new(number, gateway).run(stopped.clone()));
    }
    tokio::select! {
        () = tokio::time::sleep(args.duration) => {}
        _ = tokio::signal::ctrl_c() => say("stopping early"),
    }
    stop.send_replace(true);
    let mut sent = Sent::default();
    while let Some(node) = nodes.join_next().await {
        match node {
            Ok(node) => sent.add(&node),
            Err(panic) => say(&format!("a node failed: {panic}")),
        }
    }
    sent
}

/// Waits until everything has arrived everywhere, or long enough.
async fn settle(args: &Args, app: &App, dir: &Path, sent: &Sent) -> Result<Json, Failure> {
    let deadline = Instant::now() + SETTLE;
    loop {
        // Reads files and, with Kafka, waits for its answers: other tasks go on meanwhile.
        let counts = tokio::task::block_in_place(|| count::count(app, dir, args.kafka.as_deref()))
            .map_err(|problem| Failure::new(Code::Disk, problem))?;
        let all = [sent.acknowledged, counts.stored, counts.windowed, counts.forwarded];
        let ok = all.iter().all(|count| *count == sent.readings)
            && counts.windows == counts.windows_forwarded;
        if ok || Instant::now() > deadline {
            return Ok(json!({
                "ok": ok,
                "devices": args.devices,
                "upstream": if args.kafka.is_some() { "kafka" } else { "directory" },
                "sent": sent.readings,
                "acknowledged": sent.acknowledged,
                "stored": counts.stored,
                "windowed": counts.windowed,
                "forwarded": counts.forwarded,
                "windows": counts.windows,
                "windows_forwarded": counts.windows_forwarded,
                "blocks": sent.blocks,
                "block_bytes": sent.block_bytes,
                "commits": app.status().journal.stats().commits,
            }));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn config(args: &Args, dir: &Path) -> Result<Config, Failure> {
    let http = args.http.unwrap_or_else(|| {
        let usual = SocketAddr::from(([127, 0, 0, 1], 8080));
        let free = TcpListener::bind(usual).is_ok();
        if free { usual } else { SocketAddr::from(([127, 0, 0, 1], 0)) }
    });
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let upstream = match &args.kafka {
        Some(brokers) => format!("kind = \"kafka\"\nbrokers = {}", quote(brokers)),
        None => {
            let out = dir.join(count::OUT_DIR);
            format!("kind = \"directory\"\npath = {}", quote(&out.to_string_lossy()))
        }
    };
    let text = include_str!("demo.toml")
        .replace("@DATA@", &quote(&dir.to_string_lossy()))
        .replace("@HTTP@", &quote(&http.to_string()))
        .replace("@RUN@", &std::process::id().to_string())
        .replace("@UPSTREAM@", &upstream);
    Ok(Config::parse("demo.toml", &text)?)
}

#[expect(clippy::print_stderr, reason = "progress for the reader; the result goes to stdout")]
fn say(line: &str) {
    eprintln!("{line}");
}
