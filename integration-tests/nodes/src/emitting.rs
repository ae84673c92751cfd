//! Operations of the emitter, a process that is no node.

use trunkline::{Emitter, Payload};

use crate::{
    operation::{Kind, Operation, text},
    values::Arguments,
};

/// Performs the operation if an emitter has it; returns whether it has.
pub(crate) async fn perform(emitter: &Emitter, operation: &Operation) -> Result<bool, String> {
    let Operation { kind, select, event, args, rooms, close, .. } = operation;
    let target = select.target();
    let rooms = rooms.clone();
    let event = || Payload::event(event, &Arguments(args.clone())).map_err(text);
    match kind {
        Kind::Emit => emitter.emit(target, event()?).await,
        Kind::SocketsJoin => emitter.sockets_join(target, rooms).await,
        Kind::SocketsLeave => emitter.sockets_leave(target, rooms).await,
        Kind::DisconnectSockets | Kind::CloseConnections => emitter.disconnect_sockets(target, *close).await,
        Kind::ServerSideEmit => emitter.server_side_emit(event()?).await,
        _ => return Ok(false),
    }
    .map_err(text)?;
    Ok(true)
}
