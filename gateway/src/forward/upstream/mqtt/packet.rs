//! Packets of both versions as rumqttc's codec writes and reads them. All of rumqttc is in this file.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes as v4;
use rumqttc::v5::mqttbytes as v5_of;
use rumqttc::v5::mqttbytes::v5;

use crate::config::MqttVersion;

/// Nothing that a peer sends to a client without subscriptions is larger.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// What a packet may have at most where the peer does not say: what the four length bytes can.
const PACKET_BYTES_MAX: u32 = 268_435_455;

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hello<'a> {
    pub(super) client_id: &'a str,
    pub(super) login: Option<(&'a str, &'a str)>,
    pub(super) keep_alive_s: u16,
    /// User properties; left out in 3.1.1.
    pub(super) says: &'a [(String, String)],
}

/// A message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message<'a> {
    pub(super) id: u16,
    pub(super) topic: &'a str,
    pub(super) retain: bool,
    pub(super) payload: &'a [u8],
    /// It is JSON; left out in 3.1.1, as are the user properties.
    pub(super) is_json: bool,
    pub(super) says: Vec<(String, String)>,
}

/// What a peer that takes us in says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    /// Messages that it takes before the first is acknowledged; `None`: it does not say.
    pub(super) receive_maximum: Option<u16>,
    pub(super) packet_bytes_max: u32,
    /// Its own choice.
    pub(super) keep_alive_s: Option<u16>,
    pub(super) takes_qos_1: bool,
    pub(super) takes_retained: bool,
    pub(super) says: Vec<(String, String)>,
}

/// Why a peer does not take something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Credentials,
    NotAuthorized,
    ClientId,
    Version,
    Topic,
    Payload,
    TooLarge,
    Quota,
    TakenOver,
    /// It may take it later.
    Busy(String),
    Other(String),
}

/// What a peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Welcome(Welcome),
    /// Instead of a welcome.
    Refused(Refusal),
    /// It has the message of `id`, or says why not.
    Acknowledged {
        id: u16,
        refusal: Option<Refusal>,
    },
    Pong,
    /// It ends the connection.
    Goodbye(Refusal),
}

const FITS: &str = "packets of ours are within what the codec writes";

/// Appends CONNECT.
pub(super) fn connect(version: MqttVersion, hello: &Hello<'_>, out: &mut BytesMut) {
    match version {
        MqttVersion::V4 => {
            let mut connect = v4::v4::Connect::new(hello.client_id);
            connect.keep_alive = hello.keep_alive_s;
            connect.clean_session = true;
            connect.login = hello.login.map(|(user, pw)| v4::v4::Login::new(user, pw));
            connect.write(out).expect(FITS);
        }
        MqttVersion::V5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.max_packet_size = u32::try_from(ANSWER_BYTES_MAX).ok();
            properties.user_properties = hello.says.to_vec();
            let connect = v5::Connect {
                keep_alive: hello.keep_alive_s,
                client_id: hello.client_id.to_owned(),
                clean_start: true,
                properties: Some(properties),
            };
            let login = hello.login.map(|(user, pw)| v5::Login::new(user, pw));
            connect.write(&None, &login, out).expect(FITS);
        }
    }
}

/// Appends PUBLISH at QoS 1, unless it is larger than `bytes_max`; says whether it did.
pub(super) fn publish(
    version: MqttVersion,
    message: Message<'_>,
    bytes_max: u32,
    out: &mut BytesMut,
) -> bool {
    let Message { id, topic, retain, payload, is_json, says } = message;
    let fits = |size: usize| u32::try_from(size).is_ok_and(|size| size <= bytes_max);
    match version {
        MqttVersion::V4 => {
            let mut publish = v4::v4::Publish::new(topic, v4::QoS::AtLeastOnce, payload);
            (publish.pkid, publish.retain) = (id, retain);
            fits(publish.size()) && publish.write(out).map(drop).is_ok()
        }
        MqttVersion::V5 => {
            let properties = v5::PublishProperties {
                payload_format_indicator: is_json.then_some(1),
                content_type: is_json.then(|| "application/json".to_owned()),
                user_properties: says,
                ..v5::PublishProperties::default()
            };
            let payload = Bytes::copy_from_slice(payload);
            let qos = v5_of::QoS::AtLeastOnce;
            let mut publish = v5::Publish::new(topic, qos, payload, Some(properties));
            (publish.pkid, publish.retain) = (id, retain);
            fits(publish.size()) && publish.write(out).map(drop).is_ok()
        }
    }
}

/// Appends PINGREQ.
pub(super) fn ping(out: &mut BytesMut) {
    v5::PingReq::write(out).expect(FITS);
}

/// Appends a goodbye.
pub(super) fn disconnect(version: MqttVersion, out: &mut BytesMut) {
    match version {
        MqttVersion::V4 => {
            v4::v4::Disconnect.write(out).expect(FITS);
        }
        MqttVersion::V5 => {
            let reason = v5::DisconnectReasonCode::NormalDisconnection;
            v5::Disconnect::new(reason).write(out).expect(FITS);
        }
    }
}

/// Takes the next answer off the front of `bytes`; `None` while it is not whole.
///
/// # Errors
/// What the peer sent that makes no sense.
pub(super) fn read(version: MqttVersion, bytes: &mut BytesMut) -> Result<Option<Answer>, String> {
    match version {
        MqttVersion::V4 => match v4::v4::Packet::read(bytes, ANSWER_BYTES_MAX) {
            Ok(packet) => of_v4(packet).map(Some),
            Err(v4::Error::InsufficientBytes(_)) => Ok(None),
            Err(problem) => Err(problem.to_string()),
        },
        MqttVersion::V5 => {
            let bytes_max = u32::try_from(ANSWER_BYTES_MAX).ok();
            match v5::Packet::read(bytes, bytes_max) {
                Ok(packet) => of_v5(packet).map(Some),
                Err(v5_of::Error::InsufficientBytes(_)) => Ok(None),
                Err(problem) => Err(problem.to_string()),
            }
        }
    }
}

fn of_v4(packet: v4::v4::Packet) -> Result<Answer, String> {
    use v4::v4::{ConnectReturnCode as Code, Packet};
    match packet {
        Packet::ConnAck(connack) => Ok(match connack.code {
            Code::Success => Answer::Welcome(Welcome {
                receive_maximum: None,
                packet_bytes_max: PACKET_BYTES_MAX,
                keep_alive_s: None,
                takes_qos_1: true,
                takes_retained: true,
                says: Vec::new(),
            }),
            Code::RefusedProtocolVersion => Answer::Refused(Refusal::Version),
            Code::BadClientId => Answer::Refused(Refusal::ClientId),
            Code::ServiceUnavailable => Answer::Refused(Refusal::Busy("unavailable".to_owned())),
            Code::BadUserNamePassword => Answer::Refused(Refusal::Credentials),
            Code::NotAuthorized => Answer::Refused(Refusal::NotAuthorized),
        }),
        Packet::PubAck(ack) => Ok(Answer::Acknowledged { id: ack.pkid, refusal: None }),
        Packet::PingResp => Ok(Answer::Pong),
        other => Err(unasked(&format!("{other:?}"))),
    }
}

fn of_v5(packet: v5::Packet) -> Result<Answer, String> {
    match packet {
        v5::Packet::ConnAck(connack) => Ok(match connack.code {
            v5::ConnectReturnCode::Success => Answer::Welcome(welcome(connack.properties)),
            code => Answer::Refused(not_let_in(code)),
        }),
        v5::Packet::PubAck(ack) => {
            Ok(Answer::Acknowledged { id: ack.pkid, refusal: not_taken(ack.reason) })
        }
        v5::Packet::PingResp(_) => Ok(Answer::Pong),
        v5::Packet::Disconnect(goodbye) => Ok(Answer::Goodbye(sent_away(goodbye.reason_code))),
        other => Err(unasked(&format!("{other:?}"))),
    }
}

/// The name of the packet, not what a stranger put into it.
fn unasked(packet: &str) -> String {
    let name: String = packet.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("a {name} that nobody asked for")
}

fn welcome(properties: Option<v5::ConnAckProperties>) -> Welcome {
    let said = |read: &dyn Fn(&v5::ConnAckProperties) -> bool| properties.as_ref().is_none_or(read);
    let takes_qos_1 = said(&|said| said.max_qos != Some(0));
    let takes_retained = said(&|said| said.retain_available != Some(0));
    // Without the property the protocol's own bound holds.
    let receive_maximum = properties.as_ref().and_then(|said| said.receive_max).or(Some(u16::MAX));
    let packet_bytes_max = properties.as_ref().and_then(|said| said.max_packet_size);
    Welcome {
        receive_maximum,
        packet_bytes_max: packet_bytes_max.unwrap_or(PACKET_BYTES_MAX),
        keep_alive_s: properties.as_ref().and_then(|said| said.server_keep_alive),
        takes_qos_1,
        takes_retained,
        says: properties.map(|said| said.user_properties).unwrap_or_default(),
    }
}

fn not_let_in(code: v5::ConnectReturnCode) -> Refusal {
    use v5::ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword | Code::BadAuthenticationMethod => Refusal::Credentials,
        Code::NotAuthorized | Code::Banned => Refusal::NotAuthorized,
        Code::ClientIdentifierNotValid | Code::BadClientId => Refusal::ClientId,
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Refusal::Version,
        Code::PacketTooLarge => Refusal::TooLarge,
        Code::ServerUnavailable
        | Code::ServiceUnavailable
        | Code::ServerBusy
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => Refusal::Busy(format!("{code:?}")),
        other => Refusal::Other(format!("{other:?}")),
    }
}

fn not_taken(reason: v5::PubAckReason) -> Option<Refusal> {
    use v5::PubAckReason as Reason;
    match reason {
        Reason::Success | Reason::NoMatchingSubscribers => None,
        Reason::NotAuthorized => Some(Refusal::NotAuthorized),
        Reason::TopicNameInvalid => Some(Refusal::Topic),
        Reason::QuotaExceeded => Some(Refusal::Quota),
        Reason::PayloadFormatInvalid => Some(Refusal::Payload),
        other => Some(Refusal::Other(format!("{other:?}"))),
    }
}

fn sent_away(code: v5::DisconnectReasonCode) -> Refusal {
    use v5::DisconnectReasonCode as Code;
    match code {
        Code::NotAuthorized => Refusal::NotAuthorized,
        Code::SessionTakenOver => Refusal::TakenOver,
        Code::TopicNameInvalid => Refusal::Topic,
        Code::PacketTooLarge => Refusal::TooLarge,
        Code::QuotaExceeded => Refusal::Quota,
        Code::PayloadFormatInvalid => Refusal::Payload,
        other => Refusal::Busy(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(version: MqttVersion, bytes: &[u8]) -> Vec<Result<Answer, String>> {
        let mut bytes = BytesMut::from(bytes);
        let mut found = Vec::new();
        loop {
            match read(version, &mut bytes) {
                Ok(None) => return found,
                Ok(Some(answer)) => found.push(Ok(answer)),
                Err(problem) => {
                    found.push(Err(problem));
                    return found;
                }
            }
        }
    }

    #[test]
    fn what_a_peer_says_at_the_start_sets_the_bounds() {
        let bytes = [0x20, 14, 0, 0, 11, 0x21, 0, 20, 0x27, 0, 0, 4, 0, 0x13, 0, 9];
        let found = answers(MqttVersion::V5, &bytes);
        let Some(Ok(Answer::Welcome(welcome))) = found.first() else { panic!("{found:?}") };
        assert_eq!(welcome.receive_maximum, Some(20));
        assert_eq!((welcome.packet_bytes_max, welcome.keep_alive_s), (1024, Some(9)));
        let found = answers(MqttVersion::V4, &[0x20, 2, 0, 5]);
        assert_eq!(found, [Ok(Answer::Refused(Refusal::NotAuthorized))]);
        let found = answers(MqttVersion::V5, &[0x20, 3, 0, 0x86, 0]);
        assert_eq!(found, [Ok(Answer::Refused(Refusal::Credentials))]);
    }

    #[test]
    fn acknowledgements_say_why_something_was_not_taken() {
        let bytes = [0x40, 2, 0, 7, 0x40, 3, 0, 8, 0x97, 0x40, 4, 0, 9, 0x10, 0, 0xD0, 0];
        let found = answers(MqttVersion::V5, &bytes);
        let ack = |id, refusal| Ok(Answer::Acknowledged { id, refusal });
        assert_eq!(found[..2], [ack(7, None), ack(8, Some(Refusal::Quota))]);
        assert_eq!(found[2..], [ack(9, None), Ok(Answer::Pong)]);
    }

    #[test]
    fn any_bytes_are_answers_or_a_fault() {
        let seed = [0x20, 3, 0, 0, 0, 0x40, 2, 0, 7, 0xE0, 1, 0x8E, 0xD0, 0, 0x31, 3, 0, 1, b'a'];
        let mut random = 7_u64;
        for version in [MqttVersion::V4, MqttVersion::V5] {
            for _ in 0..20_000 {
                let mut bytes = seed;
                for _ in 0..3 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let at = usize::try_from(random >> 40).expect("small") % bytes.len();
                    bytes[at] = (random >> 32).to_le_bytes()[0];
                }
                answers(version, &bytes);
            }
        }
        let found = answers(MqttVersion::V5, &[0x30, 5, 0, 1, b'a', 0, b'x']);
        assert_eq!(found, [Err("a Publish that nobody asked for".to_owned())]);
        let found = answers(MqttVersion::V5, &[0x40, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert!(found[0].is_err(), "an endless packet is not waited for: {found:?}");
    }

    #[test]
    fn a_message_larger_than_the_peer_takes_is_not_written() {
        for version in [MqttVersion::V4, MqttVersion::V5] {
            let message = Message { id: 1, topic: "a", payload: &[0; 100], ..Message::default() };
            let mut out = BytesMut::new();
            assert!(!publish(version, message.clone(), 100, &mut out));
            assert!(out.is_empty());
            assert!(publish(version, message, 200, &mut out));
        }
    }
}
