//! Maximum Packet Size: 3.1.2.11.4, and reason strings and user properties that would not fit.

use crate::spec::answer::ConnAck;
use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    Connect, PUBREC, PUBREL, Publish, QOS1, QOS2, Version, ack, four, packet, prop,
};

const V5: Version = Version::V5;
const RULES: &str = "[anonymous]\npublish = [\"t\", \"the/end\"]\nsubscribe = [\"#\"]\n";

statements! { V5:
    mqtt_3_2_2_19_a_refusal_has_no_reason_string_that_does_not_fit => a_small_client_is_refused;
    mqtt_3_2_2_20_a_refusal_has_no_user_property_that_does_not_fit => a_small_client_is_refused;
    mqtt_3_4_2_2_puback_has_no_reason_string_that_does_not_fit => puback_is_short;
    mqtt_3_4_2_3_puback_has_no_user_property_that_does_not_fit => puback_is_short;
    mqtt_3_5_2_2_pubrec_has_no_reason_string_that_does_not_fit => pubrec_is_short;
    mqtt_3_5_2_3_pubrec_has_no_user_property_that_does_not_fit => pubrec_is_short;
    mqtt_3_6_2_2_pubrel_has_no_reason_string_that_does_not_fit => pubrel_is_short;
    mqtt_3_6_2_3_pubrel_has_no_user_property_that_does_not_fit => pubrel_is_short;
    mqtt_3_7_2_2_pubcomp_has_no_reason_string_that_does_not_fit => pubcomp_is_short;
    mqtt_3_7_2_3_pubcomp_has_no_user_property_that_does_not_fit => pubcomp_is_short;
    mqtt_3_9_2_1_suback_has_no_reason_string_that_does_not_fit => suback_is_short;
    mqtt_3_9_2_2_suback_has_no_user_property_that_does_not_fit => suback_is_short;
    mqtt_3_11_2_1_unsuback_has_no_reason_string_that_does_not_fit => unsuback_is_short;
    mqtt_3_11_2_2_unsuback_has_no_user_property_that_does_not_fit => unsuback_is_short;
    mqtt_3_14_2_3_disconnect_has_no_reason_string_that_does_not_fit => disconnect_is_short;
    mqtt_3_14_2_4_disconnect_has_no_user_property_that_does_not_fit => disconnect_is_short;
}

/// A client that takes packets of so many bytes.
async fn small(gateway: &Gateway, bytes: u32) -> Client {
    gateway.enter(&Connect::new(V5, "small").with(&[four(prop::PACKET_MAX, bytes)])).await
}

async fn a_small_client_is_refused(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "c").flip(1).with(&[four(prop::PACKET_MAX, 5)]);
    let (mut client, connack) = gateway.connect(&connect).await;
    assert_eq!((connack.code, connack.size), (0x81, 5));
    client.closed().await;
    gateway.close().await;
}

/// The answer to `bytes`, of a client that takes little.
async fn answer_is(bytes: &[u8], expected: &[u8]) {
    let gateway = Gateway::with(RULES);
    let mut client = small(&gateway, 40).await;
    client.send(bytes).await;
    client.expect(expected).await;
    gateway.close().await;
}

async fn puback_is_short(version: Version) {
    let denied = Publish::new(QOS1, "denied", 1, "x").bytes(version);
    answer_is(&denied, &packet(0x40, &[0, 1, 0x87])).await;
}

async fn pubrec_is_short(version: Version) {
    let denied = Publish::new(QOS2, "denied", 1, "x").bytes(version);
    answer_is(&denied, &packet(0x50, &[0, 1, 0x87])).await;
}

async fn pubrel_is_short(_: Version) {
    answer_is(&ack(PUBREC, 9), &packet(0x62, &[0, 9, 0x92])).await;
}

async fn pubcomp_is_short(_: Version) {
    answer_is(&ack(PUBREL, 9), &packet(0x70, &[0, 9, 0x92])).await;
}

async fn suback_is_short(version: Version) {
    let bytes = crate::spec::packet::subscribe(version, 1, &[], &[("a#", 0)]);
    answer_is(&bytes, &packet(0x90, &[0, 1, 0, 0x8F])).await;
}

async fn unsuback_is_short(version: Version) {
    let bytes = crate::spec::packet::unsubscribe(version, 1, &["never"]);
    answer_is(&bytes, &packet(0xB0, &[0, 1, 0, 0x11])).await;
}

async fn disconnect_is_short(_: Version) {
    answer_is(&packet(0xC1, &[]), &packet(0xE0, &[0x81, 0])).await;
}

#[tokio::test]
async fn mqtt_3_1_2_24_no_packet_is_larger_than_the_client_takes() {
    let gateway = Gateway::open();
    let mut subscriber = small(&gateway, 60).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(V5, "p").await;
    for count in [10, 50, 51, 52, 53, 54, 100, 1000, 20] {
        publisher.publish(QOS1, "t", &"x".repeat(count)).await;
    }
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.push(subscriber.take().await.size);
    }
    assert_eq!(sizes, [18, 58, 59, 60], "the largest fits to the byte");
    assert_eq!(subscriber.take().await.size, 28);
    gateway.close().await;
}

/// What cannot be answered within the limit is not begun.
#[tokio::test]
async fn mqtt_3_1_2_24_a_client_that_cannot_take_its_connack_is_refused() {
    let gateway = Gateway::open();
    let connect = |bytes| Connect::new(V5, "c").with(&[four(prop::PACKET_MAX, bytes)]);
    let (client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    let size = u32::try_from(connack.size).expect("small");
    client.leave().await;
    gateway.enter(&connect(size)).await.leave().await;
    gateway.refuses(&connect(size - 1), 0x95).await;
    gateway.refuses(&connect(5), 0x95).await;
    gateway.hangs_up(V5, &connect(4).bytes()).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_2_25_what_is_too_large_counts_as_sent() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "s").lasting();
    let limited = connect.clone().with(&[four(prop::PACKET_MAX, 60)]);
    let mut subscriber = gateway.enter(&limited).await;
    subscriber.subscribe("t", 1).await;
    let mut publisher = gateway.join(V5, "p").await;
    for number in 0..200 {
        publisher.publish(QOS1, "t", &format!("{number}{}", "x".repeat(60))).await;
    }
    publisher.publish(QOS1, "t", "small").await;
    assert_eq!(subscriber.take().await.payload, "small", "no window fills up with the others");
    subscriber.leave().await;
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_packet_beyond_the_limit_of_the_gateway_ends_the_connection() {
    let gateway = Gateway::with("max_packet_size = \"4 KiB\"\n");
    let mut client = gateway.dial(V5, &Connect::new(V5, "c").bytes()).await;
    let answer = client.next().await;
    let connack = ConnAck::read(V5, &answer);
    assert_eq!(connack.get(prop::PACKET_MAX), Some(&[0, 0, 16, 0][..]));
    let overhead = Publish::new(QOS1, "t", 1, &"x".repeat(1000)).bytes(V5).len() - 1000;
    let exact = Publish::new(QOS1, "t", 1, &"x".repeat(4096 - overhead)).bytes(V5);
    client.send(&exact).await;
    client.expect(&ack(4, 1)).await;
    let larger = Publish::new(QOS1, "t", 1, &"x".repeat(4097 - overhead)).bytes(V5);
    client.breaks(&larger, 0x95).await;
    gateway.close().await;
}

/// An answer cannot be left out as a message can: the connection ends.
#[tokio::test]
async fn mqtt_3_1_2_24_a_suback_that_is_too_large_ends_the_connection() {
    let gateway = Gateway::open();
    let filters: Vec<(String, u8)> = (0..40).map(|number| (format!("t/{number}"), 0)).collect();
    let bytes = crate::spec::packet::subscribe(V5, 1, &[], &filters);
    small(&gateway, 40).await.breaks(&bytes, 0x95).await;
    let filters: Vec<&str> = filters.iter().map(|(filter, _)| &**filter).collect();
    let bytes = crate::spec::packet::unsubscribe(V5, 1, &filters);
    small(&gateway, 40).await.breaks(&bytes, 0x95).await;
    gateway.close().await;
}
