//! 4.3.3: QoS 2 towards subscribers.

use crate::spec::both::qos2_out;

statements! { V3:
    mqtt_4_3_3_1_qos_2_goes_out_exactly_once => qos2_out::qos_2_goes_out_exactly_once;
    mqtt_4_4_0_1_releases_are_sent_again => qos2_out::without_pubcomp_the_release_is_sent_again;
    mqtt_4_6_0_6_messages_and_releases_are_sent_again_in_their_order => qos2_out::messages_and_releases_are_sent_again_in_their_order;
    mqtt_4_8_0_1_an_answer_that_does_not_fit_ends_the_connection => qos2_out::an_answer_that_does_not_fit_ends_the_connection;
    mqtt_3_3_5_1_overlapping_filters_give_qos_2_where_one_has_it => qos2_out::overlapping_filters_give_qos_2_where_one_has_it;
    mqtt_3_8_4_6_qos_2_is_granted_and_sent => qos2_out::qos_2_is_granted_and_sent;
    an_unknown_id_is_released_all_the_same => qos2_out::an_unknown_id_is_released_all_the_same;
}
