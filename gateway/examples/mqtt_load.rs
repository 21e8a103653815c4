//! Publishes as fast as a broker acknowledges, from many connections, and prints messages a second
//! and the time from PUBLISH to its last acknowledgement. An encoder of its own, so that it costs
//! the machine less than the broker under test.
//!
//! `mqtt_load --addr 127.0.0.1:1883 --connections 50 --window 20 --qos 1 --payload 64 --seconds 5`

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of QoS 0 messages that are written at a time.
const QOS0_BATCH_BYTES: usize = 16 << 10;

/// Latency is counted in buckets that grow by a sixteenth, from 1 us.
const BUCKETS: usize = 400;

#[derive(Clone, Parser)]
struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// Connections at a time.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each.
    #[arg(long, default_value_t = 20)]
    window: u16,
    /// 0, 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of each message.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// How long to measure; half a second before it is not counted.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// What one connection saw in the measured time.
#[derive(Clone)]
struct Seen {
    messages: u64,
    latency: Vec<u64>,
}

impl Seen {
    fn new() -> Self {
        Self { messages: 0, latency: vec![0; BUCKETS] }
    }

    fn add(&mut self, latency: Duration) {
        self.messages += 1;
        let us = latency.as_secs_f64() * 1e6;
        let bucket = if us <= 1.0 { 0.0 } else { us.ln() / (17.0_f64 / 16.0).ln() };
        self.latency[(bucket as usize).min(BUCKETS - 1)] += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        for (ours, theirs) in self.latency.iter_mut().zip(&other.latency) {
            *ours += theirs;
        }
    }

    fn percentile_ms(&self, percent: u64) -> f64 {
        let total: u64 = self.latency.iter().sum();
        let mut left = total * percent / 100;
        for (bucket, count) in self.latency.iter().enumerate() {
            if left < *count {
                return (17.0_f64 / 16.0).powf(bucket as f64 + 0.5) / 1000.0;
            }
            left -= count;
        }
        0.0
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the numbers are what it is for")]
async fn main() -> io::Result<()> {
    let load = Load::parse();
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
    println!(
        "messages_per_s={:.0} p50_ms={:.3} p99_ms={:.3}",
        all.messages as f64 / load.seconds,
        all.percentile_ms(50),
        all.percentile_ms(99)
    );
    Ok(())
}

async fn publish(load: &Load, index: usize, start: Instant, end: Instant) -> io::Result<Seen> {
    let mut stream = TcpStream::connect(load.addr).await?;
    stream.set_nodelay(true)?;
    connect(&mut stream, index).await?;
    let message = encode(load, index);
    let mut seen = Seen::new();
    if load.qos == 0 {
        flood(&mut stream, &message, start, end, &mut seen).await?;
    } else {
        let mut sender = Sender::new(load, message);
        sender.run(&mut stream, start, end, &mut seen).await?;
    }
    Ok(seen)
}

async fn connect(stream: &mut TcpStream, index: usize) -> io::Result<()> {
    let client = format!("load-{}-{index}", std::process::id());
    let mut packet = vec![0x10, 12 + client.len() as u8];
    packet.extend_from_slice(&[0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, client.len() as u8]);
    packet.extend_from_slice(client.as_bytes());
    stream.write_all(&packet).await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    if connack == [0x20, 2, 0, 0] {
        Ok(())
    } else {
        Err(io::Error::other(format!("the broker refused: {connack:?}")))
    }
}

/// One PUBLISH; the two bytes behind the topic are the packet id, if it has one.
fn encode(load: &Load, index: usize) -> Vec<u8> {
    let topic = format!("load/{index}");
    let id_bytes = if load.qos > 0 { 2 } else { 0 };
    let mut remaining = 2 + topic.len() + id_bytes + load.payload;
    let mut packet = vec![0x30 | load.qos << 1];
    loop {
        let byte = (remaining & 0x7F) as u8;
        remaining >>= 7;
        packet.push(if remaining > 0 { byte | 0x80 } else { byte });
        if remaining == 0 {
            break;
        }
    }
    packet.extend_from_slice(&[0, topic.len() as u8]);
    packet.extend_from_slice(topic.as_bytes());
    packet.resize(packet.len() + id_bytes, 0);
    packet.resize(packet.len() + load.payload, b'x');
    packet
}

async fn flood(
    stream: &mut TcpStream,
    message: &[u8],
    start: Instant,
    end: Instant,
    seen: &mut Seen,
) -> io::Result<()> {
    let count = (QOS0_BATCH_BYTES / message.len()).max(1);
    let batch = message.repeat(count);
    loop {
        let before = Instant::now();
        if before >= end {
            return Ok(());
        }
        stream.write_all(&batch).await?;
        if before >= start {
            seen.messages += count as u64;
        }
    }
}

/// Keeps the window full.
struct Sender {
    message: Vec<u8>,
    id_at: usize,
    /// When the message of each packet id was sent; ids are 1 to the window.
    sent: Vec<Instant>,
    free: Vec<u16>,
    out: Vec<u8>,
}

impl Sender {
    fn new(load: &Load, message: Vec<u8>) -> Self {
        let id_at = message.len() - load.payload - 2;
        let sent = vec![Instant::now(); usize::from(load.window) + 1];
        Self { message, id_at, sent, free: (1..=load.window).collect(), out: Vec::new() }
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
            have += match tokio::time::timeout_at(end.into(), stream.read(&mut bytes[have..])).await
            {
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
