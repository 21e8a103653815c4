//! A gateway as users run it: the binary as a process, ended by its id.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use serde_json::Value as Json;

/// What can go wrong with a gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// There is no binary.
    #[error("the gateway cannot be built: see the output of cargo, or name one in HEADWATER_BIN")]
    Build,
    /// The process could not be started or spoken to.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It did not become ready in time.
    #[error("the gateway is not ready after {within:?}; its log is {log}")]
    NotReady {
        /// How long it had.
        within: Duration,
        /// Where it writes.
        log: PathBuf,
    },
    /// It ended by itself.
    #[error("the gateway ended by itself ({status}); its log is {log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// Where it writes.
        log: PathBuf,
    },
    /// The API answered something else than was asked for.
    #[error("GET {path} answered {answer}")]
    Answer {
        /// The path.
        path: String,
        /// The beginning of the answer.
        answer: String,
    },
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> GatewayError {
    move |source| GatewayError::Io { what, source }
}

/// The binary: the one in `HEADWATER_BIN`, else built once by this process.
///
/// # Errors
/// [`GatewayError::Build`].
pub fn binary() -> Result<&'static Path, GatewayError> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("HEADWATER_BIN") {
            return Some(named.into());
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--package", "headwater", "--bin", "headwater"]);
        // What cargo says of this package would make build scripts that look there run again.
        let of_package = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|one| name.starts_with(one))
        };
        for (name, _) in std::env::vars().filter(|(name, _)| of_package(name)) {
            cargo.env_remove(name);
        }
        let status = cargo.current_dir(root).status().ok()?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        status.success().then(|| target.join("debug/headwater"))
    });
    binary.as_deref().ok_or(GatewayError::Build)
}

/// A running gateway; killed when dropped.
pub struct GatewayProcess {
    config: PathBuf,
    log: PathBuf,
    http_port: u16,
    child: Child,
}

/// Where a gateway that took any free port listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doors {
    /// The front door.
    pub mqtt: SocketAddr,
    /// Page and API.
    pub http: SocketAddr,
}

impl GatewayProcess {
    /// Starts a gateway with a configuration whose page listens on `http_port` of the loopback, and
    /// waits until it is ready. Its log goes to `gateway.log` beside the configuration.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn start(config: &Path, http_port: u16) -> Result<Self, GatewayError> {
        let log = config.with_file_name("gateway.log");
        let child = spawn(config, &log)?;
        let gateway = Self { config: config.to_path_buf(), log, http_port, child };
        gateway.wait_ready()?;
        Ok(gateway)
    }

    /// Starts a gateway whose configuration asks for port 0, and does not wait. Its log goes to
    /// `gateway.log` beside the configuration; what an earlier one wrote there is gone.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn launch(config: &Path) -> Result<Self, GatewayError> {
        let log = config.with_file_name("gateway.log");
        fs::write(&log, "").map_err(failed("the gateway's log cannot be emptied"))?;
        let child = spawn(config, &log)?;
        Ok(Self { config: config.to_path_buf(), log, http_port: 0, child })
    }

    /// Waits until a gateway that was launched says that it is ready, and where.
    ///
    /// # Errors
    /// [`GatewayError::NotReady`], [`GatewayError::Ended`].
    pub fn wait_doors(&mut self, within: Duration) -> Result<Doors, GatewayError> {
        let end = Instant::now() + within;
        loop {
            if let Some(doors) = doors_in(&self.log_text()) {
                self.http_port = doors.http.port();
                return Ok(doors);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(GatewayError::Ended { status, log: self.log.clone() });
            }
            if Instant::now() > end {
                return Err(GatewayError::NotReady { within, log: self.log.clone() });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and how it ended; `None` if it did not within this time.
    ///
    /// # Errors
    /// [`GatewayError::Io`] where no signal can be sent.
    pub fn terminate(&mut self, within: Duration) -> Result<Option<ExitStatus>, GatewayError> {
        let end = Instant::now() + within;
        let id = self.child.id().to_string();
        let cannot = || failed("the gateway cannot be told to stop");
        Command::new("kill").args(["-TERM", &id]).status().map_err(cannot())?;
        loop {
            let status = self.child.try_wait().map_err(cannot())?;
            if status.is_some() || Instant::now() > end {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it a signal, such as `-STOP`.
    ///
    /// # Errors
    /// [`GatewayError::Io`] where none can be sent.
    pub fn signal(&self, signal: &str) -> Result<(), GatewayError> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        sent.map(drop).map_err(failed("the gateway cannot be signalled"))
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL at this instant, and a new start.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn kill_and_restart(&mut self) -> Result<(), GatewayError> {
        self.kill();
        self.child = spawn(&self.config, &self.log)?;
        self.wait_ready()
    }

    /// SIGKILL at this instant.
    pub fn kill(&mut self) {
        // Both fail only for a process that has ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// GET of a path of the API, as JSON.
    ///
    /// # Errors
    /// [`GatewayError::Io`], [`GatewayError::Answer`].
    pub fn get(&self, path: &str) -> Result<Json, GatewayError> {
        let (status, body) = self.request(path)?;
        let answer = || GatewayError::Answer {
            path: path.to_owned(),
            answer: format!("{status} {}", body.chars().take(200).collect::<String>()),
        };
        if status != 200 {
            return Err(answer());
        }
        serde_json::from_str(&body).map_err(|_| answer())
    }

    /// The end of its log, for the message of a test that fails.
    pub fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// GET of a path; status and body.
    ///
    /// # Errors
    /// [`GatewayError::Io`].
    pub fn request(&self, path: &str) -> Result<(u16, String), GatewayError> {
        let read = || -> io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let head = "Host: 127.0.0.1\r\nConnection: close\r\n\r\n";
            // HTTP/1.0 has no chunks, so the body is what follows the head.
            write!(stream, "GET {path} HTTP/1.0\r\n{head}")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(failed("the API does not answer"))?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        Ok((status.unwrap_or(0), body.to_owned()))
    }

    fn wait_ready(&self) -> Result<(), GatewayError> {
        let within = Duration::from_secs(60);
        let end = Instant::now() + within;
        while !matches!(self.request("/ready"), Ok((200, _))) {
            if Instant::now() > end {
                return Err(GatewayError::NotReady { within, log: self.log.clone() });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The addresses in the line that a gateway logs when it is ready, once that line is whole.
fn doors_in(log: &str) -> Option<Doors> {
    log.split_inclusive('\n').filter(|line| line.ends_with('\n')).find_map(|line| {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        Some(Doors { mqtt: field("mqtt=")?.parse().ok()?, http: field("http=")?.parse().ok()? })
    })
}

fn spawn(config: &Path, log: &Path) -> Result<Child, GatewayError> {
    let file = fs::OpenOptions::new().create(true).append(true).open(log);
    Command::new(binary()?)
        .args(["run", "-c"])
        .arg(config)
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file.map_err(failed("the gateway's log cannot be opened"))?)
        .spawn()
        .map_err(failed("the gateway does not start"))
}
