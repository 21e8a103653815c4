//! Connects at a steady rate: how long from the first SYN to CONNACK. Each client leaves at once.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::client::Client;
use super::stats::{ms, percentile};

#[derive(Args)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// Another broker that is measured in turns with it.
    #[arg(long)]
    peer: Option<SocketAddr>,
    /// Connects a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Turns of a second at each broker.
    #[arg(long, default_value_t = 8)]
    turns: usize,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    in_turns(load.addr, load.peer, load.rate, load.turns).await
}

/// Turns of a second at both brokers; the medians over the turns of their percentiles, since what
/// else the machine does comes in bursts.
pub(crate) async fn in_turns(
    addr: SocketAddr,
    peer: Option<SocketAddr>,
    rate: u32,
    turns: usize,
) -> io::Result<String> {
    let (mut ours, mut theirs) = (Percentiles::default(), Percentiles::default());
    for turn in 0..turns {
        ours.add(one_turn(addr, rate, turn).await?);
        if let Some(peer) = peer {
            theirs.add(one_turn(peer, rate, turn).await?);
        }
    }
    Ok(format!(
        "connect_p50_ms={:.3} connect_p99_ms={:.3} peer_p50_ms={:.3} peer_p99_ms={:.3}",
        percentile(&mut ours.p50, 50),
        percentile(&mut ours.p99, 50),
        percentile(&mut theirs.p50, 50),
        percentile(&mut theirs.p99, 50),
    ))
}

/// Of each turn.
#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Percentiles {
    fn add(&mut self, mut samples: Vec<f64>) {
        self.p50.push(percentile(&mut samples, 50));
        self.p99.push(percentile(&mut samples, 99));
    }
}

async fn one_turn(addr: SocketAddr, rate: u32, turn: usize) -> io::Result<Vec<f64>> {
    let mut tasks = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    for index in 0..rate as usize {
        ticks.tick().await;
        tasks.spawn(async move {
            let started = Instant::now();
            let id = format!("connects-{turn}-{index}");
            let client = Client::connect(addr, index, &id, true).await?;
            let took = ms(started.elapsed());
            client.leave().await?;
            Ok::<_, io::Error>(took)
        });
    }
    let all = tasks.join_all().await;
    all.into_iter().collect()
}
