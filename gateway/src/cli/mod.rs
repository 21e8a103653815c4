//! The command line: a file a command.

mod check;
mod demo;
mod log;
mod node;
mod passwd;
mod run;
mod table;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// Where a configuration is looked for without `-c`.
const CONFIG_PATHS: [&str; 2] = ["headwater.toml", "/etc/headwater/headwater.toml"];

#[derive(Parser)]
#[command(
    name = "headwater",
    version,
    about = "Edge stream gateway: what it acknowledges is on disk and arrives once",
    propagate_version = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Run(ConfigArg),
    /// Read a configuration and its SQL; exit 78 with file, line, key and remedy if it is wrong.
    /// With --online, ask the upstreams too
    Check(check::Args),
    /// Simulated nodes, a gateway, windows and an upstream; prints one line of JSON at the end
    Demo(demo::Args),
    /// Look into the journal
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Bring files that were carried here from a directory upstream into a stopped gateway's log;
    /// each record once, however often they come
    Import(log::CarriedArgs),
    /// Credentials of sensor nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Read a password from standard input and print its hash for [[user]] password
    Passwd,
}

#[derive(clap::Args)]
struct ConfigArg {
    /// The configuration [default: headwater.toml, then /etc/headwater/headwater.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArg {
    fn path(&self) -> PathBuf {
        let found = || CONFIG_PATHS.iter().map(PathBuf::from).find(|path| path.exists());
        self.config.clone().or_else(found).unwrap_or_else(|| PathBuf::from(CONFIG_PATHS[0]))
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    #[cfg(target_env = "musl")]
    crate::allocator::set();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => problem.exit(),
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args.path()),
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Log(command) => log::log(&command),
        Command::Import(args) => log::import_carried(&args),
        Command::Node(command) => node::node(&command),
        Command::Passwd => passwd::passwd(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "the message of a command that failed")]
fn fail(failure: &Failure) -> ExitCode {
    eprintln!("headwater: {failure}");
    failure.code.into()
}

/// Writes a line to standard output; a reader that has gone away ends the command quietly.
fn print_line(line: &str) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Log lines go to standard error, `RUST_LOG` says which.
fn init_tracing(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Under systemd the journal has the time already.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let set = if under_systemd { builder.without_time().try_init() } else { builder.try_init() };
    // A second call, as in tests, keeps the first.
    drop(set);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_stack_size(512 << 10)
        .enable_all()
        .build()
        .expect("threads and an event queue can be had at start-up")
}

/// The journal's segments below a data directory.
fn journal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(crate::app::JOURNAL_DIR)
}
