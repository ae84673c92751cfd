//! Traces: spans by OpenTelemetry's conventions for messaging, and a hook that carries trace contexts beside broadcasts.
//!
//! Nodes make `tracing` spans of level `DEBUG` with the target `trunkline::messages`: `publish` around each broadcast of
//! this node, `receive` around what arrives, and within it `process` around the delivery to own sockets. A subscriber
//! that does not want them costs a message nothing but looking at a flag.
//!
//! With a [`TraceContext`] set, the context of the `publish` span travels with the broadcast, as `traceparent` beside
//! `stamp`: one more key, which official peers ignore. The spans of the receivers are *linked* to it: one broadcast has
//! many deliveries, each of which may belong to several traces. Off by default, and then nothing is added. Classic Redis
//! has no place for it.

use std::sync::{Arc, OnceLock};

use tracing::{Span, debug_span};

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Message, NodeKey},
};

/// Hook for trace contexts, between `tracing` and the library that exports traces.
pub trait TraceContext: Send + Sync + 'static {
    /// Context of a span as text, at most 256 bytes, such as the `traceparent` of W3C; `None` if it is not sampled.
    fn context_of(&self, span: &Span) -> Option<String>;

    /// Links a span to the context with which a message came. The text may be anything.
    fn link(&self, span: &Span, context: &str);
}

static HOOK: OnceLock<Box<dyn TraceContext>> = OnceLock::new();

/// Turns trace contexts on, for all nodes of this process from now on.
///
/// # Errors
/// `Config` if they are on already.
pub fn set_trace_context(hook: impl TraceContext) -> Result<()> {
    let is_set = HOOK.set(Box::new(hook));
    is_set.map_err(|_| Error::new(ErrorKind::Config, "a hook for trace contexts is set already"))
}

/// Span of an operation of this name and type on a node's messages, with the attributes that all have.
macro_rules! message_span {
    ($name:literal, $type:literal, $kind:literal, $backend:expr, $node:expr $(, $($more:tt)+)?) => {{
        let span = debug_span!(
            target: "trunkline::messages",
            $name,
            otel.name = tracing::field::Empty,
            otel.kind = $kind,
            messaging.system = $backend,
            messaging.operation.name = $name,
            messaging.operation.type = $type,
            messaging.destination.name = $node.namespace.as_str(),
            messaging.client.id = $node.id.as_str(),
            $($($more)+)?
        );
        if !span.is_disabled() {
            // Operation and destination, as OpenTelemetry wants it.
            span.record("otel.name", format!("{} {}", $name, $node.namespace));
        }
        span
    }};
}

/// Span of a broadcast that is published, from which the message gets its context.
pub(crate) fn publish(backend: &'static str, node: &NodeKey, message: &mut Message) -> Span {
    if !matches!(message, Message::Broadcast { .. }) {
        return Span::none();
    }
    let span = message_span!(
        "publish",
        "send",
        "producer",
        backend,
        node,
        messaging.message.body.size = message.payload_bytes()
    );
    if let Some(hook) = HOOK.get() {
        message.set_trace(hook.context_of(&span).map(Arc::from));
    }
    span
}

/// Span of something that has arrived.
pub(crate) fn receive(backend: &'static str, node: &NodeKey) -> Span {
    message_span!("receive", "receive", "consumer", backend, node)
}

/// Span of the delivery of a broadcast to own sockets, linked to that of its publication, as is the span around it.
pub(crate) fn process(backend: &'static str, node: &NodeKey, context: Option<&Arc<str>>) -> Span {
    let span = message_span!("process", "process", "consumer", backend, node);
    if let (Some(hook), Some(context)) = (HOOK.get(), context) {
        hook.link(&span, context);
        hook.link(&Span::current(), context);
    }
    span
}
