//! 4.8.2 shared subscriptions.

use std::time::Duration;

use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, QOS1, QOS2, RETAIN, Version, ack, ack_with, four,
    prop, subscription_id,
};

const V5: Version = Version::V5;
const SHARED: &str = "$share/group/t/#";

fn lasting(name: &str, seconds: u32) -> Connect {
    Connect::new(V5, name).clean(false).with(&[four(prop::SESSION_EXPIRY, seconds)])
}

/// Two members with lasting sessions that share `t/#`, and a publisher.
async fn group(gateway: &Gateway, qos: u8) -> ([Client; 2], Client) {
    let mut members =
        [gateway.enter(&lasting("a", 100)).await, gateway.enter(&lasting("b", 100)).await];
    for member in &mut members {
        assert_eq!(member.subscribe(SHARED, qos).await, qos);
    }
    (members, gateway.join(V5, "p").await)
}

/// The first packet of either: which of the two, and the message.
async fn first(members: &mut [Client; 2]) -> (usize, crate::spec::answer::Message) {
    let [a, b] = members;
    tokio::select! {
        message = a.message() => (0, message),
        message = b.message() => (1, message),
    }
}

#[tokio::test]
async fn connack_does_not_say_that_there_are_none() {
    let gateway = Gateway::open();
    let (_client, connack) = gateway.connect(&Connect::new(V5, "c")).await;
    assert_ne!(connack.get(prop::SHARED_AVAILABLE), Some(&[0][..]));
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_1_a_share_has_a_name() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    for filter in ["$share/", "$share//t", "$share//"] {
        assert_eq!(client.subscribe(filter, 0).await, 0x8F, "{filter}");
    }
    for filter in ["$share/g/t", "$share/g//", "$share/g/#", "$share/$x/t", "$share/g/$x"] {
        assert_eq!(client.subscribe(filter, 0).await, 0, "{filter}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_2_the_name_has_no_wildcard_and_a_filter_follows_it() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    for filter in [
        "$share/g",
        "$share/g/",
        "$share/+/t",
        "$share/#/t",
        "$share/a+b/t",
        "$share/g#/t",
        "$share/#",
        "$share/g/t#",
        "$share/g/#/t",
    ] {
        assert_eq!(client.subscribe(filter, 0).await, 0x8F, "{filter}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn each_message_goes_to_one_member_of_each_group() {
    let gateway = Gateway::open();
    let (mut members, mut publisher) = group(&gateway, 1).await;
    let mut alone = gateway.join(V5, "alone").await;
    alone.subscribe("$share/other/t/#", 1).await;
    let mut all = gateway.join(V5, "all").await;
    all.subscribe("t/#", 1).await;
    let mut seen = Vec::new();
    for number in 0..20 {
        publisher.publish(QOS1, "t/x", &number.to_string()).await;
        let (index, message) = first(&mut members).await;
        members[index].send(&ack(PUBACK, message.id)).await;
        assert_eq!((message.payload, message.qos), (number.to_string(), 1));
        seen.push(index);
        assert_eq!(alone.take().await.payload, number.to_string());
        assert_eq!(all.take().await.payload, number.to_string());
    }
    for member in &mut members {
        member.has_all(&mut publisher).await;
    }
    assert!(seen.contains(&0) && seen.contains(&1), "both have their part: {seen:?}");
    gateway.close().await;
}

#[tokio::test]
async fn a_shared_and_a_plain_subscription_of_one_client_are_two() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.subscribe_with(&[subscription_id(1)], &[("$share/g/t", 1)]).await;
    client.subscribe_with(&[subscription_id(2)], &[("t", 1)]).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, "t", "x").await;
    let mut identifiers =
        vec![client.take().await.identifiers(), client.take().await.identifiers()];
    identifiers.sort();
    assert_eq!(identifiers, [[1], [2]]);
    client.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_3_a_message_has_the_qos_of_the_member_that_gets_it() {
    let gateway = Gateway::open();
    let mut members = [gateway.join(V5, "a").await, gateway.join(V5, "b").await];
    members[0].subscribe(SHARED, 0).await;
    members[1].subscribe(SHARED, 1).await;
    let mut publisher = gateway.join(V5, "p").await;
    for _ in 0..10 {
        publisher.publish(QOS2, "t/x", "x").await;
        let (index, message) = first(&mut members).await;
        assert_eq!(usize::from(message.qos), index);
        if message.qos > 0 {
            members[index].send(&ack(PUBACK, message.id)).await;
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_4_a_message_of_qos_2_stays_with_the_member_that_got_it() {
    let gateway = Gateway::open();
    let ([a, b], mut publisher) = group(&gateway, 2).await;
    let mut members = [a, b];
    publisher.publish(QOS2, "t/x", "x").await;
    let (index, message) = first(&mut members).await;
    let [a, b] = members;
    let (chosen, mut other) = if index == 0 { (a, b) } else { (b, a) };
    drop(chosen);
    other.silent().await;
    let mut chosen = gateway.enter(&lasting(["a", "b"][index], 100)).await;
    let again = chosen.message().await;
    assert_eq!((again.id, again.dup, &*again.payload), (message.id, true, "x"));
    chosen.send(&ack(PUBREC, again.id)).await;
    chosen.expect(&ack(PUBREL, again.id)).await;
    chosen.send(&ack(PUBCOMP, again.id)).await;
    chosen.has_all(&mut publisher).await;
    other.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_5_a_message_of_qos_2_ends_with_the_session_that_got_it() {
    let gateway = Gateway::open();
    let (mut members, mut publisher) = group(&gateway, 2).await;
    publisher.publish(QOS2, "t/x", "x").await;
    let (index, _) = first(&mut members).await;
    let [a, b] = members;
    let (chosen, mut other) = if index == 0 { (a, b) } else { (b, a) };
    drop(chosen);
    // A clean start ends the session that was left.
    gateway.join(V5, ["a", "b"][index]).await.leave().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    other.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_8_2_6_a_message_that_a_member_refuses_goes_to_no_other() {
    let gateway = Gateway::open();
    let (mut members, mut publisher) = group(&gateway, 2).await;
    for (flags, kind) in [(QOS1, PUBACK), (QOS2, PUBREC)] {
        publisher.publish(flags, "t/x", "x").await;
        let (index, message) = first(&mut members).await;
        members[index].send(&ack_with(kind, message.id, 0x80)).await;
        members[index].ping().await;
    }
    for member in &mut members {
        member.has_all(&mut publisher).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_share_brings_no_retained_messages() {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1 | RETAIN, "t/x", "retained").await;
    let mut client = gateway.join(V5, "c").await;
    client.subscribe(SHARED, 1).await;
    client.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_member_that_unsubscribes_or_leaves_gets_no_more() {
    let gateway = Gateway::open();
    let ([mut a, mut b], mut publisher) = group(&gateway, 1).await;
    assert_eq!(b.unsubscribe(&["t/#", SHARED]).await, [0x11, 0]);
    for number in 0..5 {
        publisher.publish(QOS1, "t/x", &number.to_string()).await;
        assert_eq!(a.take().await.payload, number.to_string());
    }
    b.has_all(&mut publisher).await;
    assert_eq!(b.subscribe(SHARED, 1).await, 1);
    // A session that ends has no more part in it.
    a.leave().await;
    gateway.join(V5, "a").await.leave().await;
    for number in 0..5 {
        publisher.publish(QOS1, "t/x", &number.to_string()).await;
        assert_eq!(b.take().await.payload, number.to_string());
    }
    gateway.close().await;
}

#[tokio::test]
async fn leading_wildcards_of_a_share_do_not_reach_dollar_topics() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "c").await;
    client.subscribe("$share/g/#", 0).await;
    client.subscribe("$share/h/$x/#", 0).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, "$x/a", "x").await;
    assert_eq!(client.message().await.topic, "$x/a", "by the second alone");
    publisher.publish(QOS1, "b", "x").await;
    assert_eq!(client.message().await.topic, "b");
    gateway.close().await;
}
