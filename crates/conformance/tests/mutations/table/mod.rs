//! The broken transports: promise by promise, what is wrong and which cases have to fail.

pub(crate) mod answers;
pub(crate) mod audience;
pub(crate) mod lifecycle;
pub(crate) mod limit;
pub(crate) mod membership;
pub(crate) mod names;
pub(crate) mod namespaces;
pub(crate) mod neighbours;
pub(crate) mod operations;
pub(crate) mod order;
pub(crate) mod payloads;
pub(crate) mod quantity;
pub(crate) mod recovery;
pub(crate) mod returning;
pub(crate) mod servers;

use trunkline_conformance::kit::Marker;
use trunkline_core::{
    Message, Payload, Target,
    payload::{Attachments, ByteString},
};

use crate::{Mutation, broken::Defect, sound};

/// The embedded transport with a defect.
fn mutation(name: &'static str, defect: Defect, fails: &[&'static str]) -> Mutation {
    Mutation { name, setup: sound().map(move |backend| defect.clone().into(backend)), fails: fails.to_vec() }
}

/// A broadcast, unless it is one of the markers by which cases know where they are.
fn broadcast(message: &mut Message) -> Option<(&mut Target, &mut Payload)> {
    match message {
        Message::Broadcast { target, payload, .. } if Marker::of(payload).is_none() => Some((target, payload)),
        _ => None,
    }
}

/// Every payload in a message, except markers.
fn payload(message: &mut Message) -> Option<&mut Payload> {
    match message {
        Message::Broadcast { payload, .. } | Message::ServerSideEmit { payload, .. } => {
            Some(payload).filter(|payload| Marker::of(payload).is_none())
        }
        _ => None,
    }
}

/// Changes a payload's text.
fn change_text(payload: &mut Payload, change: impl FnOnce(&str) -> String) {
    let json = payload.to_json();
    *payload = Payload::from_trusted_json(ByteString::from(change(&json.text)), json.attachments);
}

/// Changes a payload's binary parts.
fn change_binary(payload: &mut Payload, change: impl Fn(&[u8]) -> Vec<u8>) {
    let json = payload.to_json();
    let attachments: Attachments = json.attachments.iter().map(|part| change(part).into()).collect();
    *payload = Payload::from_trusted_json(json.text, attachments);
}

/// Whether a message is a plain broadcast and no marker.
fn is_broadcast(message: &Message) -> bool {
    matches!(message, Message::Broadcast { payload, .. } if Marker::of(payload).is_none())
}
