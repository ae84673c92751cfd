//! The mutations: broken transports by promise, each with the cases that must fail.

pub(crate) mod answers;
mod changed_answers;
pub(crate) mod isolation;
pub(crate) mod lifecycle;
pub(crate) mod limit;
pub(crate) mod membership;
pub(crate) mod names;
pub(crate) mod namespaces;
pub(crate) mod operations;
pub(crate) mod order;
pub(crate) mod payloads;
pub(crate) mod quantity;
pub(crate) mod recovery;
pub(crate) mod replay;
pub(crate) mod servers;
pub(crate) mod targets;

use trunkline_conformance::kit::Marker;
use trunkline_core::{
    Message, Payload, Target,
    payload::{Attachments, ByteString},
};

use crate::{Mutation, broken::Defect, sound};

/// The memory transport with a defect.
fn mutation(name: &'static str, defect: Defect, fails: &[&'static str]) -> Mutation {
    Mutation { name, setup: sound().map(move |backend| defect.clone().into(backend)), fails: fails.to_vec() }
}

/// Target and payload of a broadcast, unless it is a marker of `settle`.
fn broadcast(message: &mut Message) -> Option<(&mut Target, &mut Payload)> {
    match message {
        Message::Broadcast { target, payload, .. } if Marker::of(payload).is_none() => Some((target, payload)),
        _ => None,
    }
}

/// The payload of a message, unless it is a marker of `settle`.
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

/// Whether a message is a broadcast, and no marker of `settle`.
fn is_broadcast(message: &Message) -> bool {
    matches!(message, Message::Broadcast { payload, .. } if Marker::of(payload).is_none())
}
