//! The transport, and how it starts.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use tokio::time::timeout;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result, Room,
    Transport,
    transport::{Health, Inbox, JoinRequest, RoomInterest, inbox},
};

use super::{
    BatchBroker, BatchConnection as _, connection_manager::ConnectionManager, history::HistoryReader, node::JoinedNode,
    reader::Reader, state::TransportState, writer::Writer,
};
use crate::{
    Backoff,
    decoder::{BatchDecoder, InboundDecoder},
    rooms::{Interest, subscriptions},
};

/// Moves messages in batches over a broker. All namespaces of a process share one connection, which is restored with
/// jittered back-off.
#[derive(Debug)]
pub struct BatchedTransport<B: BatchBroker> {
    state: Arc<TransportState<B>>,
}

impl<B: BatchBroker> BatchedTransport<B> {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// What the last server said, or what is wrong with the history.
    pub async fn connect(broker: B) -> Result<Backend> {
        let state = Arc::new(TransportState::new(broker));
        let mut manager = ConnectionManager::new(Arc::clone(&state));
        let connection = manager.connect().await?;
        if let Err(error) = state.broker.set_up_history(&connection).await {
            connection.abort("the history cannot be set up");
            return Err(error);
        }
        manager.install(&connection).await;
        let stored = B::start_history_writer(&state);
        if stored.is_none() {
            state.history_writer_ended.cancel();
        }
        state.tasks.spawn(Writer::new(Arc::clone(&state), stored).run());
        state.tasks.spawn(manager.run(connection));
        Ok(Self::backend(state))
    }

    fn backend(state: Arc<TransportState<B>>) -> Backend {
        let history = B::history(&state);
        let transport = Arc::new(Self { state });
        let backend = Backend::new(Arc::clone(&transport) as Arc<dyn Transport>, IdScheme::Hex16);
        match history {
            // Every node reads the whole history: rooms need not be made known.
            Some(history) => backend.with_history(history),
            None => backend.with_interest(transport),
        }
    }

    /// Registers a node, and starts the task that reads for it.
    fn start_reading(&self, request: &JoinRequest) -> Result<(Arc<JoinedNode<B>>, Inbox)> {
        let (state, settings) = (&self.state, self.state.broker.settings());
        let namespace = state.namespace(&request.node.namespace)?;
        let interest = Interest::new(settings.buckets, settings.linger);
        let (rooms, requests) = subscriptions(request.node.clone(), interest);
        let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        let (sender, metrics) = (Arc::new(sender), Arc::clone(&request.metrics));
        let node = JoinedNode::new(request.node.clone(), namespace, metrics, rooms, Arc::downgrade(&sender));
        let node = Arc::new(node);
        let inbound = InboundDecoder::with_pending_joins(&sender, request);
        let decoder = || BatchDecoder::new(inbound.clone(), Arc::clone(&sender));
        let history = state.broker.history_source(&node).map(|source| HistoryReader {
            node: Arc::clone(&node),
            source,
            decoder: decoder(),
            inbox: Arc::clone(&sender),
            connections: state.inbound.subscribe(),
            backoff: Backoff::new(READ_AGAIN, READ_AGAIN * 50),
        });
        let reader = Reader::new(state, Arc::clone(&node), decoder(), Arc::clone(&sender), requests);
        state.nodes.add(&node.key, &node)?;
        state.tasks.spawn(read(Arc::clone(state), Arc::clone(&node), reader, history));
        Ok((node, receiver))
    }
}

/// The first pause before reading the history is tried again.
const READ_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// Reads for one node until it leaves.
async fn read<B: BatchBroker>(
    state: Arc<TransportState<B>>,
    node: Arc<JoinedNode<B>>,
    reader: Reader<B>,
    history: Option<HistoryReader<B>>,
) {
    let read_history = async {
        match history {
            Some(history) => history.run().await,
            None => node.reads_history.cancel(),
        }
    };
    // Either may end because the inbox is gone.
    let read = async {
        reader.run().await;
        node.leaving.cancel();
    };
    tokio::join!(read, read_history);
    state.remove(&node.key);
    node.left.cancel();
}

#[async_trait]
impl<B: BatchBroker> Transport for BatchedTransport<B> {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(self.state.max_message_bytes()))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (node, inbox) = self.start_reading(&request)?;
        let leave_if_dropped = node.leaving.clone().drop_guard();
        let subscribed = async { tokio::join!(node.subscribed.cancelled(), node.reads_history.cancelled()) };
        if timeout(self.state.broker.settings().connect_timeout, subscribed).await.is_err() {
            let refusal = node.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            let unreachable = || Error::new(ErrorKind::Disconnected, format!("{} cannot be reached", B::NAME));
            return Err(refusal.unwrap_or_else(unreachable));
        }
        leave_if_dropped.disarm();
        Ok(inbox)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        self.state.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.state.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.state.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        if let Some(node) = self.state.node(node) {
            node.leaving.cancel();
            node.left.cancelled().await;
        }
        self.state.outbox.flushed().await;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.state.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.state.health()
    }

    async fn close(&self) {
        self.state.close().await;
    }
}

impl<B: BatchBroker> Drop for BatchedTransport<B> {
    /// Without `close`, everything ends by itself.
    fn drop(&mut self) {
        self.state.begin_close();
    }
}

#[async_trait]
impl<B: BatchBroker> RoomInterest for BatchedTransport<B> {
    fn buckets(&self) -> Option<u16> {
        Some(self.state.broker.settings().buckets.count())
    }

    fn subscriptions(&self, node: &NodeKey) -> usize {
        self.state.nodes.of(node).map_or(0, |node| node.rooms.subscriptions())
    }

    fn is_active(&self, node: &NodeKey, room: &Room) -> bool {
        self.state.nodes.of(node).is_ok_and(|node| node.rooms.is_entered(room))
    }

    /// While there is no connection this returns at once: the next one begins with the room, and what is missed until
    /// then is reported as a gap.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.state.nodes.of(node)?.rooms.enter(room).await
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.state.nodes.of(node)?.rooms.leave(room);
        Ok(())
    }
}
