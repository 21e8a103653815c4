//! `$SYS` topics, as dashboards know them from mosquitto: the front door's own figures. They are
//! not records: who subscribes gets each at once, and again where it has changed. QoS 0.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::metrics::MqttMetrics;
use super::state::StateCounts;

/// What the filters of those who want them start with.
const PREFIX: &str = "$SYS/";

/// How often the figures are made anew, as mosquitto's `sys_interval` does.
pub(crate) const EVERY: Duration = Duration::from_secs(10);

/// Over how many minutes loads are averaged.
const LOAD_MINUTES: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// True for a filter that only `$SYS` topics match.
pub(crate) fn is_sys(filter: &str) -> bool {
    filter.starts_with(PREFIX)
}

/// The figures by topic, each as text.
pub(crate) type Figures = Arc<BTreeMap<String, String>>;

/// What the figures are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) uptime_s: u64,
    pub(crate) connected: u64,
    pub(crate) connected_max: u64,
    pub(crate) connects: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) publish_in: u64,
    pub(crate) publish_out: u64,
    pub(crate) dropped: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) state: StateCounts,
    pub(crate) stored: u64,
    pub(crate) stored_bytes: u64,
}

/// An average that forgets exponentially, of what is counted a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    last: u64,
    averages: [f64; LOAD_MINUTES.len()],
}

impl Load {
    fn tick(&mut self, elapsed_min: f64, count: u64) {
        let rate = count.saturating_sub(self.last) as f64 / elapsed_min;
        self.last = count;
        for (average, (_, minutes)) in self.averages.iter_mut().zip(LOAD_MINUTES) {
            let keeps = (-elapsed_min / minutes).exp();
            *average = *average * keeps + rate * (1.0 - keeps);
        }
    }
}

/// Makes the figures; a pure core.
#[derive(Debug, Default)]
struct Maker {
    loads: BTreeMap<&'static str, Load>,
}

impl Maker {
    /// The figures after `elapsed` since the last ones.
    fn make(&mut self, counts: &Counts, elapsed: Duration) -> BTreeMap<String, String> {
        let mut figures = BTreeMap::new();
        let mut put = |name: &str, value: String| {
            figures.insert(format!("{PREFIX}broker/{name}"), value);
        };
        put("version", format!("headwater version {}", env!("CARGO_PKG_VERSION")));
        put("uptime", format!("{} seconds", counts.uptime_s));
        let state = &counts.state;
        let away = (state.sessions as u64).saturating_sub(state.sessions_connected as u64);
        for (name, value) in [
            ("clients/connected", counts.connected),
            ("clients/active", counts.connected),
            ("clients/maximum", counts.connected_max),
            ("clients/disconnected", away),
            ("clients/inactive", away),
            ("clients/total", counts.connected + away),
            ("messages/received", counts.packets_in),
            ("messages/sent", counts.packets_out),
            ("publish/messages/received", counts.publish_in),
            ("publish/messages/sent", counts.publish_out),
            ("publish/messages/dropped", counts.dropped),
            ("bytes/received", counts.bytes_in),
            ("bytes/sent", counts.bytes_out),
            ("subscriptions/count", state.subscriptions as u64),
            ("retained messages/count", state.retained as u64),
            ("store/messages/count", counts.stored),
            ("store/messages/bytes", counts.stored_bytes),
        ] {
            put(name, value.to_string());
        }
        let elapsed_min = elapsed.as_secs_f64().max(0.001) / 60.0;
        for (name, count) in [
            ("messages/received", counts.packets_in),
            ("messages/sent", counts.packets_out),
            ("publish/received", counts.publish_in),
            ("publish/sent", counts.publish_out),
            ("bytes/received", counts.bytes_in),
            ("bytes/sent", counts.bytes_out),
            ("connections", counts.connects),
        ] {
            let load = self.loads.entry(name).or_default();
            load.tick(elapsed_min, count);
            for (average, (minutes, _)) in load.averages.iter().zip(LOAD_MINUTES) {
                put(&format!("load/{name}/{minutes}"), format!("{average:.2}"));
            }
        }
        figures
    }
}

/// The figures of a running front door.
pub(crate) struct Sys {
    figures: watch::Sender<Figures>,
    started: Instant,
}

impl Sys {
    pub(crate) fn new(started: Instant) -> Self {
        Self { figures: watch::Sender::new(Figures::default()), started }
    }

    /// Follows the figures.
    pub(crate) fn watch(&self) -> watch::Receiver<Figures> {
        self.figures.subscribe()
    }

    /// Makes the figures, now and every [`EVERY`], of what `count` says.
    pub(crate) async fn run(&self, count: impl Fn() -> Counts) {
        let mut maker = Maker::default();
        let mut last = self.started;
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            let now = Instant::now();
            let uptime_s = now.duration_since(self.started).as_secs();
            let counts = Counts { uptime_s, ..count() };
            let figures = maker.make(&counts, now.duration_since(last));
            last = now;
            self.figures.send_replace(Arc::new(figures));
        }
    }
}

/// What the metrics say.
pub(crate) fn counts(metrics: &MqttMetrics, state: StateCounts, stored: (u64, u64)) -> Counts {
    Counts {
        uptime_s: 0,
        connected: u64::try_from(metrics.connections.get()).unwrap_or(0),
        connected_max: metrics.connections_highest(),
        connects: metrics.connects.get(),
        packets_in: metrics.packets.get(),
        packets_out: metrics.delivered.get() + metrics.acknowledged.get(),
        publish_in: metrics.received.get(),
        publish_out: metrics.delivered.get(),
        dropped: metrics.dropped.get()
            + metrics.expired.get()
            + metrics.too_large.get()
            + metrics.missed.get(),
        bytes_in: metrics.bytes_in.get(),
        bytes_out: metrics.bytes_out.get(),
        state,
        stored: stored.0,
        stored_bytes: stored.1,
    }
}

/// One subscriber's view of the figures.
pub(crate) struct Feed {
    watch: watch::Receiver<Figures>,
    sent: Figures,
    /// Filters whose retained messages are wanted: all that they match is due.
    fresh: Vec<String>,
}

impl Feed {
    pub(crate) fn new(sys: &Sys) -> Self {
        let watch = sys.watch();
        let sent = Arc::clone(&watch.borrow());
        Self { watch, sent, fresh: Vec::new() }
    }

    pub(crate) fn retained(&mut self, filter: String) {
        if !self.fresh.contains(&filter) {
            self.fresh.push(filter);
        }
    }

    /// Returns when the figures have been made anew.
    pub(crate) async fn changed(&mut self) {
        if self.watch.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Calls `with` for what is due: topic, text, and the filter whose retained messages are wanted,
    /// if it is for that.
    pub(crate) fn take(&mut self, mut with: impl FnMut(&str, &str, Option<&str>)) {
        let now = Arc::clone(&self.watch.borrow_and_update());
        if self.sent.is_empty() {
            // The first ones are all there is: they go to whom they are due at once.
            self.sent = Arc::clone(&now);
        }
        if now.is_empty() {
            return;
        }
        for filter in std::mem::take(&mut self.fresh) {
            for (topic, text) in now.iter() {
                if crate::stream::filter_matches(&filter, topic) {
                    with(topic, text, Some(&filter));
                }
            }
        }
        if Arc::ptr_eq(&now, &self.sent) {
            return;
        }
        for (topic, text) in now.iter().filter(|(topic, text)| self.sent.get(*topic) != Some(*text))
        {
            with(topic, text, None);
        }
        self.sent = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_becomes_the_load_and_silence_wears_it_off() {
        let mut load = Load::default();
        for minute in 1..=60 {
            load.tick(1.0, minute * 120);
        }
        assert!((load.averages[0] - 120.0).abs() < 1e-6);
        assert!(load.averages[2] > 110.0);
        load.tick(1.0, 60 * 120);
        assert!((load.averages[0] - 120.0 / std::f64::consts::E).abs() < 1e-6);
    }

    #[test]
    fn figures_have_the_names_that_dashboards_ask_for() {
        let state = StateCounts { sessions: 3, sessions_connected: 1, ..StateCounts::default() };
        let counts = Counts { connected: 2, uptime_s: 61, state, ..Counts::default() };
        let figures = Maker::default().make(&counts, EVERY);
        for (topic, expected) in [
            ("$SYS/broker/uptime", "61 seconds"),
            ("$SYS/broker/clients/connected", "2"),
            ("$SYS/broker/clients/disconnected", "2"),
            ("$SYS/broker/clients/total", "4"),
            ("$SYS/broker/load/publish/received/5min", "0.00"),
        ] {
            assert_eq!(figures.get(topic).map(String::as_str), Some(expected), "{topic}");
        }
    }

    #[test]
    fn a_subscriber_gets_all_at_first_and_then_what_has_changed() {
        let sys = Sys::new(Instant::now());
        let figures = |value: &str| {
            let pairs = [("$SYS/a", value), ("$SYS/b", "0")];
            Arc::new(pairs.map(|(topic, text)| (topic.to_owned(), text.to_owned())).into())
        };
        sys.figures.send_replace(figures("1"));
        let mut feed = Feed::new(&sys);
        feed.retained("$SYS/#".to_owned());
        let mut seen = Vec::new();
        let mut take = |feed: &mut Feed| {
            feed.take(|topic, text, fresh| seen.push(format!("{topic} {text} {fresh:?}")));
            std::mem::take(&mut seen)
        };
        assert_eq!(take(&mut feed), ["$SYS/a 1 Some(\"$SYS/#\")", "$SYS/b 0 Some(\"$SYS/#\")"]);
        assert_eq!(take(&mut feed), [""; 0]);
        sys.figures.send_replace(figures("2"));
        assert_eq!(take(&mut feed), ["$SYS/a 2 None"]);
    }
}
