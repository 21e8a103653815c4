//! Messages on their way out.

use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, PUBACK, QOS1, QOS2, Version, ack};

pub(crate) async fn a_message_of_qos_0_is_sent_once_and_not_as_a_duplicate(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 0).await;
    let mut publisher = gateway.join(version, "p").await;
    for flags in [0, QOS1, QOS2] {
        publisher.publish(flags, "t", "x").await;
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.dup), (0, false));
    }
    drop(subscriber);
    gateway.enter(&connect).await.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn a_new_message_of_qos_1_has_a_free_id_and_is_no_duplicate(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    let mut in_flight = Vec::new();
    for _ in 0..10 {
        publisher.publish(QOS1, "t", "x").await;
        let message = subscriber.message().await;
        assert_eq!((message.qos, message.dup), (1, false));
        assert!(!in_flight.contains(&message.id));
        in_flight.push(message.id);
    }
    gateway.close().await;
}

pub(crate) async fn qos_1_stays_in_flight_until_it_is_acknowledged(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "x").await;
    let first = subscriber.message().await;
    // Neither another id's acknowledgement nor a lost connection settles it.
    subscriber.send(&ack(PUBACK, first.id ^ 0x4000)).await;
    drop(subscriber);
    for _ in 0..2 {
        let again = gateway.enter(&connect).await.message().await;
        assert_eq!((again.id, again.dup), (first.id, true));
    }
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.take().await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn every_subscriber_that_matches_gets_a_message(version: Version) {
    let gateway = Gateway::open();
    let away = Connect::new(version, "away").lasting();
    let mut subscriber = gateway.enter(&away).await;
    subscriber.subscribe("a/#", 1).await;
    subscriber.leave().await;
    let mut here = Vec::new();
    for (name, filter) in [("x", "a/b"), ("y", "+/b"), ("z", "#")] {
        let mut subscriber = gateway.join(version, name).await;
        subscriber.subscribe(filter, 1).await;
        here.push(subscriber);
    }
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "a/b", "x").await;
    for subscriber in &mut here {
        assert_eq!(subscriber.take().await.payload, "x");
    }
    assert_eq!(gateway.enter(&away).await.take().await.payload, "x");
    gateway.close().await;
}

pub(crate) async fn messages_of_a_topic_arrive_in_the_order_they_came(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    subscriber.subscribe("t/#", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    for number in 0..60 {
        let flags = [0, QOS1, QOS2][number % 3];
        publisher.publish(flags, "t/a", &number.to_string()).await;
    }
    for number in 0..60 {
        assert_eq!(subscriber.take().await.payload, number.to_string());
    }
    gateway.close().await;
}

pub(crate) async fn messages_are_sent_again_in_their_order(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(version, "p").await;
    for number in 0..10 {
        publisher.publish(QOS1, "t", &number.to_string()).await;
        assert_eq!(subscriber.message().await.payload, number.to_string());
    }
    drop(subscriber);
    let mut subscriber = gateway.enter(&connect).await;
    for number in 0..10 {
        let message = subscriber.take().await;
        assert_eq!((message.payload, message.dup), (number.to_string(), true));
    }
    gateway.close().await;
}

pub(crate) async fn the_qos_is_the_lower_of_published_and_granted(version: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(version, "s").await;
    assert_eq!(subscriber.subscribe("q0", 0).await, 0);
    assert_eq!(subscriber.subscribe("q1", 1).await, 1);
    let mut publisher = gateway.join(version, "p").await;
    for (topic, flags, expected) in [
        ("q0", 0, 0),
        ("q0", QOS1, 0),
        ("q0", QOS2, 0),
        ("q1", 0, 0),
        ("q1", QOS1, 1),
        ("q1", QOS2, 1),
    ] {
        publisher.publish(flags, topic, "x").await;
        let message = subscriber.take().await;
        assert_eq!((&*message.topic, message.qos), (topic, expected));
    }
    gateway.close().await;
}
