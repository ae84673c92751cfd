//! The queue of one node on one connection.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, try_join_all},
    stream::ReadyChunks,
};
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;
use trunkline_backend::{
    batch::Batch,
    batched::{Arrived, BatchConnection as _, JoinedNode, NodeSubscription, ReceivedBatch, Subscribing},
    rooms::Bucket,
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    broker::RabbitMq,
    config::Config,
    connection::{Connection, begin},
    names,
};

/// Deliveries that are taken at once.
const CHUNK: usize = 64;

/// How long a queue may take to go.
const GOODBYE: Duration = Duration::from_secs(1);

/// Everything that a node receives comes through one queue, so it comes in order.
#[derive(Debug)]
pub(crate) struct NodeQueue {
    connection: Arc<Connection>,
    channel: Channel,
    name: ShortString,
    deliveries: ReadyChunks<Consumer>,
    /// Why nothing more comes.
    end: Option<String>,
}

impl NodeQueue {
    /// Declares a queue, binds it to what the node receives, and consumes it.
    pub(crate) async fn open(
        broker: &RabbitMq,
        connection: &Arc<Connection>,
        node: &JoinedNode<RabbitMq>,
        buckets: &[Bucket],
    ) -> Result<Self> {
        let declared = connection.outcome(Self::declare(broker, connection, node, buckets)).await;
        declared.map_err(|error| Error::new(ErrorKind::Broker, "no queue for the node").with_source(error))
    }

    async fn declare(
        broker: &RabbitMq,
        connection: &Arc<Connection>,
        node: &JoinedNode<RabbitMq>,
        buckets: &[Bucket],
    ) -> lapin::Result<Self> {
        let (config, namespace) = (&broker.config, &node.namespace);
        let channel = connection.inbound.create_channel().await?;
        channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        let sender = format!("{}-{}", broker.settings.sender, connection.number);
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(names::queue(&config.prefix, &node.key, &sender), options, limits(config));
        let name = queue.await?.name().clone();
        // What every node receives comes last: heartbeats count what was sent to rooms, which must be there before.
        let keys = buckets.iter().map(|bucket| namespace.room(*bucket));
        let keys = keys.chain([namespace.node(&node.key.id), namespace.all.clone()]);
        try_join_all(keys.map(|key| bind(&channel, &name, &connection.exchange, key))).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(name.clone(), ShortString::default(), exclusive, FieldTable::default());
        let deliveries = consumer.await?.ready_chunks(CHUNK);
        Ok(Self { connection: Arc::clone(connection), channel, name, deliveries, end: None })
    }

    fn received(&mut self, deliveries: Vec<lapin::Result<Delivery>>) -> Vec<ReceivedBatch> {
        let mut received = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match delivery {
                Ok(Delivery { data, delivery_tag, .. }) => {
                    received.push(ReceivedBatch { batch: Batch::parse(data.into()), tag: delivery_tag });
                }
                Err(error) => self.end = Some(error.to_string()),
            }
        }
        received
    }

    async fn delete(&self) -> lapin::Result<()> {
        self.channel.queue_delete(self.name.clone(), QueueDeleteOptions::default()).await?;
        self.channel.close(200, "bye".into()).await
    }
}

impl NodeSubscription for NodeQueue {
    type Address = ShortString;

    async fn next(&mut self) -> Arrived {
        if let Some(reason) = self.end.take() {
            return Arrived::Ended(reason);
        }
        tokio::select! {
            biased;
            deliveries = self.deliveries.next() => match deliveries {
                Some(deliveries) => Arrived::Batches(self.received(deliveries)),
                None => Arrived::Ended("the queue was deleted".into()),
            },
            () = self.connection.ended() => Arrived::Ended(self.connection.end_reason()),
        }
    }

    async fn arrived(&mut self) -> Vec<ReceivedBatch> {
        let mut received = Vec::new();
        while let Some(Some(deliveries)) = self.deliveries.next().now_or_never() {
            received.extend(self.received(deliveries));
        }
        received
    }

    /// The passive declaration behind the binding tells what waited in the queue when it was bound, or less.
    async fn subscribe(&mut self, _: Bucket, key: ShortString) -> Result<Subscribing> {
        let bound = bind(&self.channel, &self.name, &self.connection.exchange, key);
        let (channel, queue) = (self.channel.clone(), self.name.clone());
        Ok(begin(async move {
            bound.await.map_err(disconnected)?;
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue, passive, FieldTable::default()).await.map_err(disconnected)?;
            Ok(queue.message_count().into())
        }))
    }

    fn unsubscribe(&mut self, _: Bucket, key: ShortString) -> BoxFuture<'static, Result<()>> {
        let (channel, queue, exchange) = (self.channel.clone(), self.name.clone(), self.connection.exchange.clone());
        begin(async move {
            let unbound = channel.queue_unbind(queue, exchange, key, FieldTable::default()).await;
            unbound.map_err(disconnected)
        })
    }

    async fn acknowledge(&self, tag: u64) {
        // Fails only when the connection is gone, which ends the deliveries too.
        let _ = self.connection.outcome(self.channel.basic_ack(tag, BasicAckOptions { multiple: true })).await;
    }

    async fn close(self) {
        // Otherwise it goes with the connection.
        let _ = timeout(GOODBYE, self.delete()).await;
    }
}

/// A node that takes nothing must not fill the broker: the oldest messages are dropped, which their numbers tell.
fn limits(config: &Config) -> FieldTable {
    let mut limits = FieldTable::default();
    limits.insert("x-max-length".into(), AMQPValue::LongLongInt(config.queue_batches.into()));
    let bytes = config.queue_bytes.try_into().unwrap_or(i64::MAX);
    limits.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
    limits.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    limits
}

fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    key: ShortString,
) -> BoxFuture<'static, lapin::Result<()>> {
    let (channel, queue, exchange) = (channel.clone(), queue.clone(), exchange.clone());
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    begin(async move { channel.queue_bind(queue, exchange, key, options, arguments).await })
}

/// What fails on an open channel, failed with the connection.
fn disconnected(error: lapin::Error) -> Error {
    Error::new(ErrorKind::Disconnected, "the connection has ended").with_source(error)
}
