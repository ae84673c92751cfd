//! Bringing a client that was away up to date.
//!
//! socketioxide's CONNECT packet has no session id, so the official client never asks for what it missed, as it does of Node.js servers with
//! connection state recovery. The same is done by the application: the client sends the last offset it has seen, and the connect handler
//! calls [`Handle::replay`].

use std::time::Duration;

use socketioxide::{adapter::Adapter as ServerAdapter, socket::Socket};
use socketioxide_core::{Sid, packet::Packet};
use tokio::time::Instant;
use trunkline_core::{
    Adapter, Error, ErrorKind, Offset, Result, Room, Session, SessionId, SocketId, Target,
    transport::{MissedBroadcast, RestoredSession},
};

use crate::{
    cluster::Cluster,
    handle::{Handle, Opened},
};

impl Cluster {
    /// Lets everything for a new socket wait until [`Handle::replay`], [`Handle::restore`] or [`Handle::resume`] is called for it, or 10 s
    /// have passed. For a connect middleware: what arrives between the connection and the connect handler then comes after what the client
    /// missed, and not before it.
    pub fn hold<A: ServerAdapter>(&self, socket: &Socket<A>) {
        if let Ok(handle) = self.of(socket.ns()) {
            handle.opened().hold(socket.id);
        }
    }
}

impl Handle {
    /// Sends a socket what it missed since an offset: everything that was broadcast to all or to its present rooms, in order, before anything
    /// that arrives from now on, and nothing twice. Each event has its offset as last argument. Returns how many there are.
    ///
    /// Let the socket join its rooms first. *Cancel safety*: dropped, the socket goes on without what it missed.
    ///
    /// # Errors
    /// `HistoryLost` if the history no longer reaches back that far: the client has to load its state anew. `Malformed` for what is no
    /// offset, `Unsupported` without history, `QueueFull` if more arrives than the socket can take.
    pub async fn replay<A: ServerAdapter>(&self, socket: &Socket<A>, since: Offset) -> Result<usize> {
        let held = Held::new(self.opened(), socket.id);
        let mut rooms = rooms_of(socket);
        rooms.push(own_room(socket));
        held.catch_up(since, &rooms, Vec::new()).await
    }

    /// Lets a socket go on that [`Cluster::hold`] let wait, without replay.
    pub fn resume<A: ServerAdapter>(&self, socket: &Socket<A>) {
        self.opened().lanes.release(socket.id);
    }

    /// Keeps a socket's session under a secret that only its client knows: its rooms, and the data given to [`Handle::set_data`]. For the
    /// disconnect handler.
    ///
    /// # Errors
    /// `Unsupported` without history, or what the broker says.
    pub async fn persist<A: ServerAdapter>(&self, socket: &Socket<A>, secret: SessionId) -> Result<()> {
        let data = self.opened().attached.of(socket.id).data;
        let session = Session { id: secret, socket: SocketId::new(socket.id.as_str())?, rooms: rooms_of(socket), data };
        self.persist_session(session).await
    }

    /// Gives a new socket the session of a client that comes back: its rooms, and everything it missed since an offset, as
    /// [`Handle::replay`]. A session can be restored once; `None` if it is unknown or expired. It has the data and the former socket id; the
    /// socket keeps its new one.
    ///
    /// # Errors
    /// As of [`Handle::replay`].
    pub async fn restore<A: ServerAdapter>(
        &self,
        socket: &Socket<A>,
        secret: SessionId,
        since: Offset,
    ) -> Result<Option<Session>> {
        let held = Held::new(self.opened(), socket.id);
        let Some(RestoredSession { session, missed }) = self.restore_session(secret, since.clone()).await? else {
            return Ok(None);
        };
        let node = &self.opened().node;
        node.sockets_join(Target::room(socket.id.as_str()).local(), session.rooms.clone()).await?;
        let mut rooms = session.rooms.clone();
        rooms.extend([Room::from(session.socket.as_str()), own_room(socket)]);
        held.catch_up(since, &rooms, missed).await?;
        Ok(Some(session))
    }
}

impl Opened {
    fn hold(&self, socket: Sid) {
        self.lanes.hold(socket, Instant::now() + HOLD);
    }

    /// A missed broadcast as packet of this server.
    fn packet(&self, MissedBroadcast { payload, offset }: MissedBroadcast) -> Option<(Packet, Offset)> {
        let appended = self.appends_offsets.then(|| payload.with_appended_text(offset.as_str()));
        let packet = self.sockets.upgrade()?.event(appended.as_ref().unwrap_or(&payload))?;
        Some((packet, offset))
    }
}

/// A socket for which everything waits as long as this lives.
struct Held<'a> {
    opened: &'a Opened,
    socket: Sid,
}

impl<'a> Held<'a> {
    fn new(opened: &'a Opened, socket: Sid) -> Self {
        opened.hold(socket);
        Self { opened, socket }
    }

    /// Reads what came after `since`, or after what is known to be missed already.
    async fn catch_up(&self, since: Offset, rooms: &[Room], mut missed: Vec<MissedBroadcast>) -> Result<usize> {
        let Self { opened, socket } = *self;
        for _ in 0..ATTEMPTS {
            if opened.lanes.is_full() {
                break;
            }
            let from = missed.last().map_or(&since, |missed| &missed.offset);
            let more = opened.node.replay(from.clone(), rooms).await?;
            missed.extend(more);
            let packets = missed.iter().cloned().filter_map(|missed| opened.packet(missed)).collect();
            if opened.lanes.catch_up(socket, packets, Instant::now() + REMEMBER) {
                return Ok(missed.len());
            }
        }
        Err(Error::new(ErrorKind::QueueFull, format!("more arrives for socket {socket} than can wait for it")))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.opened.lanes.release(self.socket);
    }
}

fn rooms_of<A: ServerAdapter>(socket: &Socket<A>) -> Vec<Room> {
    let own_room = own_room(socket);
    socket.rooms().iter().map(|room| Room::from(room.as_ref())).filter(|room| *room != own_room).collect()
}

fn own_room<A: ServerAdapter>(socket: &Socket<A>) -> Room {
    Room::from(socket.id.as_str())
}

/// How long a socket may be held: nobody may ever come to release it.
const HOLD: Duration = Duration::from_secs(10);

/// How long it is remembered what a socket was brought up to date with: this node may receive it later than the history had it.
const REMEMBER: Duration = Duration::from_secs(60);

/// How often the history is read when too much arrives meanwhile.
const ATTEMPTS: usize = 3;
