//! Packets that are not on the hot path, both versions, read from and written to bytes. PUBLISH
//! and its acknowledgements are read and written in place by [`super::frame`].
//!
//! ```text
//! CONNACK      flags (1) | code (1) | [5: properties]
//! SUBSCRIBE    packet id (2) | [5: properties] | filter | options (1) | filter ...
//! options      5: 0 0 | retain handling (2) | retain as published | no local | QoS (2); 3.1.1: QoS
//! SUBACK       packet id (2) | [5: properties] | code (1) ...
//! UNSUBSCRIBE  packet id (2) | [5: properties] | filter ...
//! UNSUBACK     packet id (2) | [5: properties | code (1) ...]
//! DISCONNECT   5: [reason (1) | [properties]]
//! ```

mod connect;

pub(crate) use connect::{BadConnect, read_connect};

use super::frame::{self, Frame, put_varint, take_id, take_text};
use super::packet::{
    ConnAck, Fault, Filter, Packet, RetainHandling, Subscribe, Unsubscribe, Version, reason,
};
use super::properties::{self, id};

/// Reads a packet after CONNECT.
///
/// # Errors
/// A [`Fault`] with the reason for DISCONNECT.
pub(crate) fn read_packet<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, Fault> {
    let flags = match frame.kind {
        frame::PUBLISH => frame.flags,
        frame::PUBREL | frame::SUBSCRIBE | frame::UNSUBSCRIBE => 2,
        _ => 0,
    };
    frame.check_shape(version, flags)?;
    match frame.kind {
        frame::PUBLISH => frame::read_publish(frame, version).map(Packet::Publish),
        frame::PUBACK => Ok(Packet::PubAck(frame::read_ack(frame, version)?.0)),
        frame::PUBREC => {
            let (id, reason) = frame::read_ack(frame, version)?;
            Ok(Packet::PubRec { id, reason })
        }
        frame::PUBREL => Ok(Packet::PubRel(frame::read_ack(frame, version)?.0)),
        frame::PUBCOMP => Ok(Packet::PubComp(frame::read_ack(frame, version)?.0)),
        frame::PINGREQ if frame.body.is_empty() => Ok(Packet::PingReq),
        frame::SUBSCRIBE => subscribe(frame.body, version).map(Packet::Subscribe),
        frame::UNSUBSCRIBE => unsubscribe(frame.body, version).map(Packet::Unsubscribe),
        frame::DISCONNECT => disconnect(frame.body, version),
        frame::CONNECT => Err(Fault::protocol("a second CONNECT")),
        frame::AUTH if version == Version::V5 => {
            Err(Fault::protocol("AUTH, but no authentication method was agreed"))
        }
        other => Err(Fault::malformed(format!("packet type {other} from a client"))),
    }
}

fn subscribe(mut rest: &[u8], version: Version) -> Result<Subscribe, Fault> {
    let id = take_id(&mut rest)?;
    let mut identifier = None;
    if version == Version::V5 {
        let allowed = &[id::SUBSCRIPTION_ID, id::USER_PROPERTY];
        properties::walk(properties::take(&mut rest)?, allowed, |property| {
            if property.id == id::SUBSCRIPTION_ID {
                identifier = Some(property.identifier()?);
            }
            Ok(())
        })?;
    }
    let mut filters = Vec::new();
    while !rest.is_empty() {
        let filter = take_text(&mut rest)?;
        let Some((&options, left)) = rest.split_first() else {
            return Err(Fault::malformed("a filter without its options"));
        };
        rest = left;
        filters.push(with_options(filter, options, version)?);
    }
    if filters.is_empty() {
        return Err(Fault::protocol("a SUBSCRIBE without a filter"));
    }
    Ok(Subscribe { id, identifier, filters })
}

fn with_options(filter: &str, options: u8, version: Version) -> Result<Filter, Fault> {
    let reserved = if version == Version::V4 { 0xFC } else { 0xC0 };
    if options & reserved != 0 {
        return Err(Fault::malformed("reserved bits in the options of a filter"));
    }
    let qos = options & 3;
    let retain_handling = match (options >> 4) & 3 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(Fault::protocol("retain handling 3")),
    };
    if qos == 3 {
        return Err(Fault::protocol("a filter with QoS 3"));
    }
    Ok(Filter {
        filter: filter.to_owned(),
        qos,
        no_local: options & 4 != 0,
        retain_as_published: options & 8 != 0,
        retain_handling,
    })
}

fn unsubscribe(mut rest: &[u8], version: Version) -> Result<Unsubscribe, Fault> {
    let id = take_id(&mut rest)?;
    if version == Version::V5 {
        properties::walk(properties::take(&mut rest)?, &[id::USER_PROPERTY], |_| Ok(()))?;
    }
    let mut filters = Vec::new();
    while !rest.is_empty() {
        filters.push(take_text(&mut rest)?.to_owned());
    }
    if filters.is_empty() {
        return Err(Fault::protocol("an UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe { id, filters })
}

fn disconnect<'a>(body: &[u8], version: Version) -> Result<Packet<'a>, Fault> {
    let mut expiry_s = None;
    let (reason, mut rest) = match (version, body) {
        (_, []) => (reason::SUCCESS, body),
        (Version::V4, _) => return Err(Fault::malformed("a DISCONNECT that is too long")),
        (Version::V5, [reason, rest @ ..]) => (*reason, rest),
    };
    if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
        return Err(Fault::protocol(format!("a goodbye with 0x{reason:02X}, no client's code")));
    }
    if !rest.is_empty() {
        let allowed =
            &[id::SESSION_EXPIRY, id::REASON_STRING, id::SERVER_REFERENCE, id::USER_PROPERTY];
        properties::walk(properties::take(&mut rest)?, allowed, |property| {
            match property.id {
                id::SESSION_EXPIRY => expiry_s = Some(property.four()),
                id::SERVER_REFERENCE => {
                    return Err(Fault::protocol("a server reference from a client"));
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    if rest.is_empty() {
        Ok(Packet::Disconnect { reason, expiry_s })
    } else {
        Err(Fault::malformed("a DISCONNECT that is too long"))
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_varint(out, body.len());
    out.extend_from_slice(body);
}

/// Appends the CONNACK of a connection that was accepted.
pub(crate) fn put_connack(out: &mut Vec<u8>, version: Version, connack: &ConnAck) {
    let mut body = vec![u8::from(connack.session_present), reason::SUCCESS];
    if version == Version::V5 {
        let mut properties = Vec::new();
        if let Some(expiry_s) = connack.expiry_s {
            properties::put(&mut properties, id::SESSION_EXPIRY, &expiry_s.to_be_bytes());
        }
        let receive_maximum = connack.receive_maximum.to_be_bytes();
        properties::put(&mut properties, id::RECEIVE_MAXIMUM, &receive_maximum);
        let packet_bytes_max = connack.packet_bytes_max.to_be_bytes();
        properties::put(&mut properties, id::PACKET_BYTES_MAX, &packet_bytes_max);
        if let Some(assigned) = &connack.assigned {
            properties::put_binary(&mut properties, id::ASSIGNED_CLIENT_ID, assigned.as_bytes());
        }
        properties::put(&mut properties, id::ALIAS_MAXIMUM, &connack.alias_max.to_be_bytes());
        if let Some(keep_alive_s) = connack.keep_alive_s {
            properties::put(&mut properties, id::SERVER_KEEP_ALIVE, &keep_alive_s.to_be_bytes());
        }
        for (name, value) in &connack.says {
            properties::put_user(&mut properties, name, value);
        }
        put_varint(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    put_packet(out, 0x20, &body);
}

/// Bytes of the CONNACK of a connection that is refused in 5.
pub(crate) const REFUSAL_BYTES: u32 = 5;

/// Appends the CONNACK of a connection that is refused; nothing where 3.1.1 has no code for it
/// [MQTT-3.2.2-6].
pub(crate) fn put_refusal(out: &mut Vec<u8>, version: Version, code: u8) {
    let code = match (version, code) {
        (Version::V5, code) => return put_packet(out, 0x20, &[0, code, 0]),
        // 3.1.1, table 3.1: version, client id, unavailable, credentials, not authorized.
        (Version::V4, reason::UNSUPPORTED_VERSION) => 1,
        (Version::V4, reason::CLIENT_ID_INVALID) => 2,
        (Version::V4, reason::SERVER_UNAVAILABLE | reason::SERVER_BUSY | reason::QUOTA) => 3,
        (Version::V4, reason::BAD_CREDENTIALS) => 4,
        (Version::V4, reason::NOT_AUTHORIZED) => 5,
        (Version::V4, _) => return,
    };
    put_packet(out, 0x20, &[0, code]);
}

/// Appends SUBACK; codes are those of MQTT 5, and every refusal is 0x80 in 3.1.1.
pub(crate) fn put_suback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    let mut body = id.to_be_bytes().to_vec();
    match version {
        Version::V4 => body.extend(codes.iter().map(|&code| code.min(reason::UNSPECIFIED))),
        Version::V5 => {
            body.push(0);
            body.extend_from_slice(codes);
        }
    }
    put_packet(out, 0x90, &body);
}

/// Appends UNSUBACK; `existed` says of each filter whether it was subscribed to.
pub(crate) fn put_unsuback(out: &mut Vec<u8>, version: Version, id: u16, existed: &[bool]) {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
        body.extend(existed.iter().map(|existed| match existed {
            true => reason::SUCCESS,
            false => reason::NO_SUBSCRIPTION,
        }));
    }
    put_packet(out, 0xB0, &body);
}

/// Appends DISCONNECT; a server says nothing in 3.1.1. The length of no properties could be left out,
/// but not every client reads that.
pub(crate) fn put_disconnect(out: &mut Vec<u8>, version: Version, code: u8) {
    if version == Version::V5 {
        put_packet(out, frame::DISCONNECT << 4, &[code, 0]);
    }
}

/// Appends PINGRESP.
pub(crate) fn put_pingresp(out: &mut Vec<u8>) {
    put_packet(out, 0xD0, &[]);
}
