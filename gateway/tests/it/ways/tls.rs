//! TLS.

use std::time::Duration;

use headwater::mqtt::Way;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::pki::{Ca, Client, Files, touch};
use crate::door::Door;
use crate::raw::{Raw, connect_bytes, publish_bytes, subscribe_bytes};

/// A gateway with TLS, without clients' certificates.
fn open(more: &str) -> (tempfile::TempDir, Ca, Files, Door) {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Ca::new();
    let files = Files::new(dir.path(), &ca, &ca.sign("localhost"));
    let door = Door::open(dir.path(), &format!("{more}{}", files.section(false)));
    (dir, ca, files, door)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_tls_1_2_and_1_3_are_acknowledged_and_hear_of_each_other() {
    let (_dir, ca, _, door) = open("");
    let at = door.at(Way::Tls);
    let old = Client::new(&ca).only(&TLS12).connect(at).await.expect("TLS 1.2");
    let new = Client::new(&ca).only(&TLS13).connect(at).await.expect("TLS 1.3");
    let mut old = Raw::enter(old, "old").await;
    let mut new = Raw::enter(new, "new").await;
    old.send(&subscribe_bytes("t/#", 1)).await;
    assert_eq!(old.packet().await, Some(vec![0x90, 3, 0, 1, 1]));
    new.send(&publish_bytes(0x32, "t/a", 9, "x")).await;
    assert_eq!(new.packet().await, Some(vec![0x40, 2, 0, 9]));
    assert_eq!(old.packet().await, Some(publish_bytes(0x32, "t/a", 1, "x")));
    assert_eq!(door.metrics.arrivals(Way::Tls), (2, 0));
    door.close().await;
    assert_eq!((old.packet().await, new.packet().await), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_any_buffer_holds_goes_to_a_slow_reader_whole() {
    const MESSAGES: usize = 60;
    let (_dir, ca, _, door) = open("");
    let client = Client::new(&ca);
    let at = door.at(Way::Tls);
    let mut reader = Raw::enter(client.connect(at).await.expect("in"), "reader").await;
    reader.send(&subscribe_bytes("t", 0)).await;
    reader.packet().await.expect("SUBACK");
    let mut writer = Raw::enter(client.connect(at).await.expect("in"), "writer").await;
    let payload = vec![7; 200_000];
    // Length 200,005 in three bytes, topic, packet id.
    let head = [0x32, 0xC5, 0x9A, 0x0C, 0, 1, b't', 0, 1];
    for _ in 0..MESSAGES {
        writer.send(&head).await;
        writer.send(&payload).await;
        assert_eq!(writer.packet().await, Some(vec![0x40, 2, 0, 1]));
    }
    for _ in 0..MESSAGES {
        let message = reader.packet().await.expect("a message");
        assert!(message.len() == 7 + payload.len() && message.ends_with(&payload));
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_client_ca_only_those_enter_whom_it_has_signed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, other) = (Ca::new(), Ca::new());
    let files = Files::new(dir.path(), &ca, &ca.sign("localhost"));
    let door = Door::open(dir.path(), &files.section(true));
    let at = door.at(Way::Tls);
    for version in [&TLS12, &TLS13] {
        let stranger = Client::new(&ca).only(version);
        for client in [Client::new(&ca).only(version), stranger.shows(&other.sign("pump-7"))] {
            // A client of TLS 1.3 believes to be in until it reads.
            if let Ok(mut stream) = client.connect(at).await {
                let _ = stream.write_all(&connect_bytes(4, "c", true, 0)).await;
                assert!(stream.read_u8().await.is_err());
            }
        }
        let known = Client::new(&ca).only(version).shows(&ca.sign("pump-7"));
        let mut raw = Raw::enter(known.connect(at).await.expect("in"), "c").await;
        raw.send(&publish_bytes(0x32, "t", 9, "x")).await;
        assert_eq!(raw.packet().await, Some(vec![0x40, 2, 0, 9]));
    }
    assert_eq!(door.metrics.arrivals(Way::Tls), (6, 4));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_offer_mqtt_by_alpn_or_nothing_but_not_only_another_protocol() {
    let (_dir, ca, _, door) = open("");
    let at = door.at(Way::Tls);
    let offering = |protocols: &'static [&str]| Client::new(&ca).offers(protocols);
    let silent = offering(&[]).connect(at).await.expect("none is in order");
    assert_eq!(silent.get_ref().1.alpn_protocol(), None);
    let choice = offering(&["x", "mqtt"]).connect(at).await.expect("mqtt is among them");
    assert_eq!(choice.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
    Raw::enter(choice, "c").await;
    let problem = offering(&["h2", "http/1.1"]).connect(at).await.expect_err("another protocol");
    assert!(problem.to_string().contains("NoApplicationProtocol"), "{problem}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_none() {
    let (_dir, ca, files, door) = open("");
    let at = door.at(Way::Tls);
    let client = Client::new(&ca);
    let first = client.connect(at).await.expect("in");
    let shown = first.get_ref().1.peer_certificates().expect("a chain")[0].clone();
    let mut first = Raw::enter(first, "first").await;

    // Half a pair: the key does not fit, so the old pair goes on.
    let second = ca.sign("localhost");
    std::fs::write(&files.certificate, &second.pem).expect("written");
    door.renewal.ask();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stream = client.connect(at).await.expect("in");
    assert_eq!(stream.get_ref().1.peer_certificates().expect("a chain")[0], shown);

    files.replace(&second);
    touch(&files.key, 60);
    let started = std::time::Instant::now();
    loop {
        let stream = client.connect(at).await.expect("in");
        if stream.get_ref().1.peer_certificates().expect("a chain")[0] == second.certificate {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "the files are looked at");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    first.send(&publish_bytes(0x32, "t", 9, "x")).await;
    assert_eq!(first.packet().await, Some(vec![0x40, 2, 0, 9]), "who was in goes on");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_do_not_come_block_nobody_and_end() {
    let (_dir, ca, _, door) = open("max_connections = 3\n");
    let at = door.at(Way::Tls);
    let mut idle = TcpStream::connect(at).await.expect("accepted");
    let mut half = TcpStream::connect(at).await.expect("accepted");
    half.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("the start of a hello");
    let started = std::time::Instant::now();
    let stream = Client::new(&ca).connect(at).await.expect("in beside them");
    let mut raw = Raw::enter(stream, "c").await;
    assert!(started.elapsed() < Duration::from_secs(5), "nobody was waited for");
    // All three places are taken, two by handshakes under way.
    let connect = connect_bytes(4, "d", true, 0);
    assert_eq!(Raw::connect(door.address, &connect).await.1, [0x20, 2, 0, 3]);
    for stream in [&mut idle, &mut half] {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest));
        // A reset is an end too.
        drop(closed.await.expect("their time is over"));
    }
    assert!(started.elapsed() > Duration::from_secs(8), "they had their time");
    raw.send(&[0xC0, 0]).await;
    assert_eq!(raw.packet().await, Some(vec![0xD0, 0]));
    assert_eq!(door.metrics.arrivals(Way::Tls), (3, 2));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_tls_ends_its_own_connection_only() {
    let (_dir, ca, _, door) = open("");
    let at = door.at(Way::Tls);
    let mut plain = TcpStream::connect(at).await.expect("accepted");
    plain.write_all(&connect_bytes(4, "c", true, 0)).await.expect("sent");
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(&[0x20]), "no CONNACK");
    let stream = Client::new(&ca).connect(at).await.expect("in");
    Raw::enter(stream, "c").await;
    let silent = TcpStream::connect(at).await.expect("accepted");
    door.close().await;
    drop(silent);
}
