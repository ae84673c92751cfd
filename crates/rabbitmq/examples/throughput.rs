//! How fast messages get from one node to another, next to what a bare client reaches on the same broker in the same
//! run.
//!
//! `cargo run --release -p trunkline-rabbitmq --example throughput [URL]`; without a URL it starts a broker of its own.
//!
//! Both move messages of 128 bytes from one connection to another. The bare client publishes each alone to a fanout
//! exchange, asks for no confirmation, and only counts. Ours pass a whole node on each side, are confirmed, numbered,
//! arrive in order, and none is lost.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{sync::Notify, time::timeout};
use trunkline_brokers::RabbitMq;
use trunkline_core::{
    AckSink, ClusterNode, DeliveryReport, EventReply, Local, Namespace, NodeConfig, NodeId, Offset, Payload, Room,
    SocketInfo, Target, transport::InboxLimits,
};
use trunkline_rabbitmq::{Config, connect};

const MESSAGES: u64 = 200_000;
const TIMEOUT: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let (url, _broker) = match std::env::args().nth(1) {
        Some(url) => (url, None),
        None => {
            let broker = RabbitMq::start().await?;
            (broker.url().to_owned(), Some(broker))
        }
    };
    let bare = bare(&url).await?;
    println!("bare fanout, no confirms     {bare:>9.0} messages/s");
    for (name, rooms, history) in
        [("to all", 0, false), ("to one room", 1, false), ("to 64 rooms", 64, false), ("with history", 0, true)]
    {
        let ours = nodes(&url, rooms, history).await?;
        println!("node to node, {name:<14} {ours:>9.0} messages/s, {:.2} of it", ours / bare);
    }
    Ok(())
}

async fn bare(url: &str) -> Result<f64> {
    let uri = url.split('?').next().unwrap_or(url);
    let open = async || lapin::Connection::connect(uri, ConnectionProperties::default()).await;
    let (sending, receiving) = (open().await?, open().await?);
    let (out, into) = (sending.create_channel().await?, receiving.create_channel().await?);
    let passing = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    into.exchange_declare("bare".into(), ExchangeKind::Fanout, passing, FieldTable::default()).await?;
    let queue = into.queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default()).await?;
    let name = queue.name().clone();
    into.queue_bind(name.clone(), "bare".into(), "".into(), QueueBindOptions::default(), FieldTable::default()).await?;
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = into.basic_consume(name, "".into(), no_ack, FieldTable::default()).await?;
    let payload = vec![b'x'; 128];
    let start = Instant::now();
    let publishing = tokio::spawn(async move {
        // Many at once: the client would otherwise wait until each is written.
        let publish = |_| {
            let (out, payload) = (out.clone(), payload.clone());
            async move {
                let (properties, options) = (BasicProperties::default(), BasicPublishOptions::default());
                out.basic_publish("bare".into(), "".into(), options, &payload, properties).await.map(drop)
            }
        };
        let mut published = futures_util::stream::iter((0..MESSAGES).map(publish)).buffered(1000);
        while let Some(result) = published.next().await {
            result?;
        }
        lapin::Result::Ok(())
    });
    for _ in 0..MESSAGES {
        timeout(TIMEOUT, consumer.next()).await?.ok_or("the queue has ended")??;
    }
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    publishing.await??;
    Ok(rate)
}

async fn nodes(url: &str, rooms: u64, history: bool) -> Result<f64> {
    let mut config = Config::from_url(url)?;
    config.prefix = format!("throughput-{rooms}-{history}");
    config.history = history.then(Default::default);
    let (here, there) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
    let (sending, receiving) = (node(config.clone(), &here).await?, node(config, &there).await?);
    sending.await_peers(1, TIMEOUT).await?;
    receiving.await_peers(1, TIMEOUT).await?;
    let rooms: Vec<_> = (0..rooms).map(|room| Room::new(format!("room {room}"))).collect();
    receiving.rooms_created(&rooms).await?;
    let padding = "x".repeat(112);
    let payloads: Vec<_> =
        (0..1000).map(|number| Payload::event("m", &(number, &padding))).collect::<trunkline_core::Result<_>>()?;
    let start = Instant::now();
    for number in 0..MESSAGES {
        let target = match rooms.len() as u64 {
            0 => Target::all(),
            count => Target::room(rooms[(number % count) as usize].clone()),
        };
        sending.broadcast(target, payloads[(number % 1000) as usize].clone()).await?;
    }
    timeout(TIMEOUT, there.done.notified()).await?;
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let (disorder, missed) = (there.disorder.load(Ordering::Relaxed), receiving.metrics().missed);
    assert_eq!((disorder, missed), (0, 0), "out of order, missed");
    for node in [sending, receiving] {
        node.close();
        node.closed().await;
    }
    Ok(rate)
}

async fn node(config: Config, local: &Arc<Counting>) -> Result<ClusterNode> {
    let inbox = InboxLimits::default().with_messages(10_000_000).with_bytes(1 << 30);
    let local = Arc::downgrade(local);
    let (backend, config) = (connect(config).await?, NodeConfig::default().with_inbox(inbox));
    Ok(ClusterNode::join(backend, Namespace::new("/"), local as Weak<dyn Local>, config).await?)
}

/// A server that counts what it is given.
#[derive(Debug, Default)]
struct Counting {
    delivered: AtomicU64,
    disorder: AtomicU64,
    done: Notify,
}

impl Local for Counting {
    fn deliver(&self, _: &Target, payload: &Payload, _: Option<&Offset>) -> DeliveryReport {
        let before = self.delivered.fetch_add(1, Ordering::Relaxed);
        let text = payload.as_json_text().unwrap_or_default();
        let number = text.split(',').nth(1).and_then(|number| number.parse().ok());
        if number != Some(before % 1000) {
            self.disorder.fetch_add(1, Ordering::Relaxed);
        }
        if before + 1 == MESSAGES {
            self.done.notify_one();
        }
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: AckSink) -> u32 {
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

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
