//! A sensor node: the firmware's own code on an emulated Cortex-M4, with a link that can be cut and
//! a power switch.
//!
//! The node's flash, and the world that its sensor measures, are files of the test: they outlive a
//! reset, as they would on a real board.

use crate::defmt_log::LogReader;
use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

const EMULATOR: &str = "qemu-system-arm";
const QMP_TIMEOUT: Duration = Duration::from_secs(10);

/// What can go wrong with a node.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// The firmware does not build.
    #[error("firmware/build.sh qemu failed; its output is above")]
    Build,
    /// A program is missing.
    #[error("{program} does not start: {source}; install {package}")]
    Program {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The emulator's control socket does not do as told.
    #[error("the emulator refuses {command}: {answer}")]
    Control {
        /// What it was told.
        command: String,
        /// What it said.
        answer: String,
    },
    /// Files of the node.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ELF file has no log strings.
    #[error("the firmware's ELF file has no usable log strings: {0}")]
    Elf(String),
    /// What was waited for has not come.
    #[error("node {id}: no {what} within {within:?}; its log:\n{log}")]
    Timeout {
        /// The node.
        id: String,
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// All it has said.
        log: String,
    },
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// The node id.
    pub id: String,
    /// From reading to reading.
    pub period_ms: u32,
    /// A block is sealed with this many readings,
    pub readings_max: u16,
    /// or when its first is this old.
    pub age_ms_max: u64,
    /// The gateway's port on the host's loopback.
    pub gateway_port: u16,
    /// A folder of the node's own, for its flash and the position of its world.
    pub dir: PathBuf,
    /// What there is to measure: see [`write_world`].
    pub world: PathBuf,
}

/// A start of the node, as it logged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Its boot epoch.
    pub epoch: u32,
    /// The row of the world that its sample 0 is.
    pub world_position: u32,
}

/// A node that runs, until it is dropped.
pub struct QemuNode {
    config: QemuConfig,
    emulator: Child,
    log: LogReader,
}

/// Builds the firmware, once in this process, and returns its ELF file.
///
/// # Errors
/// [`QemuError::Build`].
pub fn firmware() -> Result<&'static Path, QemuError> {
    static ELF: OnceLock<Option<PathBuf>> = OnceLock::new();
    let elf = ELF.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let script = root.join("firmware/build.sh");
        let status = Command::new(script).arg("qemu").status().ok()?;
        status.success().then(|| root.join("build/firmware/qemu.elf"))
    });
    elf.as_deref().ok_or(QemuError::Build)
}

/// Writes a world of two series in the form `<unix ms> <value>` a line, in hundredths as the sensor
/// measures them, and returns its rows: temperature and humidity.
///
/// # Errors
/// [`QemuError::File`].
pub fn write_world(
    temperature: &Path,
    humidity: &Path,
    world: &Path,
) -> Result<Vec<[i64; 2]>, QemuError> {
    let rows: Vec<[i64; 2]> = series(temperature)?
        .into_iter()
        .zip(series(humidity)?)
        .map(|(temperature, humidity)| [temperature, humidity])
        .collect();
    let text: String = rows.iter().map(|[t, h]| format!("{t} {h}\n")).collect();
    fs::write(world, text).map_err(file_error(world))?;
    Ok(rows)
}

fn series(path: &Path) -> Result<Vec<i64>, QemuError> {
    let text = fs::read_to_string(path).map_err(file_error(path))?;
    let hundredths = |line: &str| {
        let value: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some((value * 100.0).round() as i64)
    };
    text.lines()
        .map(|line| {
            let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not a row: {line}"));
            hundredths(line).ok_or_else(bad)
        })
        .collect::<Result<_, _>>()
        .map_err(file_error(path))
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> QemuError {
    let path = path.to_path_buf();
    move |source| QemuError::File { path: path.clone(), source }
}

/// A port of the loopback that is free now.
///
/// # Errors
/// Those of the socket.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl QemuNode {
    /// Builds the firmware if need be, and starts the node.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn start(config: QemuConfig) -> Result<Self, QemuError> {
        let elf = firmware()?;
        fs::create_dir_all(&config.dir).map_err(file_error(&config.dir))?;
        let mut log = LogReader::new(elf)?;
        let emulator = spawn(&config, elf, &mut log)?;
        Ok(Self { config, emulator, log })
    }

    /// Takes the node's power away at this instant, and gives it back.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn reset(&mut self) -> Result<(), QemuError> {
        self.stop();
        self.emulator = spawn(&self.config, firmware()?, &mut self.log)?;
        Ok(())
    }

    /// Takes the node's power away.
    pub fn stop(&mut self) {
        // Both fail only for an emulator that has ended by itself, which is as good.
        self.emulator.kill().ok();
        self.emulator.wait().ok();
        self.log.finish();
    }

    /// Pulls the network cable, or puts it back.
    ///
    /// # Errors
    /// [`QemuError::Control`].
    pub fn set_link(&self, up: bool) -> Result<(), QemuError> {
        let command = serde_json::json!({
            "execute": "set_link", "arguments": { "name": "net0", "up": up }
        });
        control(&control_socket(&self.config), &command.to_string())
    }

    /// The starts of the node so far.
    pub fn boots(&self) -> Vec<Boot> {
        self.log.lines().iter().filter_map(|line| boot_of(line)).collect()
    }

    /// Waits until the node has logged its start number `count`.
    ///
    /// # Errors
    /// [`QemuError::Timeout`].
    pub fn wait_for_boots(&self, count: usize, within: Duration) -> Result<(), QemuError> {
        self.wait_for(&format!("start number {count}"), within, || self.boots().len() >= count)
    }

    /// Waits until the node has logged a line that contains `text`.
    ///
    /// # Errors
    /// [`QemuError::Timeout`].
    pub fn wait_for_log(&self, text: &str, within: Duration) -> Result<(), QemuError> {
        self.wait_for(text, within, || self.log.lines().iter().any(|line| line.contains(text)))
    }

    fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut is_true: impl FnMut() -> bool,
    ) -> Result<(), QemuError> {
        let end = Instant::now() + within;
        while !is_true() {
            if Instant::now() > end {
                let (id, log) = (self.config.id.clone(), self.log.lines().join("\n"));
                return Err(QemuError::Timeout { id, what: what.to_owned(), within, log });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Rows of the world that the sensor has measured; more than the node's starts have brought
    /// home where a reset came between.
    ///
    /// # Errors
    /// [`QemuError::File`] before the first measurement.
    pub fn world_position(&self) -> Result<u32, QemuError> {
        let path = position_file(&self.config);
        let text = fs::read_to_string(&path).map_err(file_error(&path))?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "not a position");
        text.trim().parse().map_err(|_| bad()).map_err(file_error(&path))
    }

    /// What the node has logged since its first start.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// False once the emulator has ended by itself: the firmware panicked, or its settings are bad.
    pub fn is_running(&mut self) -> bool {
        matches!(self.emulator.try_wait(), Ok(None))
    }

    /// How it was set up.
    pub fn config(&self) -> &QemuConfig {
        &self.config
    }
}

impl Drop for QemuNode {
    fn drop(&mut self) {
        self.stop();
    }
}

fn position_file(config: &QemuConfig) -> PathBuf {
    config.dir.join("position")
}

fn control_socket(config: &QemuConfig) -> PathBuf {
    config.dir.join("qmp")
}

fn spawn(config: &QemuConfig, elf: &Path, log: &mut LogReader) -> Result<Child, QemuError> {
    let QemuConfig { id, period_ms, readings_max, age_ms_max, gateway_port, dir, world } = config;
    // The guest reaches this one port of the host and nothing else.
    let network = format!(
        "user,id=net0,model=lan9118,restrict=on,\
         guestfwd=tcp:10.0.2.100:1883-cmd:socat - TCP:127.0.0.1:{gateway_port}"
    );
    let settings = [
        format!("id={id}"),
        format!("period_ms={period_ms}"),
        format!("readings={readings_max}"),
        format!("age_ms={age_ms_max}"),
        format!("flash={}", dir.join("flash").display()),
        format!("world={}", world.display()),
        format!("pos={}", position_file(config).display()),
    ];
    let semihosting = settings
        .iter()
        .fold("enable=on,target=native,arg=node".to_owned(), |all, one| format!("{all},arg={one}"));
    let socket = control_socket(config);
    fs::remove_file(&socket).ok();
    let mut emulator = Command::new(EMULATOR)
        .args(["-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"])
        .args(["-nic", &network, "-semihosting-config", &semihosting])
        .args(["-qmp", &format!("unix:{},server=on,wait=off", socket.display())])
        .arg("-kernel")
        .arg(elf)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| QemuError::Program {
            program: EMULATOR,
            package: "qemu-system-arm and socat",
            source,
        })?;
    let output = emulator.stdout.take().expect("stdout was asked for as a pipe");
    log.read(output);
    Ok(emulator)
}

/// Sends one command by QMP, the emulator's control protocol: a greeting, the change to command
/// mode, the command; events may stand between the answers.
fn control(socket: &Path, command: &str) -> Result<(), QemuError> {
    let failed = |answer: String| QemuError::Control { command: command.to_owned(), answer };
    let talk = || -> io::Result<Option<String>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(QMP_TIMEOUT))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        for sent in [r#"{"execute":"qmp_capabilities"}"#, command] {
            writeln!(stream, "{sent}")?;
            loop {
                let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
                let answer: serde_json::Value = serde_json::from_str(&line)?;
                if answer.get("error").is_some() {
                    return Ok(Some(line));
                }
                if answer.get("return").is_some() {
                    break;
                }
            }
        }
        Ok(None)
    };
    match talk() {
        Ok(None) => Ok(()),
        Ok(Some(refusal)) => Err(failed(refusal)),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// `boot epoch 3, world position 1200, ...`
fn boot_of(line: &str) -> Option<Boot> {
    let (_, rest) = line.split_once("boot epoch ")?;
    let (epoch, rest) = rest.split_once(", world position ")?;
    let (position, _) = rest.split_once(',')?;
    Some(Boot { epoch: epoch.parse().ok()?, world_position: position.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_line_is_read_wherever_it_stands() {
        let line = "0.016293 INFO boot epoch 2, world position 315, 4 blocks waiting";
        assert_eq!(boot_of(line), Some(Boot { epoch: 2, world_position: 315 }));
        assert_eq!(boot_of("link up"), None);
    }

    #[test]
    fn a_world_is_two_series_in_hundredths() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("t"), "1455408000000 21.79\n1455408600000 -0.045\n").unwrap();
        fs::write(path("h"), "1455408000000 39.93333333\n1455408600000 40\n7 1\n").unwrap();
        let rows = write_world(&path("t"), &path("h"), &path("w")).unwrap();
        assert_eq!(rows, [[2179, 3993], [-5, 4000]]);
        assert_eq!(fs::read_to_string(path("w")).unwrap(), "2179 3993\n-5 4000\n");
    }
}
