//! Publishes as fast as a broker acknowledges, from many connections.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::client::Client;
use super::stats::Seen;
use super::wire;

/// Bytes of QoS 0 messages that are written at a time.
const QOS0_BATCH_BYTES: usize = 16 << 10;

/// Such batches that a broker has not taken yet, for each connection.
const QOS0_BATCHES: usize = 4;

#[derive(Args, Clone)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub(crate) addr: SocketAddr,
    /// Connections at a time.
    #[arg(long, default_value_t = 50)]
    pub(crate) connections: usize,
    /// Messages in flight on each.
    #[arg(long, default_value_t = 20)]
    pub(crate) window: u16,
    /// 0, 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Bytes of each message.
    #[arg(long, default_value_t = 64)]
    pub(crate) payload: usize,
    /// Each payload is made of other letters, so that it compresses as little as their number lets it.
    #[arg(long)]
    pub(crate) random: bool,
    /// How long to measure; half a second before it is not counted.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let seen = measure(load).await?;
    Ok(format!(
        "messages_per_s={:.0} p50_ms={:.3} p99_ms={:.3}",
        seen.messages as f64 / load.seconds,
        seen.percentile_ms(50),
        seen.percentile_ms(99)
    ))
}

/// What all connections saw in the measured time.
pub(crate) async fn measure(load: &Load) -> io::Result<Seen> {
    let start = Instant::now() + Duration::from_millis(500);
    let end = start + Duration::from_secs_f64(load.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..load.connections {
        let load = load.clone();
        tasks.spawn(async move { publish(&load, index, start, end).await });
    }
    let mut all = Seen::new();
    while let Some(seen) = tasks.join_next().await {
        all.merge(&seen.expect("a connection does not panic")?);
    }
    Ok(all)
}

async fn publish(load: &Load, index: usize, start: Instant, end: Instant) -> io::Result<Seen> {
    let client = format!("load-{}-{index}", std::process::id());
    let mut stream = Client::connect(load.addr, index, &client, true).await?.stream;
    let message = wire::publish(&format!("load/{index}"), load.qos, &vec![b'x'; load.payload]);
    let mut seen = Seen::new();
    if load.qos == 0 {
        flood(&mut stream, &message, start, end, &mut seen).await?;
    } else {
        let mut sender = Sender::new(load, message, index);
        sender.run(&mut stream, start, end, &mut seen).await?;
    }
    Ok(seen)
}

/// QoS 0 has no acknowledgement, and sockets hold megabytes: each batch ends with a PINGREQ, and is
/// counted when that is answered, since the broker has taken all before it.
async fn flood(
    stream: &mut TcpStream,
    message: &[u8],
    start: Instant,
    end: Instant,
    seen: &mut Seen,
) -> io::Result<()> {
    let count = (QOS0_BATCH_BYTES / message.len()).max(1);
    let mut batch = message.repeat(count);
    batch.extend_from_slice(&wire::PINGREQ);
    let mut answers = [0; 2 * QOS0_BATCHES];
    let (mut sent, mut answered) = (0, 0);
    while Instant::now() < end {
        while sent < answered / 2 + QOS0_BATCHES {
            stream.write_all(&batch).await?;
            sent += 1;
        }
        let before = answered / 2;
        answered += match timeout_at(end.into(), stream.read(&mut answers)).await {
            Err(_) => return Ok(()),
            Ok(Ok(0)) => return Err(io::Error::other("the broker closed the connection")),
            Ok(bytes) => bytes?,
        };
        if Instant::now() >= start {
            seen.messages += ((answered / 2 - before) * count) as u64;
        }
    }
    Ok(())
}

/// Keeps the window full.
struct Sender {
    message: Vec<u8>,
    id_at: usize,
    /// Makes letters for the payload; 0: it stays as it is.
    random: u64,
    /// When the message of each packet id was sent; ids are 1 to the window.
    sent: Vec<Instant>,
    free: Vec<u16>,
    out: Vec<u8>,
}

impl Sender {
    fn new(load: &Load, message: Vec<u8>, index: usize) -> Self {
        let id_at = wire::id_at(&message, load.payload);
        let sent = vec![Instant::now(); usize::from(load.window) + 1];
        let random = if load.random { index as u64 + 1 } else { 0 };
        Self { message, id_at, random, sent, free: (1..=load.window).collect(), out: Vec::new() }
    }

    async fn run(
        &mut self,
        stream: &mut TcpStream,
        start: Instant,
        end: Instant,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let mut bytes = vec![0; 4096];
        let mut have = 0;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.fill(now);
            if !self.out.is_empty() {
                stream.write_all(&self.out).await?;
                self.out.clear();
            }
            have += match timeout_at(end.into(), stream.read(&mut bytes[have..])).await {
                Err(_) => return Ok(()),
                Ok(Ok(0)) => return Err(io::Error::other("the broker closed the connection")),
                Ok(count) => count?,
            };
            let now = Instant::now();
            let whole = have / 4 * 4;
            for ack in bytes[..whole].chunks_exact(4) {
                if let Some(sent) = self.take(ack)?
                    && now >= start
                {
                    seen.add(now - sent);
                }
            }
            bytes.copy_within(whole..have, 0);
            have -= whole;
        }
    }

    fn fill(&mut self, now: Instant) {
        while let Some(id) = self.free.pop() {
            self.message[self.id_at..self.id_at + 2].copy_from_slice(&id.to_be_bytes());
            if self.random != 0 {
                letters(&mut self.random, &mut self.message[self.id_at + 2..]);
            }
            self.out.extend_from_slice(&self.message);
            self.sent[usize::from(id)] = now;
        }
    }

    /// When the message was sent whose exchange is over, if it is.
    fn take(&mut self, ack: &[u8]) -> io::Result<Option<Instant>> {
        let id = u16::from_be_bytes([ack[2], ack[3]]);
        match (ack[0], ack[1]) {
            (0x40 | 0x70, 2) => {
                self.free.push(id);
                Ok(Some(self.sent[usize::from(id)]))
            }
            (0x50, 2) => {
                self.out.extend_from_slice(&[0x62, 2, ack[2], ack[3]]);
                Ok(None)
            }
            _ => Err(io::Error::other(format!("not an acknowledgement: {ack:?}"))),
        }
    }
}

/// Fills `text` with letters from A to P, by Marsaglia's xorshift.
fn letters(state: &mut u64, text: &mut [u8]) {
    for piece in text.chunks_mut(16) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        for (place, byte) in piece.iter_mut().enumerate() {
            *byte = b'A' + (*state >> (4 * place) & 15) as u8;
        }
    }
}
