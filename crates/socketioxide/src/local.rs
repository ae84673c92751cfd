//! The server's sockets, as the cluster uses them.

use std::{str::FromStr, time::Duration};

use socketioxide_core::{
    Sid,
    adapter::{BroadcastFlags, BroadcastOptions, SocketEmitter},
    packet::Packet,
};
use trunkline_core::{
    AckSink, DeliveryReport, EventReply, Local, NodeId, Offset, Payload, Room, SocketId, SocketInfo, Target,
    payload::{Attachments, ByteString},
};

use crate::{
    adapter::Trunkline,
    backlog::Queued,
    convert::to_value,
    details::Details,
    handlers::ServerSideEvent,
    namespace::{OpenNamespace, Sockets},
};

impl<E: SocketEmitter> Sockets for Trunkline<E> {
    fn is_connected(&self, socket: Sid) -> bool {
        !self.local.fetch_sockets(BroadcastOptions::new(socket)).is_empty()
    }

    fn count(&self) -> (usize, usize) {
        let mut all = BroadcastOptions::default();
        all.add_flag(BroadcastFlags::Broadcast);
        (self.local.sockets(all.clone()).len(), self.local.rooms(all).len())
    }

    fn event(&self, payload: &Payload) -> Option<Packet> {
        let value = to_value(payload, self.encoding)
            .inspect_err(|error| tracing::debug!(%error, "a payload cannot be converted"))
            .ok()?;
        Some(Packet::event(self.local.path().clone(), value))
    }

    fn describe(&self, socket: Sid) -> Option<SocketInfo> {
        let namespace = self.namespace().ok()?;
        self.describe_in(&namespace, socket)
    }
}

impl<E: SocketEmitter> Trunkline<E> {
    /// A socket of the open namespace, as other nodes see it.
    fn describe_in(&self, namespace: &OpenNamespace, socket: Sid) -> Option<SocketInfo> {
        let id = SocketId::new(socket.as_str()).ok()?;
        let own_room = Room::from(socket.as_str());
        let joined = self.local.socket_rooms(socket);
        let mut rooms = Vec::with_capacity(joined.len() + 1);
        rooms.extend(joined.iter().map(|room| Room::from(room.as_ref())));
        if self.own_rooms.has(socket) {
            rooms.retain(|room| *room != own_room);
        }
        // As on Node.js servers, behind the rooms that the application has joined, which may be this one too.
        rooms.push(own_room);
        let Details { handshake, data } = namespace.details.of(socket);
        let handshake = handshake.unwrap_or_else(|| self.handshake(namespace, socket));
        let data = data.unwrap_or_else(|| Payload::from_trusted_json(ByteString::from_static("{}"), Attachments::NONE));
        let data = self.cluster.with_connection(self.local.path(), socket, data);
        Some(SocketInfo::new(id, rooms).with_handshake(Some(handshake)).with_data(Some(data)))
    }

    /// The handshake of the socket's request, which is kept: it is asked for again, and its time must not change.
    fn handshake(&self, namespace: &OpenNamespace, socket: Sid) -> Payload {
        match self.cluster.handshake(self.local.path(), socket) {
            Some(handshake) => {
                namespace.change_details(socket, |details| {
                    details.handshake.get_or_insert_with(|| handshake.clone());
                });
                handshake
            }
            None => namespace.unknown_handshake.clone(),
        }
    }
}

impl<E: SocketEmitter> Local for Trunkline<E> {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        let Ok(namespace) = self.namespace() else { return DeliveryReport::default() };
        if target.is_mark() {
            offset.iter().for_each(|offset| self.marked(&namespace, offset));
            return DeliveryReport::default();
        }
        let sockets = self.matching(target);
        if sockets.is_empty() {
            return DeliveryReport::default();
        }
        let offset = offset.filter(|_| namespace.appends_offsets);
        let appended = offset.map(|offset| payload.with_appended_text(offset.as_str()));
        let Some(packet) = self.event(appended.as_ref().unwrap_or(payload)) else { return DeliveryReport::default() };
        if target.flags.is_volatile() {
            // Dropped packets of a volatile event are not counted.
            let _ = self.local.broadcast(packet, self.options(target));
            return DeliveryReport::default().with_sent(sockets.len() as u64);
        }
        self.deliver_paced(&namespace, target, &sockets, &packet, offset)
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32 {
        let sockets = self.matching(target);
        if sockets.is_empty() {
            return 0;
        }
        let (Ok(namespace), Some(packet)) = (self.namespace(), self.event(payload)) else { return 0 };
        self.deliver_with_acks(&namespace, target, &sockets, &packet, timeout, &acks)
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let Ok(namespace) = self.namespace() else { return Vec::new() };
        let sockets = self.local.fetch_sockets(self.options(target));
        sockets.iter().filter_map(|socket| self.describe_in(&namespace, socket.id)).collect()
    }

    fn rooms(&self) -> Vec<Room> {
        let mut all = BroadcastOptions::default();
        all.add_flag(BroadcastFlags::Broadcast);
        let own_rooms = self.local.sockets(all.clone());
        let rooms = self.local.rooms(all);
        let mut rooms: Vec<_> =
            rooms.iter().map(AsRef::as_ref).chain(own_rooms.iter().map(Sid::as_str)).map(Room::from).collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }

    fn has_room(&self, room: &Room) -> bool {
        let text = room.to_text();
        if Sid::from_str(&text).is_ok_and(|socket| self.is_connected(socket)) {
            return true;
        }
        self.known_members.has_members(&self.local, &text)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let sockets = self.matching(target);
        if sockets.is_empty() {
            return;
        }
        let rooms: Vec<_> = rooms.iter().map(|room| room.to_text().to_string()).collect();
        for socket in sockets {
            self.local.add_all(socket, rooms.clone());
            self.forget_if_closed(socket);
        }
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let rooms: Vec<_> = rooms.iter().map(|room| room.to_text().to_string()).collect();
        for socket in self.matching(target) {
            self.local.del(socket, rooms.clone());
        }
    }

    /// A socket with a backlog is disconnected when it has taken that.
    fn disconnect(&self, target: &Target, _close: bool) {
        let Ok(namespace) = self.namespace() else { return };
        for socket in self.matching(target) {
            namespace.backlogs.offer(socket, Queued::Disconnect, self);
        }
    }

    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>) {
        let Some(handler) = payload.event_name().and_then(|event| self.handlers.find(&event)) else { return };
        let Ok(namespace) = self.namespace() else { return };
        let answering = handler(ServerSideEvent { from: from.clone(), payload: payload.clone() });
        namespace.tasks.spawn(async move {
            let answer = answering.await;
            if let Some(reply) = reply {
                reply.answer(answer.0);
            }
        });
    }
}
