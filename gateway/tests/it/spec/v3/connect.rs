//! 3.1 CONNECT, 3.2 CONNACK, 3.12 PINGREQ.

use crate::spec::both::{connect, data, session};
use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, Version, Will, packet};

statements! { V3:
    mqtt_3_1_0_1_what_comes_before_connect_is_hung_up_on => connect::what_comes_before_connect_is_hung_up_on;
    mqtt_3_1_0_2_a_second_connect_ends_the_connection => connect::a_second_connect_ends_the_connection;
    mqtt_3_1_2_1_another_protocol_name_is_hung_up_on => connect::another_protocol_name_is_hung_up_on;
    mqtt_3_1_2_3_the_reserved_connect_flag_ends_the_connection => connect::the_reserved_connect_flag_ends_the_connection;
    mqtt_3_1_2_18_a_user_name_without_its_flag_is_not_let_in => connect::a_user_name_without_its_flag_is_not_let_in;
    mqtt_3_1_2_19_a_user_name_that_is_missing_is_not_let_in => connect::a_user_name_that_is_missing_is_not_let_in;
    mqtt_3_1_2_20_a_password_without_its_flag_is_not_let_in => connect::a_password_without_its_flag_is_not_let_in;
    mqtt_3_1_2_21_a_password_that_is_missing_is_not_let_in => connect::a_password_that_is_missing_is_not_let_in;
    mqtt_3_1_2_24_a_silent_client_is_given_up_after_one_and_a_half_keep_alives => connect::a_silent_client_is_given_up_after_one_and_a_half_keep_alives;
    mqtt_3_1_3_1_the_fields_are_read_in_their_order => connect::the_fields_are_read_in_their_order;
    mqtt_3_1_3_2_the_client_id_says_which_session_it_is => connect::the_client_id_says_which_session_it_is;
    mqtt_3_1_3_3_a_client_id_that_is_missing_is_not_let_in => connect::a_client_id_that_is_missing_is_not_let_in;
    mqtt_3_1_3_4_an_ill_formed_client_id_is_not_let_in => data::an_ill_formed_client_id_is_not_let_in;
    mqtt_3_1_3_5_short_client_ids_of_letters_and_digits_are_let_in => connect::short_client_ids_of_letters_and_digits_are_let_in;
    mqtt_3_1_3_11_an_ill_formed_user_name_is_not_let_in => data::an_ill_formed_user_name_is_not_let_in;
    mqtt_3_1_4_1_a_connect_that_is_cut_short_is_not_answered => connect::a_connect_that_is_cut_short_is_not_let_in;
    mqtt_3_1_4_3_a_clean_session_starts_with_nothing => session::a_clean_session_starts_with_nothing_and_leaves_nothing;
    mqtt_3_1_4_4_connect_is_answered_with_code_zero => connect::connect_is_answered_with_success;
    mqtt_3_1_4_5_what_follows_a_refused_connect_is_not_looked_at => connect::what_follows_a_refused_connect_is_not_looked_at;
    mqtt_3_2_0_1_nothing_comes_before_connack => connect::nothing_comes_before_connack;
    mqtt_3_2_2_1_a_clean_session_is_never_present => connect::a_clean_session_is_never_present;
    mqtt_3_2_2_2_a_session_that_was_kept_is_present => connect::a_session_that_was_kept_is_present;
    mqtt_3_2_2_3_a_session_that_never_was_is_not_present => connect::a_session_that_never_was_is_not_present;
    mqtt_3_2_2_4_a_refusal_says_no_session_is_present => connect::a_refusal_says_no_session_is_present;
    mqtt_3_2_2_5_a_refused_connection_is_closed => connect::a_refused_connection_is_closed;
    mqtt_3_12_4_1_a_ping_is_answered => connect::a_ping_is_answered;
}

#[tokio::test]
async fn mqtt_3_1_2_2_a_level_that_is_not_spoken_is_refused_with_code_1() {
    let gateway = Gateway::open();
    for (name, level) in [("MQTT", 0), ("MQTT", 3), ("MQIsdp", 3)] {
        let connect = Connect::new(Version::V3, "c").protocol(name, level);
        gateway.refuses(&connect, 1).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_2_22_a_password_without_a_user_name_is_not_let_in() {
    let gateway = Gateway::open();
    let connect = Connect::new(Version::V3, "c").password("p");
    gateway.hangs_up(Version::V3, &connect.bytes()).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_6_clients_without_an_id_each_get_their_own() {
    let gateway = Gateway::open();
    let mut first = gateway.join(Version::V3, "").await;
    let mut second = gateway.join(Version::V3, "").await;
    first.ping().await;
    second.ping().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_8_no_id_and_a_lasting_session_are_refused_with_code_2() {
    let gateway = Gateway::open();
    gateway.refuses(&Connect::new(Version::V3, "").clean(false), 2).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_client_id_that_is_too_long_is_refused_with_code_2() {
    let gateway = Gateway::open();
    gateway.refuses(&Connect::new(Version::V3, "a".repeat(513)), 2).await;
    gateway.join(Version::V3, &"a".repeat(512)).await.leave().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_4_2_a_second_connection_of_a_client_ends_the_first() {
    let gateway = Gateway::open();
    let mut first = gateway.join(Version::V3, "c").await;
    let mut second = gateway.join(Version::V3, "c").await;
    first.closed().await;
    second.ping().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_6_where_no_code_fits_connect_is_not_answered() {
    let gateway = Gateway::open();
    let connect = Connect::new(Version::V3, "c").will(Will::new("a/#", "x", 0));
    gateway.hangs_up(Version::V3, &connect.bytes()).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_password_is_bytes_and_no_text() {
    let gateway = Gateway::open();
    let connect = Connect::new(Version::V3, "c").user("u").password([0xFF, 0, 0xC0]);
    gateway.enter(&connect).await.leave().await;
    gateway.close().await;
}

#[tokio::test]
async fn a_connect_with_more_behind_its_fields_is_not_let_in() {
    let gateway = Gateway::open();
    let mut body = Connect::new(Version::V3, "c").body();
    body.push(0);
    gateway.hangs_up(Version::V3, &packet(0x10, &body)).await;
    gateway.close().await;
}
