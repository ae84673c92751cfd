//! Transport over pub/sub.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use trunkline_backend::Outbox;
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, Namespace, NodeId, NodeKey, Result, Transport,
    model::{Answer, Delivery, Heartbeat, Message, Response, SeqChannel},
    transport::{Health, Inbox, JoinRequest, NodeCount, NodeCounter},
};

use super::{
    encode,
    names::Names,
    node::{ClassicNode, Kind},
};
use crate::{
    config::{Config, PubSub},
    connect::ServerPool,
    subscribe::Topic,
    transport_core::{
        Complete, Hello, JoinedNode as _, NodeInbox, Outgoing, RejectionCounter, Route, SubscribedNodes, TransportCore,
        count_nodes,
    },
};

/// Backend of `mode=pubsub`. A server has been reached before.
pub(crate) fn backend(config: &Config, options: PubSub, servers: Arc<ServerPool>) -> Backend {
    let transport = Arc::new(ClassicTransport::new(config, options, servers));
    Backend::new(Arc::clone(&transport) as _, IdScheme::Short6).with_name("redis-classic").with_node_counter(transport)
}

/// Transport over pub/sub.
struct ClassicTransport {
    names: Names,
    options: PubSub,
    core: TransportCore<ClassicNode>,
}

impl ClassicTransport {
    fn new(config: &Config, options: PubSub, servers: Arc<ServerPool>) -> Self {
        let nodes = Arc::<SubscribedNodes<ClassicNode>>::default();
        let observer = Arc::new(RejectionCounter(Arc::clone(&nodes)));
        let core = TransportCore::new(config, servers, Arc::new(Outbox::new(config.outbox)), nodes, observer);
        Self { names: Names::new(&config.prefix), options, core }
    }

    /// Topics of a node in the order in which they are subscribed to: a node is never seen by its own channel without
    /// being counted.
    fn topics(&self, node: &NodeKey) -> Vec<(Topic, Kind)> {
        let NodeKey { id, namespace } = node;
        vec![
            (self.names.broadcasts(namespace), Kind::Broadcasts),
            (Topic::Channel(self.names.response(namespace)), Kind::Responses),
            (Topic::Channel(self.names.request(namespace)), Kind::Requests),
            (Topic::Channel(self.names.private(namespace, id)), Kind::Responses),
        ]
    }

    fn encode<'a>(&self, from: &'a NodeKey, message: &Message) -> Result<Outgoing<'a, impl Complete + use<'a>>> {
        let joined = self.core.nodes.joined.publishing(from)?;
        if let (Some(joined), Some(request)) = (&joined, message.request()) {
            joined.expect(request);
        }
        let is_broadcast = matches!(message, Message::Broadcast { request: None, .. });
        let is_numbered = message.is_numbered() && joined.is_some_and(|joined| joined.numbered || !is_broadcast);
        let encoded = encode::message(from, message)?;
        let channel = self.channel_of(&from.namespace, message);
        let route = Route { sharded: false, channel, numbered: is_numbered.then_some(SeqChannel::ALL) };
        let bytes = encoded.len() + encode::SEQ_NO_BYTES;
        self.core.check_size(bytes)?;
        Ok(route.outgoing(from, bytes, |seq_no, marks| encoded.finish(seq_no, marks)))
    }

    fn channel_of(&self, namespace: &Namespace, message: &Message) -> Bytes {
        match message {
            Message::Broadcast { request: None, target, .. } => match target.single_room() {
                Some(room) => self.names.room(namespace, room),
                None => self.names.broadcast(namespace),
            },
            _ => self.names.request(namespace),
        }
    }
}

#[async_trait]
impl Transport for ClassicTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::BrokerCount)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_all_rooms_request(true)
            .with_max_message_bytes(Some(self.core.max_message_bytes))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (inbox, receiver) = NodeInbox::new(request);
        let node = &inbox.node;
        let channels = [self.names.broadcast(&node.namespace), self.names.response(&node.namespace)];
        let topics = self.topics(node);
        let hello = encode::message(node, &Message::Heartbeat(Heartbeat::new(true)))?.finish(None, &[]);
        let hello = Hello::new(false, self.names.request(&node.namespace), &hello, true);
        let joined = Arc::new(ClassicNode::new(inbox, hello, channels, Arc::clone(&self.core.outbox)));
        self.core.join(&joined, topics).await?;
        joined.inbox().push(Delivery::Connected);
        Ok(receiver)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let is_queued = self.core.try_push(self.encode(from, &message)?)?;
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.core.push(self.encode(from, &message)?).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        let joined = self.core.nodes.joined.publishing(from)?;
        let ids_only = joined.is_some_and(|joined| joined.takes_ids_only(&response.request));
        let payload = encode::response(Some(&from.id), &response, ids_only)?;
        let is_private =
            self.options.specific_response_channel && !matches!(response.answer, Answer::ServerSideEmit(_));
        let channel = match is_private {
            true => self.names.private(&from.namespace, to),
            false => self.names.response(&from.namespace),
        };
        self.core.send(from, Route { sharded: false, channel, numbered: None }, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        match self.core.nodes.remove(node) {
            Some(_) => self.core.leave(node, self.topics(node)).await,
            None => Ok(()),
        }
    }

    async fn flush(&self) -> Result<()> {
        self.core.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    async fn close(&self) {
        self.core.close().await;
    }
}

#[async_trait]
impl NodeCounter for ClassicTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let namespace = &node.namespace;
        let own = |id: &NodeId| self.names.private(namespace, id);
        count_nodes(&self.core.servers, false, &self.names.request(namespace), &node.id, known, own).await
    }
}

impl fmt::Debug for ClassicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicTransport")
            .field("names", &self.names)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
