//! 4.3.3: QoS 2 towards subscribers.

use std::time::Duration;

use crate::spec::both::qos2_out;
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, PUBCOMP, PUBREC, PUBREL, Publish, QOS2, Version, ack, ack_with, four, prop, two,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_4_3_3_1_a_new_message_has_a_free_id => qos2_out::a_new_message_has_a_free_id_and_is_no_duplicate;
    mqtt_4_3_3_2_a_new_message_is_no_duplicate => qos2_out::a_new_message_has_a_free_id_and_is_no_duplicate;
    mqtt_4_3_3_3_without_pubrec_the_message_is_sent_again => qos2_out::without_pubrec_the_message_is_sent_again;
    mqtt_4_3_3_4_pubrec_is_answered_by_pubrel_with_its_id => qos2_out::pubrec_is_answered_by_pubrel_with_its_id;
    mqtt_4_3_3_5_without_pubcomp_the_release_is_sent_again => qos2_out::without_pubcomp_the_release_is_sent_again;
    mqtt_4_3_3_6_a_message_is_never_sent_again_behind_its_release => qos2_out::a_message_is_never_sent_again_behind_its_release;
    mqtt_3_3_4_2_overlapping_filters_give_qos_2_where_one_has_it => qos2_out::overlapping_filters_give_qos_2_where_one_has_it;
    mqtt_3_8_4_8_qos_2_is_granted_and_sent => qos2_out::qos_2_is_granted_and_sent;
    mqtt_4_13_1_1_an_answer_that_does_not_fit_ends_the_connection => qos2_out::an_answer_that_does_not_fit_ends_the_connection;
    messages_and_releases_are_sent_again_in_their_order => qos2_out::messages_and_releases_are_sent_again_in_their_order;
    an_unknown_id_is_released_all_the_same => qos2_out::an_unknown_id_is_released_all_the_same;
}

fn lasting() -> Connect {
    Connect::new(V5, "s").lasting()
}

#[tokio::test]
async fn a_message_that_is_refused_by_pubrec_ends_there() {
    let gateway = Gateway::open();
    let connect = lasting().with(&[two(prop::RECEIVE_MAX, 1)]);
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS2, "t", "refused").await;
    publisher.publish(QOS2, "t", "next").await;
    let message = subscriber.message().await;
    subscriber.send(&ack_with(PUBREC, message.id, 0x83)).await;
    assert_eq!(subscriber.take().await.payload, "next", "no PUBREL, and the window has room");
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_message_counts_against_receive_maximum_until_pubcomp() {
    let gateway = Gateway::open();
    let connect = lasting().with(&[two(prop::RECEIVE_MAX, 1)]);
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS2, "t", "one").await;
    publisher.publish(QOS2, "t", "two").await;
    let id = subscriber.message().await.id;
    subscriber.silent().await;
    subscriber.send(&ack(PUBREC, id)).await;
    subscriber.expect(&ack(PUBREL, id)).await;
    subscriber.silent().await;
    subscriber.send(&ack(PUBCOMP, id)).await;
    assert_eq!(subscriber.take().await.payload, "two");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_3_3_7_a_message_that_was_sent_once_does_not_expire() {
    let gateway = Gateway::open();
    let mut subscriber = gateway.enter(&lasting()).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = gateway.join(V5, "p").await;
    let expiry = [four(prop::MESSAGE_EXPIRY, 1)];
    for payload in ["sent", "released"] {
        publisher.publish_with(Publish::new(QOS2, "t", 0, payload).with(&expiry)).await;
    }
    let sent = subscriber.message().await;
    let released = subscriber.message().await;
    subscriber.send(&ack(PUBREC, released.id)).await;
    subscriber.expect(&ack(PUBREL, released.id)).await;
    drop(subscriber);
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let mut subscriber = gateway.enter(&lasting()).await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let answer = subscriber.next().await;
        let id = if answer.kind() == PUBREL { released.id } else { sent.id };
        kinds.push(answer.kind());
        subscriber.send(&ack(if answer.kind() == PUBREL { PUBCOMP } else { PUBREC }, id)).await;
    }
    kinds.sort_unstable();
    assert_eq!(kinds, [3, 6], "one goes out again, the other is released again");
    gateway.close().await;
}
