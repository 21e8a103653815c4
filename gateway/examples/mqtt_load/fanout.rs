//! One publisher, many subscribers of its topic. The publisher is at most so many messages ahead
//! of the slowest subscriber, so that a broker that drops what a slow subscriber does not take has
//! no reason to; each subscriber checks that none is missing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::wire;

const TOPIC: &str = "fanout/all";

/// The measured time begins so long after the first message.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// Subscribers of the one topic.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Of the messages and of the subscriptions: 0 or 1.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Bytes of each message, 8 at least.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages that the publisher is ahead of the slowest subscriber, 1000 at most.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1000))]
    ahead: u64,
    /// How long to measure; half a second before it is not counted.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// How far each subscriber is, and the publisher's acknowledgements.
struct Progress {
    received: Vec<AtomicU64>,
    acknowledged: AtomicU64,
    missed: AtomicU64,
    moved: Notify,
}

impl Progress {
    fn total(&self) -> u64 {
        self.received.iter().map(|received| received.load(Ordering::Relaxed)).sum()
    }

    fn slowest(&self) -> u64 {
        let received = self.received.iter().map(|received| received.load(Ordering::Relaxed));
        received.min().unwrap_or(0)
    }
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let progress = Arc::new(Progress {
        received: (0..load.subscribers).map(|_| AtomicU64::new(0)).collect(),
        acknowledged: AtomicU64::new(0),
        missed: AtomicU64::new(0),
        moved: Notify::new(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..load.subscribers {
        let id = format!("fanout-{}-{index}", std::process::id());
        let mut client = Client::connect(load.addr, index, &id, true).await?;
        client.subscribe(TOPIC, load.qos).await?;
        tasks.spawn(receive(client, index, Arc::clone(&progress)));
    }
    let publisher = format!("fanout-{}", std::process::id());
    let publisher = Client::connect(load.addr, 0, &publisher, true).await?;
    let (read, write) = publisher.stream.into_split();
    tasks.spawn(take_acks(read, Arc::clone(&progress)));
    tasks.spawn(publish(write, load.qos, load.payload, load.ahead, Arc::clone(&progress)));

    let started = Instant::now() + WARM_UP;
    let mut before = None;
    let delivered = loop {
        let until = started + Duration::from_secs_f64(before.map_or(0.0, |_| load.seconds));
        tokio::select! {
            ended = tasks.join_next() => {
                let ended = ended.expect("the publisher never ends by itself");
                ended.expect("no task panics")?;
            }
            () = sleep_until(until) => match before {
                None => before = Some(progress.total()),
                Some(before) => break progress.total() - before,
            },
        }
    };
    Ok(format!(
        "delivered_per_s={:.0} missed={}",
        delivered as f64 / load.seconds,
        progress.missed.load(Ordering::Relaxed)
    ))
}

async fn receive(mut client: Client, index: usize, progress: Arc<Progress>) -> io::Result<()> {
    let mut acks = Vec::new();
    let mut next = 0_u64;
    loop {
        client.fill().await?;
        while let Some(packet) = client.packet()? {
            let Some(message) = packet.message() else { continue };
            let number =
                message.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            if number != next {
                progress.missed.fetch_add(number.abs_diff(next), Ordering::Relaxed);
            }
            next = number + 1;
            if let Some(id) = message.id {
                acks.extend_from_slice(&wire::puback(id));
            }
        }
        progress.received[index].store(next, Ordering::Relaxed);
        progress.moved.notify_one();
        if !acks.is_empty() {
            client.send(&acks).await?;
            acks.clear();
        }
    }
}

async fn take_acks(mut read: OwnedReadHalf, progress: Arc<Progress>) -> io::Result<()> {
    let mut bytes = vec![0; 4096];
    let mut total = 0;
    loop {
        match read.read(&mut bytes).await? {
            0 => return Err(io::Error::other("the broker closed the publisher's connection")),
            count => total += count as u64,
        }
        progress.acknowledged.store(total / 4, Ordering::Relaxed);
        progress.moved.notify_one();
    }
}

async fn publish(
    mut write: OwnedWriteHalf,
    qos: u8,
    payload: usize,
    ahead: u64,
    progress: Arc<Progress>,
) -> io::Result<()> {
    let payload = payload.max(8);
    let mut message = wire::publish(TOPIC, qos, &vec![b'x'; payload]);
    let number_at = message.len() - payload;
    let mut out = Vec::new();
    let mut sent = 0;
    loop {
        let acknowledged =
            if qos > 0 { progress.acknowledged.load(Ordering::Relaxed) } else { u64::MAX };
        let until = progress.slowest().min(acknowledged) + ahead;
        for number in sent..until {
            if qos > 0 {
                let id = u16::try_from(number % 65_535 + 1).expect("below 65,536");
                message[number_at - 2..number_at].copy_from_slice(&id.to_be_bytes());
            }
            message[number_at..number_at + 8].copy_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&message);
        }
        sent = until.max(sent);
        if out.is_empty() {
            progress.moved.notified().await;
        } else {
            write.write_all(&out).await?;
            out.clear();
        }
    }
}
