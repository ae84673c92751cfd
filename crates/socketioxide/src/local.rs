//! What the server lends to the cluster: its sockets.

use std::{borrow::Cow, str::FromStr, time::Duration};

use socketioxide_core::{
    Sid,
    adapter::{BroadcastFlags, BroadcastOptions, SocketEmitter},
    packet::Packet,
};
use trunkline_core::{
    AckSink, DeliveryReport, EventReply, Local, LocalAbilities, NodeId, Offset, Payload, Room, SocketId, SocketInfo,
    Target,
};

use crate::{
    adapter::Trunkline, convert::to_value, handle::Sockets, handlers::ServerSideEvent, lanes::Waiting, sockets::Details,
};

impl<E: SocketEmitter> Sockets for Trunkline<E> {
    fn is_connected(&self, socket: Sid) -> bool {
        !self.local.fetch_sockets(BroadcastOptions::new(socket)).is_empty()
    }

    fn event(&self, payload: &Payload) -> Option<Packet> {
        let value = to_value(payload, self.encoding)
            .inspect_err(|error| tracing::debug!(%error, "a payload cannot be converted"))
            .ok()?;
        Some(Packet::event(self.local.path().clone(), value))
    }
}

impl<E: SocketEmitter> Trunkline<E> {
    fn matching(&self, target: &Target) -> Vec<Sid> {
        self.local.sockets(self.options(target))
    }

    /// The target in socketioxide's terms.
    pub(crate) fn options(&self, target: &Target) -> BroadcastOptions {
        let mut opts = BroadcastOptions::default();
        opts.rooms.extend(target.rooms.iter().map(|room| self.room(room)));
        opts.except.extend(target.except.iter().map(|room| self.room(room)));
        if opts.rooms.is_empty() {
            opts.add_flag(BroadcastFlags::Broadcast);
        }
        if target.flags.is_volatile() {
            opts.add_flag(BroadcastFlags::Volatile);
        }
        opts
    }

    /// A room by its text. Peers address sockets by rooms named by their ids, which socketioxide does not have: the socket joins it.
    fn room(&self, room: &Room) -> Cow<'static, str> {
        let text = room.to_text();
        if let Ok(socket) = Sid::from_str(&text) {
            self.adopt(socket);
        }
        Cow::Owned(text.into())
    }

    pub(crate) fn adopt(&self, socket: Sid) {
        let mut own_room = BroadcastOptions::default();
        own_room.rooms.push(Cow::Owned(socket.to_string()));
        if !self.is_connected(socket) || self.local.sockets(own_room).contains(&socket) {
            return;
        }
        self.local.add_all(socket, socket);
        self.forget_if_gone(socket);
    }

    /// A socket that closes takes its rooms along; what joins it to a room at the same moment must not leave it there for ever.
    fn forget_if_gone(&self, socket: Sid) {
        if !self.is_connected(socket) {
            self.local.del_all(socket);
        }
    }

    fn describe(&self, socket: Sid) -> Option<SocketInfo> {
        let id = SocketId::new(socket.as_str()).ok()?;
        let mut rooms: Vec<_> = self.local.socket_rooms(socket).iter().map(|room| Room::from(room.as_ref())).collect();
        let own_room = Room::from(socket.as_str());
        if !rooms.contains(&own_room) {
            rooms.push(own_room);
        }
        let Details { handshake, data } = self.opened().map(|opened| opened.attached.of(socket)).unwrap_or_default();
        let nothing = || Payload::from_trusted_json("{}", Vec::new());
        Some(SocketInfo {
            id,
            node: None,
            rooms,
            handshake: Some(handshake.unwrap_or_else(nothing)),
            data: Some(data.unwrap_or_else(nothing)),
        })
    }
}

impl<E: SocketEmitter> Local for Trunkline<E> {
    fn abilities(&self) -> LocalAbilities {
        LocalAbilities { close_connections: false, number_rooms: false }
    }

    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        let sockets = self.matching(target);
        let Ok(opened) = self.opened() else { return DeliveryReport::default() };
        if sockets.is_empty() {
            return DeliveryReport::default();
        }
        let offset = offset.filter(|_| opened.appends_offsets);
        let appended = offset.map(|offset| payload.with_appended_text(offset.as_str()));
        let Some(packet) = self.event(appended.as_ref().unwrap_or(payload)) else { return DeliveryReport::default() };
        if target.flags.is_volatile() {
            // The latest one wins, and nobody counts the others.
            let _ = self.local.broadcast(packet, self.options(target));
            return DeliveryReport { sent: sockets.len() as u64, ..DeliveryReport::default() };
        }
        if sockets.len() <= opened.paced_sockets || opened.is_superseded() {
            self.deliver_each(opened, &sockets, &packet, offset)
        } else {
            self.deliver_all(opened, target, &sockets, &packet, offset)
        }
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32 {
        let sockets = self.matching(target);
        if sockets.is_empty() {
            return 0;
        }
        let (Ok(opened), Some(packet)) = (self.opened(), self.event(payload)) else { return 0 };
        self.deliver_acked(opened, target, &sockets, &packet, timeout, &acks)
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let sockets = self.local.fetch_sockets(self.options(target));
        sockets.iter().filter_map(|socket| self.describe(socket.id)).collect()
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
        let mut opts = BroadcastOptions::default();
        opts.rooms.push(Cow::Owned(text.into()));
        !self.local.sockets(opts).is_empty()
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let sockets = self.matching(target);
        if sockets.is_empty() {
            return;
        }
        if let Ok(opened) = self.opened() {
            opened.interest.entered(rooms);
        }
        let rooms: Vec<_> = rooms.iter().map(|room| room.to_text().to_string()).collect();
        for socket in sockets {
            self.local.add_all(socket, rooms.clone());
            self.forget_if_gone(socket);
        }
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let rooms: Vec<_> = rooms.iter().map(|room| room.to_text().to_string()).collect();
        for socket in self.matching(target) {
            self.local.del(socket, rooms.clone());
        }
    }

    /// A socket whose buffer is full is disconnected when it has taken what waits.
    fn disconnect(&self, target: &Target, _close: bool) {
        let Ok(opened) = self.opened() else { return };
        for socket in self.matching(target) {
            opened.lanes.give(socket, Waiting::Disconnect, self);
        }
    }

    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>) {
        let Some(handler) = payload.event_name().and_then(|event| self.handlers.find(&event)) else { return };
        let answering = handler(ServerSideEvent { from: from.clone(), payload: payload.clone() });
        self.tasks.spawn(async move {
            let answer = answering.await;
            if let Some(reply) = reply {
                reply.answer(answer.0);
            }
        });
    }
}
