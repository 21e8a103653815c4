//! 1.5 texts, 2.2 flags, 2.3 packet ids, 4.8 errors.

use crate::spec::both::data;
use crate::spec::client::Gateway;
use crate::spec::packet::{Publish, QOS1, Version, packet};

statements! { V3:
    mqtt_1_5_3_1_ill_formed_text_ends_the_connection => data::ill_formed_text_ends_the_connection;
    mqtt_1_5_3_2_a_null_in_a_text_ends_the_connection => data::null_in_a_text_ends_the_connection;
    mqtt_1_5_3_3_a_byte_order_mark_is_part_of_the_text => data::a_byte_order_mark_is_part_of_the_text;
    mqtt_2_2_2_1_the_gateway_sets_reserved_flags_as_listed => data::the_gateway_sets_reserved_flags_as_listed;
    mqtt_2_2_2_2_reserved_flags_that_are_set_end_the_connection => data::reserved_flags_that_are_set_end_the_connection;
    mqtt_2_3_1_1_packet_id_zero_ends_the_connection => data::packet_id_zero_ends_the_connection;
    mqtt_2_3_1_4_messages_have_ids_of_their_own_while_they_are_in_flight => data::messages_have_ids_of_their_own_while_they_are_in_flight;
    mqtt_2_3_1_5_a_message_of_qos_0_has_no_packet_id => data::a_message_of_qos_0_has_no_packet_id;
    mqtt_2_3_1_6_acknowledgements_carry_the_id_of_their_message => data::acknowledgements_carry_the_id_of_their_message;
    mqtt_2_3_1_7_suback_and_unsuback_carry_the_id_of_their_request => data::suback_and_unsuback_carry_the_id_of_their_request;
    mqtt_7_1_1_1_packets_come_whole_however_the_bytes_are_cut => data::packets_come_whole_however_the_bytes_are_cut;
}

#[tokio::test]
async fn mqtt_4_8_0_1_what_breaks_the_protocol_ends_the_connection_without_a_word() {
    let gateway = Gateway::open();
    for bytes in [
        packet(0x00, &[]),
        packet(0xF0, &[]),
        packet(0x20, &[0, 0]),
        packet(0x90, &[0, 1, 0]),
        packet(0xB0, &[0, 1]),
        packet(0xD0, &[]),
        packet(0xC0, &[0]),
        packet(0xE0, &[0]),
        packet(0x40, &[0, 1, 0]),
        packet(0x62, &[1]),
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
    ] {
        gateway.join(Version::V3, "c").await.breaks(&bytes, 0).await;
    }
    gateway.close().await;
}

/// The table of remaining lengths sets no shortest form in 3.1.1, and some devices always write
/// four bytes.
#[tokio::test]
async fn a_remaining_length_may_be_longer_than_it_has_to() {
    let gateway = Gateway::open();
    let mut client = gateway.join(Version::V3, "c").await;
    let whole = Publish::new(QOS1, "t", 1, "x").bytes(Version::V3);
    let mut bytes = vec![whole[0], whole[1] | 0x80, 0x80, 0x80, 0x00];
    bytes.extend(&whole[2..]);
    client.send(&bytes).await;
    client.expect(&[0x40, 2, 0, 1]).await;
    gateway.close().await;
}
