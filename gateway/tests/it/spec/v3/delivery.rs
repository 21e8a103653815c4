//! 4.3 QoS 0 and 1 out, QoS 1 and 2 in; 4.5 and 4.6: who gets what, in which order.

use crate::spec::both::{deliver, receive};

statements! { V3:
    mqtt_4_3_1_1_a_message_of_qos_0_is_sent_once_and_not_as_a_duplicate => deliver::a_message_of_qos_0_is_sent_once_and_not_as_a_duplicate;
    mqtt_4_3_2_1_a_new_message_of_qos_1_has_a_free_id_and_is_no_duplicate => deliver::a_new_message_of_qos_1_has_a_free_id_and_is_no_duplicate;
    mqtt_4_3_2_1_qos_1_stays_in_flight_until_it_is_acknowledged => deliver::qos_1_stays_in_flight_until_it_is_acknowledged;
    mqtt_4_3_2_2_an_acknowledged_id_is_a_new_message_next_time => receive::qos_1_is_owned_once_it_is_acknowledged;
    mqtt_4_3_3_2_qos_2_comes_in_exactly_once => receive::qos_2_comes_in_exactly_once;
    mqtt_4_5_0_1_every_subscriber_that_matches_gets_a_message => deliver::every_subscriber_that_matches_gets_a_message;
    mqtt_4_6_0_5_messages_of_a_topic_arrive_in_the_order_they_came => deliver::messages_of_a_topic_arrive_in_the_order_they_came;
    mqtt_4_6_0_6_messages_are_sent_again_in_their_order => deliver::messages_are_sent_again_in_their_order;
}
