//! Texts, flags, packet ids and what else packets are made of.

use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, QOS1, QOS2, Version, Will, ack, packet,
    subscribe, unsubscribe,
};

const MALFORMED: u8 = 0x81;

/// A surrogate, an overlong form, a byte of nothing, a sequence cut short.
const ILL_FORMED: [&[u8]; 4] = [&[0xED, 0xA0, 0x80], &[0xC0, 0x80], &[0xFF], &[b'a', 0xE2, 0x82]];

/// Each place of a text in packets of a connected client.
fn with_text(version: Version, text: &[u8]) -> [Vec<u8>; 3] {
    [
        Publish::new(0, text, 0, "x").bytes(version),
        subscribe(version, 1, &[], &[(text, 0)]),
        unsubscribe(version, 1, &[text]),
    ]
}

/// Each place of a text in CONNECT.
fn connect_with_text(version: Version, text: &[u8]) -> [Connect; 3] {
    let mut will = Will::new("w", "x", 0);
    will.topic = text.to_vec();
    [
        Connect::new(version, text),
        Connect::new(version, "c").will(will),
        Connect::new(version, "c").user(text),
    ]
}

async fn ends_with_text(version: Version, text: &[u8]) {
    let gateway = Gateway::open();
    for bytes in with_text(version, text) {
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    for connect in connect_with_text(version, text) {
        gateway.rejects(&connect, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn ill_formed_text_ends_the_connection(version: Version) {
    for text in ILL_FORMED {
        ends_with_text(version, text).await;
    }
}

pub(crate) async fn null_in_a_text_ends_the_connection(version: Version) {
    ends_with_text(version, b"a\0b").await;
}

pub(crate) async fn an_ill_formed_client_id_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        gateway.rejects(&Connect::new(version, text), MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn an_ill_formed_will_topic_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        let mut will = Will::new("w", "x", 0);
        will.topic = text.to_vec();
        gateway.rejects(&Connect::new(version, "c").will(will), MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn an_ill_formed_user_name_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        gateway.rejects(&Connect::new(version, "c").user(text), MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn an_ill_formed_topic_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        let publish = Publish::new(QOS1, text, 1, "x").bytes(version);
        gateway.join(version, "c").await.breaks(&publish, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn an_ill_formed_filter_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        let bytes = subscribe(version, 1, &[], &[(text, 0)]);
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn an_ill_formed_filter_to_unsubscribe_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for text in ILL_FORMED {
        let bytes = unsubscribe(version, 1, &[text]);
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_byte_order_mark_is_part_of_the_text(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("\u{FEFF}a/b", 0).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(0, "a/b", "without").await;
    publisher.publish(QOS1, "\u{FEFF}a/b", "with").await;
    let message = subscriber.message().await;
    assert_eq!((&*message.topic, &*message.payload), ("\u{FEFF}a/b", "with"));
    gateway.close().await;
}

pub(crate) async fn the_gateway_sets_reserved_flags_as_listed(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.dial(version, &Connect::new(version, "c").bytes()).await;
    assert_eq!(client.next().await.first, 0x20, "CONNACK");
    for (bytes, first) in [
        (subscribe(version, 1, &[], &[("other", 0)]), 0x90),
        (unsubscribe(version, 2, &["other"]), 0xB0),
        (Publish::new(QOS1, "t", 3, "").bytes(version), 0x40),
        (Publish::new(QOS2, "t", 4, "").bytes(version), 0x50),
        (ack(PUBREL, 4), 0x70),
        (packet(0xC0, &[]), 0xD0),
    ] {
        client.send(&bytes).await;
        assert_eq!(client.next().await.first, first);
    }
    gateway.close().await;
}

pub(crate) async fn reserved_flags_that_are_set_end_the_connection(version: Version) {
    let gateway = Gateway::open();
    for first in [0x41, 0x52, 0x60, 0x63, 0x74, 0x80, 0x83, 0x8A, 0xA0, 0xA6, 0xC1, 0xE8] {
        let body: &[u8] = match first >> 4 {
            8 if version == Version::V3 => &[0, 1, 0, 1, b'a', 0],
            8 => &[0, 1, 0, 0, 1, b'a', 0],
            10 if version == Version::V3 => &[0, 1, 0, 1, b'a'],
            10 => &[0, 1, 0, 0, 1, b'a'],
            12 | 14 => &[],
            _ => &[0, 1],
        };
        let client = gateway.join(version, "c").await;
        client.breaks(&packet(first, body), MALFORMED).await;
    }
    let connect = Connect::new(version, "c");
    let mut bytes = connect.bytes();
    bytes[0] = 0x11;
    let mut client = gateway.dial(version, &bytes).await;
    if version == Version::V5 {
        client.expect(&[0x20, 3, 0, MALFORMED, 0]).await;
    }
    client.closed().await;
    gateway.close().await;
}

/// The flags of one packet type, all but the right ones.
async fn wrong_flags_of(version: Version, right: u8, body: &[u8]) {
    let gateway = Gateway::open();
    for flags in (0..16).filter(|flags| *flags != right & 0x0F) {
        let client = gateway.join(version, "c").await;
        client.breaks(&packet(right & 0xF0 | flags, body), MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn pubrel_with_other_flags_ends_the_connection(version: Version) {
    wrong_flags_of(version, 0x62, &[0, 1]).await;
}

pub(crate) async fn subscribe_with_other_flags_ends_the_connection(version: Version) {
    let bytes = subscribe(version, 1, &[], &[("a", 0)]);
    wrong_flags_of(version, 0x82, &bytes[2..]).await;
}

pub(crate) async fn unsubscribe_with_other_flags_ends_the_connection(version: Version) {
    let bytes = unsubscribe(version, 1, &["a"]);
    wrong_flags_of(version, 0xA2, &bytes[2..]).await;
}

pub(crate) async fn disconnect_with_other_flags_ends_the_connection(version: Version) {
    wrong_flags_of(version, 0xE0, &[]).await;
}

pub(crate) async fn packet_id_zero_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for bytes in [
        Publish::new(QOS1, "t", 0, "x").bytes(version),
        Publish::new(QOS2, "t", 0, "x").bytes(version),
        subscribe(version, 0, &[], &[("t", 0)]),
        unsubscribe(version, 0, &["t"]),
        ack(PUBACK, 0),
        ack(PUBREC, 0),
        ack(PUBREL, 0),
        ack(PUBCOMP, 0),
    ] {
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn messages_have_ids_of_their_own_while_they_are_in_flight(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    let mut ids = Vec::new();
    for number in 0..20 {
        publisher.publish(QOS1, "t", &number.to_string()).await;
        let message = subscriber.message().await;
        assert!(message.id != 0 && !ids.contains(&message.id), "{message:?} of {ids:?}");
        ids.push(message.id);
    }
    gateway.close().await;
}

pub(crate) async fn a_message_of_qos_0_has_no_packet_id(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "x").await;
    let expected = Publish::new(0, "t", 0, "x").bytes(version);
    subscriber.expect(&expected).await;
    gateway.close().await;
}

pub(crate) async fn acknowledgements_carry_the_id_of_their_message(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for id in [1, 0x0100, 0xABCD, 0xFFFF] {
        client.send(&Publish::new(QOS1, "t", id, "x").bytes(version)).await;
        client.expect(&ack(PUBACK, id)).await;
        client.send(&Publish::new(QOS2, "t", id, "x").bytes(version)).await;
        client.expect(&ack(PUBREC, id)).await;
        client.send(&ack(PUBREL, id)).await;
        client.expect(&ack(PUBCOMP, id)).await;
    }
    gateway.close().await;
}

pub(crate) async fn suback_and_unsuback_carry_the_id_of_their_request(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for id in [1, 0x0100, 0xFFFF] {
        client.send(&subscribe(version, id, &[], &[("t", 0)])).await;
        assert_eq!(client.next().await.id(), id);
        client.send(&unsubscribe(version, id, &["t"])).await;
        assert_eq!(client.next().await.id(), id);
    }
    gateway.close().await;
}

pub(crate) async fn packets_come_whole_however_the_bytes_are_cut(version: Version) {
    let gateway = Gateway::open();
    let mut bytes = Connect::new(version, "c").bytes();
    bytes.extend(subscribe(version, 1, &[], &[("t", 0)]));
    bytes.extend(Publish::new(QOS1, "t", 2, &"x".repeat(300)).bytes(version));
    let mut client = gateway.dial(version, &[]).await;
    for piece in bytes.chunks(7) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    let kinds = [client.next().await, client.next().await].map(|answer| answer.kind());
    assert_eq!(kinds, [2, 9]);
    let mut kinds = [client.next().await, client.next().await].map(|answer| answer.kind());
    kinds.sort_unstable();
    assert_eq!(kinds, [3, 4], "the message and its acknowledgement");
    gateway.close().await;
}
