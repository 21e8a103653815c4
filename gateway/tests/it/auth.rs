//! Who may do what, over sockets: rules with names, limits, reloads, credentials of nodes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use headwater::mqtt::hash_password;

use crate::door::Door;
use crate::process::{Gateway, config, get, headwater, text};
use crate::raw::{Raw, connect_bytes, connect_with, publish_bytes, subscribe_bytes};

/// CONNECT of `user` with a clean session.
fn login(level: u8, client: &str, user: &str, password: &str) -> Vec<u8> {
    let mut rest = vec![0, user.len() as u8];
    rest.extend_from_slice(user.as_bytes());
    rest.extend_from_slice(&[0, password.len() as u8]);
    rest.extend_from_slice(password.as_bytes());
    connect_with(level, client, 0xC2, 0, &[], &rest)
}

fn user(name: &str, password: &str, more: &str) -> String {
    let hash = hash_password(password).expect("a hash");
    format!("[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\n{more}\n")
}

async fn let_in(address: SocketAddr, connect: &[u8]) -> Raw {
    let (raw, connack) = Raw::connect(address, connect).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    raw
}

/// The reason code of a refusal.
async fn refused(address: SocketAddr, connect: &[u8]) -> u8 {
    Raw::connect(address, connect).await.1[3]
}

/// PUBLISH of 5 with QoS 1.
fn publish_v5(topic: &str, id: u8) -> Vec<u8> {
    let mut packet = vec![0x32, 5 + topic.len() as u8, 0, topic.len() as u8];
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&[0, id, 0]);
    packet
}

/// SUBSCRIBE of 5 with QoS 0.
fn subscribe_v5(filter: &str) -> Vec<u8> {
    let mut packet = vec![0x82, 6 + filter.len() as u8, 0, 1, 0, 0, filter.len() as u8];
    packet.extend_from_slice(filter.as_bytes());
    packet.push(0);
    packet
}

/// The code of a PUBACK of 5.
async fn puback_v5(raw: &mut Raw) -> u8 {
    let ack = raw.packet().await.expect("an answer");
    assert_eq!(ack[0], 0x40, "{ack:?}");
    ack.get(4).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_take_the_names_of_the_client_and_no_name_widens_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let rules = "publish = [\"own/{user}/{client}/#\"]\nsubscribe = [\"to/{client}\"]";
    let door = Door::open(dir.path(), &user("u", "pw", rules));
    let mut raw = let_in(door.address, &login(5, "c", "u", "pw")).await;
    for (topic, code) in [("own/u/c/x", 0), ("own/u/d/x", 0x87), ("own/v/c/x", 0x87)] {
        raw.send(&publish_v5(topic, 1)).await;
        assert_eq!(puback_v5(&mut raw).await, code, "{topic}");
    }
    for (filter, code) in [("to/c", 0), ("to/d", 0x80), ("to/+", 0x80)] {
        raw.send(&subscribe_v5(filter)).await;
        let suback = raw.packet().await.expect("SUBACK");
        assert_eq!(suback.last(), Some(&code), "{filter}");
    }
    for client in ["+", "#", "a/b"] {
        let mut raw = let_in(door.address, &login(5, client, "u", "pw")).await;
        raw.send(&publish_v5("own/u/a/b", 1)).await;
        assert_eq!(puback_v5(&mut raw).await, 0x87, "{client}");
        raw.send(&subscribe_v5("to/+")).await;
        assert_eq!(raw.packet().await.expect("SUBACK").last(), Some(&0x80), "{client}");
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_held_to_the_rate_of_its_user_and_nothing_of_it_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let limited = "[anonymous]\npublish = [\"#\"]\nmax_rate = 100\n";
    let door =
        Door::open(dir.path(), &format!("{}{limited}", user("free", "pw", "publish = [\"#\"]")));
    let mut free = let_in(door.address, &login(4, "free", "free", "pw")).await;
    let start = Instant::now();
    let (mut one, _) = Raw::v4(door.address, "one", true).await;
    let (mut two, _) = Raw::v4(door.address, "two", true).await;
    for id in 1..=150 {
        one.send(&publish_bytes(0x32, "flood", id, "x")).await;
        two.send(&publish_bytes(0x32, "flood", id, "x")).await;
    }
    free.send(&publish_bytes(0x32, "free", 1, "x")).await;
    assert_eq!(free.packet().await, Some(vec![0x40, 2, 0, 1]));
    assert!(start.elapsed() < Duration::from_millis(1500), "another user is not held back");
    for id in 1..=150_u8 {
        assert_eq!(one.packet().await, Some(vec![0x40, 2, 0, id]), "in order");
        assert_eq!(two.packet().await, Some(vec![0x40, 2, 0, id]), "in order");
    }
    let took = start.elapsed();
    // 300 messages, of which 100 come at once.
    assert!(took > Duration::from_millis(1900), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_bytes_holds_back_and_a_reload_without_it_lets_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let limited = "[anonymous]\npublish = [\"#\"]\nmax_bytes = \"1 KiB\"\n";
    let door = Door::open(dir.path(), limited);
    let (mut raw, _) = Raw::v4(door.address, "c", true).await;
    let start = Instant::now();
    let payload = "x".repeat(100);
    for id in 1..=200 {
        raw.send(&publish_bytes(0x32, "t", id, &payload)).await;
    }
    for id in 1..=20_u8 {
        assert_eq!(raw.packet().await, Some(vec![0x40, 2, 0, id]));
    }
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    door.reload(dir.path(), "[anonymous]\npublish = [\"#\"]\n");
    for id in 21..=200_u8 {
        assert_eq!(raw.packet().await, Some(vec![0x40, 2, 0, id]));
    }
    // The 200 would take 20 s.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_connection_than_a_user_may_have_is_refused_and_a_take_over_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let limited = "[anonymous]\npublish = [\"#\"]\nmax_connections = 2\n";
    let door = Door::open(dir.path(), limited);
    let (first, _) = Raw::v4(door.address, "one", true).await;
    let (_second, _) = Raw::v4(door.address, "two", true).await;
    assert_eq!(refused(door.address, &connect_bytes(4, "three", true, 0)).await, 3);
    assert_eq!(refused(door.address, &connect_bytes(5, "three", true, 0)).await, 0x97);
    let (_again, _) = Raw::v4(door.address, "one", true).await;
    drop(first);
    door.reload(dir.path(), "[anonymous]\npublish = [\"#\"]\nmax_connections = 3\n");
    let (_third, _) = Raw::v4(door.address, "three", true).await;
    assert_eq!(refused(door.address, &connect_bytes(5, "four", true, 0)).await, 0x97);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_wrong_logins_is_refused_unheard_while_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "[anonymous]\npublish = [\"#\"]\n");
    let (mut raw, _) = Raw::v4(door.address, "c", true).await;
    let mut codes = Vec::new();
    while codes.last() != Some(&0x9F) {
        codes.push(refused(door.address, &login(5, "x", "u", "pw")).await);
        assert!(codes.len() < 400, "{codes:?}");
    }
    assert!(codes.len() > 100 && codes[0] == 0x86, "{codes:?}");
    assert_eq!(door.metrics.logins_limited.get(), 1);
    raw.send(&publish_bytes(0x32, "t", 1, "x")).await;
    assert_eq!(raw.packet().await, Some(vec![0x40, 2, 0, 1]));
    let (_other, _) = Raw::v4(door.address, "d", true).await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_moves_rules_under_connected_clients() {
    let dir = tempfile::tempdir().expect("a directory");
    let rules = |publish: &str, subscribe: &str| {
        format!("[anonymous]\npublish = [{publish}]\nsubscribe = [{subscribe}]\n")
    };
    let door = Door::open(dir.path(), &rules("\"#\"", "\"#\""));
    let mut writer = let_in(door.address, &connect_bytes(5, "w", true, 0)).await;
    let (mut reader, _) = Raw::v4(door.address, "r", true).await;
    reader.send(&subscribe_bytes("#", 0)).await;
    assert_eq!(reader.packet().await, Some(vec![0x90, 3, 0, 1, 0]));
    let will = [0, 1, b'c', 0, 1, b'x'];
    let (doomed, _) = Raw::connect(door.address, &connect_with(4, "d", 0x06, 0, &[], &will)).await;
    assert_eq!(door.metrics.connects.get(), 3);
    door.reload(dir.path(), &rules("\"a\", \"b\"", "\"b\""));
    drop(doomed);
    while door.metrics.connections.get() > 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(door.metrics.wills.get(), 0, "its topic is no longer allowed");
    for (topic, code) in [("c", 0x87), ("a", 0), ("b", 0)] {
        writer.send(&publish_v5(topic, 1)).await;
        assert_eq!(puback_v5(&mut writer).await, code, "{topic}");
    }
    let seen = reader.packet().await.expect("what is still allowed");
    assert_eq!(seen[..5], [0x30, 3, 0, 1, b'b'], "and nothing of a");
    door.reload(dir.path(), "");
    writer.send(&publish_v5("c", 1)).await;
    assert_eq!(puback_v5(&mut writer).await, 0, "of this machine, and nobody is named");
    door.close().await;
}

/// A configuration for a process, with `more` behind the fixed part.
fn rewrite(path: &Path, from: &str, to: &str) {
    let old = std::fs::read_to_string(path).expect("it was written");
    assert!(old.contains(from), "{from} in {old}");
    std::fs::write(path, old.replace(from, to)).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_over_users_and_names_what_needs_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stays, goes) = (user("stays", "pw", "publish = [\"old\"]"), user("goes", "pw", ""));
    let path = config(dir.path(), &format!("{stays}{goes}{}", user("changes", "pw", "")));
    let gateway = Gateway::start(&path);
    let mut kept = let_in(gateway.mqtt, &login(5, "kept", "stays", "pw")).await;
    let mut gone = let_in(gateway.mqtt, &login(5, "gone", "goes", "pw")).await;
    let mut changed = let_in(gateway.mqtt, &login(5, "changed", "changes", "pw")).await;

    rewrite(&path, "\"old\"", "\"+bad\"");
    gateway.signal("-HUP");
    gateway.says("the configuration is wrong");
    kept.send(&publish_v5("old", 1)).await;
    assert_eq!(puback_v5(&mut kept).await, 0, "the old goes on");

    std::fs::remove_file(&path).expect("it is there");
    let new = format!("{}{}", stays.replace("old", "new"), user("changes", "other", ""));
    let path = config(dir.path(), &new);
    rewrite(&path, "id = \"test\"", "id = \"other\"");
    gateway.signal("-HUP");
    assert!(gateway.says("needs a restart: ").ends_with("needs a restart: gateway.id"));
    for raw in [&mut gone, &mut changed] {
        assert_eq!(raw.packet().await, Some(vec![0xE0, 2, 0x87, 0]));
    }
    for (topic, code) in [("old", 0x87), ("new", 0)] {
        kept.send(&publish_v5(topic, 1)).await;
        assert_eq!(puback_v5(&mut kept).await, code, "{topic}");
    }
    assert_eq!(refused(gateway.mqtt, &login(5, "gone", "goes", "pw")).await, 0x86);
    drop(let_in(gateway.mqtt, &login(5, "changed", "changes", "other")).await);
    let (_, shown) = get(gateway.http, "/api/v1/config");
    assert!(shown.contains("\"new\"") && !shown.contains("goes"), "{shown}");
    assert!(shown.contains("\"id\":\"test\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_added_logs_in_and_does_what_a_node_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = config(dir.path(), "# the end\n");
    let file = path.to_str().expect("UTF-8");
    let gateway = Gateway::start(&path);
    let added = headwater(&["node", "add", "pump-7", "-c", file]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let out = text(&added.stdout);
    let password = out.split_whitespace().find_map(|w| w.strip_prefix("HEADWATER_PASSWORD="));
    let password = password.expect("it is shown");
    let written = std::fs::read_to_string(&path).expect("there");
    assert!(written.contains("# the end\n") && !written.contains(password), "{written}");
    gateway.signal("-HUP");
    gateway.says("the configuration was read again");

    let mut raw = let_in(gateway.mqtt, &login(5, "pump-7", "pump-7", password)).await;
    for (subject, code) in
        [("blocks", 0), ("status", 0), ("announce", 0), ("time", 0), ("logs", 0), ("command", 0x87)]
    {
        raw.send(&publish_v5(&format!("headwater/v1/pump-7/{subject}"), 1)).await;
        assert_eq!(puback_v5(&mut raw).await, code, "{subject}");
    }
    raw.send(&publish_v5("headwater/v1/pump-8/blocks", 1)).await;
    assert_eq!(puback_v5(&mut raw).await, 0x87, "another node's");
    for (subject, code) in [("time/reply", 0), ("command", 0), ("blocks", 0x80)] {
        raw.send(&subscribe_v5(&format!("headwater/v1/pump-7/{subject}"))).await;
        assert_eq!(raw.packet().await.expect("SUBACK").last(), Some(&code), "{subject}");
    }
    let listed = text(&headwater(&["node", "list", "-c", file]).stdout);
    assert!(listed.contains("pump-7"), "{listed}");
    assert_eq!(headwater(&["node", "remove", "pump-7", "-c", file]).status.code(), Some(0));
    gateway.signal("-HUP");
    assert_eq!(raw.packet().await, Some(vec![0xE0, 2, 0x87, 0]));
}

#[test]
fn node_commands_refuse_what_is_wrong_with_its_own_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = config(dir.path(), &user("admin", "pw", "publish = [\"#\"]"));
    let file = path.to_str().expect("UTF-8");
    let before = std::fs::read_to_string(&path).expect("there");
    for (args, code) in [
        (&["node", "add", "a/b", "-c", file][..], 2),
        (&["node", "add", ".a", "-c", file], 2),
        (&["node", "add", "admin", "-c", file], 1),
        (&["node", "remove", "admin", "-c", file], 1),
        (&["node", "remove", "nobody", "-c", file], 1),
        (&["node", "add", "a", "-c", "no-such-file"], 66),
        (&["node", "list", "-c", "no-such-file"], 66),
    ] {
        let output = headwater(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
    }
    let printed = headwater(&["node", "add", "pump-7", "--print", "-c", file]);
    let toml = text(&printed.stdout);
    assert!(toml.starts_with("[[user]]\n") && !toml.contains("PASSWORD"), "{toml}");
    assert!(text(&printed.stderr).contains("HEADWATER_PASSWORD="));
    assert_eq!(std::fs::read_to_string(&path).expect("there"), before, "nothing was written");
    std::fs::write(&path, format!("{before}{toml}")).expect("written");
    assert_eq!(headwater(&["check", "-c", file]).status.code(), Some(0));
    std::fs::write(&path, format!("{before}[mqtt.x]\n")).expect("written");
    assert_eq!(headwater(&["node", "add", "a", "-c", file]).status.code(), Some(78));
}
