//! The shell: a thread and a clock around the engine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::control::RouteControl;
use super::engine::lane::Ahead;
use super::engine::{Engine, ForwardError, Lay, Now, Rules, Step};
use super::format::{Encoder, Registry};
use super::local::Gateway;
use super::policy::core::Policy;
use super::status::{ForwardMetrics, RouteStatus, Scores, route_id};
use super::upstream::directory::Directory;
use super::upstream::directory::disk::RealDisk;
use super::upstream::kafka::Kafka;
use super::upstream::mqtt::wire::Tcp;
use super::upstream::mqtt::{self, Mqtt, MqttRoute};
use super::upstream::{Destination, Upstream};
use crate::catalog::Catalog;
use crate::config::{
    LinkConfig, RotationConfig, RouteConfig, RouteFormat, RouteOrder, UpstreamConfig,
};
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
    registry: Option<Registry>,
    scores: Scores,
    control: RouteControl,
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
    fn pause(&mut self, paused: &[bool]);
}

impl<U: Upstream> Turns for Engine<U, Gateway> {
    fn turn(&mut self, clock: &dyn Fn() -> Now) -> Step {
        Engine::turn(self, clock)
    }

    fn drain(&mut self, now: Now) {
        Engine::drain(self, now);
    }

    fn pause(&mut self, paused: &[bool]) {
        Engine::pause(self, paused);
    }
}

/// What a forwarder works with.
pub struct Surroundings {
    /// Who the gateway is.
    pub identity: Identity,
    /// What is forwarded.
    pub journal: Journal,
    /// Its end when it was opened, before anything was added.
    pub opened: u64,
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
    /// [`ForwardError`] if the routes' marks cannot be read, or saved.
    pub fn new(
        name: &str,
        (upstream, link): (&UpstreamConfig, LinkConfig),
        routes: &[RouteConfig],
        with: Surroundings,
    ) -> Result<Self, ForwardError> {
        let Surroundings { identity, journal, opened, catalog, streams, rows, metrics } = with;
        let known =
            |route: &&RouteConfig| route.upstream == name && streams.get(&route.stream).is_some();
        let routes: Vec<RouteConfig> = routes.iter().filter(known).cloned().collect();
        let scores = Scores::new(&routes, &metrics);
        let mut registry = registry(name, upstream, &catalog);
        let mut lays = Vec::new();
        let mut destinations = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let RouteConfig {
                stream,
                topic,
                topic_config,
                format,
                priority,
                order,
                from,
                urgent,
                ..
            } = route;
            let numbers =
                streams.get(stream).map(|stream| stream.partitions.clone()).unwrap_or_default();
            destinations.push(Destination {
                stream: stream.clone(),
                topic: topic.clone(),
                partitions: u16::try_from(numbers.len()).unwrap_or(u16::MAX),
                wanted: topic_config.clone(),
            });
            let mut encoder = Encoder::new(index, stream, *format, rows.clone(), &streams);
            if *format == RouteFormat::Avro
                && let (Some(registry), Some(stream)) = (&mut registry, streams.get(stream))
            {
                encoder = registry.encoder(encoder, topic, stream)?;
            }
            lays.push(Lay {
                name: format!("forward/{name}/{stream}->{topic}"),
                numbers,
                encoder,
                priority: *priority,
                ahead: (*order == RouteOrder::LiveFirst).then_some(Ahead::DEFAULT),
                from: *from,
                urgent: *urgent,
                dead: streams.dead(stream).map(|dead| dead.partitions[0]),
            });
        }
        let ids = routes.iter().map(route_id).zip(lays.iter().map(|lay| lay.name.clone()));
        let control = RouteControl::new(Arc::clone(&catalog), ids.collect())?;
        let local = Gateway { journal: journal.clone(), catalog, opened, upstream: name.into() };
        let rules = |policy| Rules { policy, link, seed: seed() };
        let mut engine: Box<dyn Turns> = match upstream {
            UpstreamConfig::Kafka(config) => {
                let wire = metrics.wire(name);
                let kafka = Kafka::new(name, config, &identity, destinations, wire);
                let rules = rules(Policy::kafka(config.interval));
                Box::new(Engine::new(rules, kafka, local, lays, scores.clone())?)
            }
            UpstreamConfig::Mqtt(config) => {
                let routes = mqtt_routes(&routes, &identity, &streams);
                let mqtt = Mqtt::new(Tcp::new(config), name, config, &identity, routes);
                let rules = rules(mqtt::POLICY);
                Box::new(Engine::new(rules, mqtt, local, lays, scores.clone())?)
            }
            UpstreamConfig::Directory { path, rotation } => {
                let directory = directory(path, &identity, destinations);
                let rules = rules(files(*rotation));
                Box::new(Engine::new(rules, directory, local, lays, scores.clone())?)
            }
        };
        // As it was left, and shown so before the first turn.
        engine.pause(&control.watch().borrow());
        Ok(Self { name: name.to_owned(), journal, engine, registry, scores, control })
    }

    /// Pauses and resumes its routes.
    pub fn control(&self) -> RouteControl {
        self.control.clone()
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
        let paused = self.control.watch();
        let registry = self.registry.map(|registry| {
            let stop = shutdown.clone();
            tokio::spawn(registry.run(stop))
        });
        let thread = std::thread::Builder::new().name(format!("forward {name}")).spawn(move || {
            drive(self.engine, &self.journal, &runtime, stop, paused);
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
        if let Some(registry) = registry {
            registry.abort();
        }
    }
}

/// The registry of an upstream that has one.
fn registry(name: &str, upstream: &UpstreamConfig, catalog: &Arc<Catalog>) -> Option<Registry> {
    let UpstreamConfig::Kafka(kafka) = upstream else { return None };
    let config = kafka.registry.as_ref()?;
    Some(Registry::new(name, config, Arc::clone(catalog)))
}

/// A transaction of the directory upstream is a file a partition.
fn files(rotation: RotationConfig) -> Policy {
    Policy {
        open_ms: u64::try_from(rotation.every.as_millis()).unwrap_or(u64::MAX),
        records_max: u32::MAX,
        bytes_max: rotation.size_bytes,
        catch_up_records_max: u32::MAX,
        catch_up_bytes_max: rotation.size_bytes,
        ..Policy::DIRECTORY
    }
}

fn mqtt_routes(routes: &[RouteConfig], identity: &Identity, streams: &Streams) -> Vec<MqttRoute> {
    let route = |route: &RouteConfig| {
        let RouteConfig { stream, topic, retain, .. } = route;
        let names = streams.get(stream).map(mqtt::topic::Names::of).unwrap_or_default();
        MqttRoute::new(stream, topic, *retain, &identity.gateway, names)
    };
    routes.iter().map(route).collect()
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
    mut paused: watch::Receiver<Vec<bool>>,
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
        engine.pause(&paused.borrow_and_update());
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
                // Its sender is the forwarder's own.
                _ = paused.changed() => {}
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
