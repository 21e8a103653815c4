//! 3.2 CONNACK.

use std::time::{Duration, Instant};

use crate::spec::both::connect;
use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, QOS1, QOS2, RETAIN, Version, Will, byte, four, prop, string};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_2_0_1_nothing_comes_before_connack => connect::nothing_comes_before_connack;
    mqtt_3_2_2_2_a_clean_session_is_never_present => connect::a_clean_session_is_never_present;
    mqtt_3_2_2_3_a_session_that_was_kept_is_present => connect::a_session_that_was_kept_is_present;
    mqtt_3_2_2_3_a_session_that_never_was_is_not_present => connect::a_session_that_never_was_is_not_present;
    mqtt_3_2_2_6_a_refusal_says_no_session_is_present => connect::a_refusal_says_no_session_is_present;
    mqtt_3_2_2_7_a_refused_connection_is_closed => connect::a_refused_connection_is_closed;
}

/// The codes of table 3-1.
const CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

#[tokio::test]
async fn mqtt_3_2_0_2_there_is_one_connack_for_a_connection() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.ping().await;
    client.breaks(&Connect::new(V5, "c").bytes(), 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_1_no_flag_but_session_present_is_set() {
    let gateway = Gateway::open();
    for flags in [0, 1] {
        let (client, connack) = gateway.connect(&Connect::new(V5, "c").lasting()).await;
        assert_eq!(connack.flags, flags);
        drop(client);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_8_refusals_have_codes_of_the_table() {
    let gateway = Gateway::open();
    let client = || Connect::new(V5, "c");
    for connect in [
        client(),
        client().with(&[string(prop::AUTH_METHOD, "x")]),
        client().with(&[byte(prop::PROBLEM_INFO, 7)]),
        client().with(&[four(prop::WILL_DELAY, 7)]),
        client().flip(1),
        client().will(Will::new("a/#", "x", 0)),
        client().protocol("MQTT", 9),
        Connect::new(V5, "a".repeat(1000)),
    ] {
        let (_client, connack) = gateway.connect(&connect).await;
        assert!(CODES.contains(&connack.code), "{connack:?}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_9_no_maximum_qos_is_sent_as_every_qos_is_taken() {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    assert_eq!(connack.get(prop::MAX_QOS), None);
    for flags in [0, QOS1, QOS2] {
        client.publish(flags, "t", "x").await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_10_every_qos_may_be_subscribed_to() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    for qos in 0..3 {
        assert!(client.subscribe("t", qos).await <= qos);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_12_a_will_of_every_qos_is_taken() {
    let gateway = Gateway::open();
    for flags in [0, QOS1, QOS2] {
        let connect = Connect::new(V5, "c").will(Will::new("w", "x", flags));
        gateway.enter(&connect).await.leave().await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_13_a_retained_will_is_taken() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "c").will(Will::new("w", "x", RETAIN));
    let (_client, connack) = gateway.connect(&connect).await;
    assert_eq!((connack.code, connack.get(prop::RETAIN_AVAILABLE)), (0, None));
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_16_a_client_without_an_id_is_told_a_new_one() {
    let gateway = Gateway::open();
    let mut ids = Vec::new();
    for clean in [true, false, true] {
        let (client, connack) = gateway.connect(&Connect::new(V5, "").clean(clean)).await;
        let id = connack.get(prop::ASSIGNED_ID).expect("an id").to_vec();
        assert!(!id.is_empty() && !ids.contains(&id));
        ids.push(id);
        drop(client);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_2_2_22_without_a_server_keep_alive_the_clients_own_holds() {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "c").keep_alive(1)).await;
    assert_eq!(connack.get(prop::SERVER_KEEP_ALIVE), None);
    let start = Instant::now();
    client.ended(0x8D).await;
    assert!(start.elapsed() > Duration::from_millis(1400));
    let (_client, connack) = gateway.connect(&Connect::new(V5, "c").keep_alive(120)).await;
    assert_eq!(connack.two(prop::SERVER_KEEP_ALIVE), Some(60), "else it is told");
    gateway.close().await;
}
