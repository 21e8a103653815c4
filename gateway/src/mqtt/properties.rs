//! Properties of MQTT 5 (section 2.2.2) as bytes: checked in place, stored and sent as they came.
//!
//! ```text
//! length (variable byte integer) | identifier (1) | value | identifier | value ...
//! ```

use super::frame::{put_varint, take_binary, take_text, varint, varint_len};
use super::packet::Fault;

/// Identifiers, section 2.2.2.2.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTH_METHOD: u8 = 0x15;
    pub(crate) const AUTH_DATA: u8 = 0x16;
    pub(crate) const PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const PACKET_BYTES_MAX: u8 = 0x27;
}

/// One property of a client, its value well-formed.
#[derive(Clone, Copy)]
pub(crate) struct Property<'a> {
    pub(crate) id: u8,
    /// All of its bytes, identifier included.
    pub(crate) whole: &'a [u8],
}

impl<'a> Property<'a> {
    /// The value of a property of two bytes.
    pub(crate) fn two(&self) -> u16 {
        u16::from_be_bytes([self.whole[1], self.whole[2]])
    }

    /// The value of a property of four bytes.
    pub(crate) fn four(&self) -> u32 {
        u32::from_be_bytes([self.whole[1], self.whole[2], self.whole[3], self.whole[4]])
    }

    /// The value of a property of one byte that is 0 or 1.
    pub(crate) fn flag(&self) -> Result<bool, Fault> {
        match self.whole[1] {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Fault::protocol(format!("property 0x{:02X} is {other}", self.id))),
        }
    }

    /// Name and value of a user property.
    pub(crate) fn pair(&self) -> (&'a str, &'a str) {
        let mut value = &self.whole[1..];
        let mut text = || take_text(&mut value).unwrap_or_default();
        (text(), text())
    }

    /// The subscription identifier, which is never 0.
    pub(crate) fn identifier(&self) -> Result<u32, Fault> {
        let value = varint(&self.whole[1..])?.map_or(0, |(value, _)| value);
        match u32::try_from(value).expect("a variable byte integer has at most 28 bits") {
            0 => Err(Fault::protocol("subscription identifier 0")),
            identifier => Ok(identifier),
        }
    }

    /// Checks what a message may say of itself.
    pub(crate) fn check_value(&self) -> Result<(), Fault> {
        match self.id {
            id::PAYLOAD_FORMAT => self.flag().map(drop),
            id::RESPONSE_TOPIC if self.whole[3..].iter().any(|b| matches!(b, b'+' | b'#')) => {
                Err(Fault::protocol("a response topic with a wildcard"))
            }
            _ => Ok(()),
        }
    }
}

/// Takes length and bytes of the properties off the front of `rest`.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let (length, used) = shortest_varint(rest)?;
    let end = used + length;
    if end > rest.len() {
        return Err(Fault::malformed("properties that go past the end of their packet"));
    }
    let taken = &rest[used..end];
    *rest = &rest[end..];
    Ok(taken)
}

/// A variable byte integer in its shortest form [MQTT-1.5.5-1], and its length.
fn shortest_varint(bytes: &[u8]) -> Result<(usize, usize), Fault> {
    match varint(bytes)? {
        Some((value, used)) if used == varint_len(value) => Ok((value, used)),
        Some(_) => Err(Fault::malformed("an integer of more bytes than it needs")),
        None => Err(Fault::malformed("a packet that ends too early")),
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<Property<'a>>, Fault> {
    let all = *rest;
    let Some((&id, value)) = all.split_first() else { return Ok(None) };
    let mut value = value;
    match id {
        id::PAYLOAD_FORMAT | id::PROBLEM_INFORMATION | id::RESPONSE_INFORMATION => {
            skip(&mut value, 1)?;
        }
        id::TOPIC_ALIAS | id::RECEIVE_MAXIMUM | id::ALIAS_MAXIMUM => skip(&mut value, 2)?,
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::PACKET_BYTES_MAX => {
            skip(&mut value, 4)?;
        }
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::REASON_STRING
        | id::AUTH_METHOD
        | id::SERVER_REFERENCE => {
            take_text(&mut value)?;
        }
        id::CORRELATION_DATA | id::AUTH_DATA => {
            take_binary(&mut value)?;
        }
        id::USER_PROPERTY => {
            take_text(&mut value)?;
            take_text(&mut value)?;
        }
        id::SUBSCRIPTION_ID => {
            let used = shortest_varint(value)?.1;
            skip(&mut value, used)?;
        }
        other => {
            return Err(Fault::malformed(format!("property 0x{other:02X} from a client")));
        }
    }
    *rest = value;
    Ok(Some(Property { id, whole: &all[..all.len() - value.len()] }))
}

fn skip(value: &mut &[u8], count: usize) -> Result<(), Fault> {
    *value = value.get(count..).ok_or_else(|| Fault::malformed("properties that end too early"))?;
    Ok(())
}

/// Calls `with` for each property of a packet that may have those of `allowed`, each but user
/// properties once.
pub(crate) fn walk<'a>(
    bytes: &'a [u8],
    allowed: &[u8],
    mut with: impl FnMut(Property<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut rest = bytes;
    let mut seen = 0_u64;
    while let Some(property) = next(&mut rest)? {
        if !allowed.contains(&property.id) {
            let why = format!("property 0x{:02X} does not belong here", property.id);
            return Err(Fault::malformed(why));
        }
        if property.id != id::USER_PROPERTY {
            once(&mut seen, property.id)?;
        }
        with(property)?;
    }
    Ok(())
}

const IN_PUBLISH: &[u8] = &[
    id::PAYLOAD_FORMAT,
    id::MESSAGE_EXPIRY,
    id::CONTENT_TYPE,
    id::RESPONSE_TOPIC,
    id::CORRELATION_DATA,
    id::SUBSCRIPTION_ID,
    id::TOPIC_ALIAS,
    id::USER_PROPERTY,
];

/// Checks the properties of a client's PUBLISH; returns the topic alias.
pub(crate) fn check_publish(bytes: &[u8]) -> Result<Option<u16>, Fault> {
    let mut alias = None;
    walk(bytes, IN_PUBLISH, |property| {
        match property.id {
            id::SUBSCRIPTION_ID => {
                return Err(Fault::protocol("a subscription identifier from a client"));
            }
            id::TOPIC_ALIAS => alias = Some(property.two()),
            _ => property.check_value()?,
        }
        Ok(())
    })?;
    Ok(alias)
}

/// Checks the properties of an acknowledgement.
pub(crate) fn check_ack(bytes: &[u8]) -> Result<(), Fault> {
    walk(bytes, &[id::REASON_STRING, id::USER_PROPERTY], |_| Ok(()))
}

fn once(seen: &mut u64, id: u8) -> Result<(), Fault> {
    let bit = 1 << id;
    if *seen & bit != 0 {
        return Err(Fault::protocol(format!("property 0x{id:02X} twice")));
    }
    *seen |= bit;
    Ok(())
}

/// The properties without the topic alias, which is between this client and the server.
pub(crate) fn without_alias(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Ok(Some(property)) = next(&mut rest) {
        if property.id != id::TOPIC_ALIAS {
            kept.extend_from_slice(property.whole);
        }
    }
    kept
}

/// The properties without those user properties whose name begins with `prefix`.
pub(crate) fn without_user(bytes: &[u8], prefix: &str) -> Vec<u8> {
    let mut kept = Vec::new();
    for property in all(bytes) {
        let named = property.id == id::USER_PROPERTY && property.pair().0.starts_with(prefix);
        if !named {
            kept.extend_from_slice(property.whole);
        }
    }
    kept
}

/// The properties of a message, which were checked.
fn all(bytes: &[u8]) -> impl Iterator<Item = Property<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || next(&mut rest).ok().flatten())
}

/// The message's time to live in seconds, if it has one.
pub(crate) fn expiry_s(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    while let Ok(Some(property)) = next(&mut rest) {
        if let (id::MESSAGE_EXPIRY, &[_, a, b, c, d]) = (property.id, property.whole) {
            return Some(u32::from_be_bytes([a, b, c, d]));
        }
    }
    None
}

/// Appends stored properties as a subscriber gets them: with `left_s` as the time to live, and the
/// identifiers of the subscriptions that matched.
pub(crate) fn put_delivery(
    out: &mut Vec<u8>,
    stored: &[u8],
    left_s: Option<u32>,
    identifiers: impl Iterator<Item = u32>,
) {
    match left_s {
        None => out.extend_from_slice(stored),
        Some(left_s) => {
            let mut rest = stored;
            while let Ok(Some(property)) = next(&mut rest) {
                if property.id == id::MESSAGE_EXPIRY {
                    out.push(id::MESSAGE_EXPIRY);
                    out.extend_from_slice(&left_s.to_be_bytes());
                } else {
                    out.extend_from_slice(property.whole);
                }
            }
        }
    }
    for identifier in identifiers {
        out.push(id::SUBSCRIPTION_ID);
        put_varint(out, identifier as usize);
    }
}

/// Appends a topic alias, which is between the server and this client.
pub(crate) fn put_alias(out: &mut Vec<u8>, alias: u16) {
    out.push(id::TOPIC_ALIAS);
    out.extend_from_slice(&alias.to_be_bytes());
}

/// Appends a property whose value has these bytes.
pub(crate) fn put(out: &mut Vec<u8>, id: u8, value: &[u8]) {
    out.push(id);
    out.extend_from_slice(value);
}

/// Appends a property whose value is a text or bytes with their length.
pub(crate) fn put_binary(out: &mut Vec<u8>, id: u8, value: &[u8]) {
    let length = u16::try_from(value.len()).expect("two length bytes are enough for what we send");
    put(out, id, &length.to_be_bytes());
    out.extend_from_slice(value);
}

/// Appends a time to live.
pub(crate) fn put_expiry(out: &mut Vec<u8>, left_s: u32) {
    put(out, id::MESSAGE_EXPIRY, &left_s.to_be_bytes());
}

/// Appends a user property.
pub(crate) fn put_user(out: &mut Vec<u8>, name: &str, value: &str) {
    put_binary(out, id::USER_PROPERTY, name.as_bytes());
    let length = u16::try_from(value.len()).expect("two length bytes are enough for what we send");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// The user properties among stored ones, in their order.
pub(crate) fn user(stored: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    all(stored).filter(|property| property.id == id::USER_PROPERTY).map(|property| property.pair())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::reason;

    fn sample() -> Vec<u8> {
        let mut out = vec![id::PAYLOAD_FORMAT, 1, id::MESSAGE_EXPIRY, 0, 0, 0, 60];
        put_binary(&mut out, id::CONTENT_TYPE, b"text");
        put_binary(&mut out, id::RESPONSE_TOPIC, b"re/ply");
        put_binary(&mut out, id::CORRELATION_DATA, &[0, 255]);
        out.extend_from_slice(&[id::USER_PROPERTY, 0, 1, b'a', 0, 1, b'1']);
        out.extend_from_slice(&[id::USER_PROPERTY, 0, 1, b'a', 0, 1, b'2']);
        out
    }

    #[test]
    fn an_alias_stays_between_client_and_server() {
        let mut with_alias = vec![id::TOPIC_ALIAS, 0, 7];
        with_alias.extend_from_slice(&sample());
        assert_eq!(check_publish(&with_alias), Ok(Some(7)));
        assert_eq!(without_alias(&with_alias), sample());
    }

    #[test]
    fn user_properties_are_read_and_left_out_by_name() {
        let mut bytes = sample();
        bytes.extend_from_slice(&[id::USER_PROPERTY, 0, 4, b'h', b'w', b'.', b'x', 0, 1, b'3']);
        let found: Vec<_> = user(&bytes).collect();
        assert_eq!(found, [("a", "1"), ("a", "2"), ("hw.x", "3")]);
        assert_eq!(without_user(&bytes, "hw."), sample());
    }

    #[test]
    fn a_subscriber_gets_the_time_that_is_left_and_its_identifiers() {
        assert_eq!(expiry_s(&sample()), Some(60));
        let mut out = Vec::new();
        put_delivery(&mut out, &sample(), Some(9), [5, 300].into_iter());
        assert_eq!(expiry_s(&out), Some(9));
        assert!(out.ends_with(&[id::SUBSCRIPTION_ID, 5, id::SUBSCRIPTION_ID, 0xAC, 0x02]));
        assert_eq!(out.len(), sample().len() + 5);
    }

    #[test]
    fn user_properties_are_found_among_the_others() {
        let mut bytes = sample();
        put_user(&mut bytes, "name", "value");
        let all: Vec<_> = user(&bytes).collect();
        assert_eq!(all, [("a", "1"), ("a", "2"), ("name", "value")]);
    }

    #[test]
    fn properties_that_break_the_rules_are_refused_with_the_right_reason() {
        for (bytes, expected) in [
            (&[0x02_u8, 0, 0][..], reason::MALFORMED),      // too short
            (&[0x11, 0, 0, 0, 0], reason::MALFORMED),       // of another packet
            (&[0x01, 0, 0x01, 0], reason::PROTOCOL_ERROR),  // twice
            (&[0x01, 2], reason::PROTOCOL_ERROR),           // no such format
            (&[0x0B, 1], reason::PROTOCOL_ERROR),           // for servers only
            (&[0x26, 0, 1, 0xFF, 0, 0], reason::MALFORMED), // not UTF-8
            (&[0x08, 0, 1, b'#'], reason::PROTOCOL_ERROR),  // a response to a wildcard
        ] {
            assert_eq!(check_publish(bytes).expect_err("wrong").reason, expected, "{bytes:?}");
        }
    }
}
