//! 4.7 topic names and filters.

use crate::spec::both::{data, publish, topics};

statements! { V5:
    mqtt_4_7_0_1_wildcards_are_for_filters_alone => publish::a_topic_with_a_wildcard_ends_the_connection;
    mqtt_4_7_1_1_a_multi_level_wildcard_stands_alone_and_last => topics::a_multi_level_wildcard_stands_alone_and_last;
    mqtt_4_7_1_2_a_single_level_wildcard_is_a_level_of_its_own => topics::a_single_level_wildcard_is_a_level_of_its_own;
    mqtt_4_7_2_1_dollar_topics_are_out_of_the_reach_of_leading_wildcards => topics::dollar_topics_are_out_of_the_reach_of_leading_wildcards;
    mqtt_4_7_3_1_an_empty_topic_or_filter_is_refused => topics::an_empty_topic_or_filter_is_refused;
    mqtt_4_7_3_2_a_null_in_topic_or_filter_ends_the_connection => data::null_in_a_text_ends_the_connection;
    mqtt_4_7_3_3_topics_and_filters_are_as_long_as_two_bytes_can_say => topics::topics_and_filters_are_as_long_as_two_bytes_can_say;
    mqtt_4_7_3_4_topics_are_matched_as_they_are_written => topics::topics_are_matched_as_they_are_written;
}
