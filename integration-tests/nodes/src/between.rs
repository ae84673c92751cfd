//! Operations between nodes, and those that socketioxide has no call for: they use the handle of the namespace.

use rmpv::Value;
use serde::{Deserialize, Serialize};
use trunkline::{Offset, Payload, Room, SessionId, SocketId, SocketInfo, core};
use trunkline_socketioxide::{Cluster, NamespaceHandle};

use crate::{
    adapter::Socket,
    numbers,
    operation::{Found, Kind, Operation, Outcome, names, text},
    selection::Selection,
    values::Arguments,
    watching,
};

/// A socket of any node with its details.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    id: String,
    rooms: Vec<String>,
    handshake: Option<Value>,
    data: Option<Value>,
}

/// A session for connection state recovery, with the field names of Node.js servers.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Session {
    pid: String,
    sid: String,
    rooms: Vec<String>,
    data: Option<Value>,
}

/// Performs the operation if it is one of these; returns whether it is.
pub(crate) async fn perform(
    socket: &Socket,
    cluster: &Cluster,
    operation: &Operation,
    outcome: &mut Outcome,
) -> Result<bool, String> {
    let Operation { kind, select, event, args, id, close, data, session, since, .. } = operation;
    let handle = cluster.of(socket.ns()).map_err(text)?;
    if numbers::perform(&handle, operation, outcome).await? {
        return Ok(true);
    }
    let arguments = Arguments(args.clone());
    match kind {
        Kind::ServerSideEmit => handle.server_side_emit(event, &arguments).await.map_err(text)?,
        Kind::ServerSideEmitWithAck => ask_servers(&handle, event, &arguments, select, outcome).await?,
        Kind::Peers => outcome.nodes = handle.peers().iter().map(ToString::to_string).collect(),
        Kind::ServerCount => outcome.count = handle.server_count().await.map_err(text)?,
        Kind::AllRooms => {
            let rooms = handle.all_rooms().await.map_err(text)?;
            outcome.rooms = names(rooms.iter().map(Room::to_text).collect());
        }
        Kind::DescribeSockets => {
            let sockets = handle.fetch_sockets(select.target()).await.map_err(text)?;
            outcome.described = sockets.into_iter().map(described).collect::<Result<_, _>>()?;
        }
        Kind::CloseConnections => {
            handle.disconnect_sockets(select.target(), *close).await.map_err(text)?;
        }
        Kind::SetData => handle.set_data(socket, data).map_err(text)?,
        Kind::PersistSession => {
            let session = session.as_ref().ok_or("there is no session to persist")?;
            handle.persist_session(session.decoded()?).await.map_err(text)?;
        }
        Kind::RestoreSession => restore(&handle, id, since, outcome).await?,
        Kind::Metrics => outcome.metrics = handle.metrics().iter().collect(),
        Kind::Health => outcome.connected = handle.health().connected,
        Kind::Watch => watching::watch(socket.clone(), &handle),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Emits to the other servers with acknowledgements. A timeout is no error here: the outcome holds the answers so far
/// and the missing nodes.
async fn ask_servers(
    handle: &NamespaceHandle,
    event: &str,
    arguments: &Arguments,
    select: &Selection,
    outcome: &mut Outcome,
) -> Result<(), String> {
    match handle.server_side_emit_with_ack::<_, Value>(event, arguments, select.timeout()).await {
        Ok(answers) => outcome.servers = answers.into_iter().map(|answer| answer.unwrap_or(Value::Nil)).collect(),
        Err(error) => {
            let message = error.to_string();
            let incomplete = error.into_incomplete().ok_or(message)?;
            outcome.missing = incomplete.missing_nodes();
            outcome.nodes = incomplete.missing.iter().map(ToString::to_string).collect();
            outcome.servers = incomplete.received.into_iter().map(value_of).collect::<Result<_, _>>()?;
        }
    }
    Ok(())
}

async fn restore(handle: &NamespaceHandle, id: &str, since: &str, outcome: &mut Outcome) -> Result<(), String> {
    let (id, since) = (SessionId::new(id).map_err(text)?, Offset::new(since).map_err(text)?);
    let Some(restored) = handle.restore_session(id, since).await.map_err(text)? else { return Ok(()) };
    outcome.session = Some(Session::encoded(restored.session)?);
    for missed in restored.missed {
        let mut event: Vec<Value> = missed.payload.deserialize().map_err(text)?;
        event.push(missed.offset.as_str().into());
        outcome.missed.push(Value::Array(event));
    }
    Ok(())
}

impl Session {
    fn decoded(&self) -> Result<core::Session, String> {
        Ok(core::Session::new(
            SessionId::new(self.pid.as_str()).map_err(text)?,
            SocketId::new(self.sid.as_str()).map_err(text)?,
            self.rooms.iter().map(|room| room.as_str().into()).collect(),
        )
        .with_data(self.data.as_ref().map(Payload::value).transpose().map_err(text)?))
    }

    fn encoded(session: core::Session) -> Result<Self, String> {
        Ok(Self {
            pid: session.id.as_str().to_owned(),
            sid: session.socket.as_str().to_owned(),
            rooms: names(session.rooms.iter().map(Room::to_text).collect()),
            data: optional(session.data)?,
        })
    }
}

fn described(socket: SocketInfo) -> Result<Described, String> {
    Ok(Described {
        id: socket.id.as_str().to_owned(),
        rooms: names(socket.rooms.iter().map(Room::to_text).collect()),
        handshake: optional(socket.handshake)?,
        data: optional(socket.data)?,
    })
}

pub(crate) fn found(handle: &NamespaceHandle, socket: &SocketInfo) -> Found {
    let namespace = handle.node().namespace.as_str().to_owned();
    Found { id: socket.id.as_str().to_owned(), server: String::new(), namespace }
}

pub(crate) fn optional(payload: Option<Payload>) -> Result<Option<Value>, String> {
    payload.map(|payload| payload.deserialize().map_err(text)).transpose()
}

fn value_of(answer: Option<Payload>) -> Result<Value, String> {
    Ok(optional(answer)?.unwrap_or(Value::Nil))
}
