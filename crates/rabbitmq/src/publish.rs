//! From a typed message to the queue: encoded in the caller's task, numbered when it gets its place.

use lapin::types::ShortString;
use trunkline_core::{
    Error, ErrorKind, Message, Node, NodeId, Response, Result, codec, frame,
    message::{Channel, Stamp},
    outbox::Numbering,
};

use crate::{
    place::Hall,
    shared::Shared,
    writer::{Content, Post},
};

/// What looking for a node counts in the queue.
const LOOK: usize = 64;

/// Queues a message of a node, or of an emitter.
pub(crate) async fn publish(shared: &Shared, from: &Node, message: Message) -> Result<()> {
    let hall = shared.hall_of(from)?;
    let encoded = frame::encode(&from.id, &from.namespace, &message)?;
    let weight = check_size(shared, &encoded)?;
    let (key, channel) = route(&hall, &message);
    let is_numbered = message.is_numbered() && !from.id.is_emitter();
    let make = |numbering: &mut Numbering| {
        let message = match is_numbered {
            true => encoded.finish(Some(numbering.next(&from.id, channel)), &[]),
            false => encoded.finish(None, counters(numbering, &from.id)),
        };
        Post { key, content: Content::Message(message), weight }
    };
    shared.outbox.push(weight, make).await?;
    if message.request().is_some() {
        look_for_peers(shared, from, &hall).await;
    }
    Ok(())
}

/// Sends an empty frame to every node that is expected to answer. It comes back from where nobody is any more, so that nobody waits for an answer from there.
async fn look_for_peers(shared: &Shared, from: &Node, hall: &Hall) {
    let Some(place) = shared.place(from) else { return };
    for peer in place.peers_to_look_for() {
        let key = hall.keys.node(&peer);
        // With the queue full this is the least that can be left out: silence tells the same, later.
        let queued = shared.outbox.push(LOOK, |_| Post { key, content: Content::Look, weight: LOOK }).await;
        if queued.is_err() {
            return;
        }
    }
}

/// Queues an answer.
pub(crate) async fn send(shared: &Shared, from: &Node, to: &NodeId, response: Response) -> Result<()> {
    let hall = shared.hall_of(from)?;
    let encoded = frame::encode(&from.id, &from.namespace, &response)?;
    let weight = check_size(shared, &encoded)?;
    let key = hall.keys.node(to);
    let make = |_: &mut Numbering| Post { key, content: Content::Message(encoded.finish(None, &[])), weight };
    shared.outbox.push(weight, make).await
}

/// Where a message goes. A plain broadcast to one room concerns only who has that room; what is answered, or changes rooms, concerns everybody.
fn route(hall: &Hall, message: &Message) -> (ShortString, Channel) {
    let bucket = match message {
        Message::Broadcast { request: None, target, .. } => target.single_room().and_then(|room| hall.route(room)),
        Message::Join { rooms, .. } => {
            hall.note_join(rooms);
            None
        }
        _ => None,
    };
    match bucket {
        Some(bucket) => (hall.keys.room(bucket), bucket.channel()),
        None => (hall.keys.all.clone(), Channel::ALL),
    }
}

/// What a heartbeat says of its sender's numbers; also that there are none yet.
fn counters<'a>(numbering: &'a Numbering, node: &NodeId) -> &'a [Stamp] {
    const NONE_YET: &[Stamp] = &[Stamp { channel: Channel::ALL, number: 0 }];
    match numbering.counters(node) {
        [] => NONE_YET,
        counters => counters,
    }
}

/// Returns the size of a message that may be published.
fn check_size(shared: &Shared, message: &codec::Frame) -> Result<usize> {
    let (bytes, most) = (message.len(), shared.max_message_bytes());
    if bytes <= most {
        return Ok(bytes);
    }
    let context = format!("{bytes} bytes, max_message_bytes leaves {most} for a message");
    Err(Error::new(ErrorKind::TooLarge, context))
}
