//! What goes out to subscribers, byte by byte: QoS 2, shared subscriptions, aliases, wills.

use crate::door::Door;
use crate::raw::{Raw, connect_with, publish_bytes, subscribe_bytes};

/// The packet id of a PUBLISH of 3.1.1 on a topic of one letter.
fn id_of(publish: &[u8]) -> [u8; 2] {
    [publish[5], publish[6]]
}

/// Publishes at QoS 1 and waits for the disk.
async fn publish(publisher: &mut Raw, topic: &str, payload: &str) {
    publisher.send(&publish_bytes(0x32, topic, 1, payload)).await;
    assert_eq!(publisher.packet().await, Some(vec![0x40, 2, 0, 1]));
}

async fn subscribe(subscriber: &mut Raw, filter: &str, qos: u8) {
    subscriber.send(&subscribe_bytes(filter, qos)).await;
    assert_eq!(subscriber.packet().await, Some(vec![0x90, 3, 0, 1, qos]));
}

/// True after a round trip in which nothing else came.
async fn is_silent(client: &mut Raw) -> bool {
    client.send(&[0xC0, 0]).await;
    client.packet().await == Some(vec![0xD0, 0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_goes_on_where_it_was_after_the_gateway_was_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut subscriber, _) = Raw::v4(door.address, "s", false).await;
    subscribe(&mut subscriber, "t", 2).await;
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for payload in ["a", "b"] {
        publisher.send(&publish_bytes(0x34, "t", 1, payload)).await;
        assert_eq!(publisher.packet().await, Some(vec![0x50, 2, 0, 1]));
        publisher.send(&[0x62, 2, 0, 1]).await;
        assert_eq!(publisher.packet().await, Some(vec![0x70, 2, 0, 1]));
    }
    let first = subscriber.packet().await.expect("a");
    let second = subscriber.packet().await.expect("b");
    assert_eq!((first[0], second[0]), (0x34, 0x34));
    let [high, low] = id_of(&first);
    subscriber.send(&[0x50, 2, high, low]).await;
    assert_eq!(subscriber.packet().await, Some(vec![0x62, 2, high, low]), "released");
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut subscriber, present) = Raw::v4(door.address, "s", false).await;
    assert!(present);
    let mut came = vec![
        subscriber.packet().await.expect("one of two"),
        subscriber.packet().await.expect("the other"),
    ];
    came.sort();
    assert_eq!(id_of(&came[0]), id_of(&second), "with the id it had: {came:?}");
    assert!(came[0][0] & 0xF6 == 0x34 && came[0].ends_with(b"b"));
    assert_eq!(came[1], [0x62, 2, high, low], "what was received is released, not sent again");
    subscriber.send(&[0x70, 2, high, low]).await;
    let [high, low] = id_of(&came[0]);
    subscriber.send(&[0x50, 2, high, low]).await;
    assert_eq!(subscriber.packet().await, Some(vec![0x62, 2, high, low]));
    subscriber.send(&[0x70, 2, high, low]).await;
    assert!(is_silent(&mut subscriber).await);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_shared_subscription_get_each_message_once_and_take_turns() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let mut members = Vec::new();
    for name in ["m1", "m2", "m3"] {
        let (mut member, _) = Raw::v4(door.address, name, true).await;
        subscribe(&mut member, "$share/g/t", 1).await;
        members.push(member);
    }
    let (mut all, _) = Raw::v4(door.address, "all", true).await;
    subscribe(&mut all, "t", 1).await;
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for number in 0..6 {
        publish(&mut publisher, "t", &number.to_string()).await;
        assert!(all.packet().await.expect("for it alone").ends_with(number.to_string().as_bytes()));
    }
    let mut payloads = Vec::new();
    for member in &mut members {
        for _ in 0..2 {
            let message = member.packet().await.expect("its share");
            payloads.push(message[message.len() - 1]);
            let [high, low] = id_of(&message);
            member.send(&[0x40, 2, high, low]).await;
        }
        assert!(is_silent(member).await, "no more than its share");
    }
    payloads.sort_unstable();
    assert_eq!(payloads, b"012345");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_leaves_unacknowledged_goes_to_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut first, _) = Raw::v4(door.address, "m1", true).await;
    subscribe(&mut first, "$share/g/#", 1).await;
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for payload in ["a", "b"] {
        publish(&mut publisher, "t", payload).await;
        assert!(first.packet().await.expect("to the only one").ends_with(payload.as_bytes()));
    }
    let (mut second, _) = Raw::v4(door.address, "m2", true).await;
    subscribe(&mut second, "$share/g/#", 1).await;
    assert!(is_silent(&mut second).await);
    drop(first);
    for payload in ["a", "b"] {
        let message = second.packet().await.expect("what the first left");
        assert!(message.ends_with(payload.as_bytes()), "{message:?}");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_lasting_sessions_gets_what_came_while_all_were_away_and_the_gateway_died() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut member, _) = Raw::v4(door.address, "m", false).await;
    subscribe(&mut member, "$share/g/t", 1).await;
    member.send(&[0xE0, 0]).await;
    assert_eq!(member.packet().await, None);
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for payload in ["a", "b"] {
        publish(&mut publisher, "t", payload).await;
    }
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut member, present) = Raw::v4(door.address, "m", false).await;
    assert!(present);
    for payload in ["a", "b"] {
        let message = member.packet().await.expect("from the log");
        assert!(message.ends_with(payload.as_bytes()), "{message:?}");
        let [high, low] = id_of(&message);
        member.send(&[0x40, 2, high, low]).await;
    }
    assert!(is_silent(&mut member).await);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_subscription_that_its_session_has_given_up_leaves_no_backlog() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut member, _) = Raw::v4(door.address, "m", false).await;
    subscribe(&mut member, "$share/g/t", 1).await;
    member.send(&[0xE0, 0]).await;
    assert_eq!(member.packet().await, None);
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    publish(&mut publisher, "t", "missed").await;
    let (mut member, present) = Raw::v4(door.address, "m", true).await;
    assert!(!present, "a clean session");
    subscribe(&mut member, "$share/g/t", 1).await;
    assert!(is_silent(&mut member).await);
    publish(&mut publisher, "t", "new").await;
    assert!(member.packet().await.expect("from now on").ends_with(b"new"));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_goes_out_once_to_a_client_that_takes_aliases() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let aliases = [0x22, 0, 1];
    let connect = connect_with(5, "s", 2, 0, &aliases, &[]);
    let (mut subscriber, _) = Raw::connect(door.address, &connect).await;
    subscriber.send(&[0x82, 7, 0, 1, 0, 0, 1, b'#', 0]).await;
    assert_eq!(subscriber.packet().await, Some(vec![0x90, 4, 0, 1, 0, 0]));
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for (topic, payload) in [("plant/1", "a"), ("plant/1", "b"), ("plant/2", "c")] {
        publish(&mut publisher, topic, payload).await;
    }
    let mut expected = vec![0x30, 14, 0, 7];
    expected.extend_from_slice(b"plant/1\x03\x23\x00\x01a");
    assert_eq!(subscriber.packet().await, Some(expected));
    assert_eq!(subscriber.packet().await, Some(vec![0x30, 7, 0, 0, 3, 0x23, 0, 1, b'b']));
    let mut expected = vec![0x30, 11, 0, 7];
    expected.extend_from_slice(b"plant/2\x00c");
    assert_eq!(subscriber.packet().await, Some(expected), "it takes one alias");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_the_door_are_topics_that_nobody_else_publishes_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut dashboard, _) = Raw::v4(door.address, "d", true).await;
    subscribe(&mut dashboard, "$SYS/broker/clients/+", 1).await;
    let mut topics = Vec::new();
    while topics.len() < 6 {
        let message = dashboard.packet().await.expect("a figure");
        assert_eq!(message[0], 0x31, "retained, QoS 0");
        let length = usize::from(message[3]);
        topics.push(String::from_utf8_lossy(&message[4..4 + length]).into_owned());
    }
    assert_eq!(topics[0], "$SYS/broker/clients/active");
    assert_eq!(topics[1], "$SYS/broker/clients/connected");
    let (mut all, _) = Raw::v4(door.address, "all", true).await;
    subscribe(&mut all, "#", 0).await;
    assert!(is_silent(&mut all).await, "a wildcard does not reach them");
    let (mut liar, _) = Raw::connect(door.address, &connect_with(5, "l", 2, 0, &[], &[])).await;
    let mut publish = vec![0x32, 11, 0, 5];
    publish.extend_from_slice(b"$SYS/\x00\x07\x00x");
    liar.send(&publish).await;
    assert_eq!(liar.packet().await, Some(vec![0x40, 3, 0, 7, 0x87]));
    liar.send(&[0x30, 9, 0, 5, b'$', b'S', b'Y', b'S', b'/', 0, b'x']).await;
    assert!(is_silent(&mut liar).await);
    assert_eq!(door.metrics.dropped.get(), 1, "of QoS 0 nobody is told, so it is counted");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_of_a_client_that_was_connected_when_the_gateway_died_is_published() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let will = [0, 1, b'w', 0, 1, b'x'];
    let (_client, connack) =
        Raw::connect(door.address, &connect_with(4, "c", 0x2E, 0, &[], &will)).await;
    assert_eq!(connack[3], 0);
    let (mut polite, _) =
        Raw::connect(door.address, &connect_with(4, "polite", 0x2E, 0, &[], &will)).await;
    polite.send(&[0xE0, 0]).await;
    assert_eq!(polite.packet().await, None);
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut watcher, _) = Raw::v4(door.address, "watcher", true).await;
    subscribe(&mut watcher, "w", 0).await;
    // Retained, and so to be had whichever was first.
    assert_eq!(watcher.packet().await, Some(publish_bytes(0x31, "w", 0, "x")));
    assert!(is_silent(&mut watcher).await);
    assert_eq!(door.metrics.wills.get(), 1);
    door.close().await;

    let door = Door::open(dir.path(), "");
    let (mut watcher, _) = Raw::v4(door.address, "watcher", true).await;
    assert!(is_silent(&mut watcher).await);
    assert_eq!(door.metrics.wills.get(), 0, "once only");
    door.close().await;
}
