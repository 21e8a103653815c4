//! What outlives a connection.

use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, QOS1, QOS2, RETAIN, Version, ack,
};

pub(crate) async fn a_kept_session_goes_on_where_it_was(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let (mut subscriber, connack) = gateway.connect(&connect).await;
    assert!(!connack.present(), "a new one is made");
    subscriber.subscribe("t", 1).await;
    subscriber.send(&Publish::new(QOS2, "other", 9, "x").bytes(version)).await;
    subscriber.expect(&ack(PUBREC, 9)).await;
    drop(subscriber);
    let (mut subscriber, connack) = gateway.connect(&connect).await;
    assert!(connack.present());
    subscriber.send(&ack(PUBREL, 9)).await;
    subscriber.expect(&ack(PUBCOMP, 9)).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "on").await;
    assert_eq!(subscriber.take().await.payload, "on");
    gateway.close().await;
}

pub(crate) async fn messages_wait_for_a_kept_session(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    subscriber.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "one").await;
    publisher.publish(QOS2, "t", "two").await;
    let mut subscriber = gateway.enter(&connect).await;
    for payload in ["one", "two"] {
        let message = subscriber.take().await;
        assert_eq!((&*message.payload, message.dup, message.retain), (payload, false, false));
    }
    gateway.close().await;
}

pub(crate) async fn a_clean_session_starts_with_nothing_and_leaves_nothing(version: Version) {
    let gateway = Gateway::open();
    let lasting = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&lasting).await;
    subscriber.subscribe("t", 1).await;
    subscriber.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "lost").await;
    let mut clean = gateway.join(version, "s").await;
    publisher.publish(QOS1, "t", "not subscribed").await;
    clean.has_all(&mut publisher).await;
    clean.leave().await;
    let (mut again, connack) = gateway.connect(&lasting).await;
    assert!(!connack.present(), "the clean one has taken it away, and left nothing");
    again.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn retained_messages_outlive_the_session_that_sent_them(version: Version) {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1 | RETAIN, "t", "stays").await;
    publisher.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 0).await;
    assert_eq!(subscriber.message().await.payload, "stays");
    publisher.ping().await;
    gateway.close().await;
}

pub(crate) async fn a_session_is_kept_while_it_is_connected(version: Version) {
    let gateway = Gateway::open();
    for connect in [Connect::new(version, "clean"), Connect::new(version, "kept").lasting()] {
        let mut subscriber = gateway.enter(&connect).await;
        subscriber.subscribe("t", 1).await;
        let mut publisher = gateway.join(version, "p").await;
        for number in 0..50 {
            publisher.publish(QOS1, "t", &number.to_string()).await;
            assert_eq!(subscriber.take().await.payload, number.to_string());
        }
        subscriber.ping().await;
    }
    gateway.close().await;
}

pub(crate) async fn what_was_not_acknowledged_is_sent_again_with_its_id(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    let mut ids = Vec::new();
    for payload in ["a", "b", "c"] {
        publisher.publish(QOS1, "t", payload).await;
        ids.push(subscriber.message().await.id);
    }
    subscriber.send(&ack(PUBACK, ids[1])).await;
    subscriber.ping().await;
    drop(subscriber);
    let mut subscriber = gateway.enter(&connect).await;
    for (payload, id) in [("a", ids[0]), ("c", ids[2])] {
        let message = subscriber.take().await;
        assert_eq!((&*message.payload, message.id, message.dup), (payload, id, true));
    }
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn nothing_is_sent_again_while_the_connection_lasts(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.enter(&Connect::new(version, "s").lasting()).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "once").await;
    subscriber.message().await;
    subscriber.silent().await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}
