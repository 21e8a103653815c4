//! What `headwater check` and `headwater run` say about the ways in.

use std::path::Path;
use std::time::{Duration, Instant};

use super::pki::{Ca, Client, Files};
use crate::process::{Gateway, config, headwater, text};

/// Runs `check`; exit code and what it said.
fn check(path: &Path) -> (Option<i32>, String) {
    let output = headwater(&["check", "-c", &path.display().to_string()]);
    (output.status.code(), text(&output.stderr))
}

#[test]
fn files_of_tls_have_to_be_there_and_to_belong_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, server) = (Ca::new(), Ca::new().sign("localhost"));
    let files = Files::new(dir.path(), &ca, &server);
    let path = config(dir.path(), &files.section(true));
    assert_eq!(check(&path).0, Some(0));

    let stranger = ca.sign("localhost").key.serialize_pem();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (file, content, line, key, words) in [
        (&files.key, Some(&*stranger), 11, "mqtt.tls.key", "is not the key of the certificate"),
        (&files.key, Some(encrypted), 11, "mqtt.tls.key", "openssl pkey"),
        (&files.key, Some("secret"), 11, "mqtt.tls.key", "BEGIN PRIVATE KEY"),
        (&files.key, None, 11, "mqtt.tls.key", "put it there"),
        (&files.certificate, Some(""), 10, "mqtt.tls.certificate", "BEGIN CERTIFICATE"),
        (&files.certificate, Some(broken), 10, "mqtt.tls.certificate", "make it anew"),
        (&files.certificate, None, 10, "mqtt.tls.certificate", "server.pem cannot be read"),
        (&files.ca, Some(broken), 12, "mqtt.tls.client_ca", "give the one that signs"),
        (&files.ca, None, 12, "mqtt.tls.client_ca", "No such file"),
    ] {
        match content {
            Some(content) => std::fs::write(file, content).expect("written"),
            None => std::fs::remove_file(file).expect("it was there"),
        }
        let (code, said) = check(&path);
        assert_eq!(code, Some(78), "{said}");
        let place = format!("headwater.toml:{line}: {key}: ");
        assert!(said.contains(&place) && said.contains(words), "{place}{words}, got: {said}");
        Files::new(dir.path(), &ca, &server);
    }
}

#[test]
fn a_way_in_that_cannot_be_is_told_with_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let long = format!("unix = \"{}\"\n", "x".repeat(108));
    for (more, line, key, words) in [
        (&*long, 11, "mqtt.unix", "at most 107"),
        ("unix = \"\"\n", 11, "mqtt.unix", "/run/headwater/mqtt.sock"),
        ("[mqtt.websocket]\ntls = true\n", 12, "mqtt.websocket.tls", "[mqtt.tls]"),
        ("[mqtt.websocket]\nlisten = \"x\"\n", 12, "mqtt.websocket.listen", "0.0.0.0:8083"),
        ("[mqtt.tls]\nkey = \"k\"\n", 11, "mqtt.tls", "missing field `certificate`"),
    ] {
        // The section [mqtt] comes last, so that what is added belongs to it.
        let path = dir.path().join("headwater.toml");
        let text = format!(
            "[gateway]\nid = \"test\"\ndata_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n\n\n\n\
             [mqtt]\nlisten = \"127.0.0.1:0\"\n{more}"
        );
        std::fs::write(&path, text).expect("written");
        let (code, said) = check(&path);
        assert_eq!(code, Some(78), "{said}");
        let place = format!("headwater.toml:{line}: {key}");
        assert!(said.contains(&place) && said.contains(words), "{place} {words}, got: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_certificates_again_though_the_files_look_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let ca = Ca::new();
    let (first, second) = (ca.sign("localhost"), ca.sign("localhost"));
    let files = Files::new(dir.path(), &ca, &first);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = free.local_addr().expect("bound");
    drop(free);
    let section = files.section(false).replace("127.0.0.1:0", &at.to_string());
    let mut gateway = Gateway::start(&config(dir.path(), &section));
    let client = Client::new(&ca);
    let shown = async || {
        let stream = client.connect(at).await.expect("in");
        stream.get_ref().1.peer_certificates().expect("a chain")[0].clone()
    };
    assert_eq!(shown().await, first.certificate);
    files.replace(&second);
    gateway.signal("-HUP");
    let started = Instant::now();
    while shown().await != second.certificate {
        assert!(started.elapsed() < Duration::from_secs(30), "SIGHUP is heard");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
}
