//! How fast messages get from one node to another: many at once, and one alone.
//!
//! `cargo run --release -p trunkline-mongodb --example throughput [URL]`; without a URL it starts a server of its own.

use std::{
    error::Error,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{RawDocumentBuf, oid::ObjectId, rawdoc},
};
use tokio::sync::Notify;
use trunkline_core::{
    Adapter, Cluster, ClusterConfig, Delivered, Local, LocalAbilities, Namespace, NodeId, Offset, Payload, Replies,
    Reply, Room, SocketInfo, Target,
};
use trunkline_mongodb::{Config, connect};

const MESSAGES: u64 = 200_000;
const LONE_MESSAGES: u64 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let server = trunkline_brokers::MongoDb::start().await?;
            (server.url().to_owned(), Some(server))
        }
    };
    let bare = bare(&server.0).await?;
    println!("bare driver: {bare:.0} documents/s from insert_many to one change stream");
    let mark = if server.0.contains('?') { '&' } else { '?' };
    let rate = measure(&format!("{}{mark}collection=throughput&capped_bytes=256MiB", server.0)).await?;
    println!("{:.0} % of the bare driver", 100.0 * rate / bare);
    Ok(())
}

/// As fast as the driver is with documents of the same size, in batches of 1,000.
async fn bare(url: &str) -> Result<f64, Box<dyn Error>> {
    const BATCH: u64 = 1_000;
    let database = Client::with_uri_str(url).await?.database("throughput");
    database.create_collection("bare").capped(true).size(256 << 20).await?;
    let collection = database.collection::<RawDocumentBuf>("bare");
    let mut changes = collection.watch().await?.with_type::<RawDocumentBuf>();
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        for batch in 0..MESSAGES / BATCH {
            let document = |index| {
                let text = format!("{:0114}", batch * BATCH + index);
                rawdoc! {
                    "_id": ObjectId::new(), "type": 3,
                    "data": { "packet": { "type": 2, "data": ["message", text] }, "opts": { "rooms": [], "except": [], "flags": {} } },
                    "uid": "0123456789abcdef", "nsp": "/",
                }
            };
            let documents: Vec<_> = (0..BATCH).map(document).collect();
            collection.insert_many(&documents).await?;
        }
        mongodb::error::Result::Ok(())
    });
    let mut left = MESSAGES;
    while left > 0 {
        left -= u64::from(changes.next_if_any().await?.is_some());
    }
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    sender.await??;
    Ok(rate)
}

/// Between two nodes.
async fn measure(url: &str) -> Result<f64, Box<dyn Error>> {
    let (here, there) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let a = node(url, &here).await?;
    let b = node(url, &there).await?;
    a.await_peers(1, Duration::from_secs(10)).await?;
    b.await_peers(1, Duration::from_secs(10)).await?;

    let start = Instant::now();
    for number in 0..MESSAGES {
        a.broadcast(Target::all(), numbered(number)?).await?;
    }
    let emitted = start.elapsed();
    there.until(MESSAGES).await;
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let (counted, disorder) = (b.counters(), there.disorder.load(Ordering::Relaxed));
    println!(
        "trunkline: {rate:.0} messages/s of 128 B at the other node, emitted in {emitted:?}; {disorder} out of order, {} missed",
        counted.missed
    );

    let mut times = Vec::new();
    for number in MESSAGES..MESSAGES + LONE_MESSAGES {
        let start = Instant::now();
        a.broadcast(Target::all(), numbered(number)?).await?;
        there.until(number + 1).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("trunkline: a lone message takes {:?} (p50), {:?} (p99)", at(0.5), at(0.99));
    for node in [a, b] {
        node.close();
        node.closed().await;
    }
    Ok(rate)
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

/// A server with one client in every room, which counts.
#[derive(Debug, Default)]
struct Counting {
    count: AtomicU64,
    disorder: AtomicU64,
    arrived: Notify,
}

impl Counting {
    async fn until(&self, count: u64) {
        loop {
            let arrived = self.arrived.notified();
            if self.count.load(Ordering::Acquire) >= count {
                return;
            }
            arrived.await;
        }
    }
}

impl Local for Counting {
    fn abilities(&self) -> LocalAbilities {
        LocalAbilities { close_connections: true, number_rooms: true }
    }

    fn deliver(&self, _: &Target, payload: &Payload, _: Option<&Offset>) -> Delivered {
        let number = payload.arguments::<(String,)>().ok().and_then(|(text,)| text.parse::<u64>().ok());
        let expected = self.count.fetch_add(1, Ordering::Release);
        self.disorder.fetch_add(u64::from(number != Some(expected)), Ordering::Relaxed);
        self.arrived.notify_waiters();
        Delivered { sent: 1, ..Delivered::default() }
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: Replies) -> u32 {
        0
    }

    fn sockets(&self, _: &Target) -> Vec<SocketInfo> {
        Vec::new()
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn has_room(&self, _: &Room) -> bool {
        true
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<Reply>) {}
}
