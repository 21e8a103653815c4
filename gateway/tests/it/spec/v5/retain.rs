//! 3.3.1.3 RETAIN, Retain Handling and Retain As Published.

use crate::spec::both::publish;
use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{AS_PUBLISHED, QOS1, RETAIN, RETAINED_IF_NEW, RETAINED_NEVER, Version};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_3_1_5_a_retained_message_replaces_the_one_before => publish::a_retained_message_replaces_the_one_before;
    mqtt_3_3_1_6_an_empty_retained_message_clears_its_topic => publish::an_empty_retained_message_clears_its_topic;
    mqtt_3_3_1_7_an_empty_message_is_not_retained => publish::an_empty_message_is_not_retained;
    mqtt_3_3_1_8_a_message_without_retain_leaves_what_is_retained => publish::a_message_without_retain_leaves_what_is_retained;
    what_a_new_subscription_brought_is_sent_again_with_the_flag => publish::what_a_new_subscription_brought_is_sent_again_with_the_flag;
    each_new_subscription_gets_the_last_of_each_topic => publish::each_new_subscription_gets_the_last_of_each_topic;
}

/// Two retained messages, their publisher, and a subscriber to be.
async fn retained(gateway: &Gateway) -> (Client, Client) {
    let mut publisher = gateway.join(V5, "p").await;
    for topic in ["r/a", "r/b"] {
        publisher.publish(QOS1 | RETAIN, topic, topic).await;
    }
    (gateway.join(V5, "s").await, publisher)
}

async fn gets_both(subscriber: &mut Client, publisher: &mut Client) {
    let mut topics = [subscriber.take().await, subscriber.take().await].map(|m| m.topic);
    topics.sort();
    assert_eq!(topics, ["r/a", "r/b"]);
    subscriber.has_all(publisher).await;
}

#[tokio::test]
async fn mqtt_3_3_1_9_handling_0_sends_what_is_retained_each_time() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = retained(&gateway).await;
    for _ in 0..2 {
        subscriber.subscribe("r/+", 0).await;
        gets_both(&mut subscriber, &mut publisher).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_1_10_handling_1_sends_what_is_retained_to_new_subscriptions() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = retained(&gateway).await;
    subscriber.subscribe("r/+", RETAINED_IF_NEW).await;
    gets_both(&mut subscriber, &mut publisher).await;
    subscriber.subscribe("r/+", RETAINED_IF_NEW).await;
    subscriber.has_all(&mut publisher).await;
    subscriber.unsubscribe(&["r/+"]).await;
    subscriber.subscribe("r/+", RETAINED_IF_NEW).await;
    gets_both(&mut subscriber, &mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_1_11_handling_2_sends_nothing_that_is_retained() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = retained(&gateway).await;
    for _ in 0..2 {
        subscriber.subscribe("r/+", RETAINED_NEVER).await;
        subscriber.has_all(&mut publisher).await;
    }
    publisher.publish(QOS1 | RETAIN, "r/a", "live").await;
    assert_eq!(subscriber.take().await.payload, "live");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_1_12_without_retain_as_published_a_live_message_has_no_retain_flag() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = retained(&gateway).await;
    subscriber.subscribe("live", 0).await;
    for flags in [QOS1 | RETAIN, QOS1] {
        publisher.publish(flags, "live", "x").await;
        assert!(!subscriber.take().await.retain);
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_3_1_13_with_retain_as_published_the_flag_is_the_publishers() {
    let gateway = Gateway::open();
    let (mut subscriber, mut publisher) = retained(&gateway).await;
    subscriber.subscribe("live", AS_PUBLISHED).await;
    for (flags, retain) in [(QOS1 | RETAIN, true), (QOS1, false), (RETAIN, true), (0, false)] {
        publisher.publish(flags, "live", "x").await;
        assert_eq!(subscriber.take().await.retain, retain);
    }
    gateway.close().await;
}
