//! UNSUBSCRIBE and UNSUBACK.

use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, QOS1, Version, unsubscribe};

pub(crate) async fn an_unsubscribe_without_a_filter_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    let bytes = unsubscribe(version, 1, &[] as &[&str]);
    gateway.join(version, "c").await.breaks(&bytes, 0x82).await;
    gateway.close().await;
}

pub(crate) async fn only_the_very_same_filter_is_unsubscribed(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("a/+", 0).await;
    subscriber.unsubscribe(&["a/b", "a/#", "A/+", "a/+/", "+/+", "a/"]).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "a/b", "still").await;
    assert_eq!(subscriber.message().await.payload, "still");
    subscriber.unsubscribe(&["a/+"]).await;
    publisher.publish(QOS1, "a/b", "gone").await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn no_new_messages_come_for_what_was_unsubscribed(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("a", 1).await;
    subscriber.subscribe("b", 1).await;
    subscriber.unsubscribe(&["a"]).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "a", "no").await;
    publisher.publish(QOS1, "b", "yes").await;
    assert_eq!(subscriber.take().await.payload, "yes");
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn what_is_in_flight_is_completed(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "on its way").await;
    let id = subscriber.message().await.id;
    subscriber.unsubscribe(&["t"]).await;
    drop(subscriber);
    let mut subscriber = gateway.enter(&connect).await;
    let message = subscriber.take().await;
    assert_eq!((&*message.payload, message.id, message.dup), ("on its way", id, true));
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn unsubscribe_is_answered(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    client.subscribe("t", 0).await;
    let expected: &[u8] = if version == Version::V3 { &[] } else { &[0] };
    assert_eq!(client.unsubscribe(&["t"]).await, expected);
    gateway.close().await;
}

pub(crate) async fn unsubscribe_is_answered_though_nothing_was_subscribed(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    let expected: &[u8] = if version == Version::V3 { &[] } else { &[0x11] };
    assert_eq!(client.unsubscribe(&["never"]).await, expected);
    gateway.close().await;
}

pub(crate) async fn several_filters_are_answered_by_one_unsuback(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe_with(&[], &[("a", 0), ("b", 0), ("c", 0)]).await;
    let expected: &[u8] = if version == Version::V3 { &[] } else { &[0, 0x11, 0, 0x11] };
    assert_eq!(subscriber.unsubscribe(&["c", "never", "a", "a"]).await, expected);
    let mut publisher = gateway.join(version, "p").await;
    for topic in ["a", "b", "c"] {
        publisher.publish(QOS1, topic, topic).await;
    }
    assert_eq!(subscriber.message().await.payload, "b");
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}
