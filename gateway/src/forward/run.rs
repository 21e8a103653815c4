//! The shell: a thread and a clock around the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::engine::{Engine, Lay, Now, Step};
use super::format::Encoder;
use super::local::Gateway;
use super::policy::core::Policy;
use super::status::{ForwardMetrics, RouteStatus, Scores};
use super::upstream::directory::Directory;
use super::upstream::directory::disk::RealDisk;
use super::upstream::kafka::Kafka;
use super::upstream::{Destination, Upstream};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{RouteConfig, UpstreamConfig};
use crate::journal::Journal;
use crate::stream::{Rows, Streams};

/// After a shutdown the forwarder has this long to settle; then it is left alone, which costs
/// nothing: the next start fences it.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// Who a gateway is, for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The configured id.
    pub gateway: String,
    /// Made once with the journal.
    pub incarnation: String,
}

/// Carries the routes of one upstream.
pub struct Forwarder {
    name: String,
    journal: Journal,
    engine: Box<dyn Turns>,
    scores: Scores,
}

/// What routes of an upstream do; can be asked at any time.
#[derive(Clone)]
pub struct ForwardStatus {
    journal: Journal,
    scores: Scores,
}

impl ForwardStatus {
    /// One a route, in the order of the configuration.
    pub fn routes(&self) -> Vec<RouteStatus> {
        self.scores.statuses(self.journal.durable().end)
    }
}

/// An engine, whatever its upstream.
trait Turns: Send {
    fn turn(&mut self, clock: &dyn Fn() -> Now) -> Step;
    fn drain(&mut self, now: Now);
}

impl<U: Upstream> Turns for Engine<U, Gateway> {
    fn turn(&mut self, clock: &dyn Fn() -> Now) -> Step {
        Engine::turn(self, clock)
    }

    fn drain(&mut self, now: Now) {
        Engine::drain(self, now);
    }
}

/// What a forwarder works with.
pub struct Surroundings {
    /// Who the gateway is.
    pub identity: Identity,
    /// What is forwarded.
    pub journal: Journal,
    /// Where marks are kept.
    pub catalog: Arc<Catalog>,
    /// The routing table.
    pub streams: Arc<Streams>,
    /// Records to columns.
    pub rows: Rows,
    /// What is counted.
    pub metrics: ForwardMetrics,
}

impl Forwarder {
    /// A forwarder of the `routes` that go to the upstream `name`; the others are left out.
    /// Blocks for the catalog.
    ///
    /// # Errors
    /// [`CatalogError`] if the routes' marks cannot be read.
    pub fn new(
        name: &str,
        upstream: &UpstreamConfig,
        routes: &[RouteConfig],
        with: Surroundings,
    ) -> Result<Self, CatalogError> {
        let Surroundings { identity, journal, catalog, streams, rows, metrics } = with;
        let known =
            |route: &&RouteConfig| route.upstream == name && streams.get(&route.stream).is_some();
        let routes: Vec<RouteConfig> = routes.iter().filter(known).cloned().collect();
        let scores = Scores::new(&routes, &metrics);
        let mut lays = Vec::new();
        let mut destinations = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let RouteConfig { stream, topic, format, priority, topic_config, .. } = route;
            let numbers =
                streams.get(stream).map(|stream| stream.partitions.clone()).unwrap_or_default();
            destinations.push(Destination {
                stream: stream.clone(),
                topic: topic.clone(),
                partitions: u16::try_from(numbers.len()).unwrap_or(u16::MAX),
                wanted: topic_config.clone(),
            });
            lays.push(Lay {
                name: format!("forward/{name}/{stream}->{topic}"),
                numbers,
                encoder: Encoder::new(index, stream, *format, rows.clone(), &streams),
                priority: *priority,
            });
        }
        let local = Gateway { journal: journal.clone(), catalog };
        let seed = seed();
        let engine: Box<dyn Turns> = match upstream {
            UpstreamConfig::Kafka(config) => {
                let wire = metrics.wire(name);
                let kafka = Kafka::new(name, config, &identity, destinations, wire);
                let policy = Policy::KAFKA;
                Box::new(Engine::new(policy, seed, kafka, local, lays, scores.clone())?)
            }
            UpstreamConfig::Directory { path } => {
                let directory = directory(path, &identity, destinations);
                let policy = Policy::DIRECTORY;
                Box::new(Engine::new(policy, seed, directory, local, lays, scores.clone())?)
            }
        };
        Ok(Self { name: name.to_owned(), journal, engine, scores })
    }

    /// What its routes do, now and later.
    pub fn status(&self) -> ForwardStatus {
        ForwardStatus { journal: self.journal.clone(), scores: self.scores.clone() }
    }

    /// Forwards until `shutdown` is true, then sends what waits for a short while, settles what is
    /// under way and ends.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let (done, ended) = oneshot::channel();
        let name = self.name.clone();
        let runtime = Handle::current();
        let stop = shutdown.clone();
        let thread = std::thread::Builder::new().name(format!("forward {name}")).spawn(move || {
            drive(self.engine, &self.journal, &runtime, stop);
            // The receiver is gone where nobody waits any more.
            let _ = done.send(());
        });
        if let Err(problem) = thread {
            error!(upstream = name, %problem, "no thread for the forwarder; nothing is forwarded");
            return;
        }
        let late = async {
            // An error means that nobody can ask for a shutdown any more, which is one.
            drop(shutdown.wait_for(|stop| *stop).await);
            tokio::time::sleep(SETTLE_MAX).await;
        };
        tokio::select! {
            ended = ended => if ended.is_err() {
                error!(upstream = name, "the forwarder broke down; restart the gateway");
            },
            () = late => error!(upstream = name, "the upstream does not answer; left unsettled"),
        }
    }
}

fn directory(
    path: &Path,
    identity: &Identity,
    destinations: Vec<Destination>,
) -> Directory<RealDisk> {
    let Identity { gateway, incarnation } = identity;
    Directory::new(RealDisk, path.to_path_buf(), gateway, incarnation, destinations)
}

fn drive(
    mut engine: Box<dyn Turns>,
    journal: &Journal,
    runtime: &Handle,
    mut shutdown: watch::Receiver<bool>,
) {
    let started = Instant::now();
    let clock = || Now {
        ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        unix_ms: unix_ms(),
    };
    let mut durable = journal.watch();
    let mut blocked = journal.blocked();
    let mut draining = false;
    loop {
        // A sender that is gone cannot ask any more: that is the end too.
        if !draining && (*shutdown.borrow() || shutdown.has_changed().is_err()) {
            draining = true;
            engine.drain(clock());
        }
        let (until_ms, beyond) = match engine.turn(&clock) {
            Step::Again => continue,
            Step::Halt if draining => return,
            // Stopped for good: nothing to do until the gateway ends.
            Step::Halt => (u64::MAX, None),
            Step::Wait { until_ms, beyond } => (until_ms, beyond),
        };
        let wait_ms = until_ms.saturating_sub(clock().ms).min(60_000);
        runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                () = data(&mut durable, beyond) => {}
                _ = blocked.changed() => {}
                // Both outcomes are looked at above.
                _ = shutdown.changed(), if !draining => {}
            }
        });
    }
}

/// Returns when offsets beyond `beyond` are durable.
async fn data(durable: &mut watch::Receiver<crate::journal::Durable>, beyond: Option<u64>) {
    if let Some(beyond) = beyond
        && durable.wait_for(|durable| durable.end > beyond).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Differs between gateways and starts.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
