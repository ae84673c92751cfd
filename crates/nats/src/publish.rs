//! From a typed message to the queue: encoded in the caller's task, numbered when it gets its place.

use std::sync::{Arc, atomic::Ordering};

use async_nats::Subject;
use trunkline_backend::batch;
use trunkline_core::{
    Error, ErrorKind, Heartbeat, Message, NodeId, NodeKey, Response, Result, codec, model::SeqChannel,
    transport::Sequencer,
};

use crate::{
    place::{Hall, Place},
    shared::Shared,
    writer::{Item, Post},
};

/// Queues a message of a node, or of an emitter.
pub(crate) async fn publish(shared: &Shared, from: &NodeKey, message: Message) -> Result<()> {
    let hall = shared.hall_of(from)?;
    if let Message::Heartbeat(heartbeat) = &message
        && shared.streams.is_some()
        && let Some(place) = shared.place(from)
    {
        return kept_heartbeat(shared, &place, heartbeat).await;
    }
    let encoded = batch::encode(&from.id, &from.namespace, &message)?;
    let weight = check_size(shared, &encoded)?;
    let (subject, channel) = route(shared, &hall, &message);
    let is_numbered = message.is_numbered() && !from.id.is_emitter();
    let make = |sequencer: &mut Sequencer| {
        let message = match is_numbered {
            true => encoded.finish(Some(sequencer.next(&from.id, channel)), &[]),
            false => encoded.finish(None, sequencer.high_water_marks(&from.id)),
        };
        let post = Post { subject, message, weight };
        if shared.streams.is_some() { Item::Kept(post) } else { Item::Now(post) }
    };
    shared.outbox.push(weight, make).await
}

/// Queues an answer.
pub(crate) async fn send(shared: &Shared, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
    let hall = shared.hall_of(from)?;
    let encoded = batch::encode(&from.id, &from.namespace, &response)?;
    let weight = check_size(shared, &encoded)?;
    let subject = hall.subjects.node(to);
    let make = |_: &mut Sequencer| Item::Now(Post { subject, message: encoded.finish(None, &[]), weight });
    shared.outbox.push(weight, make).await
}

/// With a history, what a heartbeat counts may still be on its way through the stream: the counters go the same way, once they have changed
/// or somebody new is there. The sign of life does not wait for that.
async fn kept_heartbeat(shared: &Shared, place: &Arc<Place>, heartbeat: &Heartbeat) -> Result<()> {
    let NodeKey { id, namespace } = &place.node;
    let encode = |heartbeat: Heartbeat| batch::encode(id, namespace, &Message::Heartbeat(heartbeat));
    let now = encode(heartbeat.clone())?;
    let kept = encode(Heartbeat { initial: false, ..heartbeat.clone() })?;
    let weight = now.len() + kept.len();
    let make = |sequencer: &mut Sequencer| {
        let metrics = sequencer.high_water_marks(id);
        let last = metrics.first().map_or(0, |seq_no| seq_no.number);
        let is_news = place.told.swap(last, Ordering::Relaxed) != last;
        let subjects = &place.hall.subjects;
        let half = now.len();
        let now = |weight| Post { subject: subjects.all.clone(), message: now.finish(None, &[]), weight };
        if is_news {
            let kept =
                Post { subject: subjects.log.clone(), message: kept.finish(None, metrics), weight: weight - half };
            Item::Both { now: now(half), kept }
        } else {
            Item::Now(now(weight))
        }
    };
    shared.outbox.push(weight, make).await
}

/// Where a message goes.
fn route(shared: &Shared, hall: &Hall, message: &Message) -> (Subject, SeqChannel) {
    if shared.streams.is_some() {
        return (hall.subjects.log.clone(), SeqChannel::ALL);
    }
    match hall.router.bucket_for(message) {
        Some(bucket) => (hall.subjects.room(bucket), bucket.channel()),
        None => (hall.subjects.all.clone(), SeqChannel::ALL),
    }
}

/// Returns the size of a message that the server takes.
fn check_size(shared: &Shared, message: &codec::EncodedMessage) -> Result<usize> {
    let (bytes, most) = (message.len(), shared.max_message_bytes());
    if bytes <= most {
        return Ok(bytes);
    }
    let context = format!("{bytes} bytes, the server's max_payload and history_bytes leave {most} for a message");
    Err(Error::new(ErrorKind::TooLarge, context))
}
