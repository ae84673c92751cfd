//! Node to node, next to what the bare client reaches on the same machine in the same run: `cargo bench -p trunkline-nats`.
//!
//! Both move messages of 128 bytes from one connection to another over one private server. Ours pass a whole node on each side, are numbered, arrive in order, and
//! none is lost; the bare client only counts.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use trunkline_brokers::Nats;
use trunkline_core::{
    Adapter, Cluster, ClusterConfig, Delivered, Local, LocalAbilities, Namespace, NodeId, Offset, Payload, Replies,
    Reply, Room, SocketInfo, Target,
};
use trunkline_nats::{Config, connect};

const MESSAGES: u64 = 500_000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Nats::start().await?;
    let bare = bare(server.url()).await?;
    println!("bare async-nats          {bare:>10.0} messages/s");
    for (name, rooms) in [("to all", 0), ("to one room", 1), ("to 64 rooms", 64)] {
        let ours = nodes(server.url(), rooms).await?;
        println!("node to node, {name:<12}{ours:>9.0} messages/s, {:.2} of it", ours / bare);
    }
    Ok(())
}

async fn bare(url: &str) -> Result<f64> {
    let receiver = async_nats::connect(url).await?;
    let mut received = receiver.subscribe("bare").await?;
    receiver.flush().await?;
    let sender = async_nats::connect(url).await?;
    let payload = bytes::Bytes::from(vec![b'x'; 128]);
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            sender.publish("bare", payload.clone()).await?;
        }
        sender.flush().await?;
        Result::Ok(())
    });
    for _ in 0..MESSAGES {
        tokio::time::timeout(Duration::from_secs(5), received.next()).await?;
    }
    sending.await??;
    Ok(MESSAGES as f64 / start.elapsed().as_secs_f64())
}

async fn nodes(url: &str, rooms: u64) -> Result<f64> {
    let server = Arc::new(Counting::new(MESSAGES));
    let receiving = node(url, Arc::downgrade(&server) as Weak<dyn Local>).await?;
    let silent = Arc::new(Counting::new(0));
    let sending = node(url, Arc::downgrade(&silent) as Weak<dyn Local>).await?;
    sending.await_peers(1, Duration::from_secs(10)).await?;
    let rooms: Vec<_> = (0..rooms).map(|room| Room::new(format!("room {room}"))).collect();
    receiving.rooms_entered(&rooms).await?;
    let padding = "x".repeat(112);
    let payloads: Vec<_> =
        (0..1000).map(|number| Payload::event("m", &(number, &padding))).collect::<trunkline_core::Result<_>>()?;
    let start = Instant::now();
    for number in 0..MESSAGES {
        let target = match rooms.len() as u64 {
            0 => Target::all(),
            rooms_len => Target::room(rooms[(number % rooms_len) as usize].clone()),
        };
        sending.broadcast(target, payloads[(number % 1000) as usize].clone()).await?;
    }
    tokio::time::timeout(Duration::from_secs(60), server.done.notified()).await?;
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    assert!(!server.disordered.load(Ordering::Relaxed), "out of order");
    for node in [sending, receiving] {
        node.close();
        node.closed().await;
    }
    Ok(rate)
}

async fn node(url: &str, local: Weak<dyn Local>) -> Result<Cluster> {
    let config = ClusterConfig {
        inbox: trunkline_core::transport::InboxLimits { messages: 10_000_000, bytes: 1 << 30 },
        ..ClusterConfig::default()
    };
    Ok(Cluster::join(connect(Config::from_url(url)?).await?, Namespace::new("/"), local, config).await?)
}

/// A server that counts what it is given.
#[derive(Debug)]
struct Counting {
    expected: u64,
    delivered: AtomicU64,
    disordered: AtomicBool,
    done: Notify,
}

impl Counting {
    fn new(expected: u64) -> Self {
        Self { expected, delivered: AtomicU64::new(0), disordered: AtomicBool::new(false), done: Notify::new() }
    }
}

impl Local for Counting {
    fn abilities(&self) -> LocalAbilities {
        LocalAbilities { close_connections: true, number_rooms: true }
    }

    fn deliver(&self, _: &Target, payload: &Payload, _: Option<&Offset>) -> Delivered {
        let before = self.delivered.fetch_add(1, Ordering::Relaxed);
        let text = payload.as_json_text().unwrap_or_default();
        let number = text.split(',').nth(1).and_then(|number| number.parse().ok());
        if self.expected > 0 && number != Some(before % 1000) {
            self.disordered.store(true, Ordering::Relaxed);
        }
        if before + 1 == self.expected {
            self.done.notify_one();
        }
        Delivered::default()
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
