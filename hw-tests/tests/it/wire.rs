//! A connection of MQTT 3.1.1 on which a test says each packet itself; the packets are rumqttc's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
pub(crate) use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet};
pub(crate) use rumqttc::mqttbytes::v4::{PubAck, PubRel, Publish, Subscribe};

const PACKET_BYTES_MAX: usize = 1 << 20;

/// How long [`Wire::receive`] waits.
const PATIENCE: Duration = Duration::from_millis(20);

/// CONNACK may wait for a commit of a busy disk.
const HANDSHAKE: Duration = Duration::from_secs(10);

pub(crate) type Received = Packet;

pub(crate) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// Connects with a lasting session; says whether the gateway had it.
    pub(crate) fn connect(address: SocketAddr, client: &str) -> io::Result<(Self, bool)> {
        let stream = TcpStream::connect_timeout(&address, HANDSHAKE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE))?;
        stream.set_write_timeout(Some(HANDSHAKE))?;
        let mut wire = Self { stream, buffer: BytesMut::new() };
        let mut connect = Connect::new(client);
        connect.clean_session = false;
        connect.keep_alive = 60;
        wire.send(&[Packet::Connect(connect)])?;
        let present = match wire.receive()? {
            Some(Packet::ConnAck(answer)) => answer.session_present,
            other => return Err(io::Error::other(format!("not a CONNACK: {other:?}"))),
        };
        wire.stream.set_read_timeout(Some(PATIENCE))?;
        Ok((wire, present))
    }

    /// Sends packets in one write.
    pub(crate) fn send(&mut self, packets: &[Packet]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.write(&mut bytes, PACKET_BYTES_MAX).map_err(io::Error::other)?;
        }
        self.stream.write_all(&bytes)
    }

    /// The next packet; `None` if there is none for a while.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Packet>> {
        loop {
            match Packet::read(&mut self.buffer, PACKET_BYTES_MAX) {
                Ok(packet) => return Ok(Some(packet)),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
