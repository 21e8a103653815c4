//! What tests and measurements do to a broker besides starting and ending it.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::{ANSWER, Kafka};

impl Kafka {
    /// Sends it a signal, such as `-STOP`.
    ///
    /// # Errors
    /// If it does not run, or no signal can be sent.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let id = self.process().ok_or_else(|| io::Error::other("the broker does not run"))?;
        let sent = Command::new("kill").args([signal, &id.to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other("the broker is gone")) }
    }

    /// The number of its process, while it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(std::process::Child::id)
    }

    /// Where it keeps the partitions of topics.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// A program of Kafka's own, by its class; what it says of itself goes to `kafka.log`.
    ///
    /// # Errors
    /// If its log cannot be opened.
    pub fn tool(&self, class: &str) -> io::Result<Command> {
        let mut java = self.java(class)?;
        java.stdin(Stdio::null());
        Ok(java)
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// What the broker says.
    pub fn make_topic(&self, topic: &str, partitions: u16) -> io::Result<()> {
        self.make(NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(1)))
    }

    /// Makes a topic that keeps the last value of each key, and compacts as often as a broker can.
    ///
    /// # Errors
    /// What the broker says.
    pub fn make_compacted_topic(&self, topic: &str, partitions: u16) -> io::Result<()> {
        let new = NewTopic::new(topic, i32::from(partitions), TopicReplication::Fixed(1));
        let often = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "500"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ];
        self.make(often.into_iter().fold(new, |new, (name, value)| new.set(name, value)))
    }

    fn make(&self, new: NewTopic<'_>) -> io::Result<()> {
        let (admin, options) = self.admin()?;
        let made = runtime()?.block_on(admin.create_topics([&new], &options));
        outcome(made.map_err(io::Error::other)?.pop())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// What the broker says.
    pub fn delete_topic(&self, topic: &str) -> io::Result<()> {
        let (admin, options) = self.admin()?;
        let gone = runtime()?.block_on(admin.delete_topics(&[topic], &options));
        outcome(gone.map_err(io::Error::other)?.pop())
    }

    fn admin(&self) -> io::Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
        let admin = ClientConfig::new().set("bootstrap.servers", self.brokers()).create();
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        Ok((admin.map_err(io::Error::other)?, options))
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn outcome(result: Option<rdkafka::admin::TopicResult>) -> io::Result<()> {
    match result {
        Some(Err((topic, code))) => Err(io::Error::other(format!("{topic}: {code}"))),
        _ => Ok(()),
    }
}
