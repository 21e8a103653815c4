//! 3.3 PUBLISH but for RETAIN: flags, topic, properties, what subscribers get.

use std::time::Duration;

use crate::spec::answer::Message;
use crate::spec::both::{data, publish};
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, Publish, QOS1, Version, byte, four, prop, string, subscription_id, two, user,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_3_1_1_a_message_that_is_sent_again_says_so => publish::a_message_that_is_sent_again_says_so;
    mqtt_3_3_1_2_a_duplicate_of_qos_0_ends_the_connection => publish::a_duplicate_of_qos_0_ends_the_connection;
    mqtt_3_3_1_3_the_flag_of_a_duplicate_is_not_passed_on => publish::the_flag_of_a_duplicate_is_not_passed_on;
    mqtt_3_3_1_4_qos_3_ends_the_connection => publish::qos_3_ends_the_connection;
    mqtt_3_3_2_1_an_ill_formed_topic_ends_the_connection => data::an_ill_formed_topic_ends_the_connection;
    mqtt_3_3_2_2_a_topic_with_a_wildcard_ends_the_connection => publish::a_topic_with_a_wildcard_ends_the_connection;
    mqtt_3_3_2_3_a_subscriber_gets_what_its_filter_matches => publish::a_subscriber_gets_what_its_filter_matches;
    mqtt_3_3_4_1_each_qos_is_answered_as_it_asks => publish::each_qos_is_answered_as_it_asks;
    mqtt_3_3_4_2_overlapping_filters_give_the_highest_of_their_qos => publish::overlapping_filters_give_the_highest_of_their_qos;
    mqtt_3_3_4_3_a_message_has_the_identifiers_of_its_subscriptions => one_copy_has_the_identifiers;
    mqtt_3_3_4_4_one_copy_has_the_identifiers_of_all_that_match => one_copy_has_the_identifiers;
    a_topic_that_goes_past_the_end_ends_the_connection => publish::a_topic_that_goes_past_the_end_ends_the_connection;
    an_id_that_is_missing_ends_the_connection => publish::an_id_that_is_missing_ends_the_connection;
}

/// What two subscribers get of a message with these properties: they get the same.
async fn delivered(properties: &[Vec<u8>]) -> Message {
    let gateway = Gateway::open();
    let mut first = gateway.join(V5, "first").await;
    first.subscribe("t", 1).await;
    let mut second = gateway.join(V5, "second").await;
    second.subscribe("#", 0).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish_with(Publish::new(QOS1, "t", 0, "x").with(properties)).await;
    let message = first.take().await;
    assert_eq!(message.properties, second.take().await.properties);
    gateway.close().await;
    message
}

/// An ill-formed text as this property ends the connection.
async fn ill_formed(id: u8) {
    let gateway = Gateway::open();
    for text in [&b"\xFF"[..], b"a\0", b"\xED\xBF\xBF"] {
        let publish = Publish::new(QOS1, "t", 1, "x").with(&[string(id, text)]);
        gateway.join(V5, "c").await.breaks(&publish.bytes(V5), 0x81).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_4_the_payload_format_is_passed_on() {
    for format in [0, 1] {
        let message = delivered(&[byte(prop::PAYLOAD_FORMAT, format)]).await;
        assert_eq!(message.get(prop::PAYLOAD_FORMAT), Some(&[format][..]));
    }
    assert_eq!(delivered(&[]).await.properties, []);
}

#[tokio::test]
async fn mqtt_3_3_2_5_a_message_that_has_expired_is_not_sent() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    subscriber.leave().await;
    let mut publisher = gateway.join(V5, "p").await;
    for (expiry_s, payload) in [(1, "short"), (100, "long")] {
        let expiry = [four(prop::MESSAGE_EXPIRY, expiry_s)];
        publisher.publish_with(Publish::new(QOS1, "t", 0, payload).with(&expiry)).await;
        publisher.publish_with(Publish::new(QOS1 | 1, "r", 0, payload).with(&expiry)).await;
    }
    let expiry = [four(prop::MESSAGE_EXPIRY, 1)];
    publisher.publish_with(Publish::new(QOS1 | 1, "r/short", 0, "x").with(&expiry)).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let mut subscriber = gateway.enter(&connect).await;
    assert_eq!(subscriber.take().await.payload, "long");
    subscriber.has_all(&mut publisher).await;
    subscriber.subscribe("r/#", 0).await;
    assert_eq!(subscriber.take().await.payload, "long", "retained ones expire too");
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_6_the_expiry_that_is_sent_is_what_is_left() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    subscriber.leave().await;
    let mut publisher = gateway.join(V5, "p").await;
    let expiry = [four(prop::MESSAGE_EXPIRY, 100)];
    publisher.publish_with(Publish::new(QOS1, "t", 0, "x").with(&expiry)).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let message = gateway.enter(&connect).await.take().await;
    let left_s = message.four(prop::MESSAGE_EXPIRY).expect("it has one");
    assert!((96..=99).contains(&left_s), "{left_s}");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_7_aliases_end_with_their_connection() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "c").lasting();
    let alias = [two(prop::ALIAS, 1)];
    let mut client = gateway.enter(&connect).await;
    client.publish_with(Publish::new(QOS1, "t", 0, "x").with(&alias)).await;
    client.publish_with(Publish::new(QOS1, "", 0, "x").with(&alias)).await;
    client.leave().await;
    let client = gateway.enter(&connect).await;
    let publish = Publish::new(QOS1, "", 1, "x").with(&alias);
    client.breaks(&publish.bytes(V5), 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_8_alias_0_ends_the_connection() {
    let gateway = Gateway::open();
    let publish = Publish::new(QOS1, "t", 1, "x").with(&[two(prop::ALIAS, 0)]);
    gateway.join(V5, "c").await.breaks(&publish.bytes(V5), 0x94).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_9_an_alias_above_the_maximum_ends_the_connection() {
    let gateway = Gateway::open();
    let (client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    let max = connack.two(prop::ALIAS_MAX).unwrap_or(0);
    let publish = Publish::new(QOS1, "t", 1, "x").with(&[two(prop::ALIAS, max + 1)]);
    client.breaks(&publish.bytes(V5), 0x94).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_12_every_alias_up_to_the_maximum_is_taken_and_may_change() {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(V5, "s").await;
    subscriber.subscribe("#", 0).await;
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    let max = connack.two(prop::ALIAS_MAX).expect("aliases are taken");
    assert!(max > 0);
    for round in ["a", "b"] {
        for topic in [true, false] {
            for alias in 1..=max {
                let expected = format!("{round}/{alias}");
                let topic = if topic { expected.as_str() } else { "" };
                let alias = [two(prop::ALIAS, alias)];
                client.publish_with(Publish::new(QOS1, topic, 0, "x").with(&alias)).await;
                let message = subscriber.take().await;
                assert_eq!((&*message.topic, message.get(prop::ALIAS)), (&*expected, None));
            }
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_13_an_ill_formed_response_topic_ends_the_connection() {
    ill_formed(prop::RESPONSE_TOPIC).await;
}

#[tokio::test]
async fn mqtt_3_3_2_14_a_response_topic_with_a_wildcard_ends_the_connection() {
    let gateway = Gateway::open();
    for topic in ["#", "+", "a/+/b", "a/#"] {
        let topic = [string(prop::RESPONSE_TOPIC, topic)];
        let publish = Publish::new(QOS1, "t", 1, "x").with(&topic);
        gateway.join(V5, "c").await.breaks(&publish.bytes(V5), 0x82).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_15_the_response_topic_is_passed_on() {
    let message = delivered(&[string(prop::RESPONSE_TOPIC, "re/ply \u{FEFF}")]).await;
    assert_eq!(message.get(prop::RESPONSE_TOPIC), Some("re/ply \u{FEFF}".as_bytes()));
}

#[tokio::test]
async fn mqtt_3_3_2_16_correlation_data_is_passed_on() {
    for data in [&[][..], &[0, 1, 0xFF, 0xC0], &[7; 1000]] {
        let message = delivered(&[string(prop::CORRELATION, data)]).await;
        assert_eq!(message.get(prop::CORRELATION), Some(data));
    }
}

#[tokio::test]
async fn mqtt_3_3_2_17_user_properties_are_passed_on() {
    let message = delivered(&[user("k", "v"), user("", ""), user("k", "v")]).await;
    assert_eq!(message.all(prop::USER), [&b"k=v"[..], b"=", b"k=v"]);
}

#[tokio::test]
async fn mqtt_3_3_2_18_user_properties_keep_their_order() {
    let pairs = [user("z", "1"), user("a", "2"), user("z", "0"), user("m", "3")];
    let message = delivered(&pairs).await;
    assert_eq!(message.all(prop::USER), [&b"z=1"[..], b"a=2", b"z=0", b"m=3"]);
}

#[tokio::test]
async fn mqtt_3_3_2_19_an_ill_formed_content_type_ends_the_connection() {
    ill_formed(prop::CONTENT_TYPE).await;
}

#[tokio::test]
async fn mqtt_3_3_2_20_the_content_type_is_passed_on() {
    let message = delivered(&[string(prop::CONTENT_TYPE, "\u{FFFD} text/plain")]).await;
    assert_eq!(message.get(prop::CONTENT_TYPE), Some("\u{FFFD} text/plain".as_bytes()));
}

/// Three filters overlap; two have an identifier.
async fn one_copy_has_the_identifiers(_: Version) {
    let gateway = Gateway::open();
    let mut subscriber = gateway.join(V5, "s").await;
    for (filter, id) in
        [("a/#", Some(7)), ("a/+", Some(268_435_455)), ("a/b", None), ("x", Some(9))]
    {
        let properties: Vec<Vec<u8>> = id.map(subscription_id).into_iter().collect();
        subscriber.subscribe_with(&properties, &[(filter, 1)]).await;
    }
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, "a/b", "x").await;
    assert_eq!(subscriber.take().await.identifiers(), [7, 268_435_455]);
    subscriber.has_all(&mut publisher).await;
    // A subscription that is replaced has the identifier of the new one, or none.
    subscriber.subscribe_with(&[subscription_id(8)], &[("a/#", 1)]).await;
    subscriber.subscribe_with(&[], &[("a/+", 1)]).await;
    publisher.publish(QOS1, "a/b", "x").await;
    assert_eq!(subscriber.take().await.identifiers(), [8]);
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_4_6_a_subscription_identifier_of_a_client_ends_the_connection() {
    let gateway = Gateway::open();
    let publish = Publish::new(QOS1, "t", 1, "x").with(&[subscription_id(1)]);
    gateway.join(V5, "c").await.breaks(&publish.bytes(V5), 0x82).await;
    gateway.close().await;
}
