//! A front door over a data directory, which can die and be opened again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use headwater::catalog::Catalog;
use headwater::config::{Config, MqttConfig};
use headwater::journal::{Journal, JournalOptions};
use headwater::mqtt::{MqttControl, MqttMetrics, MqttServer, MqttState, MqttView, Renewal, Way};
use headwater::node::Nodes;
use headwater::projection::Follower;
use headwater::sparkplug::Sparkplug;
use headwater::stream::{Intake, IntakeMetrics, Streams};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// `extra` follows the front door's own section.
fn config(dir: &Path, extra: &str) -> Config {
    let text = format!(
        "[gateway]\nid = \"test\"\ndata_dir = \"{}\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n{extra}",
        dir.display()
    );
    Config::parse("test.toml", &text).expect("a configuration")
}

/// A front door that runs.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) journal: Journal,
    pub(crate) metrics: MqttMetrics,
    pub(crate) view: MqttView,
    pub(crate) renewal: Renewal,
    ways: Vec<(Way, SocketAddr)>,
    control: MqttControl,
    intake: Intake,
    state: Arc<MqttState>,
    applied: watch::Receiver<u64>,
    shutdown: watch::Sender<bool>,
    server: JoinHandle<()>,
    follower: JoinHandle<()>,
}

impl Door {
    /// Opens the journal in `dir` and listens on a free port; `extra` is more configuration.
    pub(crate) fn open(dir: &Path, extra: &str) -> Self {
        let config = config(dir, extra);
        let catalog = Arc::new(Catalog::open(&dir.join("catalog.redb")).expect("a catalog"));
        let options = JournalOptions { segment_size: 1 << 20, ..JournalOptions::default() };
        let (journal, _) = Journal::open(&dir.join("log"), options).expect("a journal");
        let streams = Arc::new(Streams::new(&config, &catalog).expect("streams"));
        let nodes = Arc::new(Nodes::default());
        let chain = Arc::new(headwater::chain::Chain::default());
        let state = Arc::new(MqttState::default());
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let projections = vec![
            nodes.projection(),
            sparkplug.projection(),
            state.projection(),
            chain.projection(),
        ];
        let follower = Follower::start(journal.clone(), Arc::clone(&catalog), projections)
            .expect("a follower");
        let applied = follower.applied();
        let intake = Intake::new(
            journal.clone(),
            streams,
            nodes,
            sparkplug,
            chain,
            IntakeMetrics::default(),
        );
        let metrics = MqttMetrics::default();
        let server = MqttServer::bind(
            &config.mqtt,
            intake.clone(),
            Arc::clone(&state),
            applied.clone(),
            metrics.clone(),
        )
        .expect("a free port");
        let (shutdown, watch) = watch::channel(false);
        Self {
            address: server.local_addr().expect("bound"),
            journal,
            metrics,
            view: server.view(),
            renewal: server.renewal(),
            ways: server.addresses().collect(),
            control: server.control(),
            intake,
            state,
            applied,
            shutdown,
            server: tokio::spawn(server.run(watch)),
            follower: tokio::spawn(follower.run()),
        }
    }

    /// Where it listens in this way.
    pub(crate) fn at(&self, way: Way) -> SocketAddr {
        self.ways.iter().find(|(other, _)| *other == way).expect("a way that is configured").1
    }

    /// Takes over a configuration, as SIGHUP would.
    pub(crate) fn reload(&self, dir: &Path, extra: &str) {
        self.control.reload(&config(dir, extra).mqtt);
    }

    /// Binds another server over the same gateway.
    pub(crate) fn bind_again(&self, config: &MqttConfig) -> std::io::Result<()> {
        let (intake, state) = (self.intake.clone(), Arc::clone(&self.state));
        let applied = self.applied.clone();
        MqttServer::bind(config, intake, state, applied, MqttMetrics::default()).map(drop)
    }

    /// Ends as SIGTERM would.
    pub(crate) async fn close(self) {
        self.shutdown.send_replace(true);
        self.server.await.expect("the server ends");
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.expect("the journal closes");
        self.follower.await.expect("the follower ends");
    }

    /// Ends as SIGKILL would, as far as one process can: connections are cut where they are,
    /// and what was not committed may be lost.
    pub(crate) async fn kill(self) {
        self.server.abort();
        self.follower.abort();
        let _ = (self.server.await, self.follower.await);
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.close()).await.expect("the journal closes");
    }
}
