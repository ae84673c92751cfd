//! Number rooms, as Node.js servers may have: socketioxide's rooms are text, so an application addresses them by the
//! node.

use trunkline::{Payload, Room};
use trunkline_socketioxide::NamespaceHandle;

use crate::{
    between::{found, optional},
    operation::{Kind, Operation, Outcome, text},
    values::Arguments,
};

/// Performs the operation if it is about number rooms; returns whether it is.
pub(crate) async fn perform(
    handle: &NamespaceHandle,
    operation: &Operation,
    outcome: &mut Outcome,
) -> Result<bool, String> {
    let Operation { kind, select, event, args, rooms, .. } = operation;
    let target = select.target();
    if !target.rooms.iter().chain(&target.except).chain(rooms).any(|room| matches!(room, Room::Number(_))) {
        return Ok(false);
    }
    let node = handle.cluster_node();
    let event = || Payload::event(event, &Arguments(args.clone())).map_err(text);
    match kind {
        Kind::Emit => node.broadcast(target, event()?).await.map_err(text)?,
        Kind::EmitWithAck => {
            let answers = node.broadcast_with_ack(target, event()?).await.map_err(text)?;
            for answer in answers.collect().await.map_err(text)? {
                outcome.answered(String::new(), optional(answer.value)?);
            }
        }
        Kind::FetchSockets => {
            let sockets = node.fetch_sockets(target).await.map_err(text)?;
            outcome.sockets = sockets.iter().map(|socket| found(handle, socket)).collect();
        }
        Kind::SocketsJoin => node.sockets_join(target, rooms.clone()).await.map_err(text)?,
        Kind::SocketsLeave => node.sockets_leave(target, rooms.clone()).await.map_err(text)?,
        Kind::DisconnectSockets => node.disconnect_sockets(target, false).await.map_err(text)?,
        _ => return Ok(false),
    }
    Ok(true)
}
