//! 4.3 delivery at each QoS, 4.5 who gets a message, 4.6 order.

use std::time::Duration;

use crate::spec::both::{deliver, receive};
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, PUBCOMP, PUBREC, PUBREL, Publish, QOS2, Version, ack, ack_with, four, prop,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_4_3_1_1_a_message_of_qos_0_is_sent_once_and_not_as_a_duplicate => deliver::a_message_of_qos_0_is_sent_once_and_not_as_a_duplicate;
    mqtt_4_3_2_1_a_new_message_of_qos_1_has_a_free_id => deliver::a_new_message_of_qos_1_has_a_free_id_and_is_no_duplicate;
    mqtt_4_3_2_2_a_new_message_of_qos_1_is_no_duplicate => deliver::a_new_message_of_qos_1_has_a_free_id_and_is_no_duplicate;
    mqtt_4_3_2_3_qos_1_stays_in_flight_until_it_is_acknowledged => deliver::qos_1_stays_in_flight_until_it_is_acknowledged;
    mqtt_4_3_2_4_qos_1_is_owned_once_it_is_acknowledged => receive::qos_1_is_owned_once_it_is_acknowledged;
    mqtt_4_3_2_5_an_acknowledged_id_is_a_new_message_next_time => receive::an_acknowledged_id_is_a_new_message_next_time;
    mqtt_4_3_3_8_qos_2_is_received_and_answered_by_pubrec => receive::qos_2_is_received_and_answered_by_pubrec;
    mqtt_4_3_3_10_until_its_release_an_id_is_the_same_message => receive::until_its_release_an_id_is_the_same_message;
    mqtt_4_3_3_11_a_release_is_answered_by_pubcomp_with_its_id => receive::a_release_is_answered_by_pubcomp_with_its_id;
    mqtt_4_3_3_12_a_released_id_is_a_new_message => receive::a_released_id_is_a_new_message;
    mqtt_4_5_0_1_every_subscriber_that_matches_gets_a_message => deliver::every_subscriber_that_matches_gets_a_message;
    mqtt_4_6_0_5_messages_of_a_topic_arrive_in_the_order_they_came => deliver::messages_of_a_topic_arrive_in_the_order_they_came;
    mqtt_4_6_0_6_every_topic_is_in_order_for_subscriptions_that_are_not_shared => deliver::messages_of_a_topic_arrive_in_the_order_they_came;
    messages_are_sent_again_in_their_order => deliver::messages_are_sent_again_in_their_order;
}

#[tokio::test]
async fn mqtt_4_3_3_9_an_id_whose_message_was_refused_is_a_new_message() {
    let rules = "[anonymous]\npublish = [\"t\", \"the/end\"]\nsubscribe = [\"#\"]\n";
    let gateway = Gateway::with(rules);
    let mut watcher = gateway.join(V5, "watcher").await;
    watcher.subscribe("t", 0).await;
    let mut client = gateway.join(V5, "c").await;
    client.send(&Publish::new(QOS2, "denied", 5, "no").bytes(V5)).await;
    client.expect(&ack_with(PUBREC, 5, 0x87)).await;
    client.send(&Publish::new(QOS2, "t", 5, "yes").bytes(V5)).await;
    client.expect(&ack(PUBREC, 5)).await;
    assert_eq!(watcher.message().await.payload, "yes");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_3_3_13_the_exchange_goes_on_though_the_message_has_expired() {
    let gateway = Gateway::open();
    let mut client = gateway.enter(&Connect::new(V5, "c").lasting()).await;
    let expiry = [four(prop::MESSAGE_EXPIRY, 1)];
    client.send(&Publish::new(QOS2, "t", 5, "x").with(&expiry).bytes(V5)).await;
    client.expect(&ack(PUBREC, 5)).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client.send(&ack(PUBREL, 5)).await;
    client.expect(&ack(PUBCOMP, 5)).await;
    gateway.close().await;
}
