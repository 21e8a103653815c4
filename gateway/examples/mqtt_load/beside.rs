//! What subscribers of other topics cost publishers: turns beside them, and turns alone.

use std::io;

use clap::Args;

use super::client::Client;
use super::publish;
use super::stats::percentile;

#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    publisher: publish::Load,
    /// Subscribers, each of a topic to which nobody publishes.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Turns of each kind, each as long as the publishers publish.
    #[arg(long, default_value_t = 5)]
    turns: usize,
}

pub(crate) async fn run(load: &Load) -> io::Result<String> {
    // The first turn only warms up.
    publish::measure(&load.publisher).await?;
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..load.turns {
        // Each kind is first in every other turn.
        let (without, with) = if turn % 2 == 0 {
            let without = one_turn(load, 0).await?;
            (without, one_turn(load, load.subscribers).await?)
        } else {
            let with = one_turn(load, load.subscribers).await?;
            (one_turn(load, 0).await?, with)
        };
        alone.push(without);
        beside.push(with);
        ratios.push(with / without);
    }
    Ok(format!(
        "subscribers={} alone_per_s={:.0} beside_per_s={:.0} ratio={:.3}",
        load.subscribers,
        percentile(&mut alone, 50),
        percentile(&mut beside, 50),
        percentile(&mut ratios, 50),
    ))
}

/// The publishers' messages a second.
async fn one_turn(load: &Load, subscribers: usize) -> io::Result<f64> {
    let mut clients = Vec::new();
    for index in 0..subscribers {
        let client = format!("beside-{}-{index}", std::process::id());
        let mut client = Client::connect(load.publisher.addr, index, &client, true).await?;
        client.subscribe(&format!("beside/{index}"), 1).await?;
        clients.push(client);
    }
    let seen = publish::measure(&load.publisher).await?;
    for client in clients {
        client.leave().await?;
    }
    Ok(seen.messages as f64 / load.publisher.seconds)
}
