//! Load for MQTT brokers, and what they make of it in numbers. An encoder of its own, so that it
//! costs the machine less than the broker under test. Each subcommand prints `name=value` pairs on
//! one line; `deploy/bench/` runs them beside a peer and compares.

mod beside;
mod churn;
mod client;
mod connects;
mod fanout;
mod idle;
mod malformed;
mod mutate;
mod offline;
mod process;
mod publish;
mod stats;
mod window1;
mod wire;

use std::io;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Load for MQTT brokers")]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Publish as fast as the broker acknowledges: messages a second and their latency
    Publish(publish::Load),
    /// Publishers beside subscribers of other topics, in turns with publishers alone
    Beside(beside::Load),
    /// One message at a time, in turns with one write and one fdatasync
    Window1(window1::Load),
    /// One publisher and many subscribers: messages delivered a second
    Fanout(fanout::Load),
    /// Many connections that say nothing: memory of the broker
    Idle(idle::Load),
    /// Connects at a steady rate, in turns at two brokers: how long each takes
    Connects(connects::Load),
    /// Sessions that are away while messages come: memory, and that they get all in order
    Offline(offline::Load),
    /// Clients that come once, with an id and a topic of their own: memory that stays
    Churn(churn::Load),
    /// Broken packets beside a publisher, in turns with whole ones: what it costs the publisher
    Malformed(malformed::Load),
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "the numbers are what it is for")]
async fn main() -> io::Result<()> {
    let line = match Arguments::parse().load {
        Load::Publish(load) => publish::run(&load).await?,
        Load::Beside(load) => beside::run(&load).await?,
        Load::Window1(load) => window1::run(&load).await?,
        Load::Fanout(load) => fanout::run(&load).await?,
        Load::Idle(load) => idle::run(&load).await?,
        Load::Connects(load) => connects::run(&load).await?,
        Load::Offline(load) => offline::run(&load).await?,
        Load::Churn(load) => churn::run(&load).await?,
        Load::Malformed(load) => malformed::run(&load).await?,
    };
    println!("{line}");
    Ok(())
}
