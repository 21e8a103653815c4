//! QoS 2 towards subscribers.

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, QOS1, QOS2, Version, ack};

/// A lasting subscriber of `t` at QoS 2, and a publisher.
async fn pair(gateway: &Gateway, version: Version) -> (Client, Client) {
    let mut subscriber = gateway.enter(&lasting(version)).await;
    assert_eq!(subscriber.subscribe("t", 2).await, 2);
    (subscriber, gateway.join(version, "p").await)
}

fn lasting(version: Version) -> Connect {
    Connect::new(version, "s").lasting()
}

pub(crate) async fn qos_2_is_granted_and_sent(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    for (flags, qos) in [(0, 0), (QOS1, 1), (QOS2, 2)] {
        publisher.publish(flags, "t", "x").await;
        assert_eq!(subscriber.take().await.qos, qos);
    }
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_new_message_has_a_free_id_and_is_no_duplicate(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    let mut in_flight = Vec::new();
    for _ in 0..10 {
        publisher.publish(QOS2, "t", "x").await;
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.dup), (2, false));
        assert!(!in_flight.contains(&message.id));
        in_flight.push(message.id);
        // An id is taken until PUBCOMP, not just until PUBREC.
        subscriber.send(&ack(PUBREC, message.id)).await;
        subscriber.expect(&ack(PUBREL, message.id)).await;
    }
    gateway.close().await;
}

pub(crate) async fn without_pubrec_the_message_is_sent_again(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    publisher.publish(QOS2, "t", "x").await;
    let first = subscriber.message().await;
    drop(subscriber);
    for _ in 0..2 {
        let again = gateway.enter(&lasting(version)).await.message().await;
        assert_eq!((again.id, again.dup, again.qos, &*again.payload), (first.id, true, 2, "x"));
    }
    let mut subscriber = gateway.enter(&lasting(version)).await;
    subscriber.take().await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn pubrec_is_answered_by_pubrel_with_its_id(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    publisher.publish(QOS2, "t", "a").await;
    publisher.publish(QOS2, "t", "b").await;
    let ids = [subscriber.message().await.id, subscriber.message().await.id];
    for id in [ids[1], ids[0], ids[0]] {
        subscriber.send(&ack(PUBREC, id)).await;
        subscriber.expect(&ack(PUBREL, id)).await;
    }
    gateway.close().await;
}

pub(crate) async fn without_pubcomp_the_release_is_sent_again(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    publisher.publish(QOS2, "t", "x").await;
    let id = subscriber.message().await.id;
    subscriber.send(&ack(PUBREC, id)).await;
    subscriber.expect(&ack(PUBREL, id)).await;
    drop(subscriber);
    for _ in 0..2 {
        gateway.enter(&lasting(version)).await.expect(&ack(PUBREL, id)).await;
    }
    let mut subscriber = gateway.enter(&lasting(version)).await;
    subscriber.expect(&ack(PUBREL, id)).await;
    subscriber.send(&ack(PUBCOMP, id)).await;
    subscriber.leave().await;
    let mut subscriber = gateway.enter(&lasting(version)).await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_message_is_never_sent_again_behind_its_release(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    publisher.publish(QOS2, "t", "x").await;
    let id = subscriber.message().await.id;
    subscriber.send(&ack(PUBREC, id)).await;
    subscriber.expect(&ack(PUBREL, id)).await;
    drop(subscriber);
    let mut subscriber = gateway.enter(&lasting(version)).await;
    subscriber.expect(&ack(PUBREL, id)).await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

/// The sender's side of QoS 2 from end to end.
pub(crate) async fn qos_2_goes_out_exactly_once(version: Version) {
    a_new_message_has_a_free_id_and_is_no_duplicate(version).await;
    without_pubrec_the_message_is_sent_again(version).await;
    pubrec_is_answered_by_pubrel_with_its_id(version).await;
    without_pubcomp_the_release_is_sent_again(version).await;
    a_message_is_never_sent_again_behind_its_release(version).await;
}

pub(crate) async fn messages_and_releases_are_sent_again_in_their_order(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    let mut ids = Vec::new();
    for (flags, payload) in [(QOS2, "a"), (QOS1, "b"), (QOS2, "c"), (QOS2, "d")] {
        publisher.publish(flags, "t", payload).await;
        ids.push(subscriber.message().await.id);
    }
    subscriber.send(&ack(PUBREC, ids[0])).await;
    subscriber.expect(&ack(PUBREL, ids[0])).await;
    drop(subscriber);
    let mut subscriber = gateway.enter(&lasting(version)).await;
    let mut messages = Vec::new();
    let mut releases = Vec::new();
    for _ in 0..4 {
        let answer = subscriber.next().await;
        if answer.kind() == PUBREL {
            releases.push(answer.id());
        } else {
            messages.push(u16::from_be_bytes([answer.body[3], answer.body[4]]));
        }
    }
    assert_eq!((&messages[..], releases), (&ids[1..], vec![ids[0]]));
    gateway.close().await;
}

pub(crate) async fn an_unknown_id_is_released_all_the_same(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    client.send(&ack(PUBREC, 77)).await;
    let answer = client.next().await;
    assert_eq!((answer.first, answer.id()), (0x62, 77));
    let expected = if version == Version::V5 { 0x92 } else { 0 };
    assert_eq!(answer.reason(), expected);
    client.send(&ack(PUBCOMP, 77)).await;
    client.ping().await;
    gateway.close().await;
}

pub(crate) async fn overlapping_filters_give_qos_2_where_one_has_it(version: Version) {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = pair(&gateway, version).await;
    subscriber.subscribe("#", 1).await;
    publisher.publish(QOS2, "t", "x").await;
    assert_eq!(subscriber.take().await.qos, 2);
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

/// An answer that the protocol has for another QoS, or for a later step of this one.
pub(crate) async fn an_answer_that_does_not_fit_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    for (qos, wrong) in [(QOS1, PUBREC), (QOS1, PUBCOMP), (QOS2, PUBACK), (QOS2, PUBCOMP)] {
        let (mut subscriber, mut publisher) = pair(&gateway, version).await;
        publisher.publish(qos, "t", "x").await;
        let id = subscriber.message().await.id;
        subscriber.breaks(&ack(wrong, id), 0x82).await;
        let mut subscriber = gateway.enter(&lasting(version)).await;
        assert_eq!(subscriber.take().await.id, id, "it is still to be answered");
        subscriber.leave().await;
        publisher.leave().await;
    }
    gateway.close().await;
}
