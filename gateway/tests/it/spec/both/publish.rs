//! PUBLISH from a client: its flags, its topic, and what is retained.

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    Connect, DUP, PUBACK, Publish, QOS1, QOS2, RETAIN, Version, ack, binary, packet,
};

const MALFORMED: u8 = 0x81;

/// What a new subscriber of `filter` gets: payload and retain flag of each message.
async fn retained(gateway: &Gateway, publisher: &mut Client, filter: &str) -> Vec<(String, u8)> {
    let mut subscriber = gateway.join(publisher.version, "new subscriber").await;
    subscriber.subscribe_with(&[], &[(filter, 2), ("the/end", 0)]).await;
    publisher.publish(QOS1, "the/end", "end").await;
    let mut found = Vec::new();
    loop {
        let message = subscriber.take().await;
        if message.topic == "the/end" {
            subscriber.leave().await;
            return found;
        }
        assert!(message.retain, "{message:?}");
        found.push((message.payload, message.qos));
    }
}

fn payloads(found: &[(String, u8)]) -> Vec<&str> {
    found.iter().map(|(payload, _)| &**payload).collect()
}

pub(crate) async fn a_message_that_is_sent_again_says_so(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "x").await;
    assert!(!subscriber.message().await.dup);
    drop(subscriber);
    assert!(gateway.enter(&connect).await.message().await.dup);
    gateway.close().await;
}

pub(crate) async fn a_duplicate_of_qos_0_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    let publish = Publish::new(DUP, "t", 0, "x").bytes(version);
    gateway.join(version, "c").await.breaks(&publish, MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn the_flag_of_a_duplicate_is_not_passed_on(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | DUP, "t", "one").await;
    publisher.publish(QOS2 | DUP, "t", "two").await;
    for payload in ["one", "two"] {
        let message = subscriber.take().await;
        assert_eq!((&*message.payload, message.dup), (payload, false));
    }
    gateway.close().await;
}

pub(crate) async fn qos_3_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for flags in [QOS1 | QOS2, QOS1 | QOS2 | RETAIN, QOS1 | QOS2 | DUP] {
        let publish = Publish::new(flags, "t", 1, "x").bytes(version);
        gateway.join(version, "c").await.breaks(&publish, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_retained_message_replaces_the_one_before(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    for (flags, payload) in [(QOS1, "old"), (0, "newer"), (QOS1, "new")] {
        publisher.publish(flags | RETAIN, "r/a", payload).await;
    }
    publisher.publish(RETAIN, "r/b", "of qos 0").await;
    let found = retained(&gateway, &mut publisher, "r/+").await;
    assert_eq!(found, [("new".to_owned(), 1), ("of qos 0".to_owned(), 0)]);
    gateway.close().await;
}

pub(crate) async fn qos_0_takes_the_place_of_what_was_retained(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "r", "old").await;
    publisher.publish(RETAIN, "r", "new").await;
    let found = retained(&gateway, &mut publisher, "r").await;
    assert_eq!(found, [("new".to_owned(), 0)]);
    gateway.close().await;
}

pub(crate) async fn each_new_subscription_gets_the_last_of_each_topic(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    for number in 0..40 {
        let topic = format!("r/{}", number % 20);
        publisher.publish(QOS1 | RETAIN, &topic, &format!("{topic} {number}")).await;
    }
    let found = retained(&gateway, &mut publisher, "r/#").await;
    let mut expected: Vec<String> = (20..40).map(|n| format!("r/{} {n}", n % 20)).collect();
    expected.sort();
    let mut found = payloads(&found);
    found.sort_unstable();
    assert_eq!(found, expected);
    gateway.close().await;
}

pub(crate) async fn the_retain_flag_tells_old_messages_from_new_ones(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "t", "old").await;
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.retain), ("old", true));
    publisher.publish(QOS1 | RETAIN, "t", "new").await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.retain), ("new", false), "it was subscribed already");
    gateway.close().await;
}

pub(crate) async fn what_a_new_subscription_brought_is_sent_again_with_the_flag(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "t", "old").await;
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    assert!(subscriber.message().await.retain);
    drop(subscriber);
    let message = gateway.enter(&connect).await.message().await;
    assert_eq!((&*message.payload, message.dup, message.retain), ("old", true, true));
    gateway.close().await;
}

pub(crate) async fn an_empty_retained_message_clears_its_topic(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "t", "old").await;
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 0).await;
    assert_eq!(subscriber.take().await.payload, "old");
    publisher.publish(QOS1 | RETAIN, "t", "").await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.retain), ("", false), "others get it as any message");
    assert_eq!(retained(&gateway, &mut publisher, "t").await, []);
    gateway.close().await;
}

pub(crate) async fn an_empty_message_is_not_retained(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    for flags in [RETAIN, RETAIN | QOS1, RETAIN | QOS2] {
        publisher.publish(flags, "t", "").await;
        assert_eq!(retained(&gateway, &mut publisher, "t").await, []);
    }
    gateway.close().await;
}

pub(crate) async fn a_message_without_retain_leaves_what_is_retained(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "not kept").await;
    assert_eq!(retained(&gateway, &mut publisher, "t").await, []);
    publisher.publish(QOS1 | RETAIN, "t", "kept").await;
    publisher.publish(QOS1, "t", "not kept").await;
    publisher.publish(QOS1, "t", "").await;
    let found = retained(&gateway, &mut publisher, "t").await;
    assert_eq!(payloads(&found), ["kept"]);
    gateway.close().await;
}

pub(crate) async fn a_topic_that_goes_past_the_end_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for body in [&[][..], &[0], &[0, 5, b'a'], &[0xFF, 0xFF, b'a', b'b']] {
        let bytes = packet(0x30, body);
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_topic_with_a_wildcard_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for topic in ["#", "+", "a/+", "a/#", "a+", "a/b#/c"] {
        let publish = Publish::new(QOS1, topic, 1, "x").bytes(version);
        gateway.join(version, "c").await.breaks(&publish, 0x90).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_subscriber_gets_what_its_filter_matches(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("a/+/c", 0).await;
    let mut publisher = gateway.join(version, "p").await;
    for topic in ["a/b", "a/b/c", "a/b/c/d", "b/b/c", "a//c"] {
        publisher.publish(QOS1, topic, "x").await;
    }
    for topic in ["a/b/c", "a//c"] {
        assert_eq!(subscriber.message().await.topic, topic);
    }
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn each_qos_is_answered_as_it_asks(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    client.send(&Publish::new(0, "t", 0, "x").bytes(version)).await;
    client.ping().await;
    client.send(&Publish::new(QOS1, "t", 1, "x").bytes(version)).await;
    client.expect(&ack(PUBACK, 1)).await;
    client.publish(QOS2, "t", "x").await;
    gateway.close().await;
}

pub(crate) async fn overlapping_filters_give_the_highest_of_their_qos(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    for (filter, qos) in [("a/#", 0), ("a/+", 1), ("a/b", 0)] {
        subscriber.subscribe(filter, qos).await;
    }
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "a/b", "x").await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.qos), ("x", 1));
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn an_id_that_is_missing_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for flags in [QOS1, QOS2] {
        let bytes = packet(0x30 | flags, &binary(b"topic"));
        gateway.join(version, "c").await.breaks(&bytes, MALFORMED).await;
    }
    gateway.close().await;
}
