//! 3.1 CONNECT, 3.12 PINGREQ.

use crate::spec::both::{connect, data, session};
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, DISCONNECT, Publish, QOS1, QOS2, Version, Will, ack, byte, packet, prop,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_1_0_1_what_comes_before_connect_is_hung_up_on => connect::what_comes_before_connect_is_hung_up_on;
    mqtt_3_1_0_2_a_second_connect_ends_the_connection => connect::a_second_connect_ends_the_connection;
    mqtt_3_1_2_1_another_protocol_name_is_hung_up_on => connect::another_protocol_name_is_hung_up_on;
    mqtt_3_1_2_3_the_reserved_connect_flag_ends_the_connection => connect::the_reserved_connect_flag_ends_the_connection;
    mqtt_3_1_2_16_a_user_name_without_its_flag_is_not_let_in => connect::a_user_name_without_its_flag_is_not_let_in;
    mqtt_3_1_2_17_a_user_name_that_is_missing_is_not_let_in => connect::a_user_name_that_is_missing_is_not_let_in;
    mqtt_3_1_2_18_a_password_without_its_flag_is_not_let_in => connect::a_password_without_its_flag_is_not_let_in;
    mqtt_3_1_2_19_a_password_that_is_missing_is_not_let_in => connect::a_password_that_is_missing_is_not_let_in;
    mqtt_3_1_2_22_a_silent_client_is_given_up_after_one_and_a_half_keep_alives => connect::a_silent_client_is_given_up_after_one_and_a_half_keep_alives;
    mqtt_3_1_3_1_the_fields_are_read_in_their_order => connect::the_fields_are_read_in_their_order;
    mqtt_3_1_3_2_the_client_id_says_which_session_it_is => connect::the_client_id_says_which_session_it_is;
    mqtt_3_1_3_3_a_client_id_that_is_missing_is_not_let_in => connect::a_client_id_that_is_missing_is_not_let_in;
    mqtt_3_1_3_4_an_ill_formed_client_id_is_not_let_in => data::an_ill_formed_client_id_is_not_let_in;
    mqtt_3_1_3_5_short_client_ids_of_letters_and_digits_are_let_in => connect::short_client_ids_of_letters_and_digits_are_let_in;
    mqtt_3_1_3_12_an_ill_formed_user_name_is_not_let_in => data::an_ill_formed_user_name_is_not_let_in;
    mqtt_3_1_4_1_a_connect_that_is_cut_short_is_not_let_in => connect::a_connect_that_is_cut_short_is_not_let_in;
    mqtt_3_1_4_4_a_clean_session_starts_with_nothing => session::a_clean_session_starts_with_nothing_and_leaves_nothing;
    mqtt_3_1_4_5_connect_is_answered_with_success => connect::connect_is_answered_with_success;
    mqtt_3_1_4_6_what_follows_a_refused_connect_is_not_looked_at => connect::what_follows_a_refused_connect_is_not_looked_at;
    mqtt_3_12_4_1_a_ping_is_answered => connect::a_ping_is_answered;
}

#[tokio::test]
async fn mqtt_3_1_2_2_a_version_that_is_not_spoken_is_refused() {
    let gateway = Gateway::open();
    for level in [6, 7, 0x85, 0xFF] {
        let connect = Connect::new(V5, "c").protocol("MQTT", level);
        gateway.refuses(&connect, 0x84).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_2_28_response_information_that_is_not_asked_for_is_not_sent() {
    let gateway = Gateway::open();
    for properties in [vec![], vec![byte(prop::RESPONSE_INFO, 0)]] {
        let (_client, connack) = gateway.connect(&Connect::new(V5, "c").with(&properties)).await;
        assert_eq!(connack.get(prop::RESPONSE_INFORMATION), None);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_2_29_a_client_that_wants_no_problem_information_gets_codes_alone() {
    let rules = "[anonymous]\npublish = [\"a\"]\nsubscribe = [\"a\"]\n";
    let gateway = Gateway::with(rules);
    let connect = Connect::new(V5, "c").with(&[byte(prop::PROBLEM_INFO, 0)]);
    let mut client = gateway.enter(&connect).await;
    let denied = |flags, id| Publish::new(flags, "b", id, "x").bytes(V5);
    for (bytes, expected) in [
        (denied(QOS1, 1), packet(0x40, &[0, 1, 0x87])),
        (denied(QOS2, 2), packet(0x50, &[0, 2, 0x87])),
        (ack(6, 3), packet(0x70, &[0, 3, 0x92])),
        (ack(5, 4), packet(0x62, &[0, 4, 0x92])),
    ] {
        client.send(&bytes).await;
        client.expect(&expected).await;
    }
    assert!(client.subscribe("b", 0).await >= 0x80);
    assert_eq!(client.unsubscribe(&["b"]).await, [0x11]);
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_6_clients_without_an_id_each_get_their_own() {
    let gateway = Gateway::open();
    let (mut first, one) = gateway.connect(&Connect::new(V5, "")).await;
    let (mut second, other) = gateway.connect(&Connect::new(V5, "")).await;
    assert_ne!(one.get(prop::ASSIGNED_ID), other.get(prop::ASSIGNED_ID));
    first.ping().await;
    second.ping().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_7_the_id_that_was_assigned_is_the_clients_from_then_on() {
    let gateway = Gateway::open();
    let (client, connack) = gateway.connect(&Connect::new(V5, "").lasting()).await;
    assert!(!connack.present());
    let id = connack.get(prop::ASSIGNED_ID).expect("an id").to_vec();
    drop(client);
    let (_client, connack) = gateway.connect(&Connect::new(V5, id).lasting()).await;
    assert!(connack.present(), "the session is that of the assigned id");
    assert_eq!(connack.get(prop::ASSIGNED_ID), None, "it has one now");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_8_a_client_id_that_is_too_long_is_refused() {
    let gateway = Gateway::open();
    gateway.refuses(&Connect::new(V5, "a".repeat(513)), 0x85).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_4_2_a_client_that_may_not_is_told_and_closed() {
    let rules = "[anonymous]\npublish = [\"a\"]\nsubscribe = []\n";
    let gateway = Gateway::with(rules);
    let connect = Connect::new(V5, "c").user("nobody").password("x");
    gateway.refuses(&connect, 0x86).await;
    gateway.refuses(&Connect::new(V5, "c").will(Will::new("b", "x", 0)), 0x87).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_4_3_a_second_connection_of_a_client_ends_the_first_and_says_so() {
    let gateway = Gateway::open();
    let mut first = gateway.join(V5, "c").await;
    let mut second = gateway.join(V5, "c").await;
    let answer = first.next().await;
    assert_eq!((answer.kind(), answer.body[0]), (DISCONNECT, 0x8E));
    first.closed().await;
    second.ping().await;
    gateway.close().await;
}

#[tokio::test]
async fn a_password_needs_no_user_name_and_is_bytes() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "c").password([0xFF, 0, 0xC0]);
    gateway.enter(&connect).await.leave().await;
    gateway.close().await;
}

#[tokio::test]
async fn a_connect_with_more_behind_its_fields_is_not_let_in() {
    let gateway = Gateway::open();
    gateway.refuses(&Connect::new(V5, "c").tail(&[0]), 0x81).await;
    gateway.close().await;
}
