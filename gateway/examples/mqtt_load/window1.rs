//! One connection with one message in flight, in turns with what the disk takes at the least: one
//! write and one fdatasync of as many bytes on a file that is there and zero-filled.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::client::Client;
use super::stats::{ms, percentile};
use super::wire;

/// Bytes of the file, which are written over and over.
const FILE_BYTES: usize = 16 << 20;

#[derive(Args)]
pub(crate) struct Load {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: SocketAddr,
    /// Bytes of each message.
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages in all.
    #[arg(long, default_value_t = 3000)]
    messages: usize,
    /// Messages, then as many writes, in a turn.
    #[arg(long, default_value_t = 20)]
    turn: usize,
    /// A file to be made, on the disk that the broker uses.
    #[arg(long)]
    file: PathBuf,
    /// Bytes that the broker writes for one message.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    let mut floor = Floor::new(&load.file, load.bytes)?;
    let mut client = Client::connect(load.addr, 0, "window-1", true).await?;
    let message = wire::publish("window/1", 1, &vec![b'x'; load.payload]);
    let (mut samples, mut floors, mut over) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn warms both up.
    for turn in 0..=load.messages / load.turn {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..load.turn {
            here.push(exchange(&mut client, &message, load.payload).await?);
        }
        for _ in 0..load.turn {
            there.push(floor.write()?);
        }
        if turn > 0 {
            // A shared disk has quick and slow spells; a turn is short beside them.
            over.push(percentile(&mut here, 50) - percentile(&mut there, 50));
            samples.extend(here);
            floors.extend(there);
        }
    }
    client.leave().await?;
    Ok(format!(
        "p50_ms={:.3} floor_p50_ms={:.3} over_ms={:.3} p99_ms={:.3} floor_p99_ms={:.3}",
        percentile(&mut samples, 50),
        percentile(&mut floors, 50),
        percentile(&mut over, 50),
        percentile(&mut samples, 99),
        percentile(&mut floors, 99),
    ))
}

async fn exchange(client: &mut Client, message: &[u8], payload: usize) -> io::Result<f64> {
    let mut message = message.to_vec();
    let id_at = wire::id_at(&message, payload);
    message[id_at + 1] = 1;
    let sent = Instant::now();
    client.send(&message).await?;
    client.expect(wire::PUBACK).await?;
    Ok(ms(sent.elapsed()))
}

struct Floor {
    file: File,
    bytes: Vec<u8>,
    at: usize,
}

impl Floor {
    fn new(path: &Path, bytes: usize) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        file.write_all(&vec![0; FILE_BYTES])?;
        file.sync_all()?;
        Ok(Self { file, bytes: vec![b'x'; bytes], at: 0 })
    }

    fn write(&mut self) -> io::Result<f64> {
        if self.at + self.bytes.len() > FILE_BYTES {
            self.at = 0;
        }
        let started = Instant::now();
        self.file.write_all_at(&self.bytes, self.at as u64)?;
        self.file.sync_data()?;
        self.at += self.bytes.len();
        Ok(ms(started.elapsed()))
    }
}
