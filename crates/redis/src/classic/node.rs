//! A node that has joined, and the decoding of what its subscriptions bring.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::FutureExt;
use trunkline_backend::{Outbox, rooms::RoomKeys};
use trunkline_core::{
    Namespace, NodeId, NodeKey, RequestId, Result, Room, SocketId,
    model::{Delivery, Message},
};

use super::{
    decode::{self, Broadcast, Legacy, Request},
    encode,
    names::Names,
};
use crate::{
    publish::{Command, Publication},
    subscribe::PubSubMessage,
    transport_core::{Hello, JoinedNode, NodeInbox, NodeRooms},
};

/// What a subscription means to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Broadcasts,
    Requests,
    Responses,
}

/// The channels of the rooms of a namespace. A number and its text share one.
#[derive(Debug)]
pub(super) struct RoomChannels {
    pub(super) names: Names,
    pub(super) namespace: Namespace,
}

impl RoomKeys for RoomChannels {
    type Key = Bytes;

    fn key_of(&self, room: &Room) -> Option<Bytes> {
        Some(self.names.room(&self.namespace, room))
    }
}

/// Own requests whose answers are accepted at most, and requests of old nodes that are remembered at most.
const REMEMBERED: usize = 16_384;

/// A node that has joined.
#[derive(Debug)]
pub(super) struct ClassicNode {
    inbox: NodeInbox,
    hello: Hello,
    /// With `subscription=rooms`.
    pub(super) rooms: Option<NodeRooms<RoomChannels>>,
    /// Channel of broadcasts to no room or to several.
    broadcast: Bytes,
    /// Common channel of answers.
    response: Bytes,
    /// Whether broadcasts of this namespace have numbers. Not if its name contains the `#` that separates rooms: then
    /// its channels look like those of rooms of another namespace, whose nodes would miss numbers.
    pub(super) numbered: bool,
    own_requests: Mutex<Remembered>,
    legacy_requests: Mutex<Remembered>,
    outbox: Arc<Outbox<Publication>>,
}

impl JoinedNode for ClassicNode {
    type Kind = Kind;

    fn inbox(&self) -> &NodeInbox {
        &self.inbox
    }

    fn decode(&self, message: &PubSubMessage, kind: Kind) -> Option<Delivery> {
        let decoded = match kind {
            Kind::Broadcasts => self.broadcast(message),
            Kind::Requests => self.request(&message.payload),
            Kind::Responses => self.response(&message.payload),
        };
        decoded.unwrap_or_else(|error| self.inbox.decoder.refused(&error))
    }

    fn missed(&self) {
        self.inbox.missed();
    }

    fn hello(&self) -> Option<&Hello> {
        Some(&self.hello)
    }
}

impl ClassicNode {
    pub(super) fn new(
        inbox: NodeInbox,
        hello: Hello,
        rooms: Option<NodeRooms<RoomChannels>>,
        [broadcast, response]: [Bytes; 2],
        outbox: Arc<Outbox<Publication>>,
    ) -> Self {
        let numbered = !inbox.node.namespace.as_str().contains('#');
        let (own_requests, legacy_requests) = Default::default();
        Self { inbox, hello, rooms, broadcast, response, numbered, own_requests, legacy_requests, outbox }
    }

    fn node(&self) -> &NodeKey {
        &self.inbox.node
    }

    /// Accepts answers to this request from now on.
    pub(super) fn expect(&self, request: &RequestId) {
        lock(&self.own_requests).add(request.clone());
    }

    /// Whether the request of an old node is to be answered with socket ids only. True once.
    pub(super) fn takes_ids_only(&self, request: &RequestId) -> bool {
        lock(&self.legacy_requests).remove(request)
    }

    fn broadcast(&self, received: &PubSubMessage) -> Result<Option<Delivery>> {
        let decoder = &self.inbox.decoder;
        let seq_no = if self.numbered { decode::seq_no(&received.payload) } else { None };
        let from = decode::sender(&received.payload);
        if !self.may_concern(&received.channel) {
            return Ok(if self.is_own(from.as_ref()) {
                decoder.own_echo()
            } else {
                decoder.skipped(from.as_ref(), seq_no)
            });
        }
        if self.is_own(from.as_ref()) {
            return Ok(decoder.own_echo());
        }
        let Broadcast { from, namespace, target, payload } = decode::broadcast(&decoder.own(&received.payload))?;
        if namespace != self.node().namespace {
            return Ok(decoder.foreign());
        }
        let message = Message::Broadcast { request: None, target, payload };
        Ok(Some(Delivery::Message { from, seq_no, offset: None, message }))
    }

    /// Whether a broadcast on this channel may be for local sockets. A number and its text share a channel.
    fn may_concern(&self, channel: &Bytes) -> bool {
        let Some(rest) = channel.strip_prefix(&*self.broadcast).filter(|rest| !rest.is_empty()) else { return true };
        let Ok(name) = std::str::from_utf8(rest.strip_suffix(b"#").unwrap_or(rest)) else { return true };
        let number =
            || name.parse().ok().and_then(Room::number).is_some_and(|room| self.inbox.decoder.may_have_members(&room));
        self.inbox.decoder.may_have_members(&Room::new(name)) || number()
    }

    fn is_own(&self, from: Option<&NodeId>) -> bool {
        from == Some(&self.node().id)
    }

    fn request(&self, bytes: &Bytes) -> Result<Option<Delivery>> {
        let Request { from, seq_no, namespace, message, legacy } = decode::request(&self.inbox.decoder.own(bytes))?;
        if self.is_own(from.as_ref()) {
            return Ok(self.inbox.decoder.own_echo());
        }
        if namespace.is_some_and(|namespace| namespace != self.node().namespace) {
            return Ok(self.inbox.decoder.foreign());
        }
        match (legacy, message.request()) {
            (Some(Legacy::SocketIds), Some(request)) => lock(&self.legacy_requests).add(request.clone()),
            (Some(Legacy::Confirmation(socket, request)), _) => self.confirm(&socket, &request),
            _ => {}
        }
        // A request without a sender is answered all the same: on the common channel the name is of no use.
        let anonymous = || message.request().and_then(|_| NodeId::new("undefined").ok());
        let from = from.or_else(anonymous);
        Ok(Some(Delivery::Message { from, seq_no, offset: None, message }))
    }

    /// Confirms to an old node that its request concerning a socket of this node is carried out.
    fn confirm(&self, socket: &SocketId, request: &RequestId) {
        if !self.inbox.decoder.may_have_members(&Room::new(socket.as_str())) {
            return;
        }
        let payload = encode::done(request);
        let bytes = payload.len();
        let command = Command::Publish { sharded: false, channel: self.response.clone(), payload };
        let publication = Publication { from: self.node().clone(), slot: None, bytes, command };
        // This cannot wait: if the outbox is full, the old node gets no confirmation.
        let _ = self.outbox.push(bytes, |_| publication).now_or_never();
    }

    fn response(&self, bytes: &Bytes) -> Result<Option<Delivery>> {
        let mine = |request: &RequestId| lock(&self.own_requests).contains(request);
        let Some((from, response)) = decode::response(&self.inbox.decoder.own(bytes), mine)? else { return Ok(None) };
        if self.is_own(from.as_ref()) {
            return Ok(self.inbox.decoder.own_echo());
        }
        Ok(Some(Delivery::Response { from, response }))
    }
}

fn lock(remembered: &Mutex<Remembered>) -> MutexGuard<'_, Remembered> {
    remembered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The latest request ids, up to a bound.
#[derive(Debug, Default)]
struct Remembered {
    ids: HashSet<RequestId>,
    order: VecDeque<RequestId>,
}

impl Remembered {
    fn add(&mut self, id: RequestId) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn contains(&self, id: &RequestId) -> bool {
        self.ids.contains(id)
    }

    fn remove(&mut self, id: &RequestId) -> bool {
        self.ids.remove(id)
    }
}
