//! A cluster that is away while millions of records come, and comes back.
//!
//! While it is away, the gateway takes what 50 connections publish, in turns with a gateway that
//! forwards nothing. When it is back, the backlog drains while a route of higher priority carries a
//! message a second.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hw_tests::gateway::GatewayProcess;
use hw_tests::kafka::Kafka;
use hw_tests::qemu::free_port;

use crate::latency::{self, Live};
use crate::rate;
use crate::usage;

/// Bytes of a payload.
const BYTES: usize = 200;
/// Seconds of one turn of publishers.
const TURN_S: f64 = 4.0;
/// The backlog has to be gone by then.
const DRAINED: Duration = Duration::from_secs(1_800);

type Done<T> = Result<T, Box<dyn Error>>;

/// A backlog of at least `records`, published by `load`.
pub(crate) fn run(records: u64, load: &Path) -> Done<()> {
    let dir = tempfile::tempdir()?;
    let mut kafka = Kafka::start(&dir.path().join("kafka"))?;
    kafka.make_topic("plant.data", 3)?;
    kafka.make_topic(latency::TOPIC, 1)?;
    kafka.stop()?;
    let away = House::start(&dir.path().join("away"), Some(kafka.brokers()))?;
    let alone = House::start(&dir.path().join("alone"), None)?;
    let mut ratios = Vec::new();
    while away.stored()? < records {
        let (ours, theirs) = (away.publish(load)?, alone.publish(load)?);
        println!("stored a second: {ours:.0} with the cluster away, {theirs:.0} without a route");
        ratios.push(ours / theirs);
    }
    drop(alone);
    ratios.sort_by(f64::total_cmp);
    let (stored, ratio) = (away.stored()?, ratios[ratios.len() / 2]);
    println!("{stored} records wait; ingest {ratio:.3} of that without a route (bar 0.9)");
    println!("peak {:.1} MB (bar 48)", away.peak_mb()?);
    kafka.restart()?;
    let (seconds, sent, live) = away.drain(kafka.brokers())?;
    let rate = sent as f64 / seconds;
    println!("drained {sent} records in {seconds:.1} s: {rate:.0} a second");
    println!("peak {:.1} MB (bar 48)", away.peak_mb()?);
    live.print("beside the backlog, on a route of priority 10");
    drop(away);
    kafka.make_topic("perf", 3)?;
    let (java, _) = rate::producer_performance(&kafka)?;
    println!(
        "ProducerPerformance: {java:.0} a second; the backlog drained at {:.2} of it",
        rate / java
    );
    Ok(())
}

/// A gateway with the streams `data` and `live`.
struct House {
    gateway: GatewayProcess,
    mqtt: u16,
}

impl House {
    fn start(dir: &Path, brokers: Option<&str>) -> Done<Self> {
        std::fs::create_dir_all(dir)?;
        let (mqtt, http) = (free_port()?, free_port()?);
        let routes = brokers.map_or(String::new(), |brokers| {
            format!(
                "[upstream.cluster]\nkind = \"kafka\"\nbrokers = \"{brokers}\"\n\
                 [[route]]\nstream = \"data\"\nupstream = \"cluster\"\ntopic = \"plant.data\"\n\
                 [[route]]\nstream = \"live\"\nupstream = \"cluster\"\ntopic = \"{}\"\npriority = 10\n",
                latency::TOPIC
            )
        });
        let text = format!(
            "[gateway]\nid = \"backlog\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:{mqtt}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[log]\nmax_size = \"16 GiB\"\n\
             [[stream]]\nname = \"data\"\ntopic = \"load/{{device}}\"\nkey = \"device\"\n\
             format = \"bytes\"\npartitions = 3\n\
             [[stream]]\nname = \"live\"\ntopic = \"data/{{device}}\"\nkey = \"device\"\n\
             format = \"json\"\n{routes}"
        );
        let config: PathBuf = dir.join("headwater.toml");
        std::fs::write(&config, text)?;
        Ok(Self { gateway: GatewayProcess::start(&config, http)?, mqtt })
    }

    /// Messages stored a second while 50 connections publish all they can.
    fn publish(&self, load: &Path) -> Done<f64> {
        let said = Command::new(load)
            .args(["publish", "--addr", &format!("127.0.0.1:{}", self.mqtt)])
            .args(["--connections", "50", "--window", "200", "--qos", "1", "--random"])
            .args(["--payload", &BYTES.to_string(), "--seconds", &TURN_S.to_string()])
            .output()?;
        let text = String::from_utf8(said.stdout)?;
        let rate = text.split_whitespace().find_map(|pair| pair.strip_prefix("messages_per_s="));
        Ok(rate.ok_or_else(|| format!("mqtt_load said: {text}"))?.parse()?)
    }

    fn stored(&self) -> Done<u64> {
        let status = self.gateway.get("/api/v1/status")?;
        Ok(status["journal"]["end"].as_u64().ok_or_else(|| format!("no end in {status}"))?)
    }

    fn peak_mb(&self) -> Done<f64> {
        Ok(usage::of(self.gateway.process()).ok_or("the gateway runs")?.peak_mb)
    }

    /// Until the route of the data has nothing left: seconds, records, and what the other one did.
    fn drain(&self, brokers: &str) -> Done<(f64, u64, Live)> {
        let deadline = Instant::now() + DRAINED;
        self.wait(deadline, |sent, _| sent > 0)?;
        let (began, (first, _)) = (Instant::now(), self.data_route()?);
        let stop = Arc::new(AtomicBool::new(false));
        let (mqtt, brokers, until) = (self.mqtt, brokers.to_owned(), Arc::clone(&stop));
        let live = std::thread::spawn(move || {
            let going = |_| !until.load(Ordering::Relaxed);
            latency::measure(mqtt, &brokers, going).map_err(|problem| problem.to_string())
        });
        // The live messages are behind it in the log.
        let drained = self.wait(deadline, |_, lag| lag < 100);
        let (seconds, (sent, _)) = (began.elapsed().as_secs_f64(), self.data_route()?);
        stop.store(true, Ordering::Relaxed);
        let live = live.join().map_err(|_| "the live publisher broke down")??;
        drained?;
        Ok((seconds, sent - first, live))
    }

    fn wait(&self, deadline: Instant, until: impl Fn(u64, u64) -> bool) -> Done<()> {
        loop {
            let (sent, lag) = self.data_route()?;
            if until(sent, lag) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{sent} records are sent and {lag} wait: too slow").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Records sent and those that wait.
    fn data_route(&self) -> Done<(u64, u64)> {
        let routes = self.gateway.get("/api/v1/routes")?;
        let number = |name: &str| routes[0][name].as_u64().ok_or_else(|| format!("{routes}"));
        Ok((number("records")?, number("lag")?))
    }
}
