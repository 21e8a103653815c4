//! Clients that come once: each with an id, a filter and a topic of its own, one message to itself,
//! and gone. What the broker still holds for them afterwards is what it forgot to forget.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::Client;
use super::process::Process;
use super::wire;

/// The broker may still give back what it held.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// The broker's process.
    #[arg(long)]
    pid: u32,
    /// Connects in all.
    #[arg(long, default_value_t = 100_000)]
    connects: usize,
    /// Clients at a time.
    #[arg(long, default_value_t = 50)]
    at_a_time: usize,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let broker = Process::new(load.pid);
    let before = broker.rss_mb()?;
    broker.forget_peak()?;
    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..load.at_a_time {
        let (next, addr, connects) = (Arc::clone(&next), load.addr, load.connects);
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= connects {
                    return Ok(());
                }
                come_and_go(addr, index).await?;
            }
        });
    }
    tasks.join_all().await.into_iter().collect::<io::Result<()>>()?;
    let took = started.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let (after, peak) = (broker.rss_mb()?, broker.peak_mb()?);
    Ok(format!(
        "connects_per_s={:.0} rss_before_mb={before:.1} rss_after_mb={after:.1} grew_mb={:.1} peak_mb={peak:.1}",
        load.connects as f64 / took,
        after - before,
    ))
}

async fn come_and_go(addr: SocketAddr, index: usize) -> io::Result<()> {
    let mut client = Client::connect(addr, index, &format!("churn-{index}"), true).await?;
    client.subscribe(&format!("churn/{index}/#"), 1).await?;
    let payload = index.to_be_bytes();
    let mut message = wire::publish(&format!("churn/{index}/a"), 1, &payload);
    let id_at = wire::id_at(&message, payload.len());
    message[id_at + 1] = 2;
    client.send(&message).await?;
    // The message and its acknowledgement, in either order.
    let (mut acknowledged, mut received) = (false, None);
    while !acknowledged || received.is_none() {
        match client.packet()? {
            None => client.fill().await?,
            Some(packet) => match packet.message() {
                Some(message) => received = message.id,
                None => acknowledged |= packet.first == wire::PUBACK,
            },
        }
    }
    if let Some(id) = received {
        client.send(&wire::puback(id)).await?;
    }
    client.leave().await
}
