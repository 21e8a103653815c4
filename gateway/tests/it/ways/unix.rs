//! The Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use headwater::mqtt::Way;
use tokio::net::UnixStream;

use crate::door::Door;
use crate::process::{Gateway, config, headwater, text};
use crate::raw::{Raw, connect_bytes, publish_bytes};

fn key(path: &Path) -> String {
    format!("unix = \"{}\"\n", path.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_unix_socket_is_local_and_meets_those_of_other_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mqtt.sock");
    let door = Door::open(dir.path(), &key(&path));
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let stream = UnixStream::connect(&path).await.expect("accepted");
    let mut raw = Raw::enter(stream, "c").await;
    raw.send(&publish_bytes(0x34, "t", 9, "x")).await;
    assert_eq!(raw.packet().await, Some(vec![0x50, 2, 0, 9]));
    let (_other, connack) = Raw::connect(door.address, &connect_bytes(4, "c", true, 0)).await;
    assert_eq!(connack[3], 0);
    assert_eq!(raw.packet().await, None, "taken over by TCP");
    assert_eq!(door.metrics.arrivals(Way::Unix), (1, 0));
    door.close().await;
    assert!(!path.exists(), "the file goes with the gateway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_shared_by_all_ways() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mqtt.sock");
    let door = Door::open(dir.path(), &format!("max_connections = 1\n{}", key(&path)));
    let (_first, _) = Raw::v4(door.address, "a", true).await;
    let mut second = Raw::over(UnixStream::connect(&path).await.expect("accepted"));
    second.send(&connect_bytes(4, "b", true, 0)).await;
    assert_eq!(second.packet().await, Some(vec![0x20, 2, 0, 3]), "no place is left");
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_of_a_dead_gateway_is_replaced_and_that_of_a_live_one_is_exit_75() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mqtt.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists(), "a file without a socket, as SIGKILL leaves it");
    let mut gateway = Gateway::start(&listening(dir.path(), &path));
    Raw::enter(UnixStream::connect(&path).await.expect("accepted"), "c").await;

    let other = tempfile::tempdir().expect("a directory");
    let second = listening(other.path(), &path);
    let output = headwater(&["run", "-c", &second.display().to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("mqtt.unix") && said.contains("end what listens there"), "{said}");
    Raw::enter(UnixStream::connect(&path).await.expect("the first goes on"), "c").await;

    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mqtt.sock");
    std::fs::write(&path, "mine").expect("written");
    let config = listening(dir.path(), &path);
    let output = headwater(&["run", "-c", &config.display().to_string()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("this is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "mine");
}

/// A configuration with free ports and this socket.
fn listening(dir: &Path, socket: &Path) -> std::path::PathBuf {
    let path = config(dir, "");
    let written = std::fs::read_to_string(&path).expect("it was written");
    let text = written.replace("[mqtt]\n", &format!("[mqtt]\n{}", key(socket)));
    std::fs::write(&path, text).expect("written");
    path
}
