//! The queue of one node on one connection.

use std::{future::pending, sync::Arc};

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
use trunkline_backend::rooms::Bucket;

use crate::{
    config::Config,
    connection::{Connection, begin},
    names,
    place::Place,
};

/// Deliveries that are taken at once.
const CHUNK: usize = 64;

#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) connection: Arc<Connection>,
    channel: Channel,
    queue: ShortString,
    deliveries: ReadyChunks<Consumer>,
}

/// What came, or why nothing comes any more.
pub(crate) type Arrived = Option<Vec<lapin::Result<Delivery>>>;

/// A change of what a queue receives.
#[derive(Debug)]
pub(crate) enum Change {
    /// The bucket is bound. So many deliveries were waiting in the queue then, or fewer.
    Bound(Bucket, u64),
    Unbound,
}

impl Attachment {
    /// Declares a queue and binds it to what the node receives.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        config: &Config,
        place: &Place,
        buckets: &[Bucket],
        sender: &str,
    ) -> lapin::Result<Self> {
        let channel = connection.incoming.create_channel().await?;
        channel.basic_qos(config.prefetch, BasicQosOptions::default()).await?;
        let name = names::queue(&config.prefix, &place.node, &format!("{sender}-{}", connection.number));
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(name, options, limits(config)).await?;
        let queue = queue.name().clone();
        let keys = &place.hall.keys;
        // What everybody receives comes last: heartbeats count what was sent to rooms, which must be there before.
        let keys = buckets.iter().map(|bucket| keys.room(*bucket)).chain([keys.node(&place.node.id), keys.all.clone()]);
        try_join_all(keys.map(|key| bind(&channel, &queue, &connection.exchange, key))).await?;
        let exclusive = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(queue.clone(), ShortString::default(), exclusive, FieldTable::default()).await?;
        Ok(Self { connection: Arc::clone(connection), channel, queue, deliveries: consumer.ready_chunks(CHUNK) })
    }

    /// Binds a bucket; it has its place among other changes before this returns.
    pub(crate) fn bind(&self, bucket: Bucket, key: ShortString) -> BoxFuture<'static, lapin::Result<Change>> {
        let bound = bind(&self.channel, &self.queue, &self.connection.exchange, key);
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        begin(async move {
            bound.await?;
            let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(queue, look, FieldTable::default()).await?;
            Ok(Change::Bound(bucket, queue.message_count().into()))
        })
    }

    pub(crate) fn unbind(&self, key: ShortString) -> BoxFuture<'static, lapin::Result<Change>> {
        let (channel, queue, exchange) = (self.channel.clone(), self.queue.clone(), self.connection.exchange.clone());
        begin(async move {
            channel.queue_unbind(queue, exchange, key, FieldTable::default()).await?;
            Ok(Change::Unbound)
        })
    }

    /// Waits for deliveries. *Cancel safe.*
    pub(crate) async fn next(&mut self) -> Arrived {
        tokio::select! {
            biased;
            arrived = self.deliveries.next() => arrived,
            () = self.connection.ended() => Some(vec![self.connection.outcome(pending()).await]),
        }
    }

    /// What is there now.
    pub(crate) fn take_arrived(&mut self) -> Vec<lapin::Result<Delivery>> {
        let mut arrived = Vec::new();
        while let Some(Some(more)) = self.deliveries.next().now_or_never() {
            arrived.extend(more);
        }
        arrived
    }

    /// Lets the broker forget this delivery and all before it.
    pub(crate) async fn acknowledge(&self, tag: u64) {
        // Fails only when the connection is gone, which ends the deliveries too.
        let _ = self.connection.outcome(self.channel.basic_ack(tag, BasicAckOptions { multiple: true })).await;
    }

    /// Gives the queue back.
    pub(crate) async fn close(&self) -> lapin::Result<()> {
        self.channel.queue_delete(self.queue.clone(), QueueDeleteOptions::default()).await?;
        self.channel.close(200, "bye".into()).await
    }
}

/// A node that takes nothing must not fill the broker: the oldest messages are dropped, which their numbers tell.
fn limits(config: &Config) -> FieldTable {
    let mut limits = FieldTable::default();
    limits.insert("x-max-length".into(), AMQPValue::LongLongInt(config.queue_frames.into()));
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
    begin(
        async move { channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await },
    )
}
