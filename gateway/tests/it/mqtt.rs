//! The front door, byte by byte.

use std::time::Duration;

use headwater::config::MqttConfig;
use headwater::journal::{Journal, JournalOptions};
use headwater::mqtt::hash_password;
use headwater_shared::envelope::Envelope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::door::Door;
use crate::raw::{Raw, connect_bytes, connect_with, publish_bytes, subscribe_bytes};

/// The payloads of all messages on disk whose topic starts with `prefix`.
fn stored(journal: &Journal, prefix: &str) -> Vec<String> {
    let mut reader = journal.reader(0);
    let mut payloads = Vec::new();
    loop {
        let records = reader.read(1 << 20).expect("readable");
        if records.is_empty() {
            return payloads;
        }
        for record in &records {
            if let Ok(Envelope::Publish(publish)) = record.envelope()
                && publish.topic.starts_with(prefix)
            {
                payloads.push(String::from_utf8_lossy(publish.payload).into_owned());
            }
        }
    }
}

/// As [`stored`], of a gateway that was closed.
fn stored_after(dir: &std::path::Path, prefix: &str) -> Vec<String> {
    let (journal, _) = Journal::open(&dir.join("log"), JournalOptions::default())
        .expect("the journal opens again");
    let payloads = stored(&journal, prefix);
    journal.close();
    payloads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_message_is_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut raw, _) = Raw::v4(door.address, "c", true).await;
    for number in 1..=50_u16 {
        let first = if number % 2 == 0 { 0x32 } else { 0x34 };
        raw.send(&publish_bytes(first, "t", number, &number.to_string())).await;
        let ack = raw.packet().await.expect("acknowledged");
        let kind = if number % 2 == 0 { 0x40 } else { 0x50 };
        assert_eq!(ack, [kind, 2, 0, number as u8]);
        let on_disk = stored(&door.journal, "t");
        assert_eq!(on_disk.last().map(String::as_str), Some(&*number.to_string()));
    }
    assert_eq!(door.metrics.acknowledged.get(), 50);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qos_2_message_enters_once_though_the_gateway_dies_before_its_release() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut raw, present) = Raw::v4(door.address, "c", false).await;
    assert!(!present);
    raw.send(&publish_bytes(0x34, "t", 7, "one")).await;
    assert_eq!(raw.packet().await, Some(vec![0x50, 2, 0, 7]));
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut raw, present) = Raw::v4(door.address, "c", false).await;
    assert!(present, "the session outlives the gateway");
    raw.send(&publish_bytes(0x3C, "t", 7, "one")).await;
    assert_eq!(raw.packet().await, Some(vec![0x50, 2, 0, 7]));
    raw.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(raw.packet().await, Some(vec![0x70, 2, 0, 7]));
    assert_eq!(stored(&door.journal, "t"), ["one"]);
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut raw, _) = Raw::v4(door.address, "c", false).await;
    raw.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(raw.packet().await, Some(vec![0x70, 2, 0, 7]), "a second PUBREL is answered too");
    raw.send(&publish_bytes(0x34, "t", 7, "two")).await;
    assert_eq!(raw.packet().await, Some(vec![0x50, 2, 0, 7]));
    assert_eq!(stored(&door.journal, "t"), ["one", "two"], "a released id is a new message's");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lasting_session_gets_what_came_while_it_and_the_gateway_were_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut subscriber, _) = Raw::v4(door.address, "s", false).await;
    subscriber.send(&subscribe_bytes("t/+", 1)).await;
    assert_eq!(subscriber.packet().await, Some(vec![0x90, 3, 0, 1, 1]));
    drop(subscriber);
    let (mut publisher, _) = Raw::v4(door.address, "p", true).await;
    for id in 1..=3 {
        publisher.send(&publish_bytes(0x32, "t/x", id, &format!("m{id}"))).await;
        publisher.packet().await.expect("acknowledged");
    }
    door.kill().await;

    let door = Door::open(dir.path(), "");
    let (mut subscriber, present) = Raw::v4(door.address, "s", false).await;
    assert!(present);
    let mut ids = Vec::new();
    for number in 1..=3_u8 {
        let packet = subscriber.packet().await.expect("a message");
        assert_eq!(packet[0], 0x32);
        assert!(packet.ends_with(&[b'm', b'0' + number]));
        ids.push([packet[7], packet[8]]);
        if number == 1 {
            subscriber.send(&[0x40, 2, packet[7], packet[8]]).await;
        }
    }
    // The take-over must not come before the acknowledgement was read.
    subscriber.send(&[0xC0, 0]).await;
    assert_eq!(subscriber.packet().await, Some(vec![0xD0, 0]));
    drop(subscriber);
    let (mut subscriber, _) = Raw::v4(door.address, "s", false).await;
    for number in 2..=3_u8 {
        let packet = subscriber.packet().await.expect("a message");
        assert_eq!(packet[0], 0x3A, "sent again, and it says so");
        let [high, low] = ids[usize::from(number) - 1];
        let expected = [high, low, b'm', b'0' + number];
        assert!(packet.ends_with(&expected), "with its own id: {packet:?}");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_connection_takes_over_and_the_first_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut first, _) = Raw::connect(door.address, &connect_bytes(5, "c", true, 0)).await;
    let (mut second, connack) = Raw::connect(door.address, &connect_bytes(5, "c", true, 0)).await;
    assert_eq!(connack[3], 0);
    assert_eq!(first.packet().await, Some(vec![0xE0, 2, 0x8E, 0]));
    assert_eq!(first.packet().await, None);
    second.send(&[0xC0, 0]).await;
    assert_eq!(second.packet().await, Some(vec![0xD0, 0]));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_said_after_what_was_promised() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut raw, _) = Raw::connect(door.address, &connect_bytes(5, "c", true, 0)).await;
    raw.send(&[0x32, 7, 0, 1, b't', 0, 9, 0, b'x']).await;
    assert_eq!(raw.packet().await, Some(vec![0x40, 2, 0, 9]));
    door.close().await;
    assert_eq!(raw.packet().await, Some(vec![0xE0, 2, 0x8B, 0]));
    assert_eq!(raw.packet().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_does_not_wait_for_those_who_never_said_connect() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let mut silent = Raw::open(door.address).await;
    silent.send(&[0x10]).await;
    let (mut known, _) = Raw::v4(door.address, "c", true).await;
    door.close().await;
    assert_eq!((silent.packet().await, known.packet().await), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_will_is_dropped_if_the_client_is_back_in_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    // A will on "w" that waits for an hour, in a session that outlives it.
    let will = [5, 0x18, 0, 0, 14, 16, 0, 1, b'w', 0, 1, b'x'];
    let lasting = [0x11, 0, 0, 255, 255];
    let connect = connect_with(5, "c", 0x04, 0, &lasting, &will);
    let (first, _) = Raw::connect(door.address, &connect).await;
    drop(first);
    let (mut second, connack) = Raw::connect(door.address, &connect).await;
    assert_eq!((connack[2], connack[3]), (1, 0), "the session is there");
    // A clean start ends the session, and with it the wait of the second connection's will.
    second.send(&[0xC0, 0]).await;
    second.packet().await.expect("PINGRESP");
    drop(second);
    let clean = connect_with(5, "c", 0x02, 0, &[], &[]);
    let (mut third, connack) = Raw::connect(door.address, &clean).await;
    assert_eq!((connack[2], connack[3]), (0, 0));
    third.send(&[0x32, 7, 0, 1, b't', 0, 9, 0, b'x']).await;
    assert_eq!(third.packet().await, Some(vec![0x40, 2, 0, 9]));
    assert!(stored(&door.journal, "w").len() <= 1, "the first will was dropped");
    door.close().await;
    assert_eq!(stored_after(dir.path(), "w"), ["x"], "the second one was not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_published_unless_the_client_says_goodbye() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let will = |text: u8| [0, 1, b'w', 0, 1, text];
    let connect = |client: &str, text: u8| connect_with(4, client, 0x2E, 0, &[], &will(text));
    let (mut polite, _) = Raw::connect(door.address, &connect("polite", b'p')).await;
    polite.send(&[0xE0, 0]).await;
    assert_eq!(polite.packet().await, None);
    let (mut watcher, _) = Raw::v4(door.address, "watcher", true).await;
    watcher.send(&subscribe_bytes("w", 1)).await;
    watcher.packet().await.expect("SUBACK");
    let (rude, _) = Raw::connect(door.address, &connect("rude", b'r')).await;
    drop(rude);
    let message = watcher.packet().await.expect("the will");
    assert!(message.ends_with(b"r"), "{message:?}");
    assert_eq!(door.metrics.wills.get(), 1);
    let (mut late, _) = Raw::v4(door.address, "late", true).await;
    late.send(&subscribe_bytes("#", 0)).await;
    late.packet().await.expect("SUBACK");
    assert_eq!(late.packet().await, Some(publish_bytes(0x31, "w", 0, "r")), "it was retained");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_ended_after_its_keep_alive_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (mut raw, _) = Raw::connect(door.address, &connect_bytes(5, "c", true, 1)).await;
    assert_eq!(raw.packet().await, Some(vec![0xE0, 2, 0x8D, 0]));
    assert_eq!(raw.packet().await, None);
    assert_eq!(door.metrics.faults(0x8D), 1);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_packet_ends_its_connection_only_and_is_counted_by_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "max_packet_size = \"1 KiB\"\n");
    let (mut good, _) = Raw::v4(door.address, "good", true).await;
    for (bytes, reason) in [
        (&[0x36_u8, 5, 0, 1, b'a', 0, 1][..], 0x81),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 0x95),
        (&[0x10, 0], 0x82),
        (&[0x30, 4, 0, 1, b'#', 0], 0x90),
    ] {
        let (mut raw, _) = Raw::connect(door.address, &connect_bytes(5, "bad", true, 0)).await;
        raw.send(bytes).await;
        assert_eq!(raw.packet().await, Some(vec![0xE0, 2, reason, 0]));
        assert_eq!(raw.packet().await, None);
        assert_eq!(door.metrics.faults(reason), 1);
    }
    let mut raw = Raw::open(door.address).await;
    raw.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.packet().await, None, "no CONNECT, no answer");
    good.send(&[0xC0, 0]).await;
    assert_eq!(good.packet().await, Some(vec![0xD0, 0]));
    door.close().await;
}

/// CONNECT of 3.1.1 with a will of so many bytes.
fn long_connect(client: &str, will_bytes: usize) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0x06, 0, 0, 0, client.len() as u8];
    body.extend_from_slice(client.as_bytes());
    body.extend_from_slice(&[0, 1, b'w']);
    body.extend_from_slice(&u16::try_from(will_bytes).expect("a will").to_be_bytes());
    body.resize(body.len() + will_bytes, b'x');
    let length = body.len();
    let low = |shift: usize| (length >> shift & 0x7F) as u8;
    let mut packet = vec![0x10, low(0) | 0x80, low(7) | 0x80, low(14)];
    packet.extend_from_slice(&body);
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_connect_takes_memory_of_all_who_are_not_let_in_and_of_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let whole = long_connect("large", 60_000);
    let (mut large, connack) = Raw::connect(door.address, &whole).await;
    assert_eq!(connack, [0x20, 2, 0, 0], "a long CONNECT is fine");
    let mut halves = Vec::new();
    for _ in 0..100 {
        let mut half = TcpStream::connect(door.address).await.expect("the door is open");
        // The door may not hear it to the end.
        let _ = half.write_all(&whole[..whole.len() - 1]).await;
        halves.push(half);
    }
    let refused = async {
        while door.metrics.faults(0x89) < 20 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(9), refused).await.expect("100 times 58 KiB are too much");
    let (_small, connack) = Raw::connect(door.address, &connect_bytes(4, "small", true, 0)).await;
    assert_eq!(connack, [0x20, 2, 0, 0], "a short CONNECT needs none of it");
    large.send(&[0xC0, 0]).await;
    assert_eq!(large.packet().await, Some(vec![0xD0, 0]));
    drop(halves);
    let again = async {
        loop {
            let mut later = TcpStream::connect(door.address).await.expect("the door is open");
            let _ = later.write_all(&long_connect("later", 60_000)).await;
            let mut connack = [0; 4];
            if later.read_exact(&mut connack).await.is_ok() {
                return connack;
            }
        }
    };
    let connack = timeout(Duration::from_secs(20), again).await.expect("their room is free again");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_told_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "max_connections = 1\n");
    let (first, _) = Raw::v4(door.address, "a", true).await;
    let (mut v5, connack) = Raw::connect(door.address, &connect_bytes(5, "b", true, 0)).await;
    assert_eq!(connack[3], 0x89);
    assert_eq!(v5.packet().await, None);
    let (_, connack) = Raw::connect(door.address, &connect_bytes(4, "b", true, 0)).await;
    assert_eq!(connack, [0x20, 2, 0, 3]);
    assert_eq!(door.view.status().connections, 1);
    drop(first);
    loop {
        let (_, connack) = Raw::connect(door.address, &connect_bytes(4, "b", true, 0)).await;
        if connack[3] == 0 {
            break;
        }
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_ids_that_are_not_spoken_are_refused_as_their_version_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    for (connect, expected) in [
        (connect_bytes(3, "c", true, 0), &[0x20_u8, 2, 0, 1][..]),
        (connect_bytes(6, "c", true, 0), &[0x20, 3, 0, 0x84, 0]),
        (connect_bytes(4, "", false, 0), &[0x20, 2, 0, 2]),
        (connect_with(5, "c", 2, 0, &[0x15, 0, 1, b'x'], &[]), &[0x20, 3, 0, 0x8C, 0]),
        (connect_with(5, "c", 2, 0, &[0x21, 0, 0], &[]), &[0x20, 3, 0, 0x82, 0]),
    ] {
        let (mut raw, connack) = Raw::connect(door.address, &connect).await;
        assert_eq!(connack, expected);
        assert_eq!(raw.packet().await, None);
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connack_of_version_5_says_what_the_server_grants() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let (_, connack) = Raw::connect(door.address, &connect_bytes(5, "", true, 200)).await;
    let has = |property: &[u8]| connack.windows(property.len()).any(|window| window == property);
    assert_eq!(connack[3], 0);
    assert!(has(&[0x13, 0, 60]), "server keep-alive");
    assert!(has(&[0x21, 4, 0]), "receive maximum");
    assert!(has(&[0x22, 0, 16]), "topic alias maximum");
    assert!(has(&[0x27, 0, 4, 0, 0]), "maximum packet size");
    assert!(!has(&[0x2A, 0]), "shared subscriptions are there");
    assert!(has(b"auto-"), "assigned client id");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_do_what_their_rules_allow_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let hash = hash_password("pw").expect("a hash");
    let user = format!(
        "[[user]]\nname = \"u\"\npassword = \"{hash}\"\npublish = [\"a/#\"]\n\
         subscribe = [\"a/#\"]\ndeny = [\"a/x\"]\n"
    );
    let door = Door::open(dir.path(), &user);
    let login = |password: u8| [0, 1, b'u', 0, 2, b'p', password];
    let connect = |level, password| connect_with(level, "c", 0xC2, 0, &[], &login(password));
    let (_, connack) = Raw::connect(door.address, &connect(4, b'x')).await;
    assert_eq!(connack, [0x20, 2, 0, 4]);
    let (_, connack) = Raw::connect(door.address, &connect_bytes(4, "c", true, 0)).await;
    assert_eq!(connack, [0x20, 2, 0, 5], "nobody without a name");
    let (mut raw, connack) = Raw::connect(door.address, &connect(5, b'w')).await;
    assert_eq!(connack[3], 0);
    raw.send(&[0x32, 8, 0, 3, b'a', b'/', b'x', 0, 1, 0]).await;
    assert_eq!(raw.packet().await, Some(vec![0x40, 3, 0, 1, 0x87]), "denied");
    raw.send(&[0x82, 15, 0, 2, 0, 0, 1, b'#', 0, 0, 3, b'a', b'/', b'#', 1, 0, 0]).await;
    assert_eq!(raw.packet().await, Some(vec![0xE0, 2, 0x81, 0]), "a filter without its options");
    let (mut v4, _) = Raw::connect(door.address, &connect(4, b'w')).await;
    v4.send(&[0x82, 12, 0, 2, 0, 1, b'#', 0, 0, 3, b'a', b'/', b'#', 1]).await;
    assert_eq!(v4.packet().await, Some(vec![0x90, 4, 0, 2, 0x80, 1]));
    v4.send(&publish_bytes(0x32, "b", 1, "x")).await;
    assert_eq!(v4.packet().await, None, "3.1.1 has no refusal, and an ack would be a promise");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_says_which_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    let taken = MqttConfig {
        listen: door.address,
        unix: None,
        tls: None,
        websocket: None,
        max_connections: 1,
        max_packet_bytes: 1000,
        users: Vec::new(),
        anonymous: None,
    };
    let problem = door.bind_again(&taken).expect_err("taken");
    assert_eq!(problem.kind(), std::io::ErrorKind::AddrInUse);
    assert!(problem.to_string().contains(&door.address.to_string()), "{problem}");
    assert!(problem.to_string().contains("mqtt.listen"), "{problem}");
    door.close().await;
}
