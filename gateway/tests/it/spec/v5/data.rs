//! 1.5 data types, 2.1 flags, 2.2 packet ids, 4.13 errors.

use std::slice;

use crate::spec::both::data;
use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, Publish, QOS1, Version, binary, packet, prop, subscribe};

statements! { V5:
    mqtt_1_5_4_1_ill_formed_text_ends_the_connection => data::ill_formed_text_ends_the_connection;
    mqtt_1_5_4_2_a_null_in_a_text_ends_the_connection => data::null_in_a_text_ends_the_connection;
    mqtt_1_5_4_3_a_byte_order_mark_is_part_of_the_text => data::a_byte_order_mark_is_part_of_the_text;
    mqtt_2_1_3_1_reserved_flags_that_are_set_end_the_connection => data::reserved_flags_that_are_set_end_the_connection;
    mqtt_2_1_3_1_the_gateway_sets_reserved_flags_as_listed => data::the_gateway_sets_reserved_flags_as_listed;
    mqtt_2_2_1_2_a_message_of_qos_0_has_no_packet_id => data::a_message_of_qos_0_has_no_packet_id;
    mqtt_2_2_1_3_packet_id_zero_ends_the_connection => data::packet_id_zero_ends_the_connection;
    mqtt_2_2_1_4_messages_have_ids_of_their_own_while_they_are_in_flight => data::messages_have_ids_of_their_own_while_they_are_in_flight;
    mqtt_2_2_1_5_acknowledgements_carry_the_id_of_their_message => data::acknowledgements_carry_the_id_of_their_message;
    mqtt_2_2_1_6_suback_and_unsuback_carry_the_id_of_their_request => data::suback_and_unsuback_carry_the_id_of_their_request;
    mqtt_4_2_1_packets_come_whole_however_the_bytes_are_cut => data::packets_come_whole_however_the_bytes_are_cut;
}

/// A remaining length, a length of properties and a subscription identifier, each one byte longer
/// than it has to be.
#[tokio::test]
async fn mqtt_1_5_5_1_an_integer_of_more_bytes_than_it_needs_ends_the_connection() {
    let gateway = Gateway::open();
    for bytes in [
        vec![0xC0, 0x80, 0x00],
        vec![0x30, 0x84, 0x00, 0, 1, b't', 0],
        vec![0x30, 0x85, 0x80, 0x80, 0x00, 0, 1, b't', 0, b'x'],
        packet(0x30, &[0, 1, b't', 0x80, 0x00]),
        packet(0x82, &[0, 1, 3, prop::SUBSCRIPTION_ID, 0x81, 0x00, 0, 1, b't', 0]),
    ] {
        gateway.join(Version::V5, "c").await.breaks(&bytes, 0x81).await;
    }
    let whole = Connect::new(Version::V5, "c").bytes();
    let mut longer = vec![whole[0], whole[1] | 0x80, 0x00];
    longer.extend(&whole[2..]);
    let mut client = gateway.dial(Version::V5, &longer).await;
    client.expect(&[0x20, 3, 0, 0x81, 0]).await;
    client.closed().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_1_5_7_1_both_texts_of_a_user_property_are_well_formed() {
    let gateway = Gateway::open();
    for (key, value) in [(&b"\xFF"[..], &b"v"[..]), (b"k", b"\xED\xA0\x80"), (b"\0", b"v")] {
        let pair = [vec![prop::USER], binary(key), binary(value)].concat();
        let publish = Publish::new(QOS1, "t", 1, "x").with(slice::from_ref(&pair));
        let client = gateway.join(Version::V5, "c").await;
        client.breaks(&publish.bytes(Version::V5), 0x81).await;
        let connect = Connect::new(Version::V5, "c").with(slice::from_ref(&pair));
        gateway.refuses(&connect, 0x81).await;
        let bytes = subscribe(Version::V5, 1, &[pair], &[("t", 0)]);
        gateway.join(Version::V5, "c").await.breaks(&bytes, 0x81).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_2_2_2_1_no_properties_are_a_length_of_zero() {
    let gateway = Gateway::open();
    let mut client = gateway.join(Version::V5, "c").await;
    client.send(&subscribe(Version::V5, 1, &[], &[("t", 0)])).await;
    client.expect(&[0x90, 4, 0, 1, 0, 0]).await;
    client.send(&Publish::new(QOS1, "t", 2, "x").bytes(Version::V5)).await;
    let mut both = [client.next().await, client.next().await];
    both.sort_unstable_by_key(|answer| answer.first);
    assert_eq!(both[0].body, [0, 1, b't', 0, b'x']);
    assert_eq!(both[1].body, [0, 2], "an acknowledgement may leave the length out");
    // And a client has to send the length where it has no properties.
    client.breaks(&packet(0x30, &[0, 1, b't']), 0x81).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_13_1_1_what_breaks_the_protocol_ends_the_connection_with_its_reason() {
    let gateway = Gateway::open();
    for (bytes, reason) in [
        (packet(0x00, &[]), 0x81),
        (packet(0x20, &[0, 0, 0]), 0x81),
        (packet(0x90, &[0, 1, 0, 0]), 0x81),
        (packet(0xB0, &[0, 1, 0, 0]), 0x81),
        (packet(0xD0, &[]), 0x81),
        (packet(0xC0, &[0]), 0x81),
        (packet(0x40, &[0, 1, 0, 0, 0]), 0x81),
        (packet(0x40, &[0]), 0x81),
        (packet(0x62, &[1]), 0x81),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], 0x81),
        (packet(0x82, &[0, 1, 9, 0]), 0x81),
        (packet(0xF0, &[]), 0x82),
        (subscribe(Version::V5, 1, &[], &[("t", 3)]), 0x82),
    ] {
        gateway.join(Version::V5, "c").await.breaks(&bytes, reason).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_13_2_1_a_code_of_0x80_or_more_closes_the_connection() {
    let gateway = Gateway::open();
    let connect = Connect::new(Version::V5, "c").with(&[[prop::RECEIVE_MAX, 0, 0].to_vec()]);
    gateway.refuses(&connect, 0x82).await;
    gateway.join(Version::V5, "c").await.breaks(&packet(0xF0, &[]), 0x82).await;
    // A client that says why it goes is not answered.
    gateway.join(Version::V5, "c").await.breaks_off(&[0xE0, 1, 0x81]).await;
    gateway.close().await;
}
