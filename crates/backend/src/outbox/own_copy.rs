//! [`own_copy`]: what is kept of a message beside its encoding.

use trunkline_core::{
    codec::BodyRef,
    model::{Message, NodeKey},
};

/// A copy of what a node publishes and its own sockets get only when it comes back from the history, to be delivered to
/// them if the broker never takes it. `None` for an emitter, and for what its sender does not apply. It takes
/// [`Message::weight`] bytes of the outbox.
#[must_use]
pub fn own_copy(from: &NodeKey, body: BodyRef<'_>) -> Option<Message> {
    let BodyRef::Message(message) = body else { return None };
    let comes_back = message.changes_sockets() || matches!(message, Message::Broadcast { .. });
    (comes_back && !from.id.is_emitter()).then(|| message.compact())
}
