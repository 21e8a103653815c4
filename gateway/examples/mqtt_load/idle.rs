//! Many connections that say nothing: what the broker holds for them, and how long another connect
//! takes beside them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::client::Client;
use super::connects;
use super::process::Process;
use super::wire;

/// The broker may still give back what the connects took.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// Another broker, without the idle connections, for the connects.
    #[arg(long)]
    peer: Option<SocketAddr>,
    /// The broker's process.
    #[arg(long)]
    pid: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// How many of them are opened a second.
    #[arg(long, default_value_t = 1000)]
    open_rate: u32,
    /// Connects a second beside them.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Turns of a second of such connects.
    #[arg(long, default_value_t = 5)]
    turns: usize,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let broker = Process::new(load.pid);
    let before = broker.rss_mb()?;
    let mut clients = open(load).await?;
    sleep(SETTLE).await;
    let rss = broker.rss_mb()?;
    let connects = connects::in_turns(load.addr, load.peer, load.rate, load.turns).await?;
    for client in &mut clients {
        client.send(&wire::PINGREQ).await?;
        client.expect(wire::PINGRESP).await?;
        client.give_back();
    }
    let after = broker.rss_mb()?;
    Ok(format!(
        "connections={} rss_before_mb={before:.1} rss_mb={rss:.1} rss_after_pings_mb={after:.1} {connects}",
        clients.len()
    ))
}

async fn open(load: &Load) -> io::Result<Vec<Client>> {
    let mut tasks = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / load.open_rate);
    for index in 0..load.connections {
        ticks.tick().await;
        let addr = load.addr;
        tasks.spawn(async move {
            let mut client = Client::connect(addr, index, &format!("idle-{index}"), true).await?;
            client.give_back();
            Ok::<_, io::Error>(client)
        });
    }
    tasks.join_all().await.into_iter().collect()
}
