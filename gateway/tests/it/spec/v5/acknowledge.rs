//! 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use crate::spec::both::data;
use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, QOS1, QOS2, Version, ack, ack_with, byte, packet,
    prop, properties, string, user,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_6_1_1_pubrel_with_other_flags_ends_the_connection => data::pubrel_with_other_flags_ends_the_connection;
}

/// Codes of PUBACK and PUBREC.
const RECEIVED: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

async fn restricted() -> (Gateway, Client) {
    let rules = "[anonymous]\npublish = [\"t\"]\nsubscribe = [\"#\"]\n";
    let gateway = Gateway::with(rules);
    let client = gateway.join(V5, "c").await;
    (gateway, client)
}

/// The code that answers a message.
async fn code(client: &mut Client, flags: u8, topic: &str) -> u8 {
    let id = client.fresh_id();
    client.send(&Publish::new(flags, topic, id, "x").bytes(V5)).await;
    let answer = client.next().await;
    let kind = if flags == QOS2 { PUBREC } else { PUBACK };
    assert_eq!((answer.kind(), answer.id()), (kind, id));
    answer.reason()
}

#[tokio::test]
async fn mqtt_3_4_2_1_puback_has_a_code_of_its_table() {
    let (gateway, mut client) = restricted().await;
    let codes = [code(&mut client, QOS1, "t").await, code(&mut client, QOS1, "denied").await];
    assert_eq!(codes, [0x00, 0x87]);
    assert!(codes.iter().all(|code| RECEIVED.contains(code)));
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_5_2_1_pubrec_has_a_code_of_its_table() {
    let (gateway, mut client) = restricted().await;
    let codes = [code(&mut client, QOS2, "t").await, code(&mut client, QOS2, "denied").await];
    assert_eq!(codes, [0x00, 0x87]);
    assert!(codes.iter().all(|code| RECEIVED.contains(code)));
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_6_2_1_pubrel_has_a_code_of_its_table() {
    let (gateway, mut client) = restricted().await;
    client.send(&ack(PUBREC, 9)).await;
    client.expect(&ack_with(PUBREL, 9, 0x92)).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_7_2_1_pubcomp_has_a_code_of_its_table() {
    let (gateway, mut client) = restricted().await;
    client.publish(QOS2, "t", "x").await;
    client.send(&ack(PUBREL, 9)).await;
    client.expect(&ack_with(PUBCOMP, 9, 0x92)).await;
    gateway.close().await;
}

/// Id alone, with a reason, with properties: each is one and the same acknowledgement.
#[tokio::test]
async fn acknowledgements_are_read_in_every_length_they_may_have() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    let given = [string(prop::REASON, "all is well"), user("k", "v"), user("k", "w")].concat();
    for tail in [vec![], vec![0], vec![0, 0], [&[0], &properties(V5, &given)[..]].concat()] {
        client.send(&Publish::new(QOS2, "t", 5, "x").bytes(V5)).await;
        client.expect(&ack(PUBREC, 5)).await;
        client.send(&packet(0x62, &[&[0, 5], &tail[..]].concat())).await;
        client.expect(&ack(PUBCOMP, 5)).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn an_acknowledgement_of_nothing_does_no_harm() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.send(&ack(PUBACK, 5)).await;
    client.send(&ack(PUBCOMP, 5)).await;
    client.send(&ack_with(PUBREC, 5, 0x80)).await;
    client.ping().await;
    let wrong = [&[0, 5, 0], &properties(V5, &byte(prop::MAX_QOS, 1))[..]].concat();
    client.breaks(&packet(0x40, &wrong), 0x81).await;
    gateway.close().await;
}
