//! The subscriptions of one node on one connection.

use std::{collections::HashMap, future::poll_fn, sync::Arc, task::Poll};

use async_nats::{Message as Arrival, Subscriber};
use tokio::{sync::watch, task::unconstrained};
use trunkline_backend::{
    batch::{Batch, ConnectionId},
    rooms::Bucket,
};
use trunkline_core::Result;

use crate::{
    connection::Connection,
    merge::{Merge, Numbered},
    place::Place,
    subjects::Subjects,
};

#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) connection: Arc<Connection>,
    /// Changes when the client had to drop something.
    pub(crate) overflows: watch::Receiver<u64>,
    subscriptions: Merge<Subscriber>,
    rooms: HashMap<Bucket, usize>,
}

impl Attachment {
    /// Subscribes to what the node receives; on return the subscriptions are active.
    pub(crate) async fn open(connection: &Arc<Connection>, place: &Place, buckets: &[Bucket]) -> Result<Self> {
        let subjects = &place.hall.subjects;
        let mut overflows = connection.life.overflows();
        overflows.mark_unchanged();
        let mut attachment =
            Self { connection: Arc::clone(connection), overflows, subscriptions: Merge::new(), rooms: HashMap::new() };
        for subject in [subjects.all.clone(), subjects.node(&place.node.id)] {
            attachment.subscriptions.insert(connection.subscribe(subject).await?);
        }
        for bucket in buckets {
            attachment.subscribe(subjects, *bucket).await?;
        }
        connection.settle().await?;
        Ok(attachment)
    }

    /// Subscribes to a bucket, unless it is already. Active after [`Connection::settle`].
    pub(crate) async fn subscribe(&mut self, subjects: &Subjects, bucket: Bucket) -> Result<()> {
        if !self.rooms.contains_key(&bucket) {
            let subscription = self.connection.subscribe(subjects.room(bucket)).await?;
            self.rooms.insert(bucket, self.subscriptions.insert(subscription));
        }
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, bucket: Bucket) {
        if let Some(key) = self.rooms.remove(&bucket) {
            // Dropped, a subscription tells the server.
            self.subscriptions.remove(key);
        }
    }

    /// Waits for messages; none means that a subscription has ended. *Cancel safe.*
    pub(crate) async fn next(&mut self) -> Next {
        let arrived = unconstrained(poll_fn(|cx| self.subscriptions.poll_all(cx)));
        tokio::select! {
            biased;
            Ok(()) = self.overflows.changed() => Next::Overflowed,
            batches = arrived => Next::Arrived(batches),
        }
    }

    /// What is there now.
    pub(crate) async fn take_arrived(&mut self) -> Vec<Vec<Arrival>> {
        unconstrained(poll_fn(|cx| match self.subscriptions.poll_all(cx) {
            Poll::Ready(batches) => Poll::Ready(batches),
            Poll::Pending => Poll::Ready(Vec::new()),
        }))
        .await
    }

    /// Whether the client has let go of all subscriptions: the connection is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.subscriptions.len() == 0
    }
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Messages, one batch per subscription.
    Arrived(Vec<Vec<Arrival>>),
    /// Some subscription was full, and the client had to drop something.
    Overflowed,
}

/// What has arrived, with the head of its frame read.
#[derive(Debug)]
pub(crate) struct Framed {
    pub(crate) frame: Result<Batch>,
}

impl From<Arrival> for Framed {
    fn from(arrival: Arrival) -> Self {
        Self { frame: Batch::parse(arrival.payload) }
    }
}

impl Numbered for Framed {
    fn place(&self) -> Option<(ConnectionId, u64)> {
        let frame = self.frame.as_ref().ok()?;
        frame.number().map(|number| (frame.sender(), number))
    }
}
