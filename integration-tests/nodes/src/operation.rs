//! The operations that a client requests with the event `op`, and their outcome, sent as acknowledgement.

use futures_util::{Stream, StreamExt};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use socketioxide::{
    AckError,
    socket::{RemoteSocket, Sid},
};

use trunkline::Room;
use trunkline_socketioxide::{AwaitedRooms, remote_id};

use crate::{
    adapter::{Adapter, Io, Operators, Socket},
    between::{self, Described, Session},
    emitting,
    node::Shared,
    selection::Selection,
    values::Arguments,
};

/// An operation, for example `{ kind: "emit", select: { to: ["room"] }, event: "hello", args: [1] }`. Unused fields are
/// left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) select: Selection,
    #[serde(default)]
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) args: Vec<Value>,
    /// Rooms to join or leave.
    #[serde(default)]
    pub(crate) rooms: Vec<Room>,
    /// Id of the socket that a remote operation acts on, among the selected ones of all nodes; or of the session to
    /// restore.
    #[serde(default)]
    pub(crate) id: String,
    /// Whether to close connections instead of only leaving the namespace.
    #[serde(default)]
    pub(crate) close: bool,
    /// Data of the own socket, as other nodes fetch it.
    #[serde(default)]
    pub(crate) data: Option<Value>,
    #[serde(default)]
    pub(crate) session: Option<Session>,
    /// Offset of the last packet before the missed ones.
    #[serde(default)]
    pub(crate) since: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// The own socket enters or leaves rooms, and lists them.
    Join,
    Leave,
    OwnRooms,
    Emit,
    /// Emits the numbers below the first argument, every third to the selected sockets and the others to all, each with
    /// a text: with as many characters as the second argument says in every fiftieth, with one in the others.
    EmitSeries,
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
    /// Over the handle of the namespace, see `between` and `server_side`.
    ServerSideEmit,
    ServerSideEmitWithAck,
    Peers,
    ServerCount,
    AllRooms,
    DescribeSockets,
    CloseConnections,
    SetData,
    PersistSession,
    RestoreSession,
    #[serde(rename = "counters")]
    Metrics,
    /// Whether the broker can be reached, and how often the connection came back.
    Health,
    /// From now on the own socket gets each event of the node as `event`, see `watching`.
    Watch,
}

/// The outcome of an operation; fields without a meaning for the operation are empty.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    error: Option<String>,
    /// Acknowledgements by socket id.
    answers: Vec<(String, Value)>,
    /// Sockets that did not acknowledge, with the reason: "timeout" or the error.
    silent: Vec<(Sid, String)>,
    pub(crate) sockets: Vec<Found>,
    pub(crate) rooms: Vec<String>,
    /// Answers of the other servers; nil for an answer without a value.
    pub(crate) servers: Vec<Value>,
    /// Ids of nodes: the known peers, or those that have not answered in time.
    pub(crate) nodes: Vec<String>,
    /// Number of nodes that have not answered in time, with those without a known id.
    pub(crate) missing: usize,
    /// Number of nodes, this one included.
    pub(crate) count: usize,
    pub(crate) described: Vec<Described>,
    pub(crate) session: Option<Session>,
    /// Packets that a restored session has missed: event, arguments, offset.
    pub(crate) missed: Vec<Value>,
    /// Metrics of the node, by the name that the test programs have for them.
    #[serde(rename = "counters")]
    pub(crate) metrics: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) connected: bool,
}

/// A socket of the cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) server: String,
    pub(crate) namespace: String,
}

impl Outcome {
    pub(crate) fn failed(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    pub(crate) fn answered(&mut self, id: String, answer: Option<Value>) {
        self.answers.push((id, answer.unwrap_or(Value::Nil)));
    }
}

pub(crate) async fn perform(
    socket: &Socket,
    io: &Io,
    shared: &Shared,
    operation: Operation,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    if let Some(emitter) = &shared.emitter
        && emitting::perform(&emitter.of(socket.ns()), &operation).await?
    {
        return Ok(outcome);
    }
    if between::perform(socket, &shared.cluster, &operation, &mut outcome).await? {
        return Ok(outcome);
    }
    let Operation { kind, select, event, args, rooms, id, .. } = operation;
    let arguments = Arguments(args);
    // Its rooms are text.
    let rooms: Vec<String> = rooms.iter().map(|room| room.to_text().to_string()).collect();
    let selected = select.operators(socket, io)?;
    match kind {
        // Awaited: what any node sends to the rooms afterwards arrives.
        Kind::Join => socket.join_awaited(rooms).await.map_err(text)?,
        Kind::Leave => socket.leave_awaited(rooms).await.map_err(text)?,
        Kind::OwnRooms => outcome.rooms = names(socket.rooms()),
        Kind::Emit => selected.emit(&event, &arguments).await.map_err(text)?,
        Kind::EmitSeries => emit_series(socket, io, &selected, &event, &arguments).await?,
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
        remote => {
            let sockets = selected.fetch_sockets().await.map_err(text)?;
            let target = sockets.into_iter().find(|socket| remote_id(socket.data()) == id);
            let target = target.ok_or_else(|| format!("there is no socket {id}"))?;
            perform_on(target, remote, &event, &arguments, rooms, &mut outcome).await?;
        }
    }
    Ok(outcome)
}

async fn emit_series(
    socket: &Socket,
    io: &Io,
    selected: &Operators,
    event: &str,
    Arguments(arguments): &Arguments,
) -> Result<(), String> {
    let [count, largest] = [0, 1].map(|index| arguments.get(index).and_then(Value::as_u64).unwrap_or_default());
    let all = Selection::default().operators(socket, io)?;
    for number in 0..count {
        let operators = if number % 3 == 0 { selected.clone() } else { all.clone() };
        let filler = "x".repeat(if number % 50 == 0 { largest as usize } else { 1 });
        operators.emit(event, &(number, filler)).await.map_err(text)?;
    }
    Ok(())
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

/// Collects acknowledgements. Only the first value of each counts: the others do not cross the cluster.
async fn collect(answers: impl Stream<Item = (Sid, Result<Arguments, AckError>)>, outcome: &mut Outcome) {
    let mut answers = std::pin::pin!(answers);
    while let Some((id, answer)) = answers.next().await {
        match answer {
            Ok(Arguments(values)) => outcome.answered(id.to_string(), values.into_iter().next()),
            Err(AckError::Timeout) => outcome.silent.push((id, "timeout".to_owned())),
            Err(error) => outcome.silent.push((id, error.to_string())),
        }
    }
}

fn found(socket: &RemoteSocket<Adapter>) -> Found {
    let data = socket.data();
    Found { id: remote_id(data), server: data.server_id.to_string(), namespace: data.ns.to_string() }
}

pub(crate) fn names(rooms: Vec<impl Into<String>>) -> Vec<String> {
    let mut rooms: Vec<String> = rooms.into_iter().map(Into::into).collect();
    rooms.sort();
    rooms
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
