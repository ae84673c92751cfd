//! `server-emit`: events to the servers themselves.

use serde_json::{Value, json};
use trunkline::Emitter;

use crate::{
    arguments, broker,
    emit::json_value,
    observer::{Missing, Observer},
    options::EventOptions,
    output::{Failure, Output, Status, counted},
};

pub(crate) async fn server_emit(options: EventOptions, output: &Output) -> Result<Status, Failure> {
    let payload = arguments::event(&options.event, &options.arguments)?;
    if !options.ack {
        let backend = broker::connect(&options.broker.broker).await?;
        let emitter = Emitter::new(&backend).of(&options.broker.namespace);
        emitter.server_side_emit(payload).await?;
        broker::confirm(&backend, emitter, options.timeout).await?;
        output.result("emitted to the servers", &json!({ "status": "ok", "event": options.event }));
        return Ok(Status::Ok);
    }
    let observer = Observer::join(&options.broker.broker, &options.broker.namespace, options.timeout).await?;
    observer.listen(&options.listen).await;
    let answers = observer.node.server_side_emit_with_ack(payload, Some(options.timeout)).await;
    let (values, missing) = Missing::split(answers)?;
    observer.leave().await;
    let values: Vec<_> = values.iter().map(|value| json_value(value.as_ref())).collect();
    let mut lines: Vec<_> = values.iter().map(Value::to_string).collect();
    lines.push(format!("{} answered{}", counted(values.len(), "server"), missing.text()));
    let status = missing.status();
    output.result(lines.join("\n"), &json!({ "status": status.word(), "answers": values, "missing": missing.json() }));
    Ok(status)
}
