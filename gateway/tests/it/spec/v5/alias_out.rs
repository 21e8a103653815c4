//! 3.3.2.3.4: topic aliases towards subscribers.

use std::collections::BTreeMap;

use crate::spec::answer::Message;
use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{Connect, QOS1, Version, prop, two};

const V5: Version = Version::V5;

/// A subscriber to everything that takes so many aliases.
async fn subscriber(gateway: &Gateway, connect: Connect, alias_max: Option<u16>) -> Client {
    let properties: Vec<Vec<u8>> =
        alias_max.map(|max| two(prop::ALIAS_MAX, max)).into_iter().collect();
    let mut subscriber = gateway.enter(&connect.with(&properties)).await;
    subscriber.subscribe("#", 1).await;
    subscriber
}

fn alias(message: &Message) -> Option<u16> {
    message.get(prop::ALIAS).map(|value| u16::from_be_bytes([value[0], value[1]]))
}

/// The topic of a message, by what this connection has said before.
fn resolve(known: &mut BTreeMap<u16, String>, message: &Message) -> String {
    match alias(message) {
        None => assert!(!message.topic.is_empty(), "neither topic nor alias: {message:?}"),
        Some(alias) if !message.topic.is_empty() => {
            known.insert(alias, message.topic.clone());
        }
        Some(alias) => return known[&alias].clone(),
    }
    message.topic.clone()
}

#[tokio::test]
async fn mqtt_3_1_2_26_no_alias_is_above_what_the_client_takes() {
    let gateway = Gateway::open();
    let mut subscriber = subscriber(&gateway, Connect::new(V5, "s"), Some(3)).await;
    let mut publisher = gateway.join(V5, "p").await;
    let mut known = BTreeMap::new();
    for number in 0..60 {
        let topic = format!("t/{}", number % 6);
        publisher.publish(QOS1, &topic, "x").await;
        let message = subscriber.take().await;
        assert!(alias(&message).is_none_or(|alias| (1..=3).contains(&alias)), "{message:?}");
        assert_eq!(resolve(&mut known, &message), topic);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_2_27_a_client_that_takes_no_aliases_gets_none() {
    let gateway = Gateway::open();
    for max in [None, Some(0)] {
        let mut subscriber = subscriber(&gateway, Connect::new(V5, "s"), max).await;
        let mut publisher = gateway.join(V5, "p").await;
        for _ in 0..5 {
            publisher.publish(QOS1, "t", "x").await;
            let message = subscriber.take().await;
            assert_eq!((&*message.topic, alias(&message)), ("t", None));
        }
        subscriber.leave().await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_2_11_an_alias_that_is_sent_is_one_the_client_takes() {
    let gateway = Gateway::open();
    let mut subscriber = subscriber(&gateway, Connect::new(V5, "s"), Some(1)).await;
    let mut publisher = gateway.join(V5, "p").await;
    for topic in ["a", "b", "a", "b", "c"] {
        publisher.publish(QOS1, topic, "x").await;
        let message = subscriber.take().await;
        assert!(alias(&message).is_none_or(|alias| alias == 1), "{message:?}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_topic_that_comes_again_is_sent_as_its_alias() {
    let gateway = Gateway::open();
    let mut subscriber = subscriber(&gateway, Connect::new(V5, "s"), Some(2)).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, "a/topic/of/some/length", "x").await;
    let message = subscriber.take().await;
    let first = alias(&message).expect("the first message sets it");
    assert_eq!(message.topic, "a/topic/of/some/length");
    for _ in 0..3 {
        publisher.publish(QOS1, "a/topic/of/some/length", "x").await;
        let message = subscriber.take().await;
        assert_eq!((&*message.topic, alias(&message)), ("", Some(first)));
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_new_connection_starts_without_aliases() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "s").lasting();
    let mut publisher = gateway.join(V5, "p").await;
    for _ in 0..2 {
        let mut subscriber = subscriber(&gateway, connect.clone(), Some(5)).await;
        publisher.publish(QOS1, "t", "x").await;
        publisher.publish(QOS1, "t", "x").await;
        assert_eq!(subscriber.take().await.topic, "t", "the alias of the last one is forgotten");
        subscriber.message().await;
        drop(subscriber);
        // What was in flight goes out again, to a client that knows no alias yet.
        let again = connect.clone().with(&[two(prop::ALIAS_MAX, 5)]);
        let mut subscriber = gateway.enter(&again).await;
        let message = subscriber.take().await;
        assert_eq!((&*message.topic, message.dup), ("t", true));
        subscriber.leave().await;
    }
    gateway.close().await;
}
