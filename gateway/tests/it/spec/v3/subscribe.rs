//! 3.8 SUBSCRIBE, 3.9 SUBACK, 3.10 UNSUBSCRIBE.

use crate::spec::both::{data, deliver, subscribe, unsubscribe};
use crate::spec::client::Gateway;
use crate::spec::packet::{Version, subscribe as subscribe_bytes};

statements! { V3:
    mqtt_3_8_1_1_subscribe_with_other_flags_ends_the_connection => data::subscribe_with_other_flags_ends_the_connection;
    mqtt_3_8_3_1_an_ill_formed_filter_ends_the_connection => data::an_ill_formed_filter_ends_the_connection;
    mqtt_3_8_3_2_wildcards_are_supported => subscribe::wildcards_are_supported;
    mqtt_3_8_3_3_a_subscribe_without_a_filter_ends_the_connection => subscribe::a_subscribe_without_a_filter_ends_the_connection;
    mqtt_3_8_4_1_subscribe_is_answered => subscribe::subscribe_is_answered;
    mqtt_3_8_4_2_suback_carries_the_id_of_subscribe => data::suback_and_unsuback_carry_the_id_of_their_request;
    mqtt_3_8_4_3_the_same_filter_replaces_its_subscription => subscribe::the_same_filter_replaces_its_subscription;
    mqtt_3_8_4_4_several_filters_are_answered_by_one_suback => subscribe::several_filters_are_answered_by_one_suback;
    mqtt_3_8_4_5_each_filter_has_a_code => subscribe::each_filter_has_its_code_in_its_place;
    mqtt_3_8_4_6_the_qos_is_the_lower_of_published_and_granted => deliver::the_qos_is_the_lower_of_published_and_granted;
    mqtt_3_9_3_1_the_codes_are_in_the_order_of_the_filters => subscribe::each_filter_has_its_code_in_its_place;
    mqtt_3_9_3_2_the_codes_are_those_of_the_version => subscribe::the_codes_are_those_of_the_version;
    mqtt_3_10_1_1_unsubscribe_with_other_flags_ends_the_connection => data::unsubscribe_with_other_flags_ends_the_connection;
    mqtt_3_10_3_1_an_ill_formed_filter_to_unsubscribe_ends_the_connection => data::an_ill_formed_filter_to_unsubscribe_ends_the_connection;
    mqtt_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection => unsubscribe::an_unsubscribe_without_a_filter_ends_the_connection;
    mqtt_3_10_4_1_only_the_very_same_filter_is_unsubscribed => unsubscribe::only_the_very_same_filter_is_unsubscribed;
    mqtt_3_10_4_2_no_new_messages_come_for_what_was_unsubscribed => unsubscribe::no_new_messages_come_for_what_was_unsubscribed;
    mqtt_3_10_4_3_what_is_in_flight_is_completed => unsubscribe::what_is_in_flight_is_completed;
    mqtt_3_10_4_4_unsubscribe_is_answered => unsubscribe::unsubscribe_is_answered;
    mqtt_3_10_4_5_unsubscribe_is_answered_though_nothing_was_subscribed => unsubscribe::unsubscribe_is_answered_though_nothing_was_subscribed;
    mqtt_3_10_4_6_several_filters_are_answered_by_one_unsuback => unsubscribe::several_filters_are_answered_by_one_unsuback;
    nothing_is_lost_while_a_subscription_is_replaced => subscribe::nothing_is_lost_while_a_subscription_is_replaced;
    a_filter_without_its_qos_ends_the_connection => subscribe::a_filter_without_its_options_ends_the_connection;
}

#[tokio::test]
async fn mqtt_3_8_3_4_reserved_bits_and_qos_3_end_the_connection() {
    let gateway = Gateway::open();
    for options in [3, 4, 0x11, 0x20, 0x40, 0x80, 0xFF] {
        let bytes = subscribe_bytes(Version::V3, 1, &[], &[("t", options)]);
        gateway.join(Version::V3, "c").await.breaks(&bytes, 0).await;
    }
    gateway.close().await;
}
