//! A connection to a broker: opened from an address that still has ports, read packet by packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::wire::{self, Packet};

/// Bytes that are read at a time.
const READ_BYTES: usize = 32 << 10;

/// Connections to a loopback broker come from so many addresses in turn, each with its own ports.
const SOURCES: usize = 64;

/// A broker that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// One TCP connection; `index` chooses its address.
pub(crate) async fn dial(addr: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let stream = if addr.ip().is_loopback() && addr.is_ipv4() {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(1 + index % SOURCES).expect("below 256");
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), 0))?;
        socket.connect(addr).await?
    } else {
        TcpStream::connect(addr).await?
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connected client.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Client {
    /// Connects and waits for CONNACK.
    pub(crate) async fn connect(
        addr: SocketAddr,
        index: usize,
        client: &str,
        clean: bool,
    ) -> io::Result<Self> {
        let stream = dial(addr, index).await?;
        let mut client_side = Self { stream, bytes: Vec::new(), from: 0, to: 0 };
        client_side.send(&wire::connect(client, clean)).await?;
        let code = client_side.expect(wire::CONNACK).await?;
        match code.as_slice() {
            [_, 0] => Ok(client_side),
            other => Err(io::Error::other(format!("the broker refused: {other:?}"))),
        }
    }

    /// Subscribes and waits for SUBACK.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        self.send(&wire::subscribe(filter, qos)).await?;
        match self.expect(wire::SUBACK).await?.as_slice() {
            [_, _, granted] if *granted == qos => Ok(()),
            other => Err(io::Error::other(format!("{filter} was not granted: {other:?}"))),
        }
    }

    /// Says goodbye and closes.
    pub(crate) async fn leave(mut self) -> io::Result<()> {
        self.send(&wire::DISCONNECT).await?;
        self.stream.shutdown().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The body of the next packet, which has to be of this kind.
    pub(crate) async fn expect(&mut self, first: u8) -> io::Result<Vec<u8>> {
        loop {
            if let Some(packet) = self.packet()? {
                return if packet.first == first {
                    Ok(packet.body.to_vec())
                } else {
                    Err(io::Error::other(format!("not what was waited for: {packet:?}")))
                };
            }
            self.fill().await?;
        }
    }

    /// The next packet of what was read.
    pub(crate) fn packet(&mut self) -> io::Result<Option<Packet<'_>>> {
        let whole = wire::split(&self.bytes[self.from..self.to])?;
        Ok(whole.map(|(packet, used)| {
            self.from += used;
            packet
        }))
    }

    /// Gives the buffer back, which has to be empty.
    pub(crate) fn give_back(&mut self) {
        debug_assert_eq!(self.from, self.to, "nothing is unread");
        (self.bytes, self.from, self.to) = (Vec::new(), 0, 0);
    }

    /// Reads more.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        self.bytes.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        if self.bytes.len() < self.to + READ_BYTES / 2 {
            self.bytes.resize(self.to + READ_BYTES, 0);
        }
        let read = timeout(PATIENCE, self.stream.read(&mut self.bytes[self.to..])).await;
        match read.map_err(|_| io::Error::other("the broker says nothing for 60 s"))?? {
            0 => Err(io::Error::other("the broker closed the connection")),
            count => {
                self.to += count;
                Ok(())
            }
        }
    }
}
