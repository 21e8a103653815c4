//! Messages on their way in, at each QoS.

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    Connect, DUP, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, QOS1, QOS2, Version, ack,
};

async fn watcher(gateway: &Gateway, version: Version) -> Client {
    let mut watcher = gateway.join(version, "watcher").await;
    watcher.subscribe("t", 0).await;
    watcher
}

pub(crate) async fn an_acknowledged_id_is_a_new_message_next_time(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    let mut client = gateway.join(version, "c").await;
    for (flags, payload) in [(QOS1, "one"), (QOS1 | DUP, "two"), (QOS1, "three")] {
        client.send(&Publish::new(flags, "t", 7, payload).bytes(version)).await;
        client.expect(&ack(PUBACK, 7)).await;
        assert_eq!(watcher.message().await.payload, payload);
    }
    gateway.close().await;
}

pub(crate) async fn qos_2_is_received_and_answered_by_pubrec(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    let mut client = gateway.join(version, "c").await;
    client.send(&Publish::new(QOS2, "t", 7, "x").bytes(version)).await;
    client.expect(&ack(PUBREC, 7)).await;
    assert_eq!(watcher.message().await.payload, "x");
    gateway.close().await;
}

pub(crate) async fn until_its_release_an_id_is_the_same_message(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    let mut client = gateway.enter(&Connect::new(version, "c").lasting()).await;
    for flags in [QOS2, QOS2 | DUP, QOS2] {
        client.send(&Publish::new(flags, "t", 7, "once").bytes(version)).await;
        client.expect(&ack(PUBREC, 7)).await;
    }
    drop(client);
    let mut client = gateway.enter(&Connect::new(version, "c").lasting()).await;
    client.send(&Publish::new(QOS2 | DUP, "t", 7, "once").bytes(version)).await;
    client.expect(&ack(PUBREC, 7)).await;
    assert_eq!(watcher.message().await.payload, "once");
    watcher.has_all(&mut client).await;
    gateway.close().await;
}

pub(crate) async fn a_release_is_answered_by_pubcomp_with_its_id(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for id in [7, 8] {
        client.send(&Publish::new(QOS2, "t", id, "x").bytes(version)).await;
        client.expect(&ack(PUBREC, id)).await;
    }
    for id in [8, 7] {
        client.send(&ack(PUBREL, id)).await;
        client.expect(&ack(PUBCOMP, id)).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_released_id_is_a_new_message(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway, version).await;
    let mut client = gateway.join(version, "c").await;
    for payload in ["one", "two"] {
        client.send(&Publish::new(QOS2, "t", 7, payload).bytes(version)).await;
        client.expect(&ack(PUBREC, 7)).await;
        client.send(&ack(PUBREL, 7)).await;
        client.expect(&ack(PUBCOMP, 7)).await;
        assert_eq!(watcher.message().await.payload, payload);
    }
    gateway.close().await;
}

/// The receiver's side of QoS 2 from end to end.
pub(crate) async fn qos_2_comes_in_exactly_once(version: Version) {
    until_its_release_an_id_is_the_same_message(version).await;
    a_release_is_answered_by_pubcomp_with_its_id(version).await;
    a_released_id_is_a_new_message(version).await;
}

/// The receiver's side of QoS 1 from end to end.
pub(crate) async fn qos_1_is_owned_once_it_is_acknowledged(version: Version) {
    an_acknowledged_id_is_a_new_message_next_time(version).await;
}
