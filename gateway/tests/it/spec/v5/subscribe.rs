//! 3.8 SUBSCRIBE, 3.9 SUBACK.

use crate::spec::both::{data, deliver, subscribe};
use crate::spec::client::Gateway;
use crate::spec::packet::{
    NO_LOCAL, QOS1, RETAIN, Version, subscribe as subscribe_bytes, subscription_id, user,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_8_1_1_subscribe_with_other_flags_ends_the_connection => data::subscribe_with_other_flags_ends_the_connection;
    mqtt_3_8_3_1_an_ill_formed_filter_ends_the_connection => data::an_ill_formed_filter_ends_the_connection;
    mqtt_3_8_3_2_a_subscribe_without_a_filter_ends_the_connection => subscribe::a_subscribe_without_a_filter_ends_the_connection;
    mqtt_3_8_4_1_subscribe_is_answered => subscribe::subscribe_is_answered;
    mqtt_3_8_4_2_suback_carries_the_id_of_subscribe => data::suback_and_unsuback_carry_the_id_of_their_request;
    mqtt_3_8_4_3_the_same_filter_replaces_its_subscription => subscribe::the_same_filter_replaces_its_subscription;
    mqtt_3_8_4_4_nothing_is_lost_while_a_subscription_is_replaced => subscribe::nothing_is_lost_while_a_subscription_is_replaced;
    mqtt_3_8_4_5_several_filters_are_answered_by_one_suback => subscribe::several_filters_are_answered_by_one_suback;
    mqtt_3_8_4_6_each_filter_has_a_code => subscribe::each_filter_has_its_code_in_its_place;
    mqtt_3_8_4_7_a_code_is_the_qos_that_was_granted_or_a_refusal => subscribe::each_filter_has_its_code_in_its_place;
    mqtt_3_8_4_8_the_qos_is_the_lower_of_published_and_granted => deliver::the_qos_is_the_lower_of_published_and_granted;
    mqtt_3_9_3_1_the_codes_are_in_the_order_of_the_filters => subscribe::each_filter_has_its_code_in_its_place;
    mqtt_3_9_3_2_the_codes_are_those_of_the_version => subscribe::the_codes_are_those_of_the_version;
    wildcards_are_supported => subscribe::wildcards_are_supported;
    a_filter_without_its_options_ends_the_connection => subscribe::a_filter_without_its_options_ends_the_connection;
}

#[tokio::test]
async fn mqtt_3_8_3_3_no_local_keeps_a_clients_own_messages_away_from_it() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.subscribe("t", 1 | NO_LOCAL).await;
    let mut other = gateway.join(V5, "other").await;
    other.subscribe("t", 1 | NO_LOCAL).await;
    client.publish(QOS1, "t", "of c").await;
    assert_eq!(other.take().await.payload, "of c");
    other.publish(QOS1, "t", "of other").await;
    assert_eq!(client.take().await.payload, "of other");
    // A second subscription that matches has no such wish.
    client.subscribe("#", 0).await;
    client.publish(0, "t", "to myself").await;
    assert_eq!(client.take().await.payload, "to myself");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_8_3_3_no_local_holds_for_what_is_retained_too() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.publish(QOS1 | RETAIN, "t/mine", "x").await;
    let mut other = gateway.join(V5, "other").await;
    other.publish(QOS1 | RETAIN, "t/theirs", "x").await;
    client.subscribe("t/#", 1 | NO_LOCAL).await;
    assert_eq!(client.take().await.topic, "t/theirs");
    client.has_all(&mut other).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection() {
    let gateway = Gateway::open();
    let bytes = subscribe_bytes(V5, 1, &[], &[("t", 0), ("$share/g/t", 1 | NO_LOCAL)]);
    gateway.join(V5, "c").await.breaks(&bytes, 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_8_3_5_reserved_bits_of_the_options_end_the_connection() {
    let gateway = Gateway::open();
    for options in [0x40, 0x80, 0xC0, 0x81] {
        let bytes = subscribe_bytes(V5, 1, &[], &[("t", options)]);
        gateway.join(V5, "c").await.breaks(&bytes, 0x81).await;
    }
    for options in [3, 0x30, 0x33] {
        let bytes = subscribe_bytes(V5, 1, &[], &[("t", options)]);
        gateway.join(V5, "c").await.breaks(&bytes, 0x82).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn user_properties_and_the_largest_identifier_are_taken() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    let properties = [user("k", "v"), subscription_id(268_435_455), user("k", "v")];
    assert_eq!(client.subscribe_with(&properties, &[("t", 1)]).await, [1]);
    gateway.close().await;
}
