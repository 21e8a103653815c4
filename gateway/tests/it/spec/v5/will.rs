//! 3.1.2.5 to 3.1.2.7 and 3.1.3.2: wills.

use std::time::{Duration, Instant};

use crate::spec::both::{data, will};
use crate::spec::client::{Client, Gateway};
use crate::spec::packet::{
    Connect, QOS1, Version, Will, byte, disconnect, four, prop, string, user,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_1_2_7_a_will_is_kept_while_its_client_is_connected => will::a_will_is_published_when_the_connection_breaks;
    mqtt_3_1_2_8_a_will_is_published_when_the_connection_breaks => will::a_will_is_published_when_the_connection_breaks;
    mqtt_3_1_2_9_a_will_without_topic_or_payload_is_not_let_in => will::a_will_without_topic_or_payload_is_not_let_in;
    mqtt_3_1_2_10_a_will_is_gone_after_a_goodbye_and_after_it_was_published => will::a_will_is_gone_after_a_goodbye_and_after_it_was_published;
    mqtt_3_1_2_11_a_will_qos_without_a_will_is_not_let_in => will::a_will_qos_without_a_will_is_not_let_in;
    mqtt_3_1_2_12_a_will_of_qos_3_is_not_let_in => will::a_will_of_qos_3_is_not_let_in;
    mqtt_3_1_2_13_a_will_retain_without_a_will_is_not_let_in => will::a_will_retain_without_a_will_is_not_let_in;
    mqtt_3_1_2_14_a_will_without_retain_is_not_retained => will::a_will_without_retain_is_not_retained;
    mqtt_3_1_2_15_a_will_with_retain_is_retained => will::a_will_with_retain_is_retained;
    mqtt_3_1_3_11_an_ill_formed_will_topic_is_not_let_in => data::an_ill_formed_will_topic_is_not_let_in;
    mqtt_3_14_4_3_a_goodbye_drops_the_will => will::a_goodbye_drops_the_will;
    will_fields_without_a_will_are_not_let_in => will::will_fields_without_a_will_are_not_let_in;
    without_a_will_none_is_published => will::without_a_will_none_is_published;
    a_client_that_is_taken_over_leaves_its_will => will::a_client_that_is_taken_over_leaves_its_will;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_3_14_4_3_a_goodbye_drops_the_will_of_a_client_that_is_back_at_once() {
    will::a_goodbye_drops_the_will_of_a_client_that_is_back_at_once(V5).await;
}

async fn watcher(gateway: &Gateway) -> Client {
    let mut watcher = gateway.join(V5, "watcher").await;
    watcher.subscribe("will/#", 1).await;
    watcher
}

fn with_will(properties: &[Vec<u8>]) -> Connect {
    Connect::new(V5, "c").will(Will::new("will/c", "gone", QOS1).properties(properties))
}

fn expiry(seconds: u32) -> [Vec<u8>; 1] {
    [four(prop::SESSION_EXPIRY, seconds)]
}

/// Seconds until the will arrives.
async fn waited(watcher: &mut Client) -> Duration {
    let start = Instant::now();
    assert_eq!(watcher.take().await.payload, "gone");
    start.elapsed()
}

#[tokio::test]
async fn mqtt_3_1_2_8_a_will_waits_for_its_delay_or_the_end_of_its_session() {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway).await;
    let second = Duration::from_millis(900)..Duration::from_secs(3);
    for (delay_s, expiry_s) in [(1, 100), (100, 1)] {
        let connect = with_will(&[four(prop::WILL_DELAY, delay_s)]).with(&expiry(expiry_s));
        drop(gateway.enter(&connect).await);
        let waited = waited(&mut watcher).await;
        assert!(second.contains(&waited), "{delay_s} {expiry_s}: {waited:?}");
    }
    drop(gateway.enter(&with_will(&[four(prop::WILL_DELAY, 100)])).await);
    assert!(waited(&mut watcher).await < second.start, "its session ends with the connection");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_9_a_client_that_is_back_before_the_delay_leaves_no_will() {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway).await;
    let connect = with_will(&[four(prop::WILL_DELAY, 1)]).with(&expiry(100)).clean(false);
    drop(gateway.enter(&connect).await);
    let (client, connack) = gateway.connect(&connect).await;
    assert!(connack.present());
    tokio::time::sleep(Duration::from_millis(1300)).await;
    client.leave().await;
    let mut publisher = gateway.join(V5, "p").await;
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_3_1_3_10_the_properties_of_a_will_travel_with_it_in_their_order() {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway).await;
    let connect = with_will(&[
        user("b", "1"),
        four(prop::WILL_DELAY, 0),
        byte(prop::PAYLOAD_FORMAT, 1),
        user("a", "2"),
        string(prop::CONTENT_TYPE, "text/plain"),
        string(prop::RESPONSE_TOPIC, "re/ply"),
        four(prop::MESSAGE_EXPIRY, 100),
        user("b", "3"),
        string(prop::CORRELATION, [0, 255]),
    ]);
    drop(gateway.enter(&connect).await);
    let message = watcher.take().await;
    assert_eq!(message.all(prop::USER), [&b"b=1"[..], b"a=2", b"b=3"]);
    assert_eq!(message.get(prop::PAYLOAD_FORMAT), Some(&[1][..]));
    assert_eq!(message.get(prop::CONTENT_TYPE), Some(&b"text/plain"[..]));
    assert_eq!(message.get(prop::RESPONSE_TOPIC), Some(&b"re/ply"[..]));
    assert_eq!(message.get(prop::CORRELATION), Some(&[0, 255][..]));
    assert!((98..=100).contains(&message.four(prop::MESSAGE_EXPIRY).expect("it has one")));
    assert_eq!(message.get(prop::WILL_DELAY), None);
    gateway.close().await;
}

#[tokio::test]
async fn a_goodbye_with_code_4_publishes_the_will() {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway).await;
    gateway.enter(&with_will(&[])).await.breaks_off(&disconnect(4, &[])).await;
    assert_eq!(watcher.take().await.payload, "gone");
    gateway.close().await;
}

/// Code 0 alone deletes it.
#[tokio::test]
async fn mqtt_3_1_2_8_a_goodbye_with_any_other_code_publishes_the_will() {
    let gateway = Gateway::open();
    let mut watcher = watcher(&gateway).await;
    for code in [0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x97, 0x99] {
        gateway.enter(&with_will(&[])).await.breaks_off(&disconnect(code, &[])).await;
        // The id is free again once all of the connection is done with.
        gateway.join(V5, "c").await.leave().await;
    }
    let mut publisher = gateway.join(V5, "p").await;
    for _ in 0..8 {
        assert_eq!(watcher.take().await.payload, "gone");
    }
    watcher.has_all(&mut publisher).await;
    gateway.close().await;
}
