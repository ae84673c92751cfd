//! How fast messages get from one node to another, many at once and one alone, next to what bare commands do in the same run.
//!
//! `cargo run --release -p trunkline-redis --example throughput [URL]`; without a URL it starts a server of its own.

mod bare;
mod counting;

use std::{
    error::Error,
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use trunkline_core::{Adapter, Cluster, ClusterConfig, Namespace, Payload, Target};
use trunkline_redis::{Config, connect};

use crate::counting::Counting;

const MESSAGES: u64 = 100_000;
const LONE_MESSAGES: u64 = 2_000;
const RUNS: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let server = trunkline_brokers::Redis::start().await?;
            (server.url().to_owned(), Some(server))
        }
    };
    for mode in ["pubsub", "streams"] {
        let mark = if server.0.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}prefix=throughput&mode={mode}", server.0);
        for _ in 0..RUNS {
            let bare = match mode {
                "pubsub" => bare::publish(&server.0, MESSAGES).await?,
                _ => bare::append(&server.0, MESSAGES).await?,
            };
            measure(&url, mode, bare).await?;
        }
    }
    Ok(())
}

/// Prints what two nodes do; `bare` is what the commands alone do, in messages per second.
async fn measure(url: &str, mode: &str, bare: f64) -> Result<(), Box<dyn Error>> {
    let (here, there) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let a = node(url, &here).await?;
    let b = node(url, &there).await?;
    a.await_peers(1, Duration::from_secs(10)).await?;
    b.await_peers(1, Duration::from_secs(10)).await?;

    let start = Instant::now();
    for number in 0..MESSAGES {
        a.broadcast(Target::room("room"), numbered(number)?).await?;
    }
    there.until(MESSAGES).await;
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let (missed, disorder) = (b.counters().missed, there.disorder.load(Ordering::Relaxed));
    println!(
        "{mode}: {rate:.0} messages/s of 128 B at the other node, {:.2} of the {bare:.0} of bare commands; {disorder} out of order, {missed} missed",
        rate / bare
    );

    let mut times = Vec::new();
    for number in MESSAGES..MESSAGES + LONE_MESSAGES {
        let start = Instant::now();
        a.broadcast(Target::room("room"), numbered(number)?).await?;
        there.until(number + 1).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{mode}: a lone message takes {:?} (p50), {:?} (p99)", at(0.5), at(0.99));
    for node in [a, b] {
        node.close();
        node.closed().await;
    }
    Ok(())
}

async fn node(url: &str, server: &Arc<Counting>) -> trunkline_core::Result<Cluster> {
    let backend = connect(Config::from_url(url)?).await?;
    let local: Weak<Counting> = Arc::downgrade(server);
    Cluster::join(backend, Namespace::new("/"), local, ClusterConfig::default()).await
}

/// 128 bytes of arguments, with the number in them.
fn numbered(number: u64) -> trunkline_core::Result<Payload> {
    Payload::event("message", &(format!("{number:0114}"),))
}
