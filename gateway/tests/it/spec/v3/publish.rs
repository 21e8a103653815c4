//! 3.3 PUBLISH, 3.6 PUBREL.

use crate::spec::both::{data, publish};
use crate::spec::client::Gateway;
use crate::spec::packet::{Publish, QOS1, QOS2, Version};

statements! { V3:
    mqtt_3_3_1_1_a_message_that_is_sent_again_says_so => publish::a_message_that_is_sent_again_says_so;
    mqtt_3_3_1_2_a_duplicate_of_qos_0_ends_the_connection => publish::a_duplicate_of_qos_0_ends_the_connection;
    mqtt_3_3_1_3_the_flag_of_a_duplicate_is_not_passed_on => publish::the_flag_of_a_duplicate_is_not_passed_on;
    mqtt_3_3_1_4_qos_3_ends_the_connection => publish::qos_3_ends_the_connection;
    mqtt_3_3_1_5_a_retained_message_is_stored_with_its_qos => publish::a_retained_message_replaces_the_one_before;
    mqtt_3_3_1_6_each_new_subscription_gets_the_last_of_each_topic => publish::each_new_subscription_gets_the_last_of_each_topic;
    mqtt_3_3_1_7_qos_0_takes_the_place_of_what_was_retained => publish::qos_0_takes_the_place_of_what_was_retained;
    mqtt_3_3_1_8_what_a_new_subscription_brings_has_the_retain_flag => publish::the_retain_flag_tells_old_messages_from_new_ones;
    mqtt_3_3_1_8_what_a_new_subscription_brought_is_sent_again_with_the_flag => publish::what_a_new_subscription_brought_is_sent_again_with_the_flag;
    mqtt_3_3_1_9_what_an_old_subscription_brings_has_no_retain_flag => publish::the_retain_flag_tells_old_messages_from_new_ones;
    mqtt_3_3_1_10_an_empty_retained_message_clears_its_topic => publish::an_empty_retained_message_clears_its_topic;
    mqtt_3_3_1_11_an_empty_message_is_not_retained => publish::an_empty_message_is_not_retained;
    mqtt_3_3_1_12_a_message_without_retain_leaves_what_is_retained => publish::a_message_without_retain_leaves_what_is_retained;
    mqtt_3_3_2_1_an_ill_formed_topic_ends_the_connection => data::an_ill_formed_topic_ends_the_connection;
    mqtt_3_3_2_2_a_topic_with_a_wildcard_ends_the_connection => publish::a_topic_with_a_wildcard_ends_the_connection;
    mqtt_3_3_2_3_a_subscriber_gets_what_its_filter_matches => publish::a_subscriber_gets_what_its_filter_matches;
    mqtt_3_3_4_1_each_qos_is_answered_as_it_asks => publish::each_qos_is_answered_as_it_asks;
    mqtt_3_3_5_1_overlapping_filters_give_the_highest_of_their_qos => publish::overlapping_filters_give_the_highest_of_their_qos;
    mqtt_3_6_1_1_pubrel_with_other_flags_ends_the_connection => data::pubrel_with_other_flags_ends_the_connection;
    a_topic_that_goes_past_the_end_ends_the_connection => publish::a_topic_that_goes_past_the_end_ends_the_connection;
    an_id_that_is_missing_ends_the_connection => publish::an_id_that_is_missing_ends_the_connection;
}

#[tokio::test]
async fn mqtt_3_3_5_2_a_publish_that_is_not_allowed_ends_the_connection() {
    let rules = "[anonymous]\npublish = [\"a\"]\nsubscribe = [\"#\"]\n";
    let gateway = Gateway::with(rules);
    for flags in [QOS1, QOS2] {
        let publish = Publish::new(flags, "b", 1, "x").bytes(Version::V3);
        gateway.join(Version::V3, "c").await.breaks(&publish, 0).await;
    }
    gateway.close().await;
}
