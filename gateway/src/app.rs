//! The gateway put together: opens the house, starts the rooms, stops them in order.

mod inbound;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::catalog::Catalog;
use crate::chain::Chain;
use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::forward::{ForwardMetrics, Forwarder, Identity, RouteControl, Surroundings};
use crate::http::{Ask, HttpServer, Sources};
use crate::inbound::Positions;
use crate::journal::{Journal, JournalOptions, Recovery};
use crate::mqtt::{MqttControl, MqttMetrics, MqttServer, MqttState, Renewal};
use crate::node::Nodes;
use crate::placement::{Around, Placement, PlacementMetrics, log_dir};
use crate::projection::Follower;
use crate::query::{QueryMetrics, QueryRunner};
use crate::sparkplug::Sparkplug;
use crate::stream::{Intake, IntakeMetrics, Rows, StreamStats, Streams};
use crate::table::Tables;

/// The journal's directory in the data directory.
pub const JOURNAL_DIR: &str = "journal";
pub(crate) const CATALOG_FILE: &str = "catalog.redb";

/// A running gateway.
pub struct App {
    /// What it runs by; reloads change it.
    config: Config,
    journal: Journal,
    mqtt: MqttControl,
    mqtt_addr: SocketAddr,
    renewal: Renewal,
    http_addr: SocketAddr,
    shutdown: watch::Sender<bool>,
    rooms: JoinSet<(&'static str, Result<(), String>)>,
    follower: tokio::task::JoinHandle<()>,
    status: Arc<Sources>,
}

/// What every room is built from.
struct House {
    config: Config,
    journal: Journal,
    /// The journal's end when it was opened.
    opened: u64,
    /// What to know of the machine.
    moved: Option<&'static str>,
    catalog: Arc<Catalog>,
    streams: Arc<Streams>,
    nodes: Arc<Nodes>,
    sparkplug: Arc<Sparkplug>,
    tables: Arc<Tables>,
    rows: Rows,
    stats: StreamStats,
    registry: Registry,
    placements: Vec<Placement>,
    logs: PlacementMetrics,
}

/// A log beside the journal that was opened.
struct Other {
    name: String,
    dir: PathBuf,
    log: log_lite::Journal,
}

impl App {
    /// Opens the data directory, restores what follows from the journal and opens the doors.
    ///
    /// # Errors
    /// [`Failure`] with the exit code that fits.
    pub async fn start(config: Config) -> Result<Self, Failure> {
        let mut house = House::open(config.clone())?;
        let mqtt_state = Arc::new(MqttState::default());
        let positions = Positions::default();
        let chain = Arc::new(Chain::default());
        let follower = house.follower(&mqtt_state, &positions, &chain)?;
        house.nodes.open(house.journal.durable());
        house.sparkplug.open(house.journal.durable());
        chain.open(house.journal.durable());
        let applied = follower.applied();
        let (shutdown, stop) = watch::channel(false);
        let mut rooms = JoinSet::new();

        let intake_metrics = IntakeMetrics::default();
        intake_metrics.register(&mut house.registry);
        let intake = Intake::new(
            house.journal.clone(),
            Arc::clone(&house.streams),
            Arc::clone(&house.nodes),
            Arc::clone(&house.sparkplug),
            Arc::clone(&chain),
            intake_metrics,
        );
        let mqtt_metrics = MqttMetrics::default();
        mqtt_metrics.register(&mut house.registry);
        let mqtt = MqttServer::bind(
            &house.config.mqtt,
            intake.clone(),
            Arc::clone(&mqtt_state),
            applied,
            mqtt_metrics,
        )
        .map_err(|problem| Failure::new(code_of(&problem), problem))?;
        let renewal = mqtt.renewal();
        let mqtt_addr = mqtt
            .local_addr()
            .map_err(|problem| taken("mqtt.listen", house.config.mqtt.listen, &problem))?;

        let inbound = house.inbound(&intake, &positions, &stop, &mut rooms);
        house.place(&stop, &mut rooms);
        let queries = house.queries(&stop, &mut rooms)?;
        let routes = house.forwarders(&stop, &mut rooms)?;
        house.journal.readers_are_known();
        let (view, control) = (mqtt.view(), mqtt.control());
        let mqtt_status: Ask = Arc::new(move || json!(view.status()));
        let listen = house.config.http.listen;
        let http_config = house.config.http.clone();
        let status = Arc::new(house.sources(mqtt_status, queries, routes, inbound));
        let http = HttpServer::bind(&http_config, Arc::clone(&status))
            .await
            .map_err(|problem| taken("http.listen", listen, &problem))?;
        let http_addr =
            http.local_addr().map_err(|problem| taken("http.listen", listen, &problem))?;

        let follower = tokio::spawn(follower.run());
        let stop_http = stop.clone();
        rooms.spawn(async move {
            ("http", http.run(stop_http).await.map_err(|problem| problem.to_string()))
        });
        rooms.spawn(async move {
            mqtt.run(stop).await;
            ("mqtt", Ok(()))
        });
        let journal = status.journal.clone();
        Ok(Self {
            config,
            journal,
            mqtt: control,
            mqtt_addr,
            renewal,
            http_addr,
            shutdown,
            rooms,
            follower,
            status,
        })
    }

    /// Takes over what `new` changes in a running gateway: users, anonymous rules and limits of the
    /// front door. Certificates are read again. Returns the keys that need a restart.
    pub fn reload(&mut self, new: Config) -> Vec<String> {
        let (config, restarts) = self.config.reloaded(new);
        self.renewal.ask();
        self.mqtt.reload(&config.mqtt);
        self.status.set_config(config.masked());
        self.config = config;
        restarts
    }

    /// Where the front door listens for plain TCP.
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where page, API and metrics listen.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// The rooms' own accounts, as the API gives them.
    pub fn status(&self) -> &Sources {
        &self.status
    }

    /// Returns when the gateway cannot go on: its disk failed, or a room ended.
    pub async fn failed(&mut self) -> Failure {
        let mut durable = self.journal.watch();
        tokio::select! {
            _ = durable.wait_for(|durable| durable.closed) => {
                let why = self.journal.stats().last_error.unwrap_or_default();
                Failure::new(Code::Disk, format!("the journal stopped: {why}"))
            }
            Some(ended) = self.rooms.join_next() => match ended {
                Ok((room, Ok(()))) => Failure::new(Code::Disk, format!("{room} ended by itself")),
                Ok((room, Err(why))) => Failure::new(Code::Disk, format!("{room}: {why}")),
                Err(panic) => Failure::new(Code::Disk, panic),
            },
        }
    }

    /// Closes the doors, finishes the commit, settles what forwards, saves what follows.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        while let Some(ended) = self.rooms.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((room, Err(why))) => warn!(room, why, "did not end well"),
                Err(panic) => error!(%panic, "a room failed"),
            }
        }
        let journal = self.journal.clone();
        if let Err(panic) = tokio::task::spawn_blocking(move || journal.close()).await {
            error!(%panic, "the journal failed while closing");
        }
        if let Err(panic) = self.follower.await {
            error!(%panic, "the follower failed");
        }
    }
}

impl House {
    fn open(config: Config) -> Result<Self, Failure> {
        let disk = |problem| {
            let dir = config.data_dir.display();
            Failure::new(Code::Disk, format!("data_dir {dir}: {problem}"))
        };
        let journal_dir = config.data_dir.join(JOURNAL_DIR);
        std::fs::create_dir_all(&journal_dir).map_err(disk)?;
        let options = JournalOptions {
            segment_size: config.log.segment_bytes,
            max_size: Some(config.log.max_bytes),
            max_age_ms: config.log.max_age.map(millis),
            when_full: config.log.when_full,
            ..JournalOptions::default()
        };
        let (mut log, recovery) = log_lite::Journal::open_dir(&journal_dir, options)?;
        report(JOURNAL_DIR, &recovery);
        let catalog = Arc::new(Catalog::open(&config.data_dir.join(CATALOG_FILE))?);
        let moved = crate::machine::notice(&catalog)?;
        if let Some(warning) = moved {
            warn!("{warning}");
        }
        let others = open_others(&config)?;
        // Damage in the last commit looks like a torn tail and is cut; what a reader has seen there,
        // or another log holds, must not get the offsets of other records.
        let reach = others.iter().map(|other| other.log.end()).max().unwrap_or(0);
        log.advance_to(catalog.highest_position()?.max(reach))?;
        let opened = log.end();
        let journal = Journal::on(log, &journal_dir);
        journal.await_readers();
        let streams = Arc::new(Streams::new(&config, &catalog)?);
        streams
            .manifest()
            .save(&config.data_dir)
            .map_err(|problem| Failure::new(Code::Disk, problem))?;
        let nodes = Arc::new(Nodes::default());
        let sparkplug = Arc::new(Sparkplug::new(&streams));
        let tables = Arc::new(Tables::new(&config.tables, &streams));
        let rows = Rows::new(Arc::clone(&streams), Arc::clone(&nodes), Arc::clone(&sparkplug));
        let mut registry = Registry::with_prefix("headwater");
        crate::journal::register(&journal, &mut registry);
        crate::http::register(&mut registry);
        let placements = placements(&config, others, &journal, &catalog, &streams)?;
        let logs = PlacementMetrics::new(placements.iter());
        logs.register(&mut registry);
        let stats = StreamStats::default();
        Ok(Self {
            config,
            journal,
            opened,
            moved,
            catalog,
            streams,
            nodes,
            sparkplug,
            tables,
            rows,
            stats,
            registry,
            placements,
            logs,
        })
    }

    /// Brings all that follows from the journal up to its end.
    fn follower(
        &self,
        mqtt_state: &Arc<MqttState>,
        positions: &Positions,
        chain: &Arc<Chain>,
    ) -> Result<Follower, Failure> {
        let mut projections =
            vec![self.nodes.projection(), self.stats.projection(), mqtt_state.projection()];
        // Before positions: where those say that a row is here, its table has it.
        if !self.tables.is_empty() {
            self.tables.load(&self.journal, &self.catalog)?;
            projections.push(self.tables.projection());
        }
        projections.extend([positions.projection(), chain.projection()]);
        if self.sparkplug.is_used() {
            projections.push(self.sparkplug.projection());
        }
        Ok(Follower::start(self.journal.clone(), Arc::clone(&self.catalog), projections)?)
    }

    fn place(
        &mut self,
        stop: &watch::Receiver<bool>,
        rooms: &mut JoinSet<(&'static str, Result<(), String>)>,
    ) {
        for placement in self.placements.drain(..) {
            let stop = stop.clone();
            rooms.spawn(async move {
                placement.run(stop).await;
                ("log", Ok(()))
            });
        }
    }

    fn queries(
        &mut self,
        stop: &watch::Receiver<bool>,
        rooms: &mut JoinSet<(&'static str, Result<(), String>)>,
    ) -> Result<Ask, Failure> {
        let metrics = QueryMetrics::default();
        metrics.register(&mut self.registry);
        let mut asks: Vec<Ask> = Vec::new();
        for query in &self.config.queries {
            let runner = QueryRunner::new(
                &query.plan,
                self.journal.clone(),
                Arc::clone(&self.catalog),
                &self.streams,
                self.rows.clone(),
                metrics.clone(),
            )?;
            let handle = runner.handle();
            asks.push(Arc::new(move || json!(handle.status())));
            let stop = stop.clone();
            rooms.spawn(async move {
                runner.run(stop).await;
                ("query", Ok(()))
            });
        }
        Ok(all_of(asks))
    }

    fn forwarders(
        &mut self,
        stop: &watch::Receiver<bool>,
        rooms: &mut JoinSet<(&'static str, Result<(), String>)>,
    ) -> Result<(Ask, Vec<RouteControl>), Failure> {
        let mut controls = Vec::new();
        let metrics = ForwardMetrics::default();
        metrics.register(&mut self.registry);
        let incarnation = self.catalog.fact("incarnation", new_incarnation)?;
        let mut asks: Vec<Ask> = Vec::new();
        for (name, upstream) in &self.config.upstreams {
            if self.config.routes.iter().all(|route| route.upstream != *name) {
                info!(upstream = name, "has no routes");
                continue;
            }
            let with = Surroundings {
                identity: Identity {
                    gateway: self.config.id.clone(),
                    incarnation: incarnation.clone(),
                },
                journal: self.journal.clone(),
                opened: self.opened,
                catalog: Arc::clone(&self.catalog),
                streams: Arc::clone(&self.streams),
                rows: self.rows.clone(),
                metrics: metrics.clone(),
            };
            let link = self.config.links.get(name).cloned().unwrap_or_default();
            let forwarder = Forwarder::new(name, (upstream, link), &self.config.routes, with)
                .map_err(|problem| Failure::new(Code::Disk, problem))?;
            controls.push(forwarder.control());
            let status = forwarder.status();
            asks.push(Arc::new(move || json!(status.routes())));
            let stop = stop.clone();
            rooms.spawn(async move {
                forwarder.run(stop).await;
                ("forward", Ok(()))
            });
        }
        let ask: Ask = Arc::new(move || {
            let all = asks.iter().flat_map(|ask| match ask() {
                Json::Array(routes) => routes,
                other => vec![other],
            });
            Json::Array(all.collect())
        });
        Ok((ask, controls))
    }

    fn sources(
        self,
        mqtt: Ask,
        queries: Ask,
        (routes, controls): (Ask, Vec<RouteControl>),
        (inbound, tables): (Ask, Ask),
    ) -> Sources {
        Sources {
            id: self.config.id.clone(),
            moved: self.moved,
            started: Instant::now(),
            config: RwLock::new(self.config.masked()),
            journal: self.journal,
            streams: self.streams,
            rows: self.rows,
            stats: self.stats,
            nodes: self.nodes,
            sparkplug: self.sparkplug,
            registry: self.registry,
            mqtt,
            queries,
            routes,
            inbound,
            tables,
            table_rows: self.tables,
            controls,
            logs: self.logs,
        }
    }
}

/// A list of what each says.
fn all_of(asks: Vec<Ask>) -> Ask {
    Arc::new(move || Json::Array(asks.iter().map(|ask| ask()).collect()))
}

fn open_others(config: &Config) -> Result<Vec<Other>, Failure> {
    let mut others = Vec::new();
    for (name, log) in &config.logs {
        let dir = log_dir(&config.data_dir, name);
        let (log, recovery) = log_lite::Journal::open_dir(&dir, Placement::options(log))?;
        report(name, &recovery);
        others.push(Other { name: name.clone(), dir, log });
    }
    Ok(others)
}

fn placements(
    config: &Config,
    others: Vec<Other>,
    journal: &Journal,
    catalog: &Arc<Catalog>,
    streams: &Streams,
) -> Result<Vec<Placement>, Failure> {
    let mut placements = Vec::new();
    let mut histories = BTreeMap::new();
    for Other { name, dir, log } in others {
        let partitions = streams.in_log(&name);
        let around = Around { journal: journal.clone(), catalog: Arc::clone(catalog) };
        let log_config = &config.logs[&name];
        let placement =
            Placement::new(&name, log_config, (dir, log), partitions.clone(), around)
                .map_err(|problem| Failure::new(Code::Disk, format!("logs.{name}: {problem}")))?;
        let of = |partition| (partition, placement.history());
        histories.extend(partitions.into_iter().map(of));
        placements.push(placement);
    }
    journal.set_histories(histories);
    Ok(placements)
}

fn taken(key: &str, address: SocketAddr, problem: &std::io::Error) -> Failure {
    Failure::new(code_of(problem), format!("{key}: cannot listen on {address}: {problem}"))
}

fn code_of(problem: &std::io::Error) -> Code {
    match problem.kind() {
        std::io::ErrorKind::AddrInUse => Code::TryAgain,
        _ => Code::Config,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn report(log: &str, recovery: &Recovery) {
    let Recovery { segments, start, end, .. } = recovery;
    info!(log, segments, start, end, "log opened");
    if let Some(torn) = &recovery.torn {
        info!(?torn, "an unacknowledged tail was cut");
    }
    for damage in &recovery.damage {
        error!(log, %damage, "the log is damaged; what is whole is served, nothing was deleted");
    }
    for aside in &recovery.set_aside {
        error!(log, ?aside, "a segment without a readable header was set aside");
    }
}

/// Random enough that no two data directories share it: the kernel's own UUID.
fn new_incarnation() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_or_else(
        |_| format!("{:x}", jiff::Timestamp::now().as_nanosecond()),
        |uuid| uuid.trim().to_owned(),
    )
}
