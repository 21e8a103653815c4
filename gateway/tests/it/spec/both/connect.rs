//! CONNECT and CONNACK.

use std::time::{Duration, Instant};

use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, Publish, QOS1, Version, Will, binary, packet, prop, string, subscribe,
};

const MALFORMED: u8 = 0x81;

/// A well-formed CONNECT that is refused, and the code that says why.
fn refusal(version: Version) -> (Connect, u8) {
    match version {
        Version::V3 => (Connect::new(version, "").clean(false), 2),
        Version::V5 => (Connect::new(version, "c").with(&[string(prop::AUTH_METHOD, "x")]), 0x8C),
    }
}

pub(crate) async fn what_comes_before_connect_is_hung_up_on(version: Version) {
    let gateway = Gateway::open();
    for bytes in [
        packet(0xC0, &[]),
        Publish::new(QOS1, "t", 1, "x").bytes(version),
        subscribe(version, 1, &[], &[("t", 0)]),
        packet(0xE0, &[]),
        packet(0xF0, &[]),
        vec![0x00, 0x00],
    ] {
        gateway.hangs_up(version, &bytes).await;
    }
    gateway.close().await;
}

pub(crate) async fn a_second_connect_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    let client = gateway.join(version, "c").await;
    client.breaks(&Connect::new(version, "c").bytes(), 0x82).await;
    gateway.close().await;
}

pub(crate) async fn another_protocol_name_is_hung_up_on(version: Version) {
    let gateway = Gateway::open();
    for name in ["hj", "mqtt", "MQTTX", "MQT", ""] {
        let level = if version == Version::V3 { 4 } else { 5 };
        let connect = Connect::new(version, "c").protocol(name, level);
        gateway.hangs_up(version, &connect.bytes()).await;
    }
    gateway.close().await;
}

pub(crate) async fn the_reserved_connect_flag_ends_the_connection(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").flip(1), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_user_name_without_its_flag_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").tail(&binary(b"u")), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_user_name_that_is_missing_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").flip(0x80), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_password_without_its_flag_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "c").user("u").tail(&binary(b"p"));
    gateway.rejects(&connect, MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_password_that_is_missing_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    gateway.rejects(&Connect::new(version, "c").user("u").flip(0x40), MALFORMED).await;
    gateway.close().await;
}

pub(crate) async fn a_silent_client_is_given_up_after_one_and_a_half_keep_alives(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.enter(&Connect::new(version, "c").keep_alive(1)).await;
    let start = Instant::now();
    client.ended(0x8D).await;
    let silent = start.elapsed();
    assert!((Duration::from_millis(1400)..Duration::from_secs(3)).contains(&silent), "{silent:?}");
    gateway.close().await;
}

pub(crate) async fn the_fields_are_read_in_their_order(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = gateway.join(version, "watcher").await;
    watcher.subscribe("topic", 0).await;
    let connect = Connect::new(version, "client")
        .will(Will::new("topic", "payload", 0))
        .user("user")
        .password("password");
    drop(gateway.enter(&connect).await);
    let message = watcher.message().await;
    assert_eq!((&*message.topic, &*message.payload), ("topic", "payload"));
    gateway.close().await;
}

pub(crate) async fn the_client_id_says_which_session_it_is(version: Version) {
    let gateway = Gateway::open();
    drop(gateway.enter(&Connect::new(version, "a").lasting()).await);
    let (_other, connack) = gateway.connect(&Connect::new(version, "A").lasting()).await;
    assert!(!connack.present(), "another id, another session");
    let (_same, connack) = gateway.connect(&Connect::new(version, "a").lasting()).await;
    assert!(connack.present());
    gateway.close().await;
}

pub(crate) async fn a_client_id_that_is_missing_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    let whole = Connect::new(version, "").body();
    let bytes = packet(0x10, &whole[..whole.len() - 2]);
    let mut client = gateway.dial(version, &bytes).await;
    if version == Version::V5 {
        client.expect(&[0x20, 3, 0, MALFORMED, 0]).await;
    }
    client.closed().await;
    gateway.close().await;
}

pub(crate) async fn short_client_ids_of_letters_and_digits_are_let_in(version: Version) {
    let gateway = Gateway::open();
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for id in ["a", &letters[..23], &letters[23..46], &letters[39..62]] {
        gateway.join(version, id).await.leave().await;
    }
    gateway.close().await;
}

pub(crate) async fn a_connect_that_is_cut_short_is_not_let_in(version: Version) {
    let gateway = Gateway::open();
    let whole = Connect::new(version, "client").will(Will::new("w", "x", 0)).user("u").body();
    // Behind the level the version is known.
    for end in 8..whole.len() {
        let mut client = gateway.dial(version, &packet(0x10, &whole[..end])).await;
        if version == Version::V5 {
            client.expect(&[0x20, 3, 0, MALFORMED, 0]).await;
        }
        client.closed().await;
    }
    for end in 0..7 {
        gateway.hangs_up(version, &packet(0x10, &whole[..end])).await;
    }
    gateway.close().await;
}

pub(crate) async fn connect_is_answered_with_success(version: Version) {
    let gateway = Gateway::open();
    let (mut client, connack) = gateway.connect(&Connect::new(version, "c")).await;
    assert_eq!((connack.flags, connack.code), (0, 0));
    client.ping().await;
    gateway.close().await;
}

pub(crate) async fn what_follows_a_refused_connect_is_not_looked_at(version: Version) {
    let gateway = Gateway::open();
    let mut watcher = gateway.join(version, "watcher").await;
    watcher.subscribe("t", 0).await;
    let (connect, code) = refusal(version);
    let mut bytes = connect.bytes();
    bytes.extend(Publish::new(QOS1, "t", 1, "x").bytes(version));
    let mut client = gateway.dial(version, &bytes).await;
    let answer = client.next().await;
    assert_eq!((answer.kind(), answer.body[1]), (2, code));
    client.closed().await;
    let mut publisher = gateway.join(version, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

pub(crate) async fn nothing_comes_before_connack(version: Version) {
    let gateway = Gateway::open();
    let connect = Connect::new(version, "s").lasting();
    let mut subscriber = gateway.enter(&connect).await;
    subscriber.subscribe("t", 1).await;
    subscriber.leave().await;
    let mut publisher = gateway.join(version, "p").await;
    publisher.publish(QOS1, "t", "waits").await;
    let mut bytes = connect.bytes();
    bytes.extend([0xC0, 0]);
    let mut subscriber = gateway.dial(version, &bytes).await;
    assert_eq!(subscriber.next().await.kind(), 2, "CONNACK first");
    let kinds = [subscriber.next().await, subscriber.next().await].map(|answer| answer.kind());
    assert!(kinds.contains(&3) && kinds.contains(&13), "{kinds:?}");
    gateway.close().await;
}

pub(crate) async fn a_clean_session_is_never_present(version: Version) {
    let gateway = Gateway::open();
    drop(gateway.enter(&Connect::new(version, "c").lasting()).await);
    let (_client, connack) = gateway.connect(&Connect::new(version, "c")).await;
    assert_eq!((connack.flags, connack.code), (0, 0));
    gateway.close().await;
}

pub(crate) async fn a_session_that_was_kept_is_present(version: Version) {
    let gateway = Gateway::open();
    drop(gateway.enter(&Connect::new(version, "c").lasting()).await);
    let (_client, connack) = gateway.connect(&Connect::new(version, "c").lasting()).await;
    assert_eq!((connack.flags, connack.code), (1, 0));
    gateway.close().await;
}

pub(crate) async fn a_session_that_never_was_is_not_present(version: Version) {
    let gateway = Gateway::open();
    let (_client, connack) = gateway.connect(&Connect::new(version, "c").lasting()).await;
    assert_eq!((connack.flags, connack.code), (0, 0));
    gateway.close().await;
}

pub(crate) async fn a_refusal_says_no_session_is_present(version: Version) {
    let gateway = Gateway::open();
    drop(gateway.enter(&Connect::new(version, "c").lasting()).await);
    let (connect, code) = refusal(version);
    let (_client, connack) = gateway.connect(&connect.clean(false)).await;
    assert_eq!((connack.flags, connack.code), (0, code));
    gateway.close().await;
}

pub(crate) async fn a_refused_connection_is_closed(version: Version) {
    let gateway = Gateway::open();
    let (connect, code) = refusal(version);
    gateway.refuses(&connect, code).await;
    gateway.close().await;
}

pub(crate) async fn a_ping_is_answered(version: Version) {
    let gateway = Gateway::open();
    let mut client = gateway.join(version, "c").await;
    for _ in 0..3 {
        client.ping().await;
    }
    gateway.close().await;
}
