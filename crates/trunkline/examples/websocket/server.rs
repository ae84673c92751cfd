//! A plain WebSocket server as a node of the cluster: its sockets, lent to the cluster as [`Local`], and their commands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic};
use std::time::Duration;

use axum::extract::{WebSocketUpgrade, ws};
use axum::{Router, routing::get};
use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use trunkline::{
    AckSink, Backend, ClusterNode, DeliveryReport, EventReply, Local, Namespace, NodeConfig, NodeId, Offset, Payload,
    Result, Room, RoomIndex, SocketId, SocketInfo, Target,
};

/// A client's message, for example `{"do": "emit", "room": "lobby", "event": "news", "data": "sunny"}`.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Command {
    Join { room: String },
    Leave { room: String },
    Emit { room: String, event: String, data: serde_json::Value },
    Fetch { room: String },
}

/// Joins the cluster of the namespace `/`. Returns the application, which serves `/ws`, and its node.
pub(crate) async fn app(backend: Backend) -> Result<(Router, ClusterNode)> {
    let sockets = Arc::new(Sockets::default());
    let local: Weak<dyn Local> = Arc::<Sockets>::downgrade(&sockets);
    let node = ClusterNode::join(backend, Namespace::new("/"), local, NodeConfig::default()).await?;
    let server = (sockets, node.clone());
    let upgrade = move |upgrade: WebSocketUpgrade| {
        let (sockets, node) = server.clone();
        std::future::ready(upgrade.on_upgrade(|client| serve(client, sockets, node)))
    };
    Ok((Router::new().route("/ws", get(upgrade)), node))
}

/// Sends a client the events for its socket, as JSON lists, and performs its commands, until either disconnects.
async fn serve(mut client: ws::WebSocket, sockets: Arc<Sockets>, node: ClusterNode) {
    let Ok((id, mut events)) = sockets.connect(&node) else { return };
    // Each socket is in the room of its id, by which other nodes address it. An error says that the node has left.
    let mut is_open = node.rooms_created(&[id.as_str().into()]).await.is_ok();
    while is_open {
        let event = tokio::select! {
            event = events.recv() => event,
            message = client.recv() => match message {
                Some(Ok(ws::Message::Text(command))) => perform(&node, &id, &command).await.ok(),
                Some(Ok(ws::Message::Ping(_) | ws::Message::Pong(_))) => continue,
                _ => None,
            },
        };
        let Some(text) = event.map(|event| event.to_json_plain().to_string()) else { break };
        is_open = client.send(ws::Message::text(text)).await.is_ok();
    }
    sockets.disconnect(&Target::room(id.as_str()), false);
    let emptied = sockets.lock().0.remove(&id);
    node.rooms_deleted(&emptied).await.ok();
}

/// Performs a command and returns the reply. An error ends the connection.
async fn perform(node: &ClusterNode, id: &SocketId, command: &str) -> Result<Payload> {
    let own = Target::room(id.as_str()).local();
    match serde_json::from_str(command) {
        Ok(Command::Join { room }) => node.sockets_join(own, vec![room.into()]).await?,
        Ok(Command::Leave { room }) => node.sockets_leave(own, vec![room.into()]).await?,
        Ok(Command::Emit { room, event, data }) => {
            node.broadcast(Target::room(room).except(id.as_str()), Payload::event(&event, &(data,))?).await?;
        }
        Ok(Command::Fetch { room }) => {
            let sockets = node.fetch_sockets(Target::room(room)).await?;
            return Payload::event("sockets", &(sockets.iter().map(|socket| socket.id.as_str()).collect::<Vec<_>>(),));
        }
        Err(error) => return Payload::event("error", &error.to_string()),
    }
    Payload::event("done", &())
}

/// The rooms of the connected sockets, and a bounded queue of events to each of them.
#[derive(Debug, Default)]
struct Sockets(Mutex<(RoomIndex<SocketId>, Queues)>);
type Queues = HashMap<SocketId, Sender<Payload>>;

impl Sockets {
    fn connect(&self, node: &ClusterNode) -> Result<(SocketId, Receiver<Payload>)> {
        static NUMBER: atomic::AtomicU64 = atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, atomic::Ordering::Relaxed);
        let id = SocketId::new(format!("{}-{number}", node.node().id))?;
        let (queue, events) = channel(256);
        queue.try_send(Payload::event("connected", id.as_str())?).ok();
        let (rooms, queues) = &mut *self.lock();
        queues.insert(id.clone(), queue);
        rooms.insert(id.clone());
        rooms.join(&id, &id.as_str().into());
        Ok((id, events))
    }

    fn lock(&self) -> MutexGuard<'_, (RoomIndex<SocketId>, Queues)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local for Sockets {
    fn deliver(&self, target: &Target, payload: &Payload, _: Option<&Offset>) -> DeliveryReport {
        let (rooms, queues) = &*self.lock();
        let sockets = rooms.matching(target);
        let queues = sockets.iter().filter_map(|id| queues.get(id));
        let sent = queues.filter(|queue| queue.try_send(payload.clone()).is_ok()).count();
        DeliveryReport::default().with_sent(sent as u64).with_dropped((sockets.len() - sent) as u64)
    }

    /// These clients get the event and do not acknowledge.
    fn deliver_with_ack(&self, target: &Target, payload: &Payload, _: Duration, _: AckSink) -> u32 {
        self.deliver(target, payload, None);
        0
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let rooms = &self.lock().0;
        let rooms_of = |id: &SocketId| rooms.rooms_of(id).into_iter().flatten().cloned().collect();
        rooms.matching(target).into_iter().map(|id| SocketInfo::new(id.clone(), rooms_of(&id))).collect()
    }

    fn rooms(&self) -> Vec<Room> {
        self.lock().0.rooms().cloned().collect()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.lock().0.has_room(room)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let index = &mut self.lock().0;
        index.matching(target).iter().for_each(|id| rooms.iter().for_each(|room| _ = index.join(id, room)));
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let index = &mut self.lock().0;
        index.matching(target).iter().for_each(|id| rooms.iter().for_each(|room| _ = index.leave(id, room)));
    }

    /// Without its queue, `serve` ends and closes the connection.
    fn disconnect(&self, target: &Target, _: bool) {
        let (rooms, queues) = &mut *self.lock();
        rooms.matching(target).iter().for_each(|id| _ = queues.remove(id));
    }

    /// This server has no handlers: the dropped reply answers `undefined`.
    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
