//! Properties of MQTT 5 (section 2.2.2) as bytes: checked in place, stored and sent as they came.
//!
//! ```text
//! length (variable byte integer) | identifier (1) | value | identifier | value ...
//! ```

use super::frame::{put_varint, take_binary, take_text, varint};
use super::packet::Fault;

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SUBSCRIPTION_ID: u8 = 0x0B;
const REASON_STRING: u8 = 0x1F;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// One property: its identifier and all of its bytes, identifier included.
#[derive(Clone, Copy)]
struct Property<'a> {
    id: u8,
    whole: &'a [u8],
}

/// Takes length and bytes of the properties off the front of `rest`.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let Some((length, used)) = varint(rest)? else {
        return Err(Fault::malformed("a packet that ends too early"));
    };
    let end = used + length;
    if end > rest.len() {
        return Err(Fault::malformed("properties that go past the end of their packet"));
    }
    let taken = &rest[used..end];
    *rest = &rest[end..];
    Ok(taken)
}

fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<Property<'a>>, Fault> {
    let all = *rest;
    let Some((&id, value)) = all.split_first() else { return Ok(None) };
    let mut value = value;
    match id {
        PAYLOAD_FORMAT => skip(&mut value, 1)?,
        TOPIC_ALIAS => skip(&mut value, 2)?,
        MESSAGE_EXPIRY => skip(&mut value, 4)?,
        CONTENT_TYPE | RESPONSE_TOPIC | REASON_STRING => {
            take_text(&mut value)?;
        }
        CORRELATION_DATA => {
            take_binary(&mut value)?;
        }
        USER_PROPERTY => {
            take_text(&mut value)?;
            take_text(&mut value)?;
        }
        SUBSCRIPTION_ID => match varint(value)? {
            Some((_, used)) => skip(&mut value, used)?,
            None => return Err(Fault::malformed("properties that end too early")),
        },
        other => {
            return Err(Fault::malformed(format!("property 0x{other:02X} does not belong here")));
        }
    }
    *rest = value;
    Ok(Some(Property { id, whole: &all[..all.len() - value.len()] }))
}

fn skip(value: &mut &[u8], count: usize) -> Result<(), Fault> {
    *value = value.get(count..).ok_or_else(|| Fault::malformed("properties that end too early"))?;
    Ok(())
}

/// Checks the properties of a client's PUBLISH; returns the topic alias.
pub(crate) fn check_publish(bytes: &[u8]) -> Result<Option<u16>, Fault> {
    let mut rest = bytes;
    let mut seen = 0_u64;
    let mut alias = None;
    while let Some(property) = next(&mut rest)? {
        match property.id {
            REASON_STRING => return Err(Fault::malformed("a reason string in a PUBLISH")),
            SUBSCRIPTION_ID => {
                return Err(Fault::protocol("a subscription identifier from a client"));
            }
            USER_PROPERTY => continue,
            PAYLOAD_FORMAT if property.whole[1] > 1 => {
                return Err(Fault::protocol("a payload format indicator other than 0 and 1"));
            }
            RESPONSE_TOPIC if property.whole[3..].iter().any(|b| matches!(b, b'+' | b'#')) => {
                return Err(Fault::protocol("a response topic with a wildcard"));
            }
            TOPIC_ALIAS => alias = Some(u16::from_be_bytes([property.whole[1], property.whole[2]])),
            _ => {}
        }
        once(&mut seen, property.id)?;
    }
    Ok(alias)
}

/// Checks the properties of an acknowledgement.
pub(crate) fn check_ack(bytes: &[u8]) -> Result<(), Fault> {
    let mut rest = bytes;
    let mut seen = 0_u64;
    while let Some(property) = next(&mut rest)? {
        match property.id {
            REASON_STRING => once(&mut seen, property.id)?,
            USER_PROPERTY => {}
            other => {
                let why = format!("property 0x{other:02X} in an acknowledgement");
                return Err(Fault::malformed(why));
            }
        }
    }
    Ok(())
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
        if property.id != TOPIC_ALIAS {
            kept.extend_from_slice(property.whole);
        }
    }
    kept
}

/// The message's time to live in seconds, if it has one.
pub(crate) fn expiry_s(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    while let Ok(Some(property)) = next(&mut rest) {
        if let (MESSAGE_EXPIRY, &[_, a, b, c, d]) = (property.id, property.whole) {
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
                if property.id == MESSAGE_EXPIRY {
                    out.push(MESSAGE_EXPIRY);
                    out.extend_from_slice(&left_s.to_be_bytes());
                } else {
                    out.extend_from_slice(property.whole);
                }
            }
        }
    }
    for identifier in identifiers {
        out.push(SUBSCRIPTION_ID);
        put_varint(out, identifier as usize);
    }
}

/// Appends a topic alias, which is between the server and this client.
pub(crate) fn put_alias(out: &mut Vec<u8>, alias: u16) {
    out.push(TOPIC_ALIAS);
    out.extend_from_slice(&alias.to_be_bytes());
}

/// The parts of a will that travel, encoded as PUBLISH properties.
#[derive(Default)]
pub(crate) struct Travelling<'a> {
    pub(crate) payload_format: Option<u8>,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) response_topic: Option<&'a str>,
    pub(crate) correlation_data: Option<&'a [u8]>,
    pub(crate) user: &'a [(String, String)],
}

impl Travelling<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(format) = self.payload_format {
            out.extend_from_slice(&[PAYLOAD_FORMAT, format]);
        }
        if let Some(expiry_s) = self.expiry_s {
            out.push(MESSAGE_EXPIRY);
            out.extend_from_slice(&expiry_s.to_be_bytes());
        }
        let mut binary = |id: u8, values: &[&[u8]]| {
            out.push(id);
            for value in values {
                let length = u16::try_from(value.len()).expect("it came with two length bytes");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(value);
            }
        };
        if let Some(text) = self.content_type {
            binary(CONTENT_TYPE, &[text.as_bytes()]);
        }
        if let Some(text) = self.response_topic {
            binary(RESPONSE_TOPIC, &[text.as_bytes()]);
        }
        if let Some(data) = self.correlation_data {
            binary(CORRELATION_DATA, &[data]);
        }
        for (key, value) in self.user {
            binary(USER_PROPERTY, &[key.as_bytes(), value.as_bytes()]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::reason;

    fn sample() -> Vec<u8> {
        let user = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        Travelling {
            payload_format: Some(1),
            expiry_s: Some(60),
            content_type: Some("text"),
            response_topic: Some("re/ply"),
            correlation_data: Some(&[0, 255]),
            user: &user,
        }
        .encode()
    }

    #[test]
    fn an_alias_stays_between_client_and_server() {
        let mut with_alias = vec![TOPIC_ALIAS, 0, 7];
        with_alias.extend_from_slice(&sample());
        assert_eq!(check_publish(&with_alias), Ok(Some(7)));
        assert_eq!(without_alias(&with_alias), sample());
    }

    #[test]
    fn a_subscriber_gets_the_time_that_is_left_and_its_identifiers() {
        assert_eq!(expiry_s(&sample()), Some(60));
        let mut out = Vec::new();
        put_delivery(&mut out, &sample(), Some(9), [5, 300].into_iter());
        assert_eq!(expiry_s(&out), Some(9));
        assert!(out.ends_with(&[SUBSCRIPTION_ID, 5, SUBSCRIPTION_ID, 0xAC, 0x02]));
        assert_eq!(out.len(), sample().len() + 5);
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
