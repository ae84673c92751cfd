//! Broadcasts and sessions in a stream queue.
//!
//! One stream per prefix keeps what is said to all, of all namespaces, and the sessions. With a history everything but
//! heartbeats and answers travels through the stream, so that all clients see one order, and a node that was away reads
//! on from where it was.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod position;
mod records;
mod recovery;
mod source;

use lapin::{
    BasicProperties, Channel, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use trunkline_backend::batched::NamespaceState;

pub(crate) use self::{recovery::Recovery, source::StreamSource};
use crate::{broker::RabbitMq, config::HistoryConfig, connection::Connection, names};

/// Deliveries that the broker sends ahead.
const PREFETCH: u16 = 256;

/// Declares the stream and binds it to what it keeps.
pub(crate) async fn set_up(
    channel: &Channel,
    prefix: &str,
    history: &HistoryConfig,
    exchange: &ShortString,
) -> lapin::Result<()> {
    let stream = names::stream(prefix);
    channel.queue_declare(stream.clone(), QueueDeclareOptions::durable(), arguments(history)).await?;
    for key in [names::EVERY_LOG, names::EVERY_SESSION] {
        let (stream, exchange) = (stream.clone(), exchange.clone());
        channel.queue_bind(stream, exchange, key.into(), QueueBindOptions::default(), FieldTable::default()).await?;
    }
    Ok(())
}

fn arguments(history: &HistoryConfig) -> FieldTable {
    let bytes = |bytes: usize| AMQPValue::LongLongInt(bytes.try_into().unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    arguments.insert("x-max-length-bytes".into(), bytes(history.bytes));
    arguments.insert("x-max-age".into(), AMQPValue::LongString(format!("{}s", history.ttl.as_secs().max(1)).into()));
    // What is too much goes by segments.
    arguments.insert("x-stream-max-segment-size-bytes".into(), bytes((history.bytes / SEGMENTS).min(MAX_SEGMENT)));
    arguments
}

/// In how many parts a history is kept at least, so that not too much of it goes at once.
const SEGMENTS: usize = 8;

/// What brokers choose by themselves.
const MAX_SEGMENT: usize = 500_000_000;

/// Where to begin to read.
enum Start {
    /// At what comes from now on.
    Next,
    /// At this position, or at the first one that is still there, or at what comes if there is none yet.
    At(u64),
}

/// Reads the stream over a channel of its own, which ends when it is dropped.
async fn read(
    connection: &Connection,
    prefix: &str,
    start: Start,
    prefetch: u16,
) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.inbound.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    let offset = match start {
        Start::Next => AMQPValue::LongString("next".into()),
        Start::At(sequence) => AMQPValue::LongLongInt(sequence.try_into().unwrap_or(i64::MAX)),
    };
    arguments.insert("x-stream-offset".into(), offset);
    let stream = names::stream(prefix);
    let consumer =
        channel.basic_consume(stream, ShortString::default(), BasicConsumeOptions::default(), arguments).await?;
    Ok((channel, consumer))
}

/// The routing key of a namespace's sessions.
fn session_key(namespace: &NamespaceState<RabbitMq>) -> ShortString {
    namespace.address("session")
}

/// The position of a delivery in the stream.
fn sequence(delivery: &Delivery) -> Option<u64> {
    let properties: &BasicProperties = &delivery.properties;
    match properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(sequence) => u64::try_from(*sequence).ok(),
        _ => None,
    }
}
