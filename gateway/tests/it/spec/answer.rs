//! What the gateway sends, taken apart as the specification says.

use super::packet::{CONNACK, PUBLISH, Version, prop};

/// A packet from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) first: u8,
    pub(crate) body: Vec<u8>,
    /// Bytes in all.
    pub(crate) size: usize,
}

/// Properties in their order: identifier and value without its length bytes; for a user property
/// key, `=` and value.
pub(crate) type Properties = Vec<(u8, Vec<u8>)>;

impl Answer {
    /// Takes header and body of a whole packet apart; the length has to be in its shortest form.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (remaining, used) = varint(&bytes[1..]);
        let body = bytes[1 + used..].to_vec();
        assert_eq!(body.len(), remaining, "the remaining length counts the rest");
        Self { first: bytes[0], body, size: bytes.len() }
    }

    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The packet id of an acknowledgement.
    pub(crate) fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// The reason code of PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(crate) fn reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }

    /// The codes of SUBACK and UNSUBACK.
    pub(crate) fn codes(&self, version: Version) -> Vec<u8> {
        let mut rest = &self.body[2..];
        take_properties(version, &mut rest);
        rest.to_vec()
    }
}

/// CONNACK.
#[derive(Clone, Debug)]
pub(crate) struct ConnAck {
    pub(crate) flags: u8,
    pub(crate) code: u8,
    pub(crate) properties: Properties,
    pub(crate) size: usize,
}

impl ConnAck {
    pub(crate) fn read(version: Version, answer: &Answer) -> Self {
        assert_eq!(answer.kind(), CONNACK, "{answer:?}");
        let mut rest = &answer.body[2..];
        let properties = take_properties(version, &mut rest);
        assert!(rest.is_empty(), "CONNACK has no payload: {answer:?}");
        let (flags, code) = (answer.body[0], answer.body[1]);
        Self { flags, code, properties, size: answer.size }
    }

    pub(crate) fn present(&self) -> bool {
        self.flags == 1
    }

    pub(crate) fn get(&self, id: u8) -> Option<&[u8]> {
        get(&self.properties, id)
    }

    /// The value of a property of two bytes.
    pub(crate) fn two(&self, id: u8) -> Option<u16> {
        self.get(id).map(|value| u16::from_be_bytes([value[0], value[1]]))
    }
}

/// PUBLISH.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    /// 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) properties: Properties,
    pub(crate) payload: String,
    pub(crate) size: usize,
}

impl Message {
    pub(crate) fn read(version: Version, answer: &Answer) -> Self {
        assert_eq!(answer.kind(), PUBLISH, "{answer:?}");
        let qos = (answer.first >> 1) & 3;
        let mut rest = &answer.body[..];
        let topic = String::from_utf8(take_binary(&mut rest)).expect("a topic in UTF-8");
        let id = if qos > 0 { take_u16(&mut rest) } else { 0 };
        assert_eq!(qos > 0, id > 0, "an id of its own, where there is one");
        let properties = take_properties(version, &mut rest);
        Self {
            dup: answer.first & 8 != 0,
            qos,
            retain: answer.first & 1 != 0,
            topic,
            id,
            properties,
            payload: String::from_utf8(rest.to_vec()).expect("the tests send text"),
            size: answer.size,
        }
    }

    pub(crate) fn get(&self, id: u8) -> Option<&[u8]> {
        get(&self.properties, id)
    }

    /// The value of a property of four bytes.
    pub(crate) fn four(&self, id: u8) -> Option<u32> {
        self.get(id).map(|value| u32::from_be_bytes(value.try_into().expect("four bytes")))
    }

    /// All values of a property that may come more than once.
    pub(crate) fn all(&self, id: u8) -> Vec<&[u8]> {
        let of = |(found, value)| (found == id).then_some(value);
        self.properties.iter().filter_map(|(found, value)| of((*found, &value[..]))).collect()
    }

    /// The subscription identifiers, in order of size.
    pub(crate) fn identifiers(&self) -> Vec<usize> {
        let mut found: Vec<usize> =
            self.all(prop::SUBSCRIPTION_ID).into_iter().map(|value| varint(value).0).collect();
        found.sort_unstable();
        found
    }
}

fn get(properties: &Properties, id: u8) -> Option<&[u8]> {
    properties.iter().find(|(found, _)| *found == id).map(|(_, value)| &value[..])
}

/// A variable byte integer and its length; panics where it is longer than it has to be.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            assert!(index == 0 || *byte != 0, "no more bytes than it needs");
            return (value, index + 1);
        }
    }
    panic!("no variable byte integer: {bytes:?}");
}

fn take_u16(rest: &mut &[u8]) -> u16 {
    u16::from_be_bytes(take(rest, 2).try_into().expect("two bytes"))
}

fn take(rest: &mut &[u8], count: usize) -> Vec<u8> {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken.to_vec()
}

fn take_binary(rest: &mut &[u8]) -> Vec<u8> {
    let length = usize::from(take_u16(rest));
    take(rest, length)
}

fn take_properties(version: Version, rest: &mut &[u8]) -> Properties {
    if version == Version::V3 {
        return Vec::new();
    }
    let (length, used) = varint(rest);
    take(rest, used);
    let bytes = take(rest, length);
    let mut inside = &bytes[..];
    let mut found = Vec::new();
    while !inside.is_empty() {
        let id = take(&mut inside, 1)[0];
        found.push((id, take_value(id, &mut inside)));
    }
    found
}

fn take_value(id: u8, rest: &mut &[u8]) -> Vec<u8> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => take(rest, 1),
        0x13 | 0x21..=0x23 => take(rest, 2),
        0x02 | 0x11 | 0x18 | 0x27 => take(rest, 4),
        0x0B => {
            let used = varint(rest).1;
            take(rest, used)
        }
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => take_binary(rest),
        0x26 => {
            let (key, value) = (take_binary(rest), take_binary(rest));
            [&key[..], b"=", &value[..]].concat()
        }
        other => panic!("no property has the identifier 0x{other:02X}"),
    }
}
