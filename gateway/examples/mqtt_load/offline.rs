//! Lasting sessions that are away while messages come. One publisher numbers the messages and deals
//! them out to as many topics as there are sessions; each session is subscribed to its own topic,
//! so all of them together get every message once, but the first few are subscribed to all topics.
//! What is for a session has to be there in order, once, and with nothing behind it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::Client;
use super::process::Process;
use super::wire;

/// The broker may still give back what it held.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Clone)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// The broker's process.
    #[arg(long)]
    pid: u32,
    /// Lasting sessions.
    #[arg(long, default_value_t = 1000)]
    sessions: u64,
    /// How many of them are subscribed to all topics.
    #[arg(long, default_value_t = 3)]
    full: u64,
    /// Messages while they are away.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Bytes of each message, 8 at least.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages in flight.
    #[arg(long, default_value_t = 1000)]
    window: u64,
    /// Sessions that come back; none: all. Those with all topics are among them.
    #[arg(long)]
    returning: Option<u64>,
    /// Sessions that come back at a time.
    #[arg(long, default_value_t = 20)]
    at_a_time: usize,
}

impl Load {
    fn id(&self, session: u64) -> String {
        format!("offline-{}-{session}", std::process::id())
    }

    /// The number of the first message for a session, and the distance to the next.
    fn share(&self, session: u64) -> (u64, u64) {
        if session < self.full { (0, 1) } else { (session, self.sessions) }
    }
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let broker = Process::new(load.pid);
    for session in 0..load.sessions {
        let index = usize::try_from(session).unwrap_or(0);
        let mut client = Client::connect(load.addr, index, &load.id(session), false).await?;
        let own = if session < load.full { "#".to_owned() } else { session.to_string() };
        client.subscribe(&format!("offline/{own}"), 1).await?;
        client.leave().await?;
    }
    sleep(SETTLE).await;
    let before = broker.rss_mb()?;
    broker.forget_peak()?;
    let publishing = Instant::now();
    publish(load).await?;
    let published_s = publishing.elapsed().as_secs_f64();
    sleep(SETTLE).await;
    let (away, peak) = (broker.rss_mb()?, broker.peak_mb()?);
    broker.forget_peak()?;

    let returning = Instant::now();
    let delivered = come_back(load).await?;
    let returned_s = returning.elapsed().as_secs_f64();
    Ok(format!(
        "published_per_s={:.0} rss_before_mb={before:.1} rss_mb={away:.1} grew_mb={:.1} peak_mb={peak:.1} \
         returned={} delivered={delivered} delivered_per_s={:.0} returning_s={returned_s:.1} \
         returning_peak_mb={:.1}",
        load.messages as f64 / published_s,
        away - before,
        load.returning.unwrap_or(load.sessions),
        delivered as f64 / returned_s,
        broker.peak_mb()?,
    ))
}

async fn publish(load: &Load) -> io::Result<()> {
    let publisher = format!("offline-{}", std::process::id());
    let mut client = Client::connect(load.addr, 0, &publisher, true).await?;
    let mut payload = vec![b'x'; load.payload.max(8)];
    let (mut sent, mut acknowledged) = (0, 0);
    let mut out = Vec::new();
    while acknowledged < load.messages {
        while sent < load.messages.min(acknowledged + load.window) {
            payload[..8].copy_from_slice(&sent.to_be_bytes());
            let topic = format!("offline/{}", sent % load.sessions);
            let mut message = wire::publish(&topic, 1, &payload);
            let id = u16::try_from(sent % 65_535 + 1).expect("below 65,536");
            let id_at = wire::id_at(&message, payload.len());
            message[id_at..id_at + 2].copy_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&message);
            sent += 1;
        }
        client.send(&out).await?;
        out.clear();
        client.fill().await?;
        while let Some(packet) = client.packet()? {
            acknowledged += u64::from(packet.first == wire::PUBACK);
        }
    }
    client.leave().await
}

/// Messages that all got.
async fn come_back(load: &Load) -> io::Result<u64> {
    // Those with all topics take longest, and come first.
    let mut waiting = 0..load.returning.unwrap_or(load.sessions);
    let mut tasks = JoinSet::new();
    let mut delivered = 0;
    loop {
        while tasks.len() < load.at_a_time
            && let Some(session) = waiting.next()
        {
            let load = load.clone();
            tasks.spawn(async move { receive(&load, session).await });
        }
        match tasks.join_next().await {
            Some(received) => delivered += received.expect("no session panics")?,
            None => return Ok(delivered),
        }
    }
}

async fn receive(load: &Load, session: u64) -> io::Result<u64> {
    let index = usize::try_from(session).unwrap_or(0);
    let mut client = Client::connect(load.addr, index, &load.id(session), false).await?;
    let (first, stride) = load.share(session);
    let mut next = first;
    let mut acks = Vec::new();
    // The first messages may have come with CONNACK.
    while next < load.messages {
        while let Some(packet) = client.packet()? {
            let message = packet.message().ok_or_else(|| io::Error::other("not a message"))?;
            let number = message.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            if number != Some(next) {
                let what = format!("session {session} got {number:?}, not {next}");
                return Err(io::Error::other(what));
            }
            next += stride;
            acks.extend(message.id.map(wire::puback).into_iter().flatten());
        }
        client.send(&acks).await?;
        acks.clear();
        if next < load.messages {
            client.fill().await?;
        }
    }
    client.send(&wire::PINGREQ).await?;
    client.expect(wire::PINGRESP).await?;
    client.leave().await?;
    Ok((next - first) / stride)
}
