//! A real Kafka broker: one KRaft node from Maven Central, on free ports of the loopback.

pub mod secure;
mod tools;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

/// The cluster's id; each broker has a directory of its own, so it may be the same.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// A broker that was killed checks its log before it opens its port, on a busy machine for long.
const READY: Duration = Duration::from_secs(90);

/// One answer at most.
const ANSWER: Duration = Duration::from_secs(15);

/// A broker; ends with this value.
pub struct Kafka {
    dir: PathBuf,
    brokers: String,
    /// Its other addresses, by listener.
    listeners: BTreeMap<&'static str, String>,
    /// More arguments of Java.
    arguments: Vec<String>,
    child: Option<Child>,
}

/// What a broker has beside the plain listener and the usual properties.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Other listeners, by the name of their protocol.
    pub listeners: Vec<&'static str>,
    /// Lines of its properties.
    pub properties: String,
    /// More arguments when the storage is formatted.
    pub format: Vec<String>,
    /// More arguments of Java.
    pub java: Vec<String>,
}

/// A record as a reader of committed data sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The partition of the topic.
    pub partition: i32,
    /// The record's offset there.
    pub offset: i64,
    /// The key, if it is text.
    pub key: Option<String>,
    /// The value.
    pub value: Vec<u8>,
    /// Its time, ms since 1970.
    pub time_ms: Option<i64>,
    /// Headers with their values as text.
    pub headers: Vec<(String, String)>,
}

impl Consumed {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Kafka {
    /// Starts a broker with its data in `dir`, which may hold what an earlier one left. Fetches
    /// Kafka where it is not there.
    ///
    /// # Errors
    /// What could not be run; the broker's own words are in `dir/kafka.log`.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Self::start_with(dir, Options::default())
    }

    /// Starts a broker that clients reach at the port `proxy` of the loopback.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_behind(dir: &Path, proxy: u16) -> io::Result<Self> {
        let properties = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{proxy}\n");
        Self::start_with(dir, Options { properties, ..Options::default() })
    }

    /// Starts a broker with more than the usual.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_with(dir: &Path, options: Options) -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let installed = Command::new(root.join("deploy/kafka/install.sh")).status()?;
        if !installed.success() {
            return Err(io::Error::other("deploy/kafka/install.sh failed"));
        }
        let (port, controller) = (free_port()?, free_port()?);
        let libs = root.join("build/kafka/libs").canonicalize()?;
        fs::create_dir_all(dir)?;
        let mut listeners = BTreeMap::new();
        for name in options.listeners {
            listeners.insert(name, format!("127.0.0.1:{}", free_port()?));
        }
        let mut text = properties(dir, port, controller, &listeners);
        text.push_str(&options.properties);
        fs::write(dir.join("server.properties"), text)?;
        let mut kafka = Self {
            dir: dir.to_path_buf(),
            brokers: format!("127.0.0.1:{port}"),
            listeners,
            arguments: options.java,
            child: None,
        };
        fs::write(dir.join("classpath"), format!("{}/*", libs.display()))?;
        let config = dir.join("server.properties");
        let formatted = kafka
            .java("kafka.tools.StorageTool")?
            .args(["format", "--standalone", "--ignore-formatted", "-t", CLUSTER_ID, "-c"])
            .arg(&config)
            .args(options.format)
            .status()?;
        if !formatted.success() {
            return Err(kafka.trouble("the storage could not be formatted"));
        }
        kafka.restart()?;
        Ok(kafka)
    }

    /// `host:port`, for clients.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// `host:port` of another listener.
    ///
    /// # Panics
    /// If it was not asked for in [`Options`].
    pub fn listener(&self, name: &str) -> &str {
        self.listeners.get(name).expect("the options name it")
    }

    /// Starts it again on the same port, if it does not run, and returns when it answers.
    ///
    /// # Errors
    /// If it does not.
    pub fn restart(&mut self) -> io::Result<()> {
        self.spawn()?;
        let deadline = Instant::now() + READY;
        while !self.answers() {
            let ended = self.child.as_mut().map_or(Ok(None), Child::try_wait)?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(self.trouble("the broker does not answer"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Starts it again and does not wait.
    ///
    /// # Errors
    /// If Java cannot be run.
    pub fn spawn(&mut self) -> io::Result<()> {
        if self.child.is_none() {
            let config = self.dir.join("server.properties");
            self.child = Some(self.java("kafka.Kafka")?.arg(config).spawn()?);
        }
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM: it closes its log, so the next start is quick.
    ///
    /// # Errors
    /// If it cannot be asked or waited for.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(child.id().to_string()).status()?;
            child.wait()?;
        }
        Ok(())
    }

    /// All committed records of a topic, partition by partition, each in its order.
    ///
    /// # Errors
    /// [`KafkaError`], also where the topic is not there.
    pub fn consume_committed(&self, topic: &str) -> Result<Vec<Consumed>, KafkaError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "hw-tests")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
        let partitions = metadata.topics().first().map_or(0, |found| found.partitions().len());
        let mut from = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).unwrap_or(0) {
            from.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&from)?;
        let mut ended = 0;
        let mut consumed = Vec::new();
        while ended < partitions {
            match consumer.poll(ANSWER) {
                Some(Ok(message)) => consumed.push(own(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(problem)) => return Err(problem),
                None => return Err(KafkaError::NoMessageReceived),
            }
        }
        if partitions == 0 {
            return Err(KafkaError::Subscription(format!("there is no topic {topic}")));
        }
        consumed.sort_by_key(|record| (record.partition, record.offset));
        Ok(consumed)
    }

    fn answers(&self) -> bool {
        let client: Result<BaseConsumer, _> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create();
        client.is_ok_and(|client| {
            client
                .fetch_metadata(None, Duration::from_secs(1))
                .is_ok_and(|metadata| !metadata.brokers().is_empty())
        })
    }

    fn java(&self, class: &str) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.dir.join("kafka.log"))?;
        let mut java = Command::new("java");
        java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(&self.arguments)
            .arg("-cp")
            .arg(fs::read_to_string(self.dir.join("classpath"))?)
            .arg(class)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(java)
    }

    fn trouble(&self, what: &str) -> io::Error {
        let said = fs::read_to_string(self.dir.join("kafka.log")).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        io::Error::other(format!("{what}:\n{}", tail.join("\n")))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // Nothing is left to do for a process that is gone already.
        drop(self.kill());
    }
}

fn own(message: &impl Message) -> Consumed {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()))
            .collect()
    });
    Consumed {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        value: message.payload().unwrap_or_default().to_vec(),
        time_ms: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn properties(
    dir: &Path,
    port: u16,
    controller: u16,
    others: &BTreeMap<&'static str, String>,
) -> String {
    let logs = dir.join("logs");
    let more: String =
        others.iter().map(|(name, address)| format!(",{name}://{address}")).collect();
    let protocols: String = others.keys().map(|name| format!(",{name}:{name}")).collect();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{more}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         log.dirs={logs}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.num.partitions=4\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
         log.cleaner.dedupe.buffer.size=8388608\n",
        logs = logs.display()
    )
}
