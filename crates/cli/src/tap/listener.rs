//! [`Listener`]: hears what the nodes of a namespace send, and is no node.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use trunkline::{
    Backend, Membership, Namespace, NodeId, NodeKey, NodeMetrics, Room,
    core::{
        Answer, Message, Response,
        model::Delivery,
        transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
    },
};
use trunkline_backend::rooms::Buckets;

use crate::{doctor::redis::Server, output::Failure};

/// What was heard, in which namespace.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) namespace: Namespace,
    pub(crate) delivery: Delivery,
}

/// A subscription to everything that the nodes of a namespace publish. It publishes nothing, no heartbeats either, so that
/// nodes do not know it. Only where the broker counts subscribers it is counted, and answers requests with nothing: otherwise
/// they would wait for it.
#[derive(Debug)]
pub(crate) struct Listener {
    backend: Backend,
    node: NodeKey,
    inbox: Inbox,
    rooms: HashSet<Room>,
    /// Tells the rooms that have subscribers, where each has a channel of its own.
    channels: Option<Server>,
}

impl Listener {
    /// Subscribes over `backend`, which the URL names. On return, what is published afterwards is heard.
    pub(crate) async fn join(url: &str, backend: &Backend, namespace: &str) -> Result<Self, Failure> {
        let node = NodeKey { id: backend.ids.node_id(), namespace: Namespace::new(namespace) };
        let metrics = Arc::new(NodeMetrics::default());
        let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), metrics, InboxLimits::default());
        let inbox = backend.transport.join(request).await?;
        let mut listener = Self { backend: backend.clone(), node, inbox, rooms: HashSet::new(), channels: None };
        match backend.interest.as_ref().map(|interest| interest.buckets()) {
            Some(Some(buckets)) => listener.enter(room_per_bucket(Buckets::new(buckets)?)).await?,
            Some(None) => {
                listener.channels = Server::at(url).await.ok();
                listener.look().await?;
            }
            None => (),
        }
        Ok(listener)
    }

    /// Id under which it answers where the broker counts it.
    pub(crate) fn id(&self) -> NodeId {
        self.node.id.clone()
    }

    /// Subscribes to the rooms that have got channels.
    async fn look(&mut self) -> Result<(), Failure> {
        let Some(server) = &mut self.channels else { return Ok(()) };
        let rooms = server.rooms(self.node.namespace.as_str()).await.unwrap_or_default();
        self.enter(rooms.into_iter().map(Room::new)).await
    }

    /// Subscribes to rooms, where each has a channel of its own. Those that it knows stay.
    pub(crate) async fn enter(&mut self, rooms: impl IntoIterator<Item = Room>) -> Result<(), Failure> {
        let Some(interest) = self.backend.interest.clone() else { return Ok(()) };
        let mut entering = tokio::task::JoinSet::new();
        for room in rooms.into_iter().take(MAX_ROOMS) {
            if self.rooms.len() < MAX_ROOMS && self.rooms.insert(room.clone()) {
                let (interest, node) = (Arc::clone(&interest), self.node.clone());
                entering.spawn(async move { interest.room_created(&node, &room).await });
            }
        }
        while let Some(entered) = entering.join_next().await {
            entered.map_err(|error| Failure::critical(error.to_string()))??;
        }
        Ok(())
    }

    /// Hands on what is heard, until the receiver is dropped or the transport ends. Where each room has a channel of its own,
    /// it looks for new ones.
    pub(crate) async fn run(mut self, sender: mpsc::Sender<Heard>) -> Result<(), Failure> {
        let is_counted = self.backend.transport.capabilities().membership == Membership::BrokerCount;
        let mut looks = tokio::time::interval(LOOK);
        let mut batch = VecDeque::new();
        loop {
            tokio::select! {
                more = self.inbox.next_batch(&mut batch) => if !more { break },
                _ = looks.tick(), if self.channels.is_some() => self.look().await?,
                () = sender.closed() => break,
            }
            for delivery in batch.drain(..) {
                if is_counted {
                    self.answer(&delivery).await;
                }
                let heard = Heard { namespace: self.node.namespace.clone(), delivery };
                if sender.send(heard).await.is_err() {
                    break;
                }
            }
        }
        let _ = timeout(LEAVE, self.backend.transport.leave(&self.node)).await;
        Ok(())
    }

    /// Answers a request as a node without sockets does.
    async fn answer(&self, delivery: &Delivery) {
        let Delivery::Message { from: Some(from), message, .. } = delivery else { return };
        let Some(request) = message.request() else { return };
        let answer = match message {
            Message::FetchSockets { .. } => Answer::Sockets(Vec::new()),
            Message::AllRooms { .. } => Answer::Rooms(Vec::new()),
            Message::ServerSideEmit { .. } => Answer::ServerSideEmit(None),
            _ => Answer::ClientCount(0),
        };
        let response = Response { request: request.clone(), answer };
        // The request ends without it then, as with a node that was lost.
        let _ = self.backend.transport.send(&self.node, from, &response).await;
    }
}

/// As many rooms with channels of their own are subscribed to.
const MAX_ROOMS: usize = 10_000;

/// How often new rooms are looked for.
const LOOK: Duration = Duration::from_millis(500);

const LEAVE: Duration = Duration::from_secs(2);

/// A room of each bucket.
fn room_per_bucket(buckets: Buckets) -> Vec<Room> {
    let mut rooms = BTreeMap::new();
    let mut number = 0_u64;
    while rooms.len() < usize::from(buckets.count()) {
        let room = Room::new(number.to_string());
        if let Some(bucket) = buckets.of(&room) {
            rooms.entry(bucket.number()).or_insert(room);
        }
        number += 1;
    }
    rooms.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_has_its_room() {
        for count in [1, 16, 256, Buckets::MAX] {
            let buckets = Buckets::new(count).unwrap();
            let numbers: Vec<_> = room_per_bucket(buckets).iter().map(|room| buckets.of(room).unwrap()).collect();
            assert_eq!(numbers, buckets.iter().collect::<Vec<_>>());
        }
    }
}
