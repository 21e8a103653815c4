//! A client that says exactly the bytes it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Any stream of bytes: a socket, TLS, WebSocket.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

pub(crate) struct Raw {
    stream: Box<dyn ByteStream>,
}

/// CONNECT without will and credentials.
pub(crate) fn connect_bytes(level: u8, client: &str, clean: bool, keep_alive_s: u8) -> Vec<u8> {
    connect_with(level, client, if clean { 2 } else { 0 }, keep_alive_s, &[], &[])
}

/// CONNECT with these flags, properties (5 only) and what comes behind the client id.
pub(crate) fn connect_with(
    level: u8,
    client: &str,
    flags: u8,
    keep_alive_s: u8,
    properties: &[u8],
    rest: &[u8],
) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, keep_alive_s];
    if level == 5 {
        body.push(properties.len() as u8);
        body.extend_from_slice(properties);
    }
    body.extend_from_slice(&[0, client.len() as u8]);
    body.extend_from_slice(client.as_bytes());
    body.extend_from_slice(rest);
    let mut packet = vec![0x10, u8::try_from(body.len()).expect("a short CONNECT")];
    assert!(body.len() < 128, "one length byte");
    packet.extend_from_slice(&body);
    packet
}

/// PUBLISH of 3.1.1.
pub(crate) fn publish_bytes(first: u8, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut body = vec![0, topic.len() as u8];
    body.extend_from_slice(topic.as_bytes());
    if first & 6 != 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.extend_from_slice(payload.as_bytes());
    let mut packet = vec![first, u8::try_from(body.len()).expect("a short PUBLISH")];
    packet.extend_from_slice(&body);
    packet
}

/// SUBSCRIBE of 3.1.1 with packet id 1.
pub(crate) fn subscribe_bytes(filter: &str, qos: u8) -> Vec<u8> {
    let mut packet = vec![0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
    packet.extend_from_slice(filter.as_bytes());
    packet.push(qos);
    packet
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the door is open");
        stream.set_nodelay(true).expect("a live socket");
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl ByteStream + 'static) -> Self {
        Self { stream: Box::new(stream) }
    }

    /// Connects over a stream that is open, as a client of 3.1.1 that is let in.
    pub(crate) async fn enter(stream: impl ByteStream + 'static, client: &str) -> Self {
        let mut raw = Self::over(stream);
        raw.send(&connect_bytes(4, client, true, 0)).await;
        assert_eq!(raw.packet().await, Some(vec![0x20, 2, 0, 0]));
        raw
    }

    /// Opens, connects, and returns CONNACK too.
    pub(crate) async fn connect(address: SocketAddr, connect: &[u8]) -> (Self, Vec<u8>) {
        let mut raw = Self::open(address).await;
        raw.send(connect).await;
        let connack = raw.packet().await.expect("an answer");
        (raw, connack)
    }

    /// A client of 3.1.1 that was let in.
    pub(crate) async fn v4(address: SocketAddr, client: &str, clean: bool) -> (Self, bool) {
        let (raw, connack) = Self::connect(address, &connect_bytes(4, client, clean, 0)).await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
        (raw, connack[2] == 1)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the door takes bytes");
        self.stream.flush().await.expect("the door takes bytes");
    }

    /// The next whole packet; none when the door has closed.
    pub(crate) async fn packet(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an answer in time")
    }

    async fn read(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.stream.read_u8().await.ok()?];
        let (mut remaining, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            packet.push(byte);
            remaining |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let start = packet.len();
        packet.resize(start + remaining, 0);
        self.stream.read_exact(&mut packet[start..]).await.ok()?;
        Some(packet)
    }
}
