//! The front door, driven over sockets by rumqttc's clients and by bytes of our own.
use crate::door::Door;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_door_opens_and_closes() {
    let dir = tempfile::tempdir().expect("a directory");
    let door = Door::open(dir.path(), "");
    door.close().await;
}
