//! 3.1.2.4 and 4.1: sessions.

use crate::spec::both::session;

statements! { V3:
    mqtt_3_1_2_4_a_kept_session_goes_on_where_it_was => session::a_kept_session_goes_on_where_it_was;
    mqtt_3_1_2_5_messages_wait_for_a_kept_session => session::messages_wait_for_a_kept_session;
    mqtt_3_1_2_6_a_clean_session_starts_with_nothing_and_leaves_nothing => session::a_clean_session_starts_with_nothing_and_leaves_nothing;
    mqtt_3_1_2_7_retained_messages_outlive_the_session_that_sent_them => session::retained_messages_outlive_the_session_that_sent_them;
    mqtt_4_1_0_1_a_session_keeps_its_state_as_long_as_it_lasts => session::a_kept_session_goes_on_where_it_was;
    mqtt_4_1_0_2_a_session_is_kept_while_it_is_connected => session::a_session_is_kept_while_it_is_connected;
    mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_with_its_id => session::what_was_not_acknowledged_is_sent_again_with_its_id;
}
