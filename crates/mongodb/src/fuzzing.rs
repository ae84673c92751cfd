//! What is fuzzed (`fuzz/`): events of a change stream and documents, read as BSON.

use bytes::Bytes;
use trunkline_core::{Message, codec::Body};

use crate::wire::{ChangeEvent, ReceivedDocument};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("mongodb_event", event), ("mongodb_document", document)];

fn event(bytes: &[u8]) {
    if let Ok(ChangeEvent::Insert(inserted)) = ChangeEvent::read(&Bytes::copy_from_slice(bytes)) {
        document(&inserted);
    }
}

/// What is read of a message without its payload agrees with the whole message.
fn document(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(document) = ReceivedDocument::read(&bytes) else { return };
    let _ = (document.age(), document.offset(), document.session());
    let header = document.header();
    let Ok((decoded, _)) = document.decode() else { return };
    let Some(header) = header else { panic!("a message without header") };
    assert_eq!((header.from, header.namespace), (decoded.from, decoded.namespace));
    if let Some(room) = header.room {
        let Body::Message(Message::Broadcast { request: None, target, .. }) = decoded.body else {
            panic!("a room of {:?}", decoded.body);
        };
        assert_eq!(target.single_room(), Some(&room));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
