//! Wills.

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{Connect, QOS1, RETAIN, Version, Will, binary};

const MALFORMED: u8 = 0x81;

async fn watcher(gateway: &Gateway, version: Version) -> Client {
    let mut watcher = gateway.join(version, "watcher").await;
    watcher.subscribe("will/#", 1).await;
    watcher
}

fn with_will(version: Version, flags: u8) -> Connect {
    Connect::new(version, "c").will(Will::new("will/c", "gone", flags))
}

pub(crate) async fn a_will_is_published_when_the_connection_breaks(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    drop(gateway.enter(&with_will(version, QOS1)).await);
    let message = watcher.take().await;
    assert_eq!((&*message.topic, &*message.payload, message.qos), ("will/c", "gone", 1));
    // A broken protocol is no goodbye either.
    gateway.enter(&with_will(version, 0)).await.breaks(&[0xC1, 0], MALFORMED).await;
    let message = watcher.take().await;
    assert_eq!((&*message.payload, message.qos), ("gone", 0));
    gateway.close().await;
}

pub(crate) async fn a_will_without_topic_or_payload_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").flip(4), MALFORMED).await;
    let topic_only = Connect::new(version, "c").flip(4);
    let fields = match version {
        Version::V3 => binary(b"w"),
        Version::V5 => [vec![0], binary(b"w")].concat(),
    };
    gateway.rejects(&topic_only.tail(&fields), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_will_is_gone_after_a_goodbye_and_after_it_was_published(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    gateway.enter(&with_will(version, 0)).await.leave().await;
    drop(gateway.enter(&with_will(version, 0)).await);
    assert_eq!(watcher.take().await.payload, "gone", "of the second connection");
    // The next connection of the client has none, so nothing is published at its end.
    drop(gateway.join(version, "c").await);
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn will_fields_without_a_will_are_not_let_in(version: Version) {
    let gateway = Gateway::open();
    let fields = [binary(b"w"), binary(b"x")].concat();
    gateway.rejects(&Connect::new(version, "c").tail(&fields), MALFORMED).await;
    gateway.rejects(&Connect::new(version, "c").flip(0x28), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn without_a_will_none_is_published(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    drop(gateway.join(version, "c").await);
    // Its connection has ended once the id is free again.
    gateway.join(version, "c").await.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_will_qos_without_a_will_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    for flags in [0x08, 0x10, 0x18] {
        gateway.rejects(&Connect::new(version, "c").flip(flags), MALFORMED).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_will_of_qos_3_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&with_will(version, 0).flip(0x18), MALFORMED).await;
    for flags in [0, 2, 4] {
        gateway.enter(&with_will(version, flags)).await.leave().await;
    }
    gateway.close().await;
}

pub(crate) async fn a_will_retain_without_a_will_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").flip(0x20), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_will_without_retain_is_not_retained(version: Version) {
    let gateway = Gateway::open();
    let mut first = watcher(&gateway, version).await;
    drop(gateway.enter(&with_will(version, QOS1)).await);
    assert!(!first.take().await.retain);
    let mut later = gateway.join(version, "later").await;
    later.subscribe("will/#", 0).await;
    let mut publisher = gateway.join(version, "p").await;
    later.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_will_with_retain_is_retained(version: Version) {
    let gateway = Gateway::open();
    let mut first = watcher(&gateway, version).await;
    drop(gateway.enter(&with_will(version, QOS1 | RETAIN)).await);
    assert!(!first.take().await.retain, "live, it is a message like others");
    let mut later = gateway.join(version, "later").await;
    later.subscribe("will/#", 0).await;
    let message = later.message().await;
    assert_eq!((&*message.payload, message.retain), ("gone", true));
    gateway.close().await;
}

pub(crate) async fn a_goodbye_drops_the_will(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    gateway.enter(&with_will(version, QOS1)).await.leave().await;
    gateway.join(version, "c").await.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

/// The goodbye and the next CONNECT are there together; whichever the gateway sees first, the goodbye
/// was said before.
pub(crate) async fn a_goodbye_drops_the_will_of_a_client_that_is_back_at_once(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    for _ in 0..50 {
        let mut client = gateway.enter(&with_will(version, QOS1)).await;
        client.send(&[0xE0, 0]).await;
        drop(client);
    }
    gateway.join(version, "c").await.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_client_that_is_taken_over_leaves_its_will(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    let mut first = gateway.enter(&with_will(version, QOS1)).await;
    let second = gateway.join(version, "c").await;
    assert_eq!(watcher.take().await.payload, "gone");
    first.ended(0x8E).await;
    second.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}
