//! WebSocket frames as a client writes and reads them, one by one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::ByteStream;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request for the subprotocol mqtt, with more headers.
pub(crate) fn request(headers: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{headers}\r\n"
    )
}

/// A frame of a client; its mask is not zero.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xA5, 0x01, 0xFF, 0x3C];
    let mut bytes = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A WebSocket that is open.
pub(crate) struct Frames {
    pub(crate) stream: Box<dyn ByteStream>,
    /// Of binary frames, not yet taken.
    bytes: Vec<u8>,
}

impl Frames {
    pub(crate) async fn open(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).await.expect("the door is open");
        stream.set_nodelay(true).expect("a live socket");
        Self::over(stream, "").await
    }

    /// Asks for a WebSocket, with more headers.
    pub(crate) async fn over(stream: impl ByteStream + 'static, headers: &str) -> Self {
        let mut stream = Box::new(stream);
        stream.write_all(request(headers).as_bytes()).await.expect("sent");
        stream.flush().await.expect("sent");
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.push(stream.read_u8().await.expect("a response"));
        }
        let response = String::from_utf8(response).expect("text");
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{response}");
        Self { stream, bytes: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the door takes bytes");
        self.stream.flush().await.expect("the door takes bytes");
    }

    /// The next frame; none when the door has closed.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an answer in time")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        assert!(first & 0x80 != 0, "a server has no reason to cut its messages");
        let length = match self.stream.read_u8().await.ok()? {
            126 => usize::from(self.stream.read_u16().await.ok()?),
            127 => usize::try_from(self.stream.read_u64().await.ok()?).expect("it fits"),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((first & 0x0F, payload))
    }

    /// The next MQTT packet, from as many binary frames as it takes; none when the door has closed.
    pub(crate) async fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = packet_length(&self.bytes).filter(|n| *n <= self.bytes.len()) {
                return Some(self.bytes.drain(..length).collect());
            }
            let (opcode, payload) = self.frame().await?;
            assert_eq!(opcode, BINARY, "{payload:?}");
            self.bytes.extend_from_slice(&payload);
        }
    }
}

fn packet_length(bytes: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(index + 2 + remaining);
        }
    }
    None
}
