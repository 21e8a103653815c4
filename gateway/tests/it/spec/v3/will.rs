//! 3.1.2.5 to 3.1.2.7: wills; 3.14 DISCONNECT.

use crate::spec::both::{data, will};
use crate::spec::packet::Version;

statements! { V3:
    mqtt_3_1_2_8_a_will_is_published_when_the_connection_breaks => will::a_will_is_published_when_the_connection_breaks;
    mqtt_3_1_2_9_a_will_without_topic_or_payload_is_not_let_in => will::a_will_without_topic_or_payload_is_not_let_in;
    mqtt_3_1_2_10_a_will_is_gone_after_a_goodbye_and_after_it_was_published => will::a_will_is_gone_after_a_goodbye_and_after_it_was_published;
    mqtt_3_1_2_11_will_fields_without_a_will_are_not_let_in => will::will_fields_without_a_will_are_not_let_in;
    mqtt_3_1_2_12_without_a_will_none_is_published => will::without_a_will_none_is_published;
    mqtt_3_1_2_13_a_will_qos_without_a_will_is_not_let_in => will::a_will_qos_without_a_will_is_not_let_in;
    mqtt_3_1_2_14_a_will_of_qos_3_is_not_let_in => will::a_will_of_qos_3_is_not_let_in;
    mqtt_3_1_2_15_a_will_retain_without_a_will_is_not_let_in => will::a_will_retain_without_a_will_is_not_let_in;
    mqtt_3_1_2_16_a_will_without_retain_is_not_retained => will::a_will_without_retain_is_not_retained;
    mqtt_3_1_2_17_a_will_with_retain_is_retained => will::a_will_with_retain_is_retained;
    mqtt_3_1_3_10_an_ill_formed_will_topic_is_not_let_in => data::an_ill_formed_will_topic_is_not_let_in;
    mqtt_3_14_1_1_disconnect_with_other_flags_ends_the_connection => data::disconnect_with_other_flags_ends_the_connection;
    mqtt_3_14_4_3_a_goodbye_drops_the_will => will::a_goodbye_drops_the_will;
    a_client_that_is_taken_over_leaves_its_will => will::a_client_that_is_taken_over_leaves_its_will;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_3_14_4_3_a_goodbye_drops_the_will_of_a_client_that_is_back_at_once() {
    will::a_goodbye_drops_the_will_of_a_client_that_is_back_at_once(Version::V3).await;
}
