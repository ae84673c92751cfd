//! Targets: the sockets that an operation is for.

use std::{sync::Arc, time::Duration};

use super::{Room, setters};
use crate::error::Result;

/// Selects sockets of a namespace: those in any of `rooms` (all if empty), each once, minus those in any room of
/// `except`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// Rooms whose members are addressed; empty means every socket of the namespace.
    pub rooms: Vec<Room>,
    /// Rooms whose members are left out.
    pub except: Vec<Room>,
    /// Modifiers of the operation.
    pub flags: Flags,
    /// Trace context of a broadcast, as text that only the hook of [`trace`](crate::trace) understands; `None` unless
    /// there is one.
    pub trace: Option<Arc<str>>,
}

impl Target {
    /// Target of every socket of the namespace.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Target of the members of one room. A socket id is a room with that socket in it.
    #[must_use]
    pub fn room(room: impl Into<Room>) -> Self {
        Self { rooms: vec![room.into()], ..Self::default() }
    }

    /// Target of the members of any of the rooms, each once.
    #[must_use]
    pub fn rooms<R: Into<Room>>(rooms: impl IntoIterator<Item = R>) -> Self {
        Self { rooms: rooms.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Target of no socket: what is broadcast to it only takes a place in the history. Nodes of ours note its offset
    /// ([`ClusterNode::offset`](crate::ClusterNode::offset)); for official peers it is a room without members.
    #[must_use]
    pub fn mark() -> Self {
        Self::room(MARK).except(MARK)
    }

    /// Whether this is [`Target::mark`].
    #[must_use]
    pub fn is_mark(&self) -> bool {
        let is_only = |rooms: &[Room]| matches!(rooms, [room] if room.is_mark());
        is_only(&self.rooms) && is_only(&self.except)
    }

    /// The same without the members of one more room.
    #[must_use]
    pub fn except(mut self, room: impl Into<Room>) -> Self {
        self.except.push(room.into());
        self
    }

    /// The same for sockets of this node only; nothing is published.
    #[must_use]
    pub fn local(mut self) -> Self {
        self.flags.local = true;
        self
    }

    /// The same for a packet that may be dropped for a client that is not ready to receive it.
    #[must_use]
    pub fn volatile(mut self) -> Self {
        self.flags.volatile = Some(true);
        self
    }

    /// The same, with the time for which acknowledgements or answers are waited for.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// The same for a request that returns what has arrived when its time is up, as Node.js servers do, in place of an
    /// error.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.flags.partial = true;
        self
    }

    /// Refuses rooms whose names are too long; see [`Room::check`].
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn check(&self) -> Result<()> {
        self.rooms.iter().chain(&self.except).try_for_each(Room::check)
    }

    /// Whether a socket that is in exactly `rooms` is addressed.
    #[must_use]
    pub fn matches(&self, rooms: &[Room]) -> bool {
        let is_in = |wanted: &[Room]| wanted.iter().any(|room| rooms.contains(room));
        (self.rooms.is_empty() || is_in(&self.rooms)) && !is_in(&self.except)
    }

    /// The only room of a target that names exactly one. Room channels carry such messages.
    #[must_use]
    pub fn single_room(&self) -> Option<&Room> {
        match self.rooms.as_slice() {
            [room] => Some(room),
            _ => None,
        }
    }
}

/// Room of marks, in which and out of which a socket is at once.
pub(super) const MARK: &str = "trunkline:mark";

/// Modifiers of an operation, named as in Socket.IO.
///
/// `volatile` and `compress` are `None` when the caller did not set them, which differs on the wire from an explicit
/// `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flags {
    /// Whether only sockets of this node are meant. Never on the wire.
    pub local: bool,
    /// Whether the packet may be dropped for clients that are not ready to receive.
    pub volatile: Option<bool>,
    /// Whether the transport to the client may compress the packet.
    pub compress: Option<bool>,
    /// How long acknowledgements are waited for; milliseconds on the wire.
    pub timeout: Option<Duration>,
    /// Whether the sender waits for one answer only (operations of `RemoteSocket`).
    pub expect_single_response: bool,
    /// Whether the answers that have arrived when the time is up are a result, and not an error with these answers.
    /// Never on the wire.
    pub partial: bool,
}

setters!(Flags {
    with_local(local: bool),
    with_volatile(volatile: Option<bool>),
    with_compress(compress: Option<bool>),
    with_timeout(timeout: Option<Duration>),
    with_expect_single_response(expect_single_response: bool),
    with_partial(partial: bool),
});

impl Flags {
    /// Whether the message may be dropped.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.volatile == Some(true)
    }
}
