//! MQTT 3.1.1 packets, written and taken apart.
//!
//! ```text
//! byte 0      type << 4 | flags
//! byte 1..    remaining length, 7 bits a byte, lowest first
//! then        the body of that many bytes
//! ```

use std::io;

pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PINGRESP: u8 = 0xD0;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// Seconds that a client may be silent.
const KEEP_ALIVE_S: u16 = 600;

fn start(first: u8, mut remaining: usize) -> Vec<u8> {
    let mut packet = vec![first];
    loop {
        let byte = (remaining & 0x7F) as u8;
        remaining >>= 7;
        packet.push(if remaining > 0 { byte | 0x80 } else { byte });
        if remaining == 0 {
            return packet;
        }
    }
}

fn put_text(packet: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts of a benchmark are short");
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

/// CONNECT; a session that is not clean outlives its connection.
pub(crate) fn connect(client: &str, clean: bool) -> Vec<u8> {
    let mut packet = start(0x10, 12 + client.len());
    put_text(&mut packet, "MQTT");
    packet.extend_from_slice(&[4, u8::from(clean) << 1]);
    packet.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    put_text(&mut packet, client);
    packet
}

/// SUBSCRIBE to one filter, with packet id 1.
pub(crate) fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut packet = start(0x82, 5 + filter.len());
    packet.extend_from_slice(&[0, 1]);
    put_text(&mut packet, filter);
    packet.push(qos);
    packet
}

/// PUBLISH with packet id 0, which is for the caller to set ([`id_at`]).
pub(crate) fn publish(topic: &str, qos: u8, payload: &[u8]) -> Vec<u8> {
    let id_bytes = if qos > 0 { 2 } else { 0 };
    let mut packet = start(0x30 | qos << 1, 2 + topic.len() + id_bytes + payload.len());
    put_text(&mut packet, topic);
    packet.resize(packet.len() + id_bytes, 0);
    packet.extend_from_slice(payload);
    packet
}

/// Where a PUBLISH of QoS 1 or 2 has its packet id.
pub(crate) fn id_at(packet: &[u8], payload: usize) -> usize {
    packet.len() - payload - 2
}

/// PUBACK.
pub(crate) fn puback(id: [u8; 2]) -> [u8; 4] {
    [PUBACK, 2, id[0], id[1]]
}

/// A packet that came: its first byte and what is behind the length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) first: u8,
    pub(crate) body: &'a [u8],
}

/// A message that came.
pub(crate) struct Message<'a> {
    /// Of QoS 1 and 2.
    pub(crate) id: Option<[u8; 2]>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The message, if it is one.
    pub(crate) fn message(&self) -> Option<Message<'a>> {
        let (length, rest) = self.body.split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
        match (self.first >> 4, self.first >> 1 & 3) {
            (3, 0) => Some(Message { id: None, payload: rest }),
            (3, _) => {
                let (id, payload) = rest.split_first_chunk::<2>()?;
                Some(Message { id: Some(*id), payload })
            }
            _ => None,
        }
    }
}

/// The first whole packet of `bytes`, and how many bytes it takes; none if more are needed.
pub(crate) fn split(bytes: &[u8]) -> io::Result<Option<(Packet<'_>, usize)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut remaining = 0;
    for (index, byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let from = 2 + index;
            let body = bytes.get(from..from + remaining);
            return Ok(body.map(|body| (Packet { first, body }, from + remaining)));
        }
    }
    if rest.len() < 4 { Ok(None) } else { Err(io::Error::other("not a packet of MQTT")) }
}
