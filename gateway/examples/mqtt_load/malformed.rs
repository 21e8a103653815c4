//! What broken packets cost a publisher that behaves: turns with connections whose bytes are
//! broken, with as many whose same bytes are whole, and with none.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::dial;
use super::mutate::{Random, broken, whole};
use super::process::Process;
use super::publish;
use super::stats::percentile;

/// A connection that the broker does not close is closed after this: its bytes may be the start
/// of a packet.
const HOLD: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    publisher: publish::Load,
    /// The broker's process.
    #[arg(long)]
    pid: u32,
    /// Connections a second beside the publisher.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Turns of each kind, each as long as the publisher publishes.
    #[arg(long, default_value_t = 5)]
    turns: u64,
    /// Decides all bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What is beside the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Whole,
    Broken,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let broker = Process::new(load.pid);
    // The first turn only warms up.
    one_turn(load, Beside::Nothing, 0).await?;
    let before = broker.rss_mb()?;
    broker.forget_peak()?;
    let (mut to_whole, mut to_none, mut connections) = (Vec::new(), Vec::new(), 0);
    for turn in 0..load.turns {
        let (none, _) = one_turn(load, Beside::Nothing, turn).await?;
        // Each kind is first in every other turn.
        let ((hit, count), (unhit, _)) = if turn % 2 == 0 {
            let hit = one_turn(load, Beside::Broken, turn).await?;
            (hit, one_turn(load, Beside::Whole, turn).await?)
        } else {
            let unhit = one_turn(load, Beside::Whole, turn).await?;
            (one_turn(load, Beside::Broken, turn).await?, unhit)
        };
        to_whole.push(hit / unhit);
        to_none.push(hit / none);
        connections += count;
    }
    Ok(format!(
        "broken_connections={connections} ratio_to_whole={:.3} ratio_to_none={:.3} \
         rss_before_mb={before:.1} peak_mb={:.1}",
        percentile(&mut to_whole, 50),
        percentile(&mut to_none, 50),
        broker.peak_mb()?,
    ))
}

/// The publisher's messages a second, and how many connections were beside it.
async fn one_turn(load: &Load, beside: Beside, turn: u64) -> io::Result<(f64, usize)> {
    let (addr, rate, seed) = (load.publisher.addr, load.rate, load.seed << 32 | turn);
    let lasts = Duration::from_secs_f64(load.publisher.seconds) + Duration::from_millis(500);
    let disturbing = tokio::spawn(async move {
        if beside == Beside::Nothing { 0 } else { disturb(addr, beside, rate, seed, lasts).await }
    });
    let measured = publish::measure(&load.publisher).await?;
    let count = disturbing.await.expect("it does not panic");
    Ok((measured.messages as f64 / load.publisher.seconds, count))
}

/// Opens connections at a steady rate; what became of them is the broker's affair.
async fn disturb(addr: SocketAddr, beside: Beside, rate: u32, seed: u64, lasts: Duration) -> usize {
    let mut random = Random::new(seed);
    let mut tasks = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let ended = tokio::time::Instant::now() + lasts;
    let mut count = 0;
    while ticks.tick().await < ended {
        let bytes = whole(&mut random, &format!("disturb-{seed}-{count}"));
        let bytes = if beside == Beside::Broken { broken(&mut random, bytes) } else { bytes };
        tasks.spawn(send(addr, count, bytes));
        while tasks.try_join_next().is_some() {}
        count += 1;
    }
    tasks.join_all().await;
    count
}

/// An error is an answer too: the broker closed.
async fn send(addr: SocketAddr, index: usize, bytes: Vec<u8>) {
    let Ok(mut stream) = dial(addr, index).await else { return };
    let _ = timeout(HOLD, async {
        stream.write_all(&bytes).await?;
        let mut answer = [0; 1024];
        while stream.read(&mut answer).await? > 0 {}
        Ok::<_, io::Error>(())
    })
    .await;
}
