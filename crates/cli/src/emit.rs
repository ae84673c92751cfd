//! `emit`, `join`, `leave`, `disconnect`: operations on sockets, from outside of the cluster.

use serde_json::{Value, json};
use trunkline::{Emitter, Payload, Target, core::model::Room};

use crate::{
    arguments, broker,
    observer::Observer,
    options::{DisconnectOptions, EmitOptions, EventOptions, MoveOptions, SelectionOptions},
    output::{Failure, Output, Status, counted},
};

pub(crate) async fn emit(options: EmitOptions, output: &Output) -> Result<Status, Failure> {
    let EmitOptions { event: options, selection, volatile } = options;
    let payload = arguments::event(&options.event, &options.arguments)?;
    let mut target = selection.target();
    if volatile {
        target = target.volatile();
    }
    if options.ack {
        return emit_with_ack(&options, target, payload, output).await;
    }
    let backend = broker::connect(&options.broker.broker).await?;
    let emitter = Emitter::new(&backend).of(&options.broker.namespace);
    emitter.emit(target, payload).await?;
    broker::confirm(&backend, emitter, options.timeout).await?;
    output.result("emitted", &json!({ "status": "ok", "event": options.event }));
    Ok(Status::Ok)
}

async fn emit_with_ack(
    options: &EventOptions,
    target: Target,
    payload: Payload,
    output: &Output,
) -> Result<Status, Failure> {
    let observer = Observer::join(&options.broker.broker, &options.broker.namespace, options.timeout).await?;
    observer.listen(&options.listen).await;
    let mut acks = observer.node.broadcast_with_ack(target.timeout(options.timeout), payload).await?;
    let (mut values, mut missing) = (Vec::new(), None);
    while let Some(ack) = acks.next().await {
        match ack {
            Ok(ack) => values.push(json_value(ack.value.as_ref())),
            Err(error) if error.incomplete().is_some() => missing = Some(error.to_string()),
            Err(error) => return Err(error.as_error().clone().into()),
        }
    }
    observer.leave().await;
    let status = if missing.is_some() { Status::Warning } else { Status::Ok };
    let mut lines: Vec<_> = values.iter().map(Value::to_string).collect();
    lines.push(match &missing {
        None => format!("{} acknowledged", counted(values.len(), "client")),
        Some(missing) => format!("{} acknowledged, not all: {missing}", counted(values.len(), "client")),
    });
    let json = json!({ "status": status.word(), "acknowledgements": values, "incomplete": missing });
    output.result(lines.join("\n"), &json);
    Ok(status)
}

/// A value as JSON; binary as Node.js writes buffers in JSON.
pub(crate) fn json_value(payload: Option<&Payload>) -> Value {
    let text = payload.map(Payload::to_json_plain);
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub(crate) async fn join(options: MoveOptions, output: &Output) -> Result<Status, Failure> {
    let target = selected(&options.whom.selection, options.whom.all)?;
    let (rooms, names) = rooms(&options);
    let backend = broker::connect(&options.whom.broker.broker).await?;
    let emitter = Emitter::new(&backend).of(&options.whom.broker.namespace);
    emitter.sockets_join(target, rooms).await?;
    broker::confirm(&backend, emitter, options.whom.timeout).await?;
    output.result("asked to join", &json!({ "status": "ok", "rooms": names }));
    Ok(Status::Ok)
}

pub(crate) async fn leave(options: MoveOptions, output: &Output) -> Result<Status, Failure> {
    let target = selected(&options.whom.selection, options.whom.all)?;
    let (rooms, names) = rooms(&options);
    let backend = broker::connect(&options.whom.broker.broker).await?;
    let emitter = Emitter::new(&backend).of(&options.whom.broker.namespace);
    emitter.sockets_leave(target, rooms).await?;
    broker::confirm(&backend, emitter, options.whom.timeout).await?;
    output.result("asked to leave", &json!({ "status": "ok", "rooms": names }));
    Ok(Status::Ok)
}

pub(crate) async fn disconnect(options: DisconnectOptions, output: &Output) -> Result<Status, Failure> {
    let target = selected(&options.whom.selection, options.whom.all)?;
    let backend = broker::connect(&options.whom.broker.broker).await?;
    let emitter = Emitter::new(&backend).of(&options.whom.broker.namespace);
    emitter.disconnect_sockets(target, options.close).await?;
    broker::confirm(&backend, emitter, options.whom.timeout).await?;
    output.result("asked to disconnect", &json!({ "status": "ok" }));
    Ok(Status::Ok)
}

fn rooms(options: &MoveOptions) -> (Vec<Room>, &[String]) {
    (options.rooms.iter().map(|room| Room::new(room.as_str())).collect(), &options.rooms)
}

/// Everyone only if that was said: a forgotten option must not move or disconnect all clients.
fn selected(selection: &SelectionOptions, all: bool) -> Result<Target, Failure> {
    if selection.is_everyone() && !all {
        return Err(Failure::usage("which sockets? --room ROOM, --socket ID, or --all"));
    }
    Ok(selection.target())
}
