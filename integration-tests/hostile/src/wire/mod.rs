//! The channels of each transport, as an intruder sees them.

mod batch;
pub(crate) mod bson;
mod mongodb;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;

use async_trait::async_trait;
use fastrand::Rng;
use trunkline_brokers::transports::Transport;

use crate::{
    Failure,
    forge::{Forged, Phase},
    tree::{self, Tree},
};

/// Access to everything that the nodes listen to.
#[async_trait]
pub(crate) trait Wire: Send {
    /// Puts a message into one of the channels; [`Wire::flush`] sends it.
    fn put(&mut self, message: Forged, phase: Phase, rng: &mut Rng);

    /// Puts something that no node can understand where every node sees it.
    fn put_malformed(&mut self);

    /// Sends what was put, and returns when the broker has it.
    async fn flush(&mut self) -> Result<(), Failure>;

    /// Messages of the nodes since the last call.
    fn observed(&mut self) -> Vec<Tree>;
}

/// Opens the wire of a transport over which these nodes run.
pub(crate) async fn open(transport: Transport, url: &str, nodes: &[String]) -> Result<Box<dyn Wire>, Failure> {
    Ok(match transport {
        Transport::RedisClassic | Transport::RedisSharded | Transport::RedisStreams => {
            Box::new(redis::RedisWire::open(transport, url).await?)
        }
        Transport::Mongodb | Transport::MongodbTtl => Box::new(mongodb::MongoDbWire::open(url).await?),
        Transport::Postgres | Transport::PostgresHistory => {
            Box::new(postgres::PostgresWire::open(url, transport).await?)
        }
        Transport::Rabbitmq | Transport::RabbitmqHistory => {
            Box::new(rabbitmq::RabbitMqWire::open(url, transport, nodes).await?)
        }
        Transport::Nats | Transport::NatsHistory => Box::new(nats::NatsWire::open(url, transport, nodes).await?),
    })
}

/// JSON or MessagePack.
fn encode(message: Forged, rng: &mut Rng) -> Vec<u8> {
    match message {
        Forged::Bytes(bytes) => bytes,
        Forged::Tree(tree) if tree.is_array() || rng.u8(..10) < 3 => tree::to_msgpack(&tree),
        Forged::Tree(tree) => tree::to_json(&tree).into_bytes(),
    }
}

/// Ends of the subjects and routing keys of the namespace `/`, of RabbitMQ and NATS; first the one of all nodes.
fn keys(nodes: &[String]) -> impl Iterator<Item = String> {
    let others = ["all", "log", "room.0", "room.255", "room.x", "session.x", "node.x", "other"].map(str::to_owned);
    let own = nodes.iter().map(|node| format!("node.{node}"));
    others.into_iter().chain(own).map(|end| format!("=2F.{end}"))
}
