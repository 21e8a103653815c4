//! Frames in the byte stream, and the packets of the hot path decoded and encoded in place.
//!
//! ```text
//! byte 0      type << 4 | flags
//! byte 1..    remaining length, 7 bits a byte, lowest first, at most 4 bytes
//! then        the body of that many bytes
//!
//! PUBLISH     topic length (2) | topic | packet id (2, QoS > 0) | [5: properties] | payload
//! PUBACK ...  packet id (2) | [5: reason (1) | properties], both may be missing
//! ```

use super::packet::{Fault, Publish, Version, reason};
use super::properties;

pub(crate) const CONNECT: u8 = 1;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const UNSUBSCRIBE: u8 = 10;
pub(crate) const PINGREQ: u8 = 12;
pub(crate) const DISCONNECT: u8 = 14;
pub(crate) const AUTH: u8 = 15;

/// The largest remaining length that four bytes can say.
const REMAINING_MAX: usize = 268_435_455;

/// One packet in the byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The packet type.
    pub(crate) kind: u8,
    /// The low four bits of the first byte.
    pub(crate) flags: u8,
    /// Header and body.
    pub(crate) whole: &'a [u8],
    /// What comes after the remaining length.
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Checks the reserved flags, and that 5 says the remaining length in its shortest form
    /// [MQTT-1.5.5-1]; 3.1.1 asks for none.
    pub(crate) fn check_shape(&self, version: Version, flags: u8) -> Result<(), Fault> {
        if self.flags != flags {
            return Err(Fault::malformed(format!("reserved flags in packet type {}", self.kind)));
        }
        let header = self.whole.len() - self.body.len();
        if version == Version::V5 && header > 1 + varint_len(self.body.len()) {
            return Err(Fault::malformed("a remaining length of more bytes than it needs"));
        }
        Ok(())
    }
}

/// The first whole packet of `bytes`; none if more bytes are needed.
///
/// # Errors
/// A [`Fault`] for a length that is no length or above `bytes_max`.
pub(crate) fn split(bytes: &[u8], bytes_max: usize) -> Result<Option<Frame<'_>>, Fault> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((remaining, length_bytes)) = varint(rest)? else { return Ok(None) };
    let header = 1 + length_bytes;
    let total = header + remaining;
    if total > bytes_max {
        let why = format!("a packet of {total} bytes; at most {bytes_max} are taken");
        return Err(Fault::new(reason::PACKET_TOO_LARGE, why));
    }
    if bytes.len() < total {
        return Ok(None);
    }
    let whole = &bytes[..total];
    Ok(Some(Frame { kind: first >> 4, flags: first & 0x0F, whole, body: &whole[header..] }))
}

/// A variable byte integer (section 1.5.5) and its length; none if it goes on behind `bytes`.
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(Fault::malformed("a length of more than four bytes"));
    }
    Ok(None)
}

/// Appends a variable byte integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value <= REMAINING_MAX, "packets are bounded far below what four bytes say");
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

/// How many bytes [`put_varint`] writes.
pub(crate) fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Two length bytes and what they count; the rest follows.
pub(crate) fn take_binary<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let length = usize::from(take_u16(bytes)?);
    if length > bytes.len() {
        return Err(Fault::malformed("a length that goes past the end of its packet"));
    }
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(taken)
}

/// A UTF-8 string (section 1.5.4) without NUL.
pub(crate) fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Fault> {
    match std::str::from_utf8(take_binary(bytes)?) {
        Ok(text) if text.contains('\0') => Err(Fault::malformed("a text with a NUL")),
        Ok(text) => Ok(text),
        Err(_) => Err(Fault::malformed("a text that is not UTF-8")),
    }
}

/// Two bytes, high first.
pub(crate) fn take_u16(bytes: &mut &[u8]) -> Result<u16, Fault> {
    match bytes.split_first_chunk::<2>() {
        Some((two, rest)) => {
            *bytes = rest;
            Ok(u16::from_be_bytes(*two))
        }
        None => Err(Fault::malformed("a packet that ends too early")),
    }
}

/// A packet id, which is never 0.
pub(crate) fn take_id(bytes: &mut &[u8]) -> Result<u16, Fault> {
    match take_u16(bytes)? {
        0 => Err(Fault::malformed("packet id 0")),
        id => Ok(id),
    }
}

/// Reads PUBLISH in place.
pub(crate) fn read_publish<'a>(frame: &Frame<'a>, version: Version) -> Result<Publish<'a>, Fault> {
    let (dup, qos, retain) = (frame.flags & 8 != 0, (frame.flags >> 1) & 3, frame.flags & 1 != 0);
    if qos == 3 {
        return Err(Fault::malformed("a PUBLISH of QoS 3"));
    }
    if dup && qos == 0 {
        return Err(Fault::malformed("a PUBLISH of QoS 0 that says it is a duplicate"));
    }
    let mut rest = frame.body;
    let topic = take_text(&mut rest)?;
    let id = if qos > 0 { take_id(&mut rest)? } else { 0 };
    let (properties, alias) = match version {
        Version::V4 => (&rest[..0], None),
        Version::V5 => {
            let bytes = properties::take(&mut rest)?;
            (bytes, properties::check_publish(bytes)?)
        }
    };
    if topic.is_empty() && alias.is_none() {
        return Err(Fault::protocol("a PUBLISH without a topic"));
    }
    Ok(Publish { dup, qos, retain, topic, id, properties, alias, payload: rest })
}

/// Reads the packet id and the reason of PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(crate) fn read_ack(frame: &Frame<'_>, version: Version) -> Result<(u16, u8), Fault> {
    let mut rest = frame.body;
    let id = take_id(&mut rest)?;
    match (version, rest) {
        (_, []) => Ok((id, reason::SUCCESS)),
        (Version::V4, _) => Err(Fault::malformed("an acknowledgement that is too long")),
        (Version::V5, [code, properties @ ..]) => {
            let mut properties = properties;
            if !properties.is_empty() {
                let bytes = properties::take(&mut properties)?;
                properties::check_ack(bytes)?;
            }
            if properties.is_empty() {
                Ok((id, *code))
            } else {
                Err(Fault::malformed("an acknowledgement that is too long"))
            }
        }
    }
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP; a reason other than success is said to MQTT 5 only.
pub(crate) fn put_ack(out: &mut Vec<u8>, version: Version, kind: u8, id: u16, code: u8) {
    let flags = if kind == PUBREL { 2 } else { 0 };
    let [high, low] = id.to_be_bytes();
    if version == Version::V5 && code != reason::SUCCESS {
        out.extend_from_slice(&[kind << 4 | flags, 3, high, low, code]);
    } else {
        out.extend_from_slice(&[kind << 4 | flags, 2, high, low]);
    }
}

/// A message on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: &'a str,
    pub(crate) id: u16,
    /// Encoded, without their length; empty for 3.1.1.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Outgoing<'_> {
    fn remaining(&self, version: Version) -> usize {
        let id = if self.qos > 0 { 2 } else { 0 };
        let properties = match version {
            Version::V4 => 0,
            Version::V5 => varint_len(self.properties.len()) + self.properties.len(),
        };
        2 + self.topic.len() + id + properties + self.payload.len()
    }

    /// Bytes of the whole packet.
    pub(crate) fn size(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_len(remaining) + remaining
    }

    /// Appends PUBLISH.
    pub(crate) fn put(&self, out: &mut Vec<u8>, version: Version) {
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        out.push(PUBLISH << 4 | flags);
        put_varint(out, self.remaining(version));
        let length = u16::try_from(self.topic.len()).expect("a stored topic came by MQTT");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        if self.qos > 0 {
            out.extend_from_slice(&self.id.to_be_bytes());
        }
        if version == Version::V5 {
            put_varint(out, self.properties.len());
            out.extend_from_slice(self.properties);
        }
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Frame<'_> {
        split(bytes, 1 << 20).expect("well-formed").expect("whole")
    }

    #[test]
    fn a_message_out_reads_back_as_it_was() {
        for version in [Version::V4, Version::V5] {
            for payload_bytes in [0, 1, 120, 200, 20_000] {
                let payload = vec![7; payload_bytes];
                let properties: &[u8] =
                    if version == Version::V5 { &[0x03, 0, 1, b'x'] } else { &[] };
                let message = Outgoing {
                    dup: true,
                    qos: 1,
                    retain: true,
                    topic: "ä/b",
                    id: 300,
                    properties,
                    payload: &payload,
                };
                let mut out = Vec::new();
                message.put(&mut out, version);
                assert_eq!(out.len(), message.size(version));
                let frame = one(&out);
                let publish = read_publish(&frame, version).expect("what we wrote");
                assert!(publish.dup && publish.retain && publish.qos == 1 && publish.id == 300);
                assert_eq!((publish.topic, publish.properties), ("ä/b", properties));
                assert_eq!(publish.payload, payload);
            }
        }
    }

    #[test]
    fn a_packet_is_only_taken_whole_and_within_the_limit() {
        let mut out = Vec::new();
        put_ack(&mut out, Version::V4, PUBACK, 9, 0);
        for end in 0..out.len() {
            assert_eq!(split(&out[..end], 100).expect("so far well-formed"), None);
        }
        assert_eq!(one(&out).kind, PUBACK);
        assert_eq!(split(&out, 3).expect_err("4 bytes").reason, reason::PACKET_TOO_LARGE);
        let endless = [0x30, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(split(&endless, 100).expect_err("5 bytes").reason, reason::MALFORMED);
    }

    #[test]
    fn acknowledgements_carry_their_reason_to_version_5_only() {
        let mut out = Vec::new();
        put_ack(&mut out, Version::V5, PUBREC, 9, reason::NOT_AUTHORIZED);
        assert_eq!(read_ack(&one(&out), Version::V5), Ok((9, reason::NOT_AUTHORIZED)));
        out.clear();
        put_ack(&mut out, Version::V4, PUBREC, 9, reason::NOT_AUTHORIZED);
        assert_eq!(out, [0x50, 2, 0, 9]);
        let zero = [0x40, 2, 0, 0];
        assert!(read_ack(&one(&zero), Version::V4).is_err(), "packet id 0");
    }

    #[test]
    fn what_no_publish_may_be_is_malformed() {
        for bytes in [
            &[0x36_u8, 5, 0, 1, b'a', 0, 1][..], // QoS 3
            &[0x38, 3, 0, 1, b'a'],              // a duplicate of QoS 0
            &[0x32, 3, 0, 1, b'a'],              // no packet id
            &[0x32, 5, 0, 1, b'a', 0, 0],        // packet id 0
            &[0x30, 3, 0, 9, b'a'],              // topic past the end
            &[0x30, 3, 0, 1, 0xFF],              // not UTF-8
            &[0x30, 3, 0, 1, 0],                 // NUL
            &[0x30, 1, 0],                       // half a length
        ] {
            let fault = read_publish(&one(bytes), Version::V4).expect_err("not a PUBLISH");
            assert_eq!(fault.reason, reason::MALFORMED, "{bytes:?}");
        }
    }
}
