//! 3.15 AUTH, 4.12 enhanced authentication, which the gateway does not have.

use crate::spec::client::Gateway;
use crate::spec::packet::{Connect, Publish, QOS1, Version, packet, prop, properties, string};

const V5: Version = Version::V5;

fn with_method() -> Connect {
    Connect::new(V5, "c").with(&[string(prop::AUTH_METHOD, "SCRAM-SHA-256")])
}

#[tokio::test]
async fn mqtt_3_15_1_1_auth_with_flags_ends_the_connection() {
    let gateway = Gateway::open();
    for flags in 1..16 {
        let client = gateway.join(V5, "c").await;
        client.breaks(&packet(0xF0 | flags, &[]), 0x81).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_12_0_1_a_method_that_is_not_supported_is_refused() {
    let gateway = Gateway::open();
    gateway.refuses(&with_method(), 0x8C).await;
    let with_data = with_method().with(&[string(prop::AUTH_DATA, "n,,n=user")]);
    gateway.refuses(&with_data, 0x8C).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_12_0_4_a_refused_authentication_closes_the_connection() {
    let gateway = Gateway::open();
    let mut client = gateway.dial(V5, &with_method().bytes()).await;
    client.expect(&[0x20, 3, 0, 0x8C, 0]).await;
    client.closed().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_12_0_6_without_a_method_there_is_no_auth() {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    assert_eq!(connack.get(prop::AUTH_METHOD), None);
    assert_eq!(connack.get(prop::AUTH_DATA), None);
    client.ping().await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_12_0_7_auth_of_a_client_without_a_method_ends_the_connection() {
    let gateway = Gateway::open();
    let method = properties(V5, &string(prop::AUTH_METHOD, "x"));
    for body in [vec![], vec![0x18, 0], [&[0x19], &method[..]].concat()] {
        gateway.join(V5, "c").await.breaks(&packet(0xF0, &body), 0x82).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_12_1_2_an_attempt_to_authenticate_again_closes_the_connection() {
    let gateway = Gateway::open();
    let mut watcher = gateway.join(V5, "watcher").await;
    watcher.subscribe("t", 0).await;
    let mut bytes = packet(0xF0, &[0x19, 0]);
    bytes.extend(Publish::new(QOS1, "t", 1, "x").bytes(V5));
    gateway.join(V5, "c").await.breaks(&bytes, 0x82).await;
    let mut publisher = gateway.join(V5, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}
