//! The binary as a process, ended by its id.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs the binary to its end.
pub(crate) fn headwater(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) mqtt: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Log lines since it was ready.
    log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Starts `headwater run` and waits until it says that it is ready.
    pub(crate) fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["run", "-c"])
            .arg(config)
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut seen = Vec::new();
        let addresses = loop {
            let line = match lines.next() {
                Some(line) => line.expect("log lines are text"),
                None => panic!("the gateway ended before it was ready:\n{}", seen.join("\n")),
            };
            let field = |name: &str| {
                line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok())
            };
            if let (Some(mqtt), Some(http)) = (field("mqtt="), field("http=")) {
                break (mqtt, http);
            }
            seen.push(line);
        };
        // Nobody may be blocked by a full pipe.
        let log = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&log);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| said.lock().expect("whole").push(line));
        });
        Self { child, mqtt: addresses.0, http: addresses.1, log }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill starts");
        assert!(status.success(), "the process is there");
    }

    /// Waits for a log line with these words and returns it.
    pub(crate) fn says(&self, words: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let log = self.log.lock().expect("whole");
            if let Some(line) = log.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            drop(log);
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no line with {words:?} in:\n{}", self.log.lock().expect("whole").join("\n"));
    }

    /// Waits for its end and returns the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it can be waited for").code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Writes a configuration with free ports on loopback.
pub(crate) fn config(dir: &Path, more: &str) -> PathBuf {
    let path = dir.join("headwater.toml");
    let text = format!(
        "[gateway]\nid = \"test\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n{more}"
    );
    std::fs::write(&path, text).expect("a temporary file");
    path
}

/// GET of a path; status and body.
pub(crate) fn get(http: SocketAddr, path: &str) -> (u16, String) {
    ask(http, "GET", path)
}

/// Asks with any method.
pub(crate) fn ask(http: SocketAddr, method: &str, path: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(http).expect("the page is up");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {http}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split_whitespace().nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}
