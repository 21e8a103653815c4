//! 3.3.4 and 4.9: Receive Maximum, both ways.

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{Connect, PUBACK, PUBREC, Publish, QOS1, QOS2, Version, ack, prop, two};

const V5: Version = Version::V5;

/// A subscriber that takes so many messages at a time, and a publisher that has sent five.
async fn narrow(gateway: &Gateway, receive_max: u16) -> (Client, Client) {
    let connect = Connect::new(V5, "s").with(&[two(prop::RECEIVE_MAX, receive_max)]);
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(V5, "p").await;
    for number in 0..5 {
        publisher.publish(QOS1, "t", &number.to_string()).await;
    }
    (subscriber, publisher)
}

#[tokio::test]
async fn mqtt_3_3_4_9_no_more_are_in_flight_than_the_client_takes() {
    let gateway = Gateway::open();
    let (mut subscriber, _publisher) = narrow(&gateway, 2).await;
    let mut ids = vec![subscriber.message().await.id, subscriber.message().await.id];
    for number in 2..5 {
        subscriber.silent().await;
        // Which of them is acknowledged does not matter.
        let id = ids.remove(usize::from(number == 3));
        subscriber.send(&ack(PUBACK, id)).await;
        let message = subscriber.message().await;
        assert_eq!(message.payload, number.to_string());
        ids.push(message.id);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_4_10_other_packets_do_not_wait_for_acknowledgements() {
    let gateway = Gateway::open();
    let (mut subscriber, _publisher) = narrow(&gateway, 1).await;
    subscriber.message().await;
    subscriber.ping().await;
    assert_eq!(subscriber.subscribe("other", 0).await, 0);
    assert_eq!(subscriber.unsubscribe(&["other"]).await, [0]);
    subscriber.publish(QOS1, "mine", "x").await;
    subscriber.publish(QOS2, "mine", "x").await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_9_0_1_the_first_messages_are_as_many_as_the_client_takes_at_most() {
    let gateway = Gateway::open();
    for receive_max in [1, 3] {
        let (mut subscriber, publisher) = narrow(&gateway, receive_max).await;
        for _ in 0..receive_max {
            subscriber.message().await;
        }
        subscriber.silent().await;
        subscriber.leave().await;
        publisher.leave().await;
    }
    gateway.close().await;
}

/// The quota is that of the connection, also for what an earlier one has left in flight.
#[tokio::test]
async fn mqtt_3_3_4_9_what_is_sent_again_keeps_to_the_receive_maximum_too() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(V5, "p").await;
    for number in 0..5 {
        publisher.publish(QOS1, "t", &number.to_string()).await;
        subscriber.message().await;
    }
    drop(subscriber);
    let narrow = connect.with(&[two(prop::RECEIVE_MAX, 2)]);
    let mut subscriber = gateway.enter(&narrow).await;
    let mut ids = vec![subscriber.message().await.id, subscriber.message().await.id];
    for number in 2..5 {
        subscriber.silent().await;
        subscriber.send(&ack(PUBACK, ids.remove(0))).await;
        let message = subscriber.message().await;
        assert_eq!((message.payload, message.dup), (number.to_string(), true));
        ids.push(message.id);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_9_0_2_with_the_quota_used_up_no_message_of_qos_1_is_sent() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = narrow(&gateway, 5).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(subscriber.message().await.id);
    }
    publisher.publish(QOS1, "t", "more").await;
    subscriber.silent().await;
    // What was never sent cannot be acknowledged, and gives no room.
    subscriber.send(&ack(PUBACK, 60_000)).await;
    subscriber.silent().await;
    subscriber.send(&ack(PUBACK, ids[4])).await;
    assert_eq!(subscriber.message().await.payload, "more");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_9_0_3_with_the_quota_used_up_other_packets_are_answered() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = narrow(&gateway, 1).await;
    subscriber.message().await;
    for _ in 0..3 {
        subscriber.ping().await;
        subscriber.publish(QOS2, "mine", "x").await;
    }
    publisher.publish(QOS1, "t", "x").await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_4_7_more_messages_than_the_gateway_takes_at_a_time_end_the_connection() {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    let max = connack.two(prop::RECEIVE_MAX).expect("it has a limit");
    for id in 1..=max {
        client.send(&Publish::new(QOS2, "t", id, "x").bytes(V5)).await;
    }
    for id in 1..=max {
        client.expect(&ack(PUBREC, id)).await;
    }
    // All are still to be released.
    let publish = Publish::new(QOS2, "t", max + 1, "x").bytes(V5);
    client.breaks(&publish, 0x93).await;
    gateway.close().await;
}
