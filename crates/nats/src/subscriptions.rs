//! The subscriptions of one node on one connection.

use std::{collections::HashMap, future::poll_fn, sync::Arc, task::Poll};

use async_nats::{Message, Subject, Subscriber};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::watch, task::unconstrained};
use trunkline_backend::{
    batch::{Batch, ConnectionId},
    batched::{Arrived, BatchConnection as _, JoinedNode, NodeSubscription, ReceivedBatch, Subscribing},
    rooms::Bucket,
};
use trunkline_core::Result;

use crate::{
    broker::Nats,
    connection::Connection,
    merge::{Merge, Numbered, in_order},
};

#[derive(Debug)]
pub(crate) struct NodeSubscriptions {
    connection: Arc<Connection>,
    /// Changes when the client had to drop a message.
    overflows: watch::Receiver<u64>,
    subscribers: Merge<Subscriber>,
    buckets: HashMap<Bucket, usize>,
}

impl NodeSubscriptions {
    /// Subscribes to what the node receives; on return the subscriptions are active.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        node: &JoinedNode<Nats>,
        buckets: &[Bucket],
    ) -> Result<Self> {
        let mut overflows = connection.state.overflows();
        overflows.mark_unchanged();
        let mut subscriptions =
            Self { connection: Arc::clone(connection), overflows, subscribers: Merge::new(), buckets: HashMap::new() };
        for subject in [node.namespace.all.clone(), node.namespace.node(&node.key.id)] {
            subscriptions.subscribers.insert(connection.subscribe(subject).await?);
        }
        for bucket in buckets {
            subscriptions.add(*bucket, node.namespace.room(*bucket)).await?;
        }
        connection.settle().await?;
        Ok(subscriptions)
    }

    async fn add(&mut self, bucket: Bucket, subject: Subject) -> Result<()> {
        if !self.buckets.contains_key(&bucket) {
            let subscriber = self.connection.subscribe(subject).await?;
            self.buckets.insert(bucket, self.subscribers.insert(subscriber));
        }
        Ok(())
    }
}

impl NodeSubscription for NodeSubscriptions {
    type Address = Subject;

    async fn next(&mut self) -> Arrived {
        // The client lets go of all of them at once: the connection is gone.
        if self.subscribers.is_empty() {
            return Arrived::Ended(self.connection.end_reason());
        }
        let batches = unconstrained(poll_fn(|cx| self.subscribers.poll_all(cx)));
        tokio::select! {
            biased;
            Ok(()) = self.overflows.changed() => Arrived::Overflowed,
            batches = batches => Arrived::Batches(received(batches)),
            // One that is given up may be open for long.
            () = self.connection.ended() => Arrived::Ended(self.connection.end_reason()),
        }
    }

    async fn arrived(&mut self) -> Vec<ReceivedBatch> {
        let batches = unconstrained(poll_fn(|cx| match self.subscribers.poll_all(cx) {
            Poll::Ready(batches) => Poll::Ready(batches),
            Poll::Pending => Poll::Ready(Vec::new()),
        }));
        received(batches.await)
    }

    /// Nothing waits in the server: when it has settled, everything from before has arrived.
    async fn subscribe(&mut self, bucket: Bucket, subject: Subject) -> Result<Subscribing> {
        self.add(bucket, subject).await?;
        let connection = Arc::clone(&self.connection);
        Ok(async move { connection.settle().await.map(|()| 0) }.boxed())
    }

    fn unsubscribe(&mut self, bucket: Bucket, _: Subject) -> BoxFuture<'static, Result<()>> {
        if let Some(key) = self.buckets.remove(&bucket) {
            // Dropped, a subscriber tells the server.
            self.subscribers.remove(key);
        }
        std::future::ready(Ok(())).boxed()
    }

    async fn acknowledge(&self, _: u64) {}

    /// Dropped, subscribers tell the server.
    async fn close(self) {}
}

fn received(messages: Vec<Vec<Message>>) -> Vec<ReceivedBatch> {
    let receive = |message: Message| ReceivedBatch { batch: Batch::parse(message.payload), tag: 0 };
    in_order(messages.into_iter().map(|messages| messages.into_iter().map(receive).collect()).collect())
}

impl Numbered for ReceivedBatch {
    fn number(&self) -> Option<(ConnectionId, u64)> {
        let batch = self.batch.as_ref().ok()?;
        batch.number().map(|number| (batch.sender(), number))
    }
}
