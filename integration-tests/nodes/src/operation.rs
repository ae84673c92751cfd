//! What a client can ask for with the event `op`, and what it gets to know in the acknowledgement.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use socketioxide::{
    AckError,
    socket::{RemoteSocket, Sid},
};

use trunkline::{Answers, Payload};
use trunkline_socketioxide::{Cluster, Handle};

use crate::{
    adapter::{Adapter, Io, Socket},
    selection::Selection,
    values::Arguments,
};

/// One operation, for example `{ kind: "emit", select: { to: ["room"] }, event: "hello", args: [1] }`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    kind: Kind,
    #[serde(default)]
    select: Selection,
    #[serde(default)]
    event: String,
    #[serde(default)]
    args: Vec<Value>,
    /// What to join or leave.
    #[serde(default)]
    rooms: Vec<String>,
    /// The socket that a remote operation acts on; it is looked up among the selected ones, on all nodes.
    #[serde(default)]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// The own socket enters or leaves rooms, and lists them.
    Join,
    Leave,
    OwnRooms,
    Emit,
    EmitWithAck,
    FetchSockets,
    SocketsJoin,
    SocketsLeave,
    DisconnectSockets,
    Rooms,
    RemoteEmit,
    RemoteEmitWithAck,
    RemoteJoin,
    RemoteLeave,
    RemoteDisconnect,
    RemoteRooms,
    /// Between the servers, see `server_side`.
    ServerSideEmit,
    ServerSideEmitWithAck,
    Peers,
}

/// What came of it; the lists that the operation has nothing for are empty.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    error: Option<String>,
    /// Who answered what.
    answers: Vec<(Sid, Value)>,
    /// Who did not answer, and why: "timeout" or the error.
    silent: Vec<(Sid, String)>,
    sockets: Vec<Found>,
    rooms: Vec<String>,
    /// What the other servers answered; nil for one without an answer to give.
    servers: Vec<Value>,
    /// Nodes: the peers that are known, or those that have not answered in time.
    nodes: Vec<String>,
}

/// A socket of the cluster.
#[derive(Debug, Serialize)]
struct Found {
    id: Sid,
    server: String,
    namespace: String,
}

impl Outcome {
    pub(crate) fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

pub(crate) async fn perform(
    socket: &Socket,
    io: &Io,
    cluster: &Cluster,
    operation: Operation,
) -> Result<Outcome, String> {
    let Operation { kind, select, event, args, rooms, id } = operation;
    let arguments = Arguments(args);
    let timeout = (select.timeout > 0).then(|| Duration::from_millis(select.timeout));
    let selected = select.operators(socket, io)?;
    let mut outcome = Outcome::default();
    match kind {
        Kind::Join => socket.join(rooms),
        Kind::Leave => socket.leave(rooms),
        Kind::OwnRooms => outcome.rooms = names(socket.rooms()),
        Kind::Emit => selected.emit(&event, &arguments).await.map_err(text)?,
        Kind::EmitWithAck => {
            let answers = selected.emit_with_ack(&event, &arguments).await.map_err(text)?;
            collect(answers, &mut outcome).await;
        }
        Kind::FetchSockets => {
            outcome.sockets = selected.fetch_sockets().await.map_err(text)?.iter().map(found).collect()
        }
        Kind::SocketsJoin => selected.join(rooms).await.map_err(text)?,
        Kind::SocketsLeave => selected.leave(rooms).await.map_err(text)?,
        Kind::DisconnectSockets => selected.disconnect().await.map_err(text)?,
        Kind::Rooms => outcome.rooms = names(selected.rooms().await.map_err(text)?),
        Kind::ServerSideEmit => {
            let handle = cluster.of(socket.ns()).map_err(text)?;
            handle.server_side_emit(&event, &arguments).await.map_err(text)?;
        }
        Kind::ServerSideEmitWithAck => {
            let handle = cluster.of(socket.ns()).map_err(text)?;
            ask_servers(&handle, &event, &arguments, timeout, &mut outcome).await?;
        }
        Kind::Peers => {
            let handle = cluster.of(socket.ns()).map_err(text)?;
            outcome.nodes = handle.peers().iter().map(ToString::to_string).collect();
        }
        remote => {
            let sockets = selected.fetch_sockets().await.map_err(text)?;
            let target = sockets.into_iter().find(|socket| socket.data().id.as_str() == id);
            let target = target.ok_or_else(|| format!("there is no socket {id}"))?;
            perform_on(target, remote, &event, &arguments, rooms, &mut outcome).await?;
        }
    }
    Ok(outcome)
}

async fn perform_on(
    target: RemoteSocket<Adapter>,
    kind: Kind,
    event: &str,
    arguments: &Arguments,
    rooms: Vec<String>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    match kind {
        Kind::RemoteEmit => target.emit(event, arguments).await.map_err(text),
        Kind::RemoteEmitWithAck => {
            let answers = target.emit_with_ack(event, arguments).await.map_err(text)?;
            collect(answers, outcome).await;
            Ok(())
        }
        Kind::RemoteJoin => target.join(rooms).await.map_err(text),
        Kind::RemoteLeave => target.leave(rooms).await.map_err(text),
        Kind::RemoteDisconnect => target.disconnect().await.map_err(text),
        Kind::RemoteRooms => {
            outcome.rooms = names(target.rooms().await.map_err(text)?);
            Ok(())
        }
        other => Err(format!("{other:?} does not act on one socket")),
    }
}

/// A timeout is no failure here: the outcome holds what arrived, and who is missing.
async fn ask_servers(
    handle: &Handle,
    event: &str,
    arguments: &Arguments,
    timeout: Option<Duration>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    match handle.server_side_emit_with_ack::<_, Value>(event, arguments, timeout).await {
        Ok(answers) => outcome.servers = answers.into_iter().map(|answer| answer.unwrap_or(Value::Nil)).collect(),
        Err(error) => {
            let message = error.to_string();
            let partial = error.into_partial().ok_or(message)?;
            outcome.nodes = partial.missing.iter().map(ToString::to_string).collect();
            if let Answers::Values(answers) = partial.answers {
                outcome.servers = answers.into_iter().map(value_of).collect::<Result<_, _>>()?;
            }
        }
    }
    Ok(())
}

fn value_of(answer: Option<Payload>) -> Result<Value, String> {
    answer.map_or(Ok(Value::Nil), |payload| payload.deserialize().map_err(text))
}

async fn collect(answers: impl Stream<Item = (Sid, Result<Value, AckError>)>, outcome: &mut Outcome) {
    let mut answers = std::pin::pin!(answers);
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Ok(value) => outcome.answers.push((id, value)),
            Err(AckError::Timeout) => outcome.silent.push((id, "timeout".to_owned())),
            Err(error) => outcome.silent.push((id, error.to_string())),
        }
    }
}

fn found(socket: &RemoteSocket<Adapter>) -> Found {
    let data = socket.data();
    Found { id: data.id, server: data.server_id.to_string(), namespace: data.ns.to_string() }
}

fn names(rooms: Vec<impl Into<String>>) -> Vec<String> {
    let mut rooms: Vec<String> = rooms.into_iter().map(Into::into).collect();
    rooms.sort();
    rooms
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
