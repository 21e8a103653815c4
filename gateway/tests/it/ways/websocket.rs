//! MQTT over WebSocket.

use std::time::Duration;

use headwater::mqtt::Way;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::{BINARY, CLOSE, CONTINUATION, Frames, PING, PONG, TEXT, frame, request};
use super::pki::{Ca, Client, Files};
use crate::door::Door;
use crate::raw::{Raw, connect_bytes, publish_bytes, subscribe_bytes};

const LISTEN: &str = "[mqtt.websocket]\nlisten = \"127.0.0.1:0\"\n";

/// In as a client of 3.1.1.
async fn enter(door: &Door, client: &str) -> Frames {
    let mut frames = Frames::open(door.at(Way::WebSocket)).await;
    frames.send(&frame(true, BINARY, &connect_bytes(4, client, true, 0))).await;
    assert_eq!(frames.packet().await, Some(vec![0x20, 2, 0, 0]));
    frames
}

/// The bytes as messages of this length, each of three frames, with pings between them.
fn cut(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for message in bytes.chunks(length) {
        let (head, tail) = message.split_at(message.len() / 2);
        out.extend(frame(false, BINARY, head));
        out.extend(frame(true, PING, b"still there?"));
        out.extend(frame(false, CONTINUATION, tail));
        out.extend(frame(true, CONTINUATION, &[]));
        out.extend(frame(true, BINARY, &[]));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_cut_and_joined_at_odd_places_are_acknowledged_as_any_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let mut conversation = connect_bytes(4, "c", true, 0);
    conversation.extend(subscribe_bytes("back", 1));
    conversation.extend(publish_bytes(0x32, "t", 7, "once or more"));
    conversation.extend(publish_bytes(0x34, "t", 8, "once"));
    for length in [1, 2, 3, 5, 11, 19, 1000] {
        let mut frames = Frames::open(door.at(Way::WebSocket)).await;
        // What the socket cuts has nothing to do with frames.
        for piece in cut(&conversation, length).chunks(length + 4) {
            frames.send(piece).await;
        }
        let mut packets = Vec::new();
        let (mut bytes, mut pongs) = (Vec::new(), 0);
        while pongs < conversation.chunks(length).len() || bytes.len() < 4 + 5 + 4 + 4 {
            match frames.frame().await.expect("an answer") {
                (PONG, payload) => {
                    assert_eq!(payload, b"still there?");
                    pongs += 1;
                }
                (BINARY, payload) => bytes.extend_from_slice(&payload),
                other => panic!("{other:?}"),
            }
        }
        packets.extend_from_slice(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 1]);
        packets.extend_from_slice(&[0x40, 2, 0, 7, 0x50, 2, 0, 8]);
        assert_eq!(bytes, packets, "messages of {length}");
        frames.send(&frame(true, BINARY, &[0x62, 2, 0, 8])).await;
        assert_eq!(frames.packet().await, Some(vec![0x70, 2, 0, 8]));
        let (mut other, _) = Raw::v4(door.address, "other", true).await;
        other.send(&publish_bytes(0x32, "back", 1, "hello")).await;
        other.packet().await.expect("acknowledged");
        let message = frames.packet().await.expect("a message");
        let id = u16::from_be_bytes([message[8], message[9]]);
        assert_eq!(message, publish_bytes(0x32, "back", id, "hello"));
    }
    assert_eq!(door.metrics.arrivals(Way::WebSocket), (7, 0));
    assert_eq!(door.metrics.received.get(), 7 * 3);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_any_buffer_holds_goes_to_a_slow_reader_whole() {
    const MESSAGES: usize = 60;
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let mut reader = enter(&door, "reader").await;
    reader.send(&frame(true, BINARY, &subscribe_bytes("t", 0))).await;
    reader.packet().await.expect("SUBACK");
    let mut writer = enter(&door, "writer").await;
    let mut packet = vec![0x32, 0xC5, 0x9A, 0x0C, 0, 1, b't', 0, 1];
    packet.extend_from_slice(&[7; 200_000]);
    for _ in 0..MESSAGES {
        writer.send(&frame(true, BINARY, &packet)).await;
        assert_eq!(writer.packet().await, Some(vec![0x40, 2, 0, 1]));
    }
    for _ in 0..MESSAGES {
        let message = reader.packet().await.expect("a message");
        assert!(message.len() == 7 + 200_000 && message.ends_with(&[7; 1000]));
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_closed_with_its_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let unmasked = [0x82, 2, 0xC0, 0];
    let endless = [0x82, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    for (bytes, code) in [
        (&frame(true, TEXT, b"hello")[..], 1003_u16),
        (&unmasked, 1002),
        (&frame(true, CONTINUATION, b"x"), 1002),
        (&endless, 1009),
    ] {
        let mut frames = enter(&door, "c").await;
        frames.send(bytes).await;
        let (opcode, payload) = frames.frame().await.expect("a close frame");
        assert_eq!((opcode, &payload[..2]), (CLOSE, &code.to_be_bytes()[..]));
        assert_eq!(frames.frame().await, None);
    }
    assert_eq!(door.metrics.faults(0x82), 4, "each is said as a fault of the client");
    let mut early = Frames::open(door.at(Way::WebSocket)).await;
    early.send(&frame(true, TEXT, b"before CONNECT")).await;
    let (opcode, _) = early.frame().await.expect("a close frame");
    assert_eq!((opcode, early.frame().await), (CLOSE, None));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_ends_with_a_close_frame_and_the_other_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let mut frames = enter(&door, "closes").await;
    frames.send(&frame(true, CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(frames.frame().await, Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));
    assert_eq!(frames.frame().await, None);

    let mut frames = enter(&door, "leaves").await;
    frames.send(&frame(true, BINARY, &[0xE0, 0])).await;
    assert_eq!(frames.frame().await, Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));

    let mut first = enter(&door, "taken over").await;
    let _second = enter(&door, "taken over").await;
    assert_eq!(first.frame().await, Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));

    let mut last = enter(&door, "last").await;
    door.close().await;
    assert_eq!(last.frame().await, Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));
    assert_eq!(last.frame().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_something_else_is_told_what_is_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let others = request("").replace("Protocol: mqtt", "Protocol: chat");
    for (request, status, words) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "426", "MQTT over WebSocket"),
        (&*others, "400", "\"mqtt\""),
        ("\u{10}\u{1a}\0\u{4}MQTT\u{4}\u{2}\0\0\0\u{1}c\r\n\r\n", "400", "not HTTP"),
    ] {
        let mut stream = TcpStream::connect(door.at(Way::WebSocket)).await.expect("accepted");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).await.expect("a response and an end");
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        assert!(response.contains(words), "{response}");
    }
    let mut long = TcpStream::connect(door.at(Way::WebSocket)).await.expect("accepted");
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8 << 10));
    long.write_all(endless.as_bytes()).await.expect("sent");
    let mut response = vec![0; 12];
    long.read_exact(&mut response).await.expect("a response");
    assert_eq!(response, b"HTTP/1.1 431");
    drop(long);
    enter(&door, "c").await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_come_blocks_nobody_and_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), &format!("max_connections = 3\n{LISTEN}"));
    let at = door.at(Way::WebSocket);
    let mut idle = TcpStream::connect(at).await.expect("accepted");
    // An upgrade alone does not give a client more time.
    let mut upgraded = Frames::open(at).await;
    let started = std::time::Instant::now();
    let mut client = enter(&door, "c").await;
    assert!(started.elapsed() < Duration::from_secs(5), "nobody was waited for");
    assert_eq!(upgraded.frame().await, None);
    assert!(idle.read_u8().await.is_err(), "its time is over");
    assert!(started.elapsed() > Duration::from_secs(8), "they had their time");
    client.send(&frame(true, BINARY, &[0xC0, 0])).await;
    assert_eq!(client.packet().await, Some(vec![0xD0, 0]));
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_browser_is_not_a_program_of_this_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let stream = TcpStream::connect(door.at(Way::WebSocket)).await.expect("accepted");
    let mut page = Frames::over(stream, "Origin: http://localhost\r\n").await;
    page.send(&frame(true, BINARY, &connect_bytes(4, "c", true, 0))).await;
    assert_eq!(page.packet().await, Some(vec![0x20, 2, 0, 5]), "not authorized");
    door.close().await;

    let dir = tempfile::tempdir().expect("a directory");
    let anonymous = format!("{LISTEN}[anonymous]\npublish = [\"#\"]\n");
    let door = Door::open(dir.path(), &anonymous);
    let stream = TcpStream::connect(door.at(Way::WebSocket)).await.expect("accepted");
    let mut page = Frames::over(stream, "Origin: http://localhost\r\n").await;
    page.send(&frame(true, BINARY, &connect_bytes(4, "c", true, 0))).await;
    assert_eq!(page.packet().await, Some(vec![0x20, 2, 0, 0]), "who is named may enter");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tls_it_shows_the_certificate_of_mqtt_tls_and_speaks_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Ca::new();
    let files = Files::new(dir.path(), &ca, &ca.sign("localhost"));
    let door = Door::open(dir.path(), &format!("{}{LISTEN}tls = true\n", files.section(true)));
    let at = door.at(Way::WebSocketTls);
    let client = Client::new(&ca).shows(&ca.sign("page")).offers(&["http/1.1"]);
    let mut frames = Frames::over(client.connect(at).await.expect("in"), "").await;
    frames.send(&frame(true, BINARY, &connect_bytes(4, "c", true, 0))).await;
    assert_eq!(frames.packet().await, Some(vec![0x20, 2, 0, 0]));
    frames.send(&frame(true, BINARY, &publish_bytes(0x32, "t", 9, "x"))).await;
    assert_eq!(frames.packet().await, Some(vec![0x40, 2, 0, 9]));
    assert!(client.connect(door.at(Way::Tls)).await.is_err(), "http is not spoken there");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_pings_and_takes_no_pongs_is_not_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), LISTEN);
    let mut frames = enter(&door, "c").await;
    let pings = frame(true, PING, &[b'p'; 125]).repeat(1000);
    let mut sent = 0;
    while sent < 100 << 20 {
        let sending = frames.stream.write(&pings[sent % pings.len()..]);
        match tokio::time::timeout(Duration::from_secs(3), sending).await {
            Ok(count) => sent += count.expect("it goes on"),
            Err(_) => break,
        }
    }
    assert!(sent < 100 << 20, "{sent} bytes of pings were taken");
    door.close().await;
}
