//! The command line as scripts see it: exit codes and messages.

use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions};
use serde_json::Value as Json;

use crate::process::{Gateway, config, get, headwater, text};

const CLIMATE: &str = r#"
[[stream]]
name = "climate"
topic = "sensors/{device}/climate"
key = "device"
format = "json"
time = "ts"
[upstream.files]
kind = "directory"
path = "out"
[[route]]
stream = "climate"
upstream = "files"
topic = "climate"
"#;

/// Publishes at QoS 1 and returns when all is acknowledged.
pub(crate) fn publish(port: u16, messages: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let options = MqttOptions::new("cli-test", "127.0.0.1", port);
        let (client, mut events) = AsyncClient::new(options, 100);
        for (topic, payload) in messages {
            client.publish(*topic, QoS::AtLeastOnce, false, *payload).await.expect("queued");
        }
        let mut left = messages.len();
        while left > 0 {
            let event = tokio::time::timeout(Duration::from_secs(30), events.poll()).await;
            let event = event.expect("an acknowledgement within 30 s").expect("a connection");
            left -= usize::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
        }
    });
}

pub(crate) fn lines(output: &[u8]) -> Vec<Json> {
    text(output).lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
}

#[test]
fn check_says_file_line_key_fault_and_remedy_and_exits_78() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), "[log]\nsegment_size = \"16 mib\"\n");
    let file = path.to_str().expect("UTF-8");
    let output = headwater(&["check", "-c", file]);
    assert_eq!(output.status.code(), Some(78));
    let message = text(&output.stderr);
    for part in [&format!("{file}:9:"), "log.segment_size", "\"16 mib\"", "MiB"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(headwater(&["run", "-c", file]).status.code(), Some(78));
}

#[test]
fn check_of_a_good_file_exits_0_and_of_a_missing_one_66() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), CLIMATE);
    let output = headwater(&["check", "-c", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(headwater(&["check", "-c", "no-such-file"]).status.code(), Some(66));
    assert_eq!(headwater(&["chekc"]).status.code(), Some(2));
}

#[test]
fn a_data_directory_in_use_and_a_port_in_use_exit_75() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), "");
    let gateway = Gateway::start(&path);
    let output = headwater(&["run", "-c", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));

    let other = tempfile::tempdir().expect("a temporary directory");
    let path = config(other.path(), "");
    let content = std::fs::read_to_string(&path).expect("it was written");
    let taken = format!("listen = \"{}\"", gateway.mqtt);
    std::fs::write(&path, content.replacen("listen = \"127.0.0.1:0\"", &taken, 1)).expect("file");
    let output = headwater(&["run", "-c", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("mqtt.listen"));
}

#[test]
fn what_was_acknowledged_is_served_after_sigkill_and_sigterm_exits_0() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), CLIMATE);
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let mut gateway = Gateway::start(&path);
    publish(
        gateway.mqtt.port(),
        &[
            ("sensors/a/climate", r#"{"ts":1763700000000,"t":21.5}"#),
            ("sensors/b/climate", "not json"),
            ("elsewhere", "text"),
        ],
    );
    gateway.signal("-KILL");
    gateway.wait();

    let show = |stream: &str| {
        let output = headwater(&["log", "show", "--data", data, "--stream", stream]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        lines(&output.stdout)
    };
    let climate = show("climate");
    assert_eq!(climate.len(), 1);
    assert_eq!(climate[0]["key"], "a");
    assert_eq!(climate[0]["time"], 1_763_700_000_000_i64);
    assert_eq!(climate[0]["topic"], "sensors/a/climate");
    assert_eq!(climate[0]["value"]["t"], 21.5);
    let rejected = show("climate.rejected");
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0]["value"]["payload"], "not json");
    assert!(rejected[0]["value"]["rejected"].as_str().is_some_and(|why| why.contains("JSON")));
    assert_eq!(show("mqtt")[0]["value"], "text");

    let mut gateway = Gateway::start(&path);
    let (status, body) = get(gateway.http, "/api/v1/streams/climate/records?from=earliest");
    assert_eq!((status, lines(body_of(&body).as_bytes())), (200, climate));
    assert_eq!(get(gateway.http, "/ready").0, 200);
    assert_eq!(get(gateway.http, "/live").0, 200);
    let (status, body) = get(gateway.http, "/metrics");
    assert!(status == 200 && body.contains("headwater_journal_syncs_total"), "{body}");
    let (status, body) = get(gateway.http, "/api/v1/streams/nope/records");
    assert!(status == 404 && body.contains("\"detail\""), "{body}");
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    let verify = headwater(&["log", "verify", "--data", data]);
    assert_eq!(verify.status.code(), Some(0), "{}", text(&verify.stdout));
}

/// A body may come in chunks; NDJSON lines start with a brace.
fn body_of(body: &str) -> String {
    body.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_damaged_journal_is_named_and_what_is_whole_is_served() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = config(dir.path(), CLIMATE);
    let data = dir.path().join("data");
    let mut gateway = Gateway::start(&path);
    let port = gateway.mqtt.port();
    for number in 0..3 {
        publish(port, &[("sensors/a/climate", &format!("{{\"ts\":1,\"mark\":\"m{number}\"}}"))]);
    }
    gateway.signal("-TERM");
    gateway.wait();
    let segment = data.join("journal").join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).expect("the first segment");
    let at = bytes.windows(2).position(|pair| pair == b"m1").expect("the second message");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("written");

    let data = data.to_str().expect("UTF-8");
    let verify = headwater(&["log", "verify", "--data", data]);
    assert_eq!(verify.status.code(), Some(1));
    assert!(text(&verify.stdout).contains("damage: "), "{}", text(&verify.stdout));
    let gateway = Gateway::start(&path);
    let (_, body) = get(gateway.http, "/api/v1/streams/climate/records");
    let marks: Vec<_> = lines(body_of(&body).as_bytes())
        .iter()
        .map(|record| record["value"]["mark"].clone())
        .collect();
    assert_eq!(marks, ["m0", "m2"], "the neighbours of the damage");
}

#[test]
fn the_demo_counts_the_same_everywhere() {
    let output = headwater(&["demo", "--for", "4s", "--devices", "3", "--http", "127.0.0.1:0"]);
    let report: Json = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(output.status.code(), Some(0), "{report}");
    let sent = report["sent"].as_u64().expect("a number");
    assert!(sent > 60, "{report}");
    for count in ["acknowledged", "stored", "windowed", "forwarded"] {
        assert_eq!(report[count].as_u64(), Some(sent), "{count}: {report}");
    }
}

/// Waits until the only route has nothing left to do.
fn wait_until_forwarded(gateway: &Gateway) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let (_, body) = get(gateway.http, "/api/v1/routes");
        let routes: Json = serde_json::from_str(&body).expect("JSON");
        if routes[0]["position"].as_u64() > Some(0) && routes[0]["lag"] == 0 {
            return;
        }
        assert!(std::time::Instant::now() < patience, "{body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn readings_keep_the_names_of_their_channels_after_a_restart_and_for_tools() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("demo");
    let data = data.to_str().expect("UTF-8");
    let args = ["demo", "--for", "2s", "--devices", "1", "--http", "127.0.0.1:0", "--data", data];
    assert_eq!(headwater(&args).status.code(), Some(0));
    let output = headwater(&["log", "show", "--data", data, "--stream", "climate", "--limit", "1"]);
    let shown = lines(&output.stdout);
    let reading = &shown[0]["value"]["readings"][0];
    assert!(reading["temperature"].is_number() && reading["humidity"].is_number(), "{shown:?}");

    // A route that starts anew reads the blocks of before, with no node there to announce itself.
    let path = dir.path().join("headwater.toml");
    let text = format!(
        "[gateway]\nid = \"again\"\ndata_dir = \"{data}\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[[stream]]\nname = \"climate\"\n\
         topic = \"headwater/v1/{{device}}/blocks\"\nkey = \"device\"\nformat = \"blocks\"\n\
         partitions = 3\n[upstream.files]\nkind = \"directory\"\npath = \"again\"\n[[route]]\n\
         stream = \"climate\"\nupstream = \"files\"\ntopic = \"again\"\n"
    );
    std::fs::write(&path, text).expect("a temporary file");
    let mut gateway = Gateway::start(&path);
    wait_until_forwarded(&gateway);
    // A pause outlives a restart.
    let action = |gateway: &Gateway, action: &str| {
        let path = format!("/api/v1/routes/files%3Aclimate%3Aagain/{action}");
        crate::process::ask(gateway.http, "POST", &path).0
    };
    assert_eq!(crate::process::ask(gateway.http, "POST", "/api/v1/routes/x/pause").0, 404);
    assert_eq!(action(&gateway, "pause"), 204);
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    let mut gateway = Gateway::start(&path);
    let (_, body) = get(gateway.http, "/api/v1/routes");
    assert!(body.contains("paused"), "{body}");
    assert_eq!(action(&gateway, "resume"), 204);
    wait_until_forwarded(&gateway);
    gateway.signal("-TERM");
    assert_eq!(gateway.wait(), Some(0));
    let mut files = Vec::new();
    for partition in std::fs::read_dir(dir.path().join("again/again")).expect("it was forwarded") {
        let partition = partition.expect("an entry").path();
        if partition.is_dir() {
            files.extend(
                std::fs::read_dir(partition).expect("files").map(|file| file.expect("one")),
            );
        }
    }
    let written: String =
        files.iter().map(|file| std::fs::read_to_string(file.path()).expect("NDJSON")).collect();
    assert!(written.contains("\"temperature\":") && !written.contains("\"c0\":"), "{written}");
}
