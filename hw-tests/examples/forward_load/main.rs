//! The bars of forwarding, each on a real broker.
//!
//! ```text
//! cargo run --release -p hw-tests --example forward_load -- rate [PAIRS]
//! cargo run --release -p hw-tests --example forward_load -- latency [MQTT_LOAD]
//! cargo run --release -p hw-tests --example forward_load -- backlog RECORDS MQTT_LOAD
//! cargo run --release -p hw-tests --example forward_load -- scale GATEWAYS[:EVERY_MS[:RECORDS]]...
//! ```
//!
//! `rate`: 1 million records of 200 B out of the journal, 3 partitions, in transactions, beside
//! Kafka's own ProducerPerformance in the same run. `latency`: from PUBLISH until a reader of
//! committed records has it, one message a second, default settings, beside what the program `mqtt_load`
//! publishes if it is given. `backlog`: so many records while
//! the cluster is away, published by the program `mqtt_load`, and what follows. `scale`: so many gateways on
//! one broker, each with a transactional id of its own.
#![expect(clippy::print_stdout, reason = "a tool that prints figures")]

mod backlog;
mod latency;
mod rate;
mod scale;
mod usage;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["rate"] => rate::run(3),
        ["rate", pairs] => rate::run(pairs.parse()?),
        ["latency"] => latency::run(None),
        ["latency", load] => latency::run(Some(load.as_ref())),
        ["backlog", records, load] => backlog::run(records.parse()?, load.as_ref()),
        ["scale", settings @ ..] => scale::run(settings),
        // The measured process of `rate`.
        ["forward", dir, brokers] => rate::forward(dir.as_ref(), brokers),
        _ => Err("forward_load rate [PAIRS] | latency [MQTT_LOAD] | backlog RECORDS MQTT_LOAD | scale GATEWAYS[:EVERY_MS[:RECORDS]]...".into()),
    }
}
