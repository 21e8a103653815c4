//! 3.10 UNSUBSCRIBE, 3.11 UNSUBACK.

use crate::spec::both::{data, unsubscribe};

statements! { V5:
    mqtt_3_10_1_1_unsubscribe_with_other_flags_ends_the_connection => data::unsubscribe_with_other_flags_ends_the_connection;
    mqtt_3_10_3_1_an_ill_formed_filter_to_unsubscribe_ends_the_connection => data::an_ill_formed_filter_to_unsubscribe_ends_the_connection;
    mqtt_3_10_3_2_an_unsubscribe_without_a_filter_ends_the_connection => unsubscribe::an_unsubscribe_without_a_filter_ends_the_connection;
    mqtt_3_10_4_1_only_the_very_same_filter_is_unsubscribed => unsubscribe::only_the_very_same_filter_is_unsubscribed;
    mqtt_3_10_4_2_no_new_messages_come_for_what_was_unsubscribed => unsubscribe::no_new_messages_come_for_what_was_unsubscribed;
    mqtt_3_10_4_3_what_is_in_flight_is_completed => unsubscribe::what_is_in_flight_is_completed;
    mqtt_3_10_4_4_unsubscribe_is_answered => unsubscribe::unsubscribe_is_answered;
    mqtt_3_10_4_5_unsubscribe_is_answered_though_nothing_was_subscribed => unsubscribe::unsubscribe_is_answered_though_nothing_was_subscribed;
    mqtt_3_10_4_6_several_filters_are_answered_by_one_unsuback => unsubscribe::several_filters_are_answered_by_one_unsuback;
    mqtt_3_11_3_1_the_codes_are_in_the_order_of_the_filters => unsubscribe::several_filters_are_answered_by_one_unsuback;
    mqtt_3_11_3_2_the_codes_are_those_of_the_table => unsubscribe::unsubscribe_is_answered_though_nothing_was_subscribed;
}
