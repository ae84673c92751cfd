//! From a typed message to the queue: encoded in the caller's task, numbered when it gets its place.

use std::sync::{Arc, atomic::Ordering};

use lapin::types::ShortString;
use trunkline_backend::batch;
use trunkline_core::{
    Error, ErrorKind, Heartbeat, Message, NodeId, NodeKey, Response, Result, codec, model::SeqChannel,
    transport::Sequencer,
};

use crate::{
    place::{Hall, Place},
    shared::Shared,
    writer::{Content, Item, Post},
};

/// What looking for a node counts in the queue.
const LOOK: usize = 64;

/// Queues a message of a node, or of an emitter.
pub(crate) async fn publish(shared: &Shared, from: &NodeKey, message: Message) -> Result<()> {
    let hall = shared.hall_of(from)?;
    if let Message::Heartbeat(heartbeat) = &message
        && shared.has_history()
        && let Some(place) = shared.place(from)
    {
        return kept_heartbeat(shared, &place, heartbeat).await;
    }
    let encoded = batch::encode(&from.id, &from.namespace, &message)?;
    let weight = check_size(shared, &encoded)?;
    let (key, channel) = route(shared, &hall, &message);
    let is_numbered = message.is_numbered() && !from.id.is_emitter();
    let make = |sequencer: &mut Sequencer| {
        let message = match is_numbered {
            true => encoded.finish(Some(sequencer.next(&from.id, channel)), &[]),
            false => encoded.finish(None, sequencer.high_water_marks(&from.id)),
        };
        Item::One(Post { key, content: Content::Message(message), weight })
    };
    shared.outbox.push(weight, make).await?;
    if message.request().is_some() {
        look_for_peers(shared, from, &hall).await;
    }
    Ok(())
}

/// Sends an empty frame to every node that is expected to answer. It comes back from where nobody is any more, so that nobody waits for an
/// answer from there.
async fn look_for_peers(shared: &Shared, from: &NodeKey, hall: &Hall) {
    let Some(place) = shared.place(from) else { return };
    for peer in place.peers_to_look_for() {
        let key = hall.keys.node(&peer);
        // With the queue full this is the least that can be left out: silence tells the same, later.
        let queued = shared.outbox.push(LOOK, |_| Item::One(Post { key, content: Content::Look, weight: LOOK })).await;
        if queued.is_err() {
            return;
        }
    }
}

/// Queues an answer.
pub(crate) async fn send(shared: &Shared, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
    let hall = shared.hall_of(from)?;
    let encoded = batch::encode(&from.id, &from.namespace, &response)?;
    let weight = check_size(shared, &encoded)?;
    let key = hall.keys.node(to);
    let make =
        |_: &mut Sequencer| Item::One(Post { key, content: Content::Message(encoded.finish(None, &[])), weight });
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
        let keys = &place.hall.keys;
        let half = now.len();
        let now = |weight| Post { key: keys.all.clone(), content: Content::Message(now.finish(None, &[])), weight };
        if is_news {
            let content = Content::Message(kept.finish(None, metrics));
            Item::Two(now(half), Post { key: keys.log.clone(), content, weight: weight - half })
        } else {
            Item::One(now(weight))
        }
    };
    shared.outbox.push(weight, make).await
}

/// Where a message goes.
fn route(shared: &Shared, hall: &Hall, message: &Message) -> (ShortString, SeqChannel) {
    if shared.has_history() {
        return (hall.keys.log.clone(), SeqChannel::ALL);
    }
    match hall.router.bucket_for(message) {
        Some(bucket) => (hall.keys.room(bucket), bucket.channel()),
        None => (hall.keys.all.clone(), SeqChannel::ALL),
    }
}

/// Returns the size of a message that may be published.
fn check_size(shared: &Shared, message: &codec::EncodedMessage) -> Result<usize> {
    let (bytes, most) = (message.len(), shared.max_message_bytes());
    if bytes <= most {
        return Ok(bytes);
    }
    let context = format!("{bytes} bytes, max_message_bytes leaves {most} for a message");
    Err(Error::new(ErrorKind::TooLarge, context))
}
