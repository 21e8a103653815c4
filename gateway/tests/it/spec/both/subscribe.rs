//! SUBSCRIBE and SUBACK.

use crate::spec::client::Gateway;
use crate::spec::packet::{QOS1, RETAIN, Version, binary, packet, properties, subscribe};

/// The code of a filter that is none: 3.1.1 has one refusal, 5 has a reason.
fn invalid(version: Version) -> u8 {
    if version == Version::V3 { 0x80 } else { 0x8F }
}

pub(crate) async fn wildcards_are_supported(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    let filters = [("#", 0), ("+", 1), ("+/a/#", 0), ("a/+/+", 1)];
    assert_eq!(subscriber.subscribe_with(&[], &filters).await, [0, 1, 0, 1]);
    gateway.close().await;
}

pub(crate) async fn a_subscribe_without_a_filter_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    let bytes = subscribe(version, 1, &[], &[] as &[(&str, u8)]);
    gateway.join(version, "c").await.breaks(&bytes, 0x82).await;
    gateway.close().await;
}

pub(crate) async fn a_filter_without_its_options_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    let head = [vec![0, 1], properties(version, &[])].concat();
    for rest in [binary(b"a"), vec![0, 9, b'a', 0], vec![0], [binary(b"a"), vec![0, 0]].concat()] {
        let bytes = packet(0x82, &[&head[..], &rest].concat());
        gateway.join(version, "c").await.breaks(&bytes, 0x81).await;
    }
    gateway.close().await;
}

pub(crate) async fn subscribe_is_answered(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for _ in 0..3 {
        assert_eq!(client.subscribe("t", 0).await, 0);
    }
    gateway.close().await;
}

pub(crate) async fn the_same_filter_replaces_its_subscription(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "t", "retained").await;
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    assert_eq!(subscriber.take().await.qos, 1);
    subscriber.subscribe("t", 0).await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.qos, message.retain), ("retained", 0, true), "again");
    publisher.publish(QOS1, "t", "live").await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.qos), ("live", 0), "once, as the new one says");
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn nothing_is_lost_while_a_subscription_is_replaced(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    for number in 0..50_u16 {
        publisher.publish(QOS1, "t", &number.to_string()).await;
        subscriber.send(&subscribe(version, 1000 + number, &[], &[("t", 1)])).await;
    }
    let mut next = 0;
    while next < 50 {
        let answer = subscriber.next().await;
        if answer.kind() == 3 {
            assert!(answer.body.ends_with(next.to_string().as_bytes()), "{next}: {answer:?}");
            subscriber.send(&[0x40, 2, answer.body[3], answer.body[4]]).await;
            next += 1;
        }
    }
    gateway.close().await;
}

pub(crate) async fn several_filters_are_answered_by_one_suback(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    let codes = subscriber.subscribe_with(&[], &[("a", 0), ("b", 1), ("a", 1)]).await;
    assert_eq!(codes, [0, 1, 1]);
    let mut publisher = gateway.join(version, "p").await;
    for topic in ["a", "b"] {
        publisher.publish(QOS1, topic, "x").await;
        let message = subscriber.take().await;
        assert_eq!((&*message.topic, message.qos), (topic, 1), "the last of a filter holds");
    }
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn each_filter_has_its_code_in_its_place(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    let filters = [("a", 1), ("b/#/c", 1), ("c", 0), ("d+", 0), ("e", 1)];
    let codes = client.subscribe_with(&[], &filters).await;
    assert_eq!(codes, [1, invalid(version), 0, invalid(version), 1]);
    gateway.close().await;
}

pub(crate) async fn the_codes_are_those_of_the_version(version: Version) {
    let rules = "[anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]\ndeny = [\"secret/#\"]\n";
    let gateway = Gateway::with(rules);
    let mut client = gateway.join(version, "c").await;
    let filters = [("a", 0), ("a", 1), ("a", 2), ("a#", 0), ("secret/a", 0), ("$share/g/a", 0)];
    let allowed: &[u8] = match version {
        Version::V3 => &[0, 1, 2, 0x80],
        Version::V5 => &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
    };
    let codes = client.subscribe_with(&[], &filters).await;
    assert!(codes.iter().all(|code| allowed.contains(code)), "{codes:X?}");
    assert!(codes[3] >= 0x80 && codes[4] >= 0x80, "refused: {codes:X?}");
    gateway.close().await;
}
