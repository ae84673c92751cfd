//! Replay of missed broadcasts to a client that reconnects.
//!
//! socketioxide's CONNECT packet has no session id, so the official client never asks for what it missed, as it does of
//! Node.js servers with connection state recovery. Here the application does it: the client sends the last offset it
//! has seen, and the connect handler calls [`NamespaceHandle::replay`].

use std::time::Duration;

use socketioxide::{adapter::Adapter as ServerAdapter, socket::Socket};
use socketioxide_core::{Sid, packet::Packet};
use tokio::time::Instant;
use trunkline_core::{
    Error, ErrorKind, Offset, Result, Room, Session, SessionId, SocketId, Target,
    transport::{MissedBroadcast, RestoredSession},
};

use crate::{cluster::Cluster, handle::NamespaceHandle, namespace::OpenNamespace};

impl Cluster {
    /// Queues everything for a new socket until [`NamespaceHandle::replay`], [`NamespaceHandle::restore`] or
    /// [`NamespaceHandle::resume`] is called for it, or 10 s have passed. For a connect middleware: what arrives
    /// between the connection and the connect handler then follows what the client missed.
    pub fn pause<A: ServerAdapter>(&self, socket: &Socket<A>) {
        if let Ok(handle) = self.of(socket.ns()) {
            handle.namespace().pause(socket.id);
        }
    }
}

impl NamespaceHandle {
    /// Sends a socket what it missed since an offset: everything that was broadcast to all or to its present rooms, in
    /// order, before anything that arrives from now on, and nothing twice. Returns how many events there are. Each has
    /// its offset as last argument, where the cluster [appends offsets](crate::ClusterBuilder::append_offsets).
    ///
    /// The socket must have joined its rooms before. *Cancel safety*: dropped, the socket goes on without what it
    /// missed.
    ///
    /// # Errors
    /// `HistoryLost` if the history no longer reaches back that far: the client has to load its state anew. `Malformed`
    /// for what is no offset, `Unsupported` without history, `QueueFull` if more arrives than the socket can take.
    pub async fn replay<A: ServerAdapter>(&self, socket: &Socket<A>, since: Offset) -> Result<usize> {
        self.catch_up(socket, since, None).await
    }

    /// As [`NamespaceHandle::replay`], for a client that also says the id of its former socket: with what was sent to
    /// that socket alone, and without what that socket sent to its rooms. Whoever knows a socket's id can ask for what
    /// was sent to it; where that matters, use [`NamespaceHandle::persist`] and [`NamespaceHandle::restore`].
    ///
    /// # Errors
    /// As of [`NamespaceHandle::replay`].
    pub async fn replay_as<A: ServerAdapter>(
        &self,
        socket: &Socket<A>,
        former: &SocketId,
        since: Offset,
    ) -> Result<usize> {
        self.catch_up(socket, since, Some(former)).await
    }

    async fn catch_up<A: ServerAdapter>(
        &self,
        socket: &Socket<A>,
        since: Offset,
        former: Option<&SocketId>,
    ) -> Result<usize> {
        let paused = Paused::new(self.namespace(), socket.id);
        let mut rooms = rooms_of(socket);
        rooms.push(own_room(socket));
        rooms.extend(former.map(|former| Room::from(former.as_str())));
        paused.catch_up(since, &rooms, Vec::new()).await
    }

    /// Sends what waits for a socket since [`Cluster::pause`], without replay.
    pub fn resume<A: ServerAdapter>(&self, socket: &Socket<A>) {
        self.namespace().backlogs.resume(socket.id);
    }

    /// Tells under which secret the session of a connected socket is known to its client, for the connect handler,
    /// behind [`NamespaceHandle::restore`] of a client that comes back. If the client comes back before this server has
    /// noticed that it was gone, `restore` finds the session on any server and disconnects the former socket. What any
    /// server stores of a socket that had the session before is dropped.
    ///
    /// # Errors
    /// `Unsupported` without history, or what the broker says.
    pub async fn set_session<A: ServerAdapter>(&self, socket: &Socket<A>, secret: SessionId) -> Result<()> {
        self.namespace().node.set_session(secret, &SocketId::new(socket.id.as_str())?).await
    }

    /// Stores a socket's session under a secret that only its client knows: its rooms, and the data given to
    /// [`NamespaceHandle::set_data`]. For the disconnect handler. Nothing is stored if the client has come back already:
    /// see [`NamespaceHandle::set_session`].
    ///
    /// # Errors
    /// `Unsupported` without history, or what the broker says.
    pub async fn persist<A: ServerAdapter>(&self, socket: &Socket<A>, secret: SessionId) -> Result<()> {
        let data = self.namespace().details.of(socket.id).data;
        let session = Session::new(secret, SocketId::new(socket.id.as_str())?, rooms_of(socket)).with_data(data);
        self.persist_session(session).await
    }

    /// Gives a new socket the stored session of its client: the rooms, and everything it missed since an offset, as
    /// [`NamespaceHandle::replay`] does. A session can be restored once; `None` if it is unknown or expired. One whose
    /// socket is still connected, as far as its server knows, is found too, after [`NamespaceHandle::set_session`]. The
    /// returned session has the data and the former socket id; the socket keeps its new one.
    ///
    /// # Errors
    /// As of [`NamespaceHandle::replay`].
    pub async fn restore<A: ServerAdapter>(
        &self,
        socket: &Socket<A>,
        secret: SessionId,
        since: Offset,
    ) -> Result<Option<Session>> {
        let paused = Paused::new(self.namespace(), socket.id);
        let Some(RestoredSession { session, missed }) = self.restore_session(secret, since.clone()).await? else {
            return Ok(None);
        };
        let node = &self.namespace().node;
        node.sockets_join(Target::room(socket.id.as_str()).local(), session.rooms.clone()).await?;
        let mut rooms = session.rooms_with_own();
        rooms.push(own_room(socket));
        paused.catch_up(since, &rooms, missed).await?;
        Ok(Some(session))
    }
}

impl OpenNamespace {
    fn pause(&self, socket: Sid) {
        self.backlogs.pause(socket, Instant::now() + MAX_PAUSE);
    }

    /// The packet and the offset of a missed broadcast.
    fn packet(&self, MissedBroadcast { payload, offset }: MissedBroadcast) -> Option<(Packet, Offset)> {
        let appended = self.appends_offsets.then(|| payload.with_appended_text(offset.as_str()));
        let packet = self.sockets.upgrade()?.event(appended.as_ref().unwrap_or(&payload))?;
        Some((packet, offset))
    }
}

/// A socket that is paused until this is dropped.
struct Paused<'a> {
    namespace: &'a OpenNamespace,
    socket: Sid,
}

impl<'a> Paused<'a> {
    fn new(namespace: &'a OpenNamespace, socket: Sid) -> Self {
        namespace.pause(socket);
        Self { namespace, socket }
    }

    /// Queues for the socket what was broadcast after `since`, of which `missed` is the beginning.
    async fn catch_up(&self, since: Offset, rooms: &[Room], mut missed: Vec<MissedBroadcast>) -> Result<usize> {
        let Self { namespace, socket } = *self;
        for _ in 0..ATTEMPTS {
            if namespace.backlogs.is_full() {
                break;
            }
            let from = missed.last().map_or(&since, |missed| &missed.offset);
            let more = namespace.node.replay(from.clone(), rooms).await?;
            missed.extend(more);
            let packets = missed.iter().cloned().filter_map(|missed| namespace.packet(missed)).collect();
            if namespace.backlogs.catch_up(socket, packets, Instant::now() + REMEMBER) {
                return Ok(missed.len());
            }
        }
        Err(Error::new(ErrorKind::QueueFull, format!("more arrives for socket {socket} than can wait for it")))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.namespace.backlogs.resume(self.socket);
    }
}

fn rooms_of<A: ServerAdapter>(socket: &Socket<A>) -> Vec<Room> {
    let own_room = own_room(socket);
    socket.rooms().iter().map(|room| Room::from(room.as_ref())).filter(|room| *room != own_room).collect()
}

fn own_room<A: ServerAdapter>(socket: &Socket<A>) -> Room {
    Room::from(socket.id.as_str())
}

/// How long a socket is paused when neither replay nor resume is called.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long replayed offsets are remembered: this node may receive a message later than the history had it.
const REMEMBER: Duration = Duration::from_secs(60);

/// How often the history is read when too much arrives meanwhile.
const ATTEMPTS: usize = 3;
