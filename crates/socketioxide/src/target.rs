//! Between socketioxide's broadcast options and the cluster's targets.

use std::{borrow::Cow, str::FromStr};

use socketioxide_core::{
    Sid,
    adapter::{BroadcastFlags, BroadcastOptions, SocketEmitter},
};
use trunkline_core::{Room, Target};

use crate::{adapter::Trunkline, identity::socket_id, namespace::Sockets, partial::MARK};

/// Whether an excepted room stands for [`PartialAnswers::partial`](crate::PartialAnswers::partial).
fn is_mark(room: &Cow<'static, str>) -> bool {
    room == MARK
}

impl<E: SocketEmitter> Trunkline<E> {
    /// The target of socketioxide's options; `None` if they select no socket.
    pub(crate) fn target(&self, opts: &BroadcastOptions) -> Option<Target> {
        let to_all_but_sender = opts.has_flag(BroadcastFlags::Broadcast);
        let mut target = Target::rooms(opts.rooms.iter().map(AsRef::as_ref));
        target.flags.partial = opts.except.iter().any(is_mark);
        target.except = opts.except.iter().filter(|room| !is_mark(room)).map(|room| room.as_ref().into()).collect();
        match opts.sid {
            Some(sender) if to_all_but_sender => target = target.except(sender.as_str()),
            Some(only) if opts.rooms.is_empty() => {
                target.flags.local = self.is_connected(only);
                target.rooms.push(socket_id(only, opts.server_id).into());
            }
            None if opts.rooms.is_empty() && !to_all_but_sender => return None,
            _ => {}
        }
        target.flags.local |= opts.has_flag(BroadcastFlags::Local);
        target.flags.volatile = opts.has_flag(BroadcastFlags::Volatile).then_some(true);
        Some(target)
    }

    /// The options that select a target's sockets on this server.
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

    /// The options for a target without some of its sockets.
    pub(crate) fn options_without(&self, target: &Target, sockets: &[Sid]) -> BroadcastOptions {
        let mut opts = self.options(target);
        for socket in sockets {
            self.join_own_room(*socket);
            opts.except.push(Cow::Owned(socket.to_string()));
        }
        opts
    }

    /// The ids of a target's sockets on this server.
    pub(crate) fn matching(&self, target: &Target) -> Vec<Sid> {
        self.local.sockets(self.options(target))
    }

    /// A room by its text. Other nodes address a socket by the room of its id, which socketioxide does not have: the
    /// socket joins it.
    fn room(&self, room: &Room) -> Cow<'static, str> {
        let text = room.to_text();
        if let Ok(socket) = Sid::from_str(&text) {
            self.join_own_room(socket);
        }
        Cow::Owned(text.into())
    }

    fn join_own_room(&self, socket: Sid) {
        let mut own_room = BroadcastOptions::default();
        own_room.rooms.push(Cow::Owned(socket.to_string()));
        if !self.is_connected(socket) || self.local.sockets(own_room).contains(&socket) {
            return;
        }
        self.own_rooms.add(socket, |socket| self.is_connected(socket));
        self.local.add_all(socket, socket);
        self.forget_if_closed(socket);
    }

    /// Removes a closed socket from all rooms: socketioxide does so when it closes, but it may have been joined to a
    /// room at that moment.
    pub(crate) fn forget_if_closed(&self, socket: Sid) {
        if !self.is_connected(socket) {
            self.local.del_all(socket);
        }
    }
}
