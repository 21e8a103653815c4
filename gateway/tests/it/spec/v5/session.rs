//! 3.1.2.4, 3.1.2.11.2 and 4.1: sessions and their expiry; 4.4: what is sent again.

use std::time::Duration;

use crate::spec::both::session;
use crate::spec::client::Gateway;
use crate::spec::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, Publish, QOS1, QOS2, Version, ack, ack_with, disconnect,
    four, prop,
};

const V5: Version = Version::V5;

statements! { V5:
    mqtt_3_1_2_4_a_clean_start_discards_what_was_there => session::a_clean_session_starts_with_nothing_and_leaves_nothing;
    mqtt_3_1_2_5_a_kept_session_goes_on_where_it_was => session::a_kept_session_goes_on_where_it_was;
    mqtt_3_1_2_23_messages_wait_for_a_kept_session => session::messages_wait_for_a_kept_session;
    mqtt_4_1_0_1_a_session_is_kept_while_it_is_connected => session::a_session_is_kept_while_it_is_connected;
    mqtt_4_4_0_1_what_was_not_acknowledged_is_sent_again_with_its_id => session::what_was_not_acknowledged_is_sent_again_with_its_id;
    mqtt_4_4_0_1_nothing_is_sent_again_while_the_connection_lasts => session::nothing_is_sent_again_while_the_connection_lasts;
}

fn lasting(seconds: u32) -> Connect {
    Connect::new(V5, "c").clean(false).with(&[four(prop::SESSION_EXPIRY, seconds)])
}

async fn is_present(gateway: &Gateway, connect: &Connect) -> bool {
    let (client, connack) = gateway.connect(connect).await;
    client.leave().await;
    connack.present()
}

#[tokio::test]
async fn mqtt_3_1_2_6_a_session_that_is_not_there_is_made() {
    let gateway = Gateway::open();
    let mut client = gateway.enter(&lasting(100)).await;
    client.subscribe("t", 1).await;
    drop(client);
    let (mut client, connack) = gateway.connect(&lasting(100)).await;
    assert!(connack.present());
    let mut publisher = gateway.join(V5, "p").await;
    publisher.publish(QOS1, "t", "x").await;
    assert_eq!(client.take().await.payload, "x");
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_1_0_2_a_session_ends_when_its_time_is_over() {
    let gateway = Gateway::open();
    for (expiry_s, sleep_ms, present) in [(0, 0, false), (1, 1200, false), (3, 500, true)] {
        gateway.enter(&lasting(expiry_s).clean(true)).await.leave().await;
        tokio::time::sleep(Duration::from_millis(sleep_ms)).await;
        assert_eq!(is_present(&gateway, &lasting(0)).await, present, "{expiry_s} s");
    }
    gateway.join(V5, "c").await.leave().await;
    assert!(!is_present(&gateway, &lasting(0)).await, "none is the same as 0");
    gateway.enter(&lasting(u32::MAX)).await.leave().await;
    assert!(is_present(&gateway, &lasting(0)).await, "for ever");
    gateway.close().await;
}

#[tokio::test]
async fn a_goodbye_may_change_the_expiry_of_a_session_that_has_one() {
    let gateway = Gateway::open();
    let expiry = |seconds| disconnect(0, &[four(prop::SESSION_EXPIRY, seconds)]);
    gateway.enter(&lasting(100)).await.breaks_off(&expiry(0)).await;
    assert!(!is_present(&gateway, &lasting(1)).await, "it was ended at once");
    gateway.enter(&lasting(1)).await.breaks_off(&expiry(100)).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(is_present(&gateway, &lasting(100)).await, "it was given more time");
    gateway.join(V5, "other").await.breaks(&expiry(100), 0x82).await;
    gateway.close().await;
}

#[tokio::test]
async fn mqtt_4_4_0_2_what_was_refused_is_not_sent_again() {
    let gateway = Gateway::open();
    let mut subscriber = gateway.enter(&lasting(100)).await;
    subscriber.subscribe("t", 2).await;
    let mut publisher = gateway.join(V5, "p").await;
    for flags in [QOS1, QOS2] {
        publisher.publish(flags, "t", "x").await;
        let message = subscriber.message().await;
        let kind = if message.qos == 2 { PUBREC } else { PUBACK };
        subscriber.send(&ack_with(kind, message.id, 0x87)).await;
    }
    subscriber.ping().await;
    drop(subscriber);
    let mut subscriber = gateway.enter(&lasting(100)).await;
    subscriber.has_all(&mut publisher).await;
    gateway.close().await;
}

#[tokio::test]
async fn ids_that_were_received_stay_received_across_connections() {
    let gateway = Gateway::open();
    let mut client = gateway.enter(&lasting(100)).await;
    client.send(&Publish::new(QOS2, "t", 5, "x").bytes(V5)).await;
    client.expect(&ack(PUBREC, 5)).await;
    drop(client);
    let mut client = gateway.enter(&lasting(100)).await;
    client.send(&ack(6, 5)).await;
    client.expect(&ack(PUBCOMP, 5)).await;
    client.send(&ack(6, 5)).await;
    client.expect(&ack_with(PUBCOMP, 5, 0x92)).await;
    gateway.close().await;
}

/// The session is there, but this connection has said that it ends with it.
#[tokio::test]
async fn a_goodbye_may_not_give_an_expiry_that_connect_took_away() {
    let gateway = Gateway::open();
    gateway.enter(&lasting(100)).await.leave().await;
    let (client, connack) = gateway.connect(&lasting(0)).await;
    assert!(connack.present());
    client.breaks(&disconnect(0, &[four(prop::SESSION_EXPIRY, 100)]), 0x82).await;
    gateway.close().await;
}

/// Whichever of goodbye and next CONNECT the gateway sees first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_as_the_goodbye_said_though_its_client_is_back_at_once() {
    let gateway = Gateway::open();
    for _ in 0..50 {
        let (mut client, connack) = gateway.connect(&Connect::new(V5, "c").lasting()).await;
        assert_eq!((connack.code, connack.flags), (0, 0), "no session was left");
        client.send(&disconnect(0, &[four(prop::SESSION_EXPIRY, 0)])).await;
        drop(client);
    }
    gateway.close().await;
}
