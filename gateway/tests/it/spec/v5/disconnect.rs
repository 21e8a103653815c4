//! 3.14 DISCONNECT.

use crate::spec::both::data;
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, DISCONNECT, Publish, QOS1, Version, disconnect, packet, prop, string, subscribe, two,
    user,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_14_1_1_disconnect_with_other_flags_ends_the_connection => data::disconnect_with_other_flags_ends_the_connection;
}

/// Ways to end a connection, and the code that the gateway has for each.
fn faults() -> Vec<(Vec<u8>, u8)> {
    let aliased = Publish::new(QOS1, "t", 1, "x").with(&[two(prop::ALIAS, 999)]);
    vec![
        (packet(0xC1, &[]), 0x81),
        (packet(0xF0, &[]), 0x82),
        (subscribe(V5, 1, &[], &[] as &[(&str, u8)]), 0x82),
        (Publish::new(QOS1, "a/#", 1, "x").bytes(V5), 0x90),
        (aliased.bytes(V5), 0x94),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
    ]
}

#[tokio::test]
async fn mqtt_3_14_0_1_there_is_no_disconnect_before_connack() {
    let gateway = Gateway::open();
    for bytes in [packet(0xC1, &[]), packet(0x11, &[]), Connect::new(V5, "c").flip(1).bytes()] {
        let mut client = gateway.dial(V5, &bytes).await;
        if bytes[0] == 0x10 {
            assert_eq!(client.next().await.kind(), 2);
        }
        client.closed().await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_14_2_1_disconnect_has_a_code_of_its_table() {
    let gateway = Gateway::open();
    for (bytes, code) in faults() {
        gateway.join(V5, "c").await.breaks(&bytes, code).await;
    }
    let mut last = gateway.join(V5, "c").await;
    gateway.close().await;
    last.ended(0x8B).await;
}

#[tokio::test]
async fn mqtt_3_14_2_2_disconnect_says_nothing_of_session_expiry() {
    let gateway = Gateway::open();
    for (bytes, code) in faults() {
        let mut client = gateway.enter(&Connect::new(V5, "c").lasting()).await;
        client.send(&bytes).await;
        client.expect(&packet(DISCONNECT << 4, &[code, 0])).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_14_4_1_nothing_follows_disconnect() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.send(&[packet(0xC1, &[]), packet(0xC0, &[]), packet(0xC0, &[])].concat()).await;
    client.ended(0x81).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_14_4_2_the_socket_closes_behind_disconnect() {
    let gateway = Gateway::open();
    for (bytes, code) in faults() {
        gateway.join(V5, "c").await.breaks(&bytes, code).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_goodbye_is_read_in_every_length_it_may_have() {
    let gateway = Gateway::open();
    for bytes in [
        packet(0xE0, &[]),
        packet(0xE0, &[0]),
        packet(0xE0, &[0, 0]),
        disconnect(0, &[string(prop::REASON, "bye"), user("k", "v"), user("k", "v")]),
    ] {
        gateway.join(V5, "c").await.breaks_off(&bytes).await;
    }
    for body in [&[0, 0, 0][..], &[0, 1], &[0, 2, prop::REASON, 0]] {
        gateway.join(V5, "c").await.breaks(&packet(0xE0, body), 0x81).await;
    }
    gateway.close().await;
}

/// Table 3-10 has codes that a server alone sends, and 256 bytes have more than it.
#[tokio::test]
async fn a_goodbye_with_a_code_that_is_no_clients_ends_the_connection() {
    let gateway = Gateway::open();
    for code in [0x01, 0x05, 0x87, 0x8B, 0x8D, 0x8E, 0x9C, 0xA2, 0xFF] {
        gateway.join(V5, "c").await.breaks(&packet(0xE0, &[code]), 0x82).await;
    }
    for code in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
    {
        gateway.join(V5, "c").await.breaks_off(&packet(0xE0, &[code])).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_client_names_no_other_server() {
    let gateway = Gateway::open();
    let bytes = disconnect(0, &[string(prop::SERVER_REFERENCE, "other:1883")]);
    gateway.join(V5, "c").await.breaks(&bytes, 0x82).await;
    gateway.close().await;
}
