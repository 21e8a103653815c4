//! What the tests of version 5 look for beside.

use std::time::{Duration, Instant};

use super::{TOPICS, V5, messages, retain_three, sorted_qos};
use crate::spec::answer::Message;
use crate::spec::client::Gateway;
use crate::spec::packet::{
    AS_PUBLISHED, Connect, DISCONNECT, NO_LOCAL, PUBACK, PUBREC, Publish, QOS1, QOS2, RETAIN,
    RETAINED_IF_NEW, RETAINED_NEVER, Will, ack, byte, disconnect, four, prop, string, subscribe,
    subscription_id, two, user,
};

#[tokio::test]
async fn sessions_last_as_long_as_connect_or_disconnect_says() {
    let gateway = Gateway::open();
    let connect = |clean, seconds| {
        Connect::new(V5, "a").clean(clean).with(&[four(prop::SESSION_EXPIRY, seconds)])
    };
    let expiry = |seconds| disconnect(0, &[four(prop::SESSION_EXPIRY, seconds)]);
    let goodbye = || vec![0xE0, 0];
    for (clean, seconds, present, goodbye, sleep_ms) in [
        (true, 0, false, goodbye(), 0),
        (false, 0, false, goodbye(), 0),
        (true, 2, false, goodbye(), 500),
        (false, 2, true, goodbye(), 2200),
        (false, 2, false, goodbye(), 0),
        (true, 1, false, expiry(5), 1500),
        (false, 1, true, expiry(0), 0),
        (false, 1, false, goodbye(), 0),
    ] {
        let (mut client, connack) = gateway.connect(&connect(clean, seconds)).await;
        assert_eq!((connack.code, connack.present()), (0, present), "{seconds}");
        if clean {
            client.subscribe(TOPICS[0], 2).await;
        }
        client.breaks_off(&goodbye).await;
        tokio::time::sleep(Duration::from_millis(sleep_ms)).await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn properties_come_back_with_messages_of_each_qos() {
    let gateway = Gateway::open();
    let mut client = gateway.join(V5, "a").await;
    client.subscribe(TOPICS[0], 2).await;
    let mut publisher = gateway.join(V5, "p").await;
    let given = [
        user("a", "2"),
        user("c", "3"),
        byte(prop::PAYLOAD_FORMAT, 1),
        string(prop::CONTENT_TYPE, "My name"),
    ];
    for flags in [0, QOS1, QOS2] {
        publisher.publish_with(Publish::new(flags, TOPICS[0], 0, "").with(&given)).await;
    }
    let found = messages(&mut client, 3).await;
    assert_eq!(sorted_qos(&found), [0, 1, 2]);
    for message in found {
        assert_eq!(message.all(prop::USER), [b"a=2", b"c=3"]);
        assert_eq!(message.get(prop::PAYLOAD_FORMAT), Some(&[1][..]));
        assert_eq!(message.get(prop::CONTENT_TYPE), Some(&b"My name"[..]));
    }
    gateway.close().await;
}

#[tokio::test]
async fn of_four_messages_two_expire_while_their_subscriber_is_away() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "b").with(&[four(prop::SESSION_EXPIRY, 99_999)]);
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe(TOPICS[0], 2).await;
    let goodbye = disconnect(0, &[four(prop::SESSION_EXPIRY, 999_999_999)]);
    subscriber.breaks_off(&goodbye).await;
    let mut publisher = gateway.join(V5, "a").await;
    for (flags, expiry_s) in [(QOS1, 1), (QOS2, 1), (QOS1, 6), (QOS2, 6)] {
        let expiry = [four(prop::MESSAGE_EXPIRY, expiry_s)];
        publisher.publish_with(Publish::new(flags, TOPICS[0], 0, "x").with(&expiry)).await;
    }
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let mut subscriber = gateway.enter(&Connect::new(V5, "b").clean(false)).await;
    let found = messages(&mut subscriber, 2).await;
    assert_eq!(sorted_qos(&found), [1, 2]);
    for message in found {
        assert!(message.four(prop::MESSAGE_EXPIRY).expect("it has one") < 6);
    }
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn no_local_and_retain_as_published_are_kept_to() {
    let gateway = Gateway::open();
    let mut a = gateway.join(V5, "a").await;
    let mut b = gateway.join(V5, "b").await;
    a.subscribe(TOPICS[0], 2 | NO_LOCAL).await;
    b.subscribe(TOPICS[0], 2 | NO_LOCAL).await;
    a.publish(QOS1, TOPICS[0], "noLocal test").await;
    assert_eq!(b.take().await.payload, "noLocal test");
    a.silent().await;
    a.leave().await;
    let mut a = gateway.join(V5, "a").await;
    a.subscribe(TOPICS[0], 2 | AS_PUBLISHED).await;
    b.publish(QOS1, TOPICS[0], "false").await;
    b.publish(QOS1 | RETAIN, TOPICS[0], "true").await;
    let found = messages(&mut a, 2).await;
    assert_eq!([found[0].retain, found[1].retain], [false, true]);
    gateway.close().await;
}

#[tokio::test]
async fn retain_handling_is_kept_to() {
    let gateway = Gateway::open();
    let mut publisher = gateway.join(V5, "p").await;
    retain_three(&mut publisher, "x").await;
    for (handling, counts) in [(RETAINED_IF_NEW, [3, 0]), (RETAINED_NEVER, [0, 0]), (0, [3, 3])] {
        let mut client = gateway.join(V5, "a").await;
        for count in counts {
            client.subscribe("+/+", 2 | handling).await;
            let found = messages(&mut client, count).await;
            assert_eq!(sorted_qos(&found), [0, 1, 2][..count]);
            client.silent().await;
        }
        client.leave().await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn subscription_identifiers_come_with_the_message() {
    let gateway = Gateway::open();
    let mut a = gateway.join(V5, "a").await;
    a.subscribe_with(&[subscription_id(456_789)], &[(TOPICS[0], 2)]).await;
    let mut b = gateway.join(V5, "b").await;
    b.subscribe_with(&[subscription_id(2)], &[(TOPICS[0], 2)]).await;
    b.subscribe_with(&[subscription_id(3)], &[("TopicA/#", 2)]).await;
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, TOPICS[0], "x").await;
    assert_eq!(a.take().await.identifiers(), [456_789]);
    assert_eq!(b.take().await.identifiers(), [2, 3]);
    b.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn a_request_gets_its_response() {
    let gateway = Gateway::open();
    let mut asker = gateway.join(V5, "a").await;
    let mut answerer = gateway.join(V5, "b").await;
    asker.subscribe(TOPICS[0], 2 | NO_LOCAL).await;
    answerer.subscribe(TOPICS[0], 2 | NO_LOCAL).await;
    let given = [string(prop::RESPONSE_TOPIC, TOPICS[0]), string(prop::CORRELATION, "334")];
    asker.publish_with(Publish::new(QOS1, TOPICS[0], 0, "request").with(&given)).await;
    let request = answerer.take().await;
    assert_eq!(request.get(prop::RESPONSE_TOPIC), Some(TOPICS[0].as_bytes()));
    assert_eq!(request.get(prop::CORRELATION), Some(&b"334"[..]));
    // The response goes out with all properties that the request came with.
    answerer.publish_with(Publish::new(QOS1, TOPICS[0], 0, "response").with(&given)).await;
    assert_eq!(asker.take().await.payload, "response");
    gateway.close().await;
}

#[tokio::test]
async fn aliases_of_a_client_last_as_long_as_its_connection() {
    let gateway = Gateway::open();
    let alias = |number| [two(prop::ALIAS, number)];
    let zero = Publish::new(QOS1, TOPICS[0], 1, "topic alias 0").with(&alias(0));
    gateway.join(V5, "a").await.breaks(&zero.bytes(V5), 0x94).await;
    let connect =
        Connect::new(V5, "a").with(&[two(prop::ALIAS_MAX, 0), four(prop::SESSION_EXPIRY, 99_999)]);
    let (mut client, connack) = gateway.connect(&connect).await;
    assert!(connack.two(prop::ALIAS_MAX).is_some_and(|max| max > 0));
    client.subscribe(TOPICS[0], 2).await;
    let mut expected = 0;
    for topic in [TOPICS[0], ""] {
        let publish = Publish::new(QOS1, topic, 7, "x").with(&alias(1));
        client.send(&publish.bytes(V5)).await;
        expected += 1;
    }
    let mut arrived = 0;
    for _ in 0..2 * expected {
        let answer = client.next().await;
        if answer.kind() == 3 {
            let message = Message::read(V5, &answer);
            assert_eq!(message.topic, TOPICS[0]);
            client.send(&ack(PUBACK, message.id)).await;
            arrived += 1;
        }
    }
    assert_eq!(arrived, expected);
    client.leave().await;
    let mut client = gateway.enter(&Connect::new(V5, "a").clean(false)).await;
    client.send(&Publish::new(0, TOPICS[0], 0, "alias 3").bytes(V5)).await;
    assert_eq!(client.take().await.payload, "alias 3", "the subscription is still there");
    let unknown = Publish::new(QOS1, "", 8, "alias 4").with(&alias(1));
    client.breaks(&unknown.bytes(V5), 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn aliases_of_the_gateway_are_used_where_the_client_takes_them() {
    let gateway = Gateway::open();
    for max in [Some(1), None, Some(0)] {
        let properties: Vec<Vec<u8>> =
            max.map(|max| two(prop::ALIAS_MAX, max)).into_iter().collect();
        let mut client = gateway.enter(&Connect::new(V5, "a").with(&properties)).await;
        client.subscribe(TOPICS[0], 2).await;
        let mut publisher = gateway.join(V5, "p").await;
        for flags in [0, QOS1, QOS2] {
            publisher.publish(flags, TOPICS[0], "topic alias 1").await;
        }
        let found = messages(&mut client, 3).await;
        let seen: Vec<(&str, bool)> =
            found.iter().map(|m| (&*m.topic, m.get(prop::ALIAS).is_some())).collect();
        match max {
            Some(1) => assert_eq!(seen, [(TOPICS[0], true), ("", true), ("", true)]),
            _ => assert_eq!(seen, [(TOPICS[0], false); 3]),
        }
        client.leave().await;
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_client_that_takes_64_bytes_gets_what_is_small_enough() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "a").with(&[four(prop::PACKET_MAX, 64)]);
    let mut client = gateway.enter(&connect).await;
    client.subscribe(TOPICS[0], 2).await;
    client.send(&Publish::new(0, TOPICS[0], 0, &".".repeat(32)).bytes(V5)).await;
    assert_eq!(client.take().await.payload.len(), 32);
    client.publish(QOS1, TOPICS[0], &".".repeat(64)).await;
    client.silent().await;
    gateway.close().await;
}

#[tokio::test]
async fn a_keep_alive_of_two_minutes_is_lowered_to_one() {
    let gateway = Gateway::open();
    let (_client, connack) = gateway.connect(&Connect::new(V5, "a").keep_alive(120)).await;
    assert_eq!(connack.two(prop::SERVER_KEEP_ALIVE), Some(60));
    gateway.close().await;
}

#[tokio::test]
async fn the_third_message_waits_for_an_acknowledgement_where_two_are_taken() {
    let gateway = Gateway::open();
    let connect = Connect::new(V5, "a").with(&[two(prop::RECEIVE_MAX, 2), four(0x11, 0)]);
    let mut client = gateway.enter(&connect).await;
    client.subscribe(TOPICS[0], 2).await;
    for id in 1..=3 {
        client.send(&Publish::new(QOS1, TOPICS[0], id, "x").bytes(V5)).await;
    }
    let (mut in_flight, mut acknowledged) = (Vec::new(), 0);
    for _ in 0..5 {
        let answer = client.next().await;
        match answer.kind() {
            3 => in_flight.push(Message::read(V5, &answer).id),
            _ => acknowledged += 1,
        }
    }
    assert_eq!((in_flight.len(), acknowledged), (2, 3));
    client.silent().await;
    client.send(&ack(PUBACK, in_flight[0])).await;
    assert_eq!(client.message().await.qos, 1);
    gateway.close().await;
}

/// A client that sends one message of QoS 2 more than it may, before it reads a single answer.
#[tokio::test]
async fn a_client_that_sends_more_than_the_gateway_takes_is_told_and_cut_off() {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(V5, "a")).await;
    let max = connack.two(prop::RECEIVE_MAX).unwrap_or(u16::MAX);
    for id in 1..=max + 1 {
        client.send(&Publish::new(QOS2, TOPICS[0], id, &format!("message {id}")).bytes(V5)).await;
    }
    // It answers each PUBREC only once it reads it.
    loop {
        let answer = client.next().await;
        match answer.kind() {
            PUBREC => {}
            DISCONNECT => {
                assert_eq!(answer.body[0], 147);
                break;
            }
            other => panic!("packet type {other}"),
        }
    }
    gateway.close().await;
}

#[tokio::test]
async fn a_will_comes_after_its_delay_or_its_session_whichever_is_first() {
    let gateway = Gateway::open();
    for (delay_s, expiry_s, expected_ms) in [(1, 2, 1000), (5, 0, 0), (5, 1, 1000)] {
        let will = Will::new(TOPICS[0], "test_will_delay will message", 0)
            .properties(&[four(prop::WILL_DELAY, delay_s)]);
        let connect =
            Connect::new(V5, "a").will(will).with(&[four(prop::SESSION_EXPIRY, expiry_s)]);
        let (client, connack) = gateway.connect(&connect).await;
        assert!(!connack.present());
        let mut watcher = gateway.join(V5, "b").await;
        watcher.subscribe(TOPICS[0], 2).await;
        drop(client);
        let start = Instant::now();
        assert_eq!(watcher.take().await.payload, "test_will_delay will message");
        let off = start.elapsed().abs_diff(Duration::from_millis(expected_ms));
        assert!(off < Duration::from_millis(900), "{delay_s} {expiry_s}: {off:?}");
    }
    gateway.close().await;
}

#[tokio::test]
async fn of_two_that_share_a_filter_one_gets_the_message() {
    let gateway = Gateway::open();
    let mut a = gateway.join(V5, "a").await;
    let mut b = gateway.join(V5, "b").await;
    let filters = [("$share/sharename/x", 2), (TOPICS[0], 2)];
    for client in [&mut a, &mut b] {
        client.send(&subscribe(V5, 1, &[], &filters)).await;
        let answer = client.next().await;
        assert_eq!(answer.codes(V5), [2, 2]);
    }
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(0, TOPICS[0], "to both").await;
    assert_eq!(a.take().await.payload, "to both");
    assert_eq!(b.take().await.payload, "to both");
    publisher.publish(0, "x", "to one").await;
    let (payload, mut other) = tokio::select! {
        message = a.message() => (message.payload, b),
        message = b.message() => (message.payload, a),
    };
    assert_eq!(payload, "to one");
    other.silent().await;
    gateway.close().await;
}
