//! The one file that knows rumqttc's codec: packets that are not on the hot path, both versions.
//!
//! The codec has gaps that are closed here before it sees a packet: reserved flags, DISCONNECT and
//! AUTH of length 0, UNSUBSCRIBE without filters, texts with a NUL. PUBLISH and its
//! acknowledgements are read and written in place by [`super::frame`].

use bytes::BytesMut;
use rumqttc::mqttbytes::{QoS as QoS4, v4};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};

use super::frame::{self, Frame};
use super::packet::{
    ConnAck, Connect, Fault, Filter, Login, Packet, RetainHandling, Subscribe, Unsubscribe,
    Version, Will, reason,
};
use super::properties::Travelling;

/// Subscription identifiers are at least 1 [MQTT-3.8.2.1.2].
const IDENTIFIER_MIN: usize = 1;

/// A CONNECT that cannot be answered by a CONNACK of its version, or not at all.
#[derive(Debug)]
pub(crate) enum BadConnect {
    /// Not MQTT, or the first packet is no CONNECT: close without a word.
    Silent(Fault),
    /// Answer in this version.
    Refused(Version, Fault),
}

/// Reads CONNECT, which says the version of all that follows.
pub(crate) fn read_connect(frame: &Frame<'_>) -> Result<Connect, BadConnect> {
    if frame.kind != frame::CONNECT {
        return Err(BadConnect::Silent(Fault::protocol("the first packet is not CONNECT")));
    }
    let silent = |why: &str| BadConnect::Silent(Fault::malformed(why));
    let mut rest = frame.body;
    let name = frame::take_text(&mut rest).map_err(BadConnect::Silent)?;
    let Some((&[level, flags], _)) = rest.split_first_chunk::<2>() else {
        return Err(silent("a CONNECT that ends too early"));
    };
    let version = match (name, level) {
        ("MQTT", 4) => Version::V4,
        ("MQTT", 5) => Version::V5,
        ("MQTT" | "MQIsdp", _) => {
            let why = format!("protocol {name} level {level}; 4 (3.1.1) and 5 are spoken here");
            let version = if level < 5 { Version::V4 } else { Version::V5 };
            return Err(BadConnect::Refused(version, Fault::new(reason::UNSUPPORTED_VERSION, why)));
        }
        _ => return Err(silent("a protocol other than MQTT")),
    };
    if frame.flags != 0 || flags & 1 != 0 {
        return Err(silent("reserved flags set in CONNECT"));
    }
    if version == Version::V4 && flags & 0xC0 == 0x40 {
        return Err(silent("a password without a user name"));
    }
    let connect = match version {
        Version::V4 => connect_v4(frame.whole),
        Version::V5 => connect_v5(frame.whole, flags),
    };
    let connect = connect.map_err(|fault| BadConnect::Refused(version, fault))?;
    no_nul(&connect.client).map_err(|fault| BadConnect::Refused(version, fault))?;
    Ok(connect)
}

fn connect_v4(whole: &[u8]) -> Result<Connect, Fault> {
    let connect = match read_v4(whole)? {
        v4::Packet::Connect(connect) => connect,
        _ => return Err(Fault::malformed("not a CONNECT")),
    };
    let will = connect.last_will.map(|will| Will {
        topic: will.topic,
        payload: will.message.to_vec(),
        qos: will.qos as u8,
        retain: will.retain,
        delay_s: 0,
        properties: Vec::new(),
    });
    Ok(Connect {
        version: Version::V4,
        client: connect.client_id,
        clean: connect.clean_session,
        keep_alive_s: connect.keep_alive,
        login: connect.login.map(|l| Login { user: l.username, password: l.password }),
        will,
        expiry_s: if connect.clean_session { 0 } else { u32::MAX },
        receive_maximum: u16::MAX,
        packet_bytes_max: u32::MAX,
        alias_max: 0,
        auth_method: false,
    })
}

fn connect_v5(whole: &[u8], flags: u8) -> Result<Connect, Fault> {
    let (connect, will, login) = match read_v5(whole)? {
        v5::Packet::Connect(connect, will, login) => (connect, will, login),
        _ => return Err(Fault::malformed("not a CONNECT")),
    };
    let properties = connect.properties.unwrap_or_default();
    if properties.receive_maximum == Some(0) || properties.max_packet_size == Some(0) {
        return Err(Fault::protocol("a receive maximum or a maximum packet size of 0"));
    }
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(Fault::protocol("authentication data without a method"));
    }
    let login = login.map(|l| Login { user: l.username, password: l.password });
    Ok(Connect {
        version: Version::V5,
        client: connect.client_id,
        clean: connect.clean_start,
        keep_alive_s: connect.keep_alive,
        login: login.filter(|_| flags & 0xC0 != 0),
        will: will.map(will_v5).transpose()?,
        expiry_s: properties.session_expiry_interval.unwrap_or(0),
        receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
        packet_bytes_max: properties.max_packet_size.unwrap_or(u32::MAX),
        alias_max: properties.topic_alias_max.unwrap_or(0),
        auth_method: properties.authentication_method.is_some(),
    })
}

fn will_v5(will: v5::LastWill) -> Result<Will, Fault> {
    let topic = String::from_utf8(will.topic.to_vec())
        .map_err(|_| Fault::malformed("a will topic that is not UTF-8"))?;
    let properties = will.properties;
    let travelling = properties.as_ref().map(|p| {
        Travelling {
            payload_format: p.payload_format_indicator,
            expiry_s: p.message_expiry_interval,
            content_type: p.content_type.as_deref(),
            response_topic: p.response_topic.as_deref(),
            correlation_data: p.correlation_data.as_deref(),
            user: &p.user_properties,
        }
        .encode()
    });
    Ok(Will {
        topic,
        payload: will.message.to_vec(),
        qos: will.qos as u8,
        retain: will.retain,
        delay_s: properties.and_then(|p| p.delay_interval).unwrap_or(0),
        properties: travelling.unwrap_or_default(),
    })
}

/// Reads a packet after CONNECT.
///
/// # Errors
/// A [`Fault`] with the reason for DISCONNECT.
pub(crate) fn read_packet<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, Fault> {
    if frame.kind != frame::PUBLISH {
        let reserved = match frame.kind {
            frame::PUBREL | frame::SUBSCRIBE | frame::UNSUBSCRIBE => 2,
            _ => 0,
        };
        if frame.flags != reserved {
            return Err(Fault::malformed(format!("reserved flags in packet type {}", frame.kind)));
        }
    }
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
        frame::SUBSCRIBE => subscribe(frame, version).map(Packet::Subscribe),
        frame::UNSUBSCRIBE => unsubscribe(frame, version).map(Packet::Unsubscribe),
        frame::DISCONNECT => disconnect(frame, version),
        frame::CONNECT => Err(Fault::protocol("a second CONNECT")),
        frame::AUTH if version == Version::V5 => {
            Err(Fault::protocol("AUTH, but no authentication method was agreed"))
        }
        other => Err(Fault::malformed(format!("packet type {other} from a client"))),
    }
}

fn subscribe(frame: &Frame<'_>, version: Version) -> Result<Subscribe, Fault> {
    let subscribe = match version {
        Version::V4 => subscribe_v4(frame.whole)?,
        Version::V5 => subscribe_v5(frame.whole)?,
    };
    if subscribe.id == 0 {
        return Err(Fault::malformed("packet id 0"));
    }
    subscribe.filters.iter().try_for_each(|filter| no_nul(&filter.filter))?;
    Ok(subscribe)
}

fn subscribe_v4(whole: &[u8]) -> Result<Subscribe, Fault> {
    let v4::Packet::Subscribe(subscribe) = read_v4(whole)? else {
        return Err(Fault::malformed("not a SUBSCRIBE"));
    };
    let filters = subscribe.filters.into_iter().map(|filter| Filter {
        filter: filter.path,
        qos: filter.qos as u8,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
    });
    Ok(Subscribe { id: subscribe.pkid, identifier: None, filters: filters.collect() })
}

fn subscribe_v5(whole: &[u8]) -> Result<Subscribe, Fault> {
    let v5::Packet::Subscribe(subscribe) = read_v5(whole)? else {
        return Err(Fault::malformed("not a SUBSCRIBE"));
    };
    let identifier = subscribe.properties.and_then(|properties| properties.id);
    if identifier.is_some_and(|identifier| identifier < IDENTIFIER_MIN) {
        return Err(Fault::protocol("subscription identifier 0"));
    }
    let filters = subscribe.filters.into_iter().map(|filter| Filter {
        filter: filter.path,
        qos: filter.qos as u8,
        no_local: filter.nolocal,
        retain_as_published: filter.preserve_retain,
        retain_handling: match filter.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => RetainHandling::Always,
            v5::RetainForwardRule::OnNewSubscribe => RetainHandling::IfNew,
            v5::RetainForwardRule::Never => RetainHandling::Never,
        },
    });
    let identifier = identifier.map(|identifier| {
        u32::try_from(identifier).expect("a variable byte integer has at most 28 bits")
    });
    Ok(Subscribe { id: subscribe.pkid, identifier, filters: filters.collect() })
}

fn unsubscribe(frame: &Frame<'_>, version: Version) -> Result<Unsubscribe, Fault> {
    let (id, filters) = match version {
        Version::V4 => match read_v4(frame.whole)? {
            v4::Packet::Unsubscribe(packet) => (packet.pkid, packet.topics),
            _ => return Err(Fault::malformed("not an UNSUBSCRIBE")),
        },
        Version::V5 => match read_v5(frame.whole)? {
            v5::Packet::Unsubscribe(packet) => (packet.pkid, packet.filters),
            _ => return Err(Fault::malformed("not an UNSUBSCRIBE")),
        },
    };
    if id == 0 {
        return Err(Fault::malformed("packet id 0"));
    }
    if filters.is_empty() {
        return Err(Fault::protocol("an UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe { id, filters })
}

fn disconnect<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, Fault> {
    let plain = |reason| Packet::Disconnect { reason, expiry_s: None };
    match (version, frame.body) {
        (_, []) => Ok(plain(reason::SUCCESS)),
        (Version::V4, _) => Err(Fault::malformed("a DISCONNECT that is too long")),
        (Version::V5, &[reason]) => Ok(plain(reason)),
        (Version::V5, _) => match read_v5(frame.whole)? {
            v5::Packet::Disconnect(packet) => Ok(Packet::Disconnect {
                reason: packet.reason_code as u8,
                expiry_s: packet.properties.and_then(|p| p.session_expiry_interval),
            }),
            _ => Err(Fault::malformed("not a DISCONNECT")),
        },
    }
}

fn read_v4(whole: &[u8]) -> Result<v4::Packet, Fault> {
    v4::Packet::read(&mut BytesMut::from(whole), whole.len())
        .map_err(|problem| Fault::malformed(problem.to_string()))
}

fn read_v5(whole: &[u8]) -> Result<v5::Packet, Fault> {
    use rumqttc::v5::mqttbytes::Error;
    v5::Packet::read(&mut BytesMut::from(whole), None).map_err(|problem| match problem {
        Error::EmptySubscription => Fault::protocol(problem.to_string()),
        other => Fault::malformed(other.to_string()),
    })
}

fn no_nul(text: &str) -> Result<(), Fault> {
    if text.contains('\0') { Err(Fault::malformed("a text with a NUL")) } else { Ok(()) }
}

/// Appends the CONNACK of a connection that was accepted.
pub(crate) fn put_connack(out: &mut Vec<u8>, version: Version, connack: ConnAck) {
    let mut bytes = BytesMut::new();
    let written = match version {
        Version::V4 => {
            let code = v4::ConnectReturnCode::Success;
            v4::ConnAck::new(code, connack.session_present).write(&mut bytes).is_ok()
        }
        Version::V5 => {
            let properties = v5::ConnAckProperties {
                session_expiry_interval: connack.expiry_s,
                receive_max: Some(connack.receive_maximum),
                max_packet_size: Some(connack.packet_bytes_max),
                assigned_client_identifier: connack.assigned,
                topic_alias_max: Some(connack.alias_max),
                server_keep_alive: connack.keep_alive_s,
                ..no_properties()
            };
            v5::ConnAck {
                session_present: connack.session_present,
                code: v5::ConnectReturnCode::Success,
                properties: Some(properties),
            }
            .write(&mut bytes)
            .is_ok()
        }
    };
    debug_assert!(written, "a CONNACK is far below what four length bytes say");
    out.extend_from_slice(&bytes);
}

/// Appends the CONNACK of a connection that is refused.
pub(crate) fn put_refusal(out: &mut Vec<u8>, version: Version, code: u8) {
    match version {
        // 3.1.1, table 3.1: version, client id, unavailable, credentials, not authorized.
        Version::V4 => {
            let code = match code {
                reason::UNSUPPORTED_VERSION => 1,
                reason::CLIENT_ID_INVALID => 2,
                reason::BAD_CREDENTIALS => 4,
                reason::NOT_AUTHORIZED => 5,
                _ => 3,
            };
            out.extend_from_slice(&[0x20, 2, 0, code]);
        }
        Version::V5 => out.extend_from_slice(&[0x20, 3, 0, code, 0]),
    }
}

fn no_properties() -> v5::ConnAckProperties {
    v5::ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// Appends SUBACK; codes are those of MQTT 5, and every refusal is 0x80 in 3.1.1.
pub(crate) fn put_suback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    let mut bytes = BytesMut::new();
    let written = match version {
        Version::V4 => {
            let codes = codes.iter().map(|&code| match code {
                0 => v4::SubscribeReasonCode::Success(QoS4::AtMostOnce),
                1 => v4::SubscribeReasonCode::Success(QoS4::AtLeastOnce),
                2 => v4::SubscribeReasonCode::Success(QoS4::ExactlyOnce),
                _ => v4::SubscribeReasonCode::Failure,
            });
            v4::SubAck::new(id, codes.collect()).write(&mut bytes).is_ok()
        }
        Version::V5 => {
            use v5::SubscribeReasonCode as Code;
            let codes = codes.iter().map(|&code| match code {
                0 => Code::Success(QoS5::AtMostOnce),
                1 => Code::Success(QoS5::AtLeastOnce),
                2 => Code::Success(QoS5::ExactlyOnce),
                reason::NOT_AUTHORIZED => Code::NotAuthorized,
                reason::FILTER_INVALID => Code::TopicFilterInvalid,
                reason::QUOTA => Code::QuotaExceeded,
                _ => Code::Unspecified,
            });
            let suback = v5::SubAck { pkid: id, return_codes: codes.collect(), properties: None };
            suback.write(&mut bytes).is_ok()
        }
    };
    debug_assert!(written, "a SUBACK is no longer than its SUBSCRIBE");
    out.extend_from_slice(&bytes);
}

/// Appends UNSUBACK; `existed` says of each filter whether it was subscribed to.
pub(crate) fn put_unsuback(out: &mut Vec<u8>, version: Version, id: u16, existed: &[bool]) {
    let mut bytes = BytesMut::new();
    let written = match version {
        Version::V4 => v4::UnsubAck::new(id).write(&mut bytes).is_ok(),
        Version::V5 => {
            let reasons = existed.iter().map(|existed| match existed {
                true => v5::UnsubAckReason::Success,
                false => v5::UnsubAckReason::NoSubscriptionExisted,
            });
            let unsuback = v5::UnsubAck { pkid: id, reasons: reasons.collect(), properties: None };
            unsuback.write(&mut bytes).is_ok()
        }
    };
    debug_assert!(written, "an UNSUBACK is no longer than its UNSUBSCRIBE");
    out.extend_from_slice(&bytes);
}

/// Appends DISCONNECT; a server says nothing in 3.1.1. The codec writes one byte too many for a
/// DISCONNECT without properties, so these four bytes are ours.
pub(crate) fn put_disconnect(out: &mut Vec<u8>, version: Version, code: u8) {
    if version == Version::V5 {
        out.extend_from_slice(&[frame::DISCONNECT << 4, 2, code, 0]);
    }
}

/// Appends PINGRESP.
pub(crate) fn put_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}
