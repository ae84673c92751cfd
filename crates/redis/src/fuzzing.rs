//! What is fuzzed (`fuzz/`): replies of the server, classic messages, entries of a stream.

use bytes::Bytes;

use crate::{
    classic::decode,
    connect::{Frames, Reader},
    streams::fuzzing as streams,
};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("redis_frames", frames),
    ("redis_classic_broadcast", classic_broadcast),
    ("redis_classic_request", classic_request),
    ("redis_entry", streams::entry),
    ("redis_session", streams::session),
];

/// Replies are the same however the bytes are cut, and every element can be read.
fn frames(bytes: &[u8]) {
    let replies = |pieces: &[&[u8]]| {
        let mut frames = Frames::default();
        let mut replies = Vec::new();
        for piece in pieces {
            frames.append(piece);
            while let Ok(Some(reply)) = frames.next() {
                replies.push(reply);
            }
        }
        replies
    };
    let whole = replies(&[bytes]);
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    if frames_are_valid(bytes) {
        assert_eq!(replies(&[head, tail]), whole);
    }
    for reply in whole {
        streams::entries(&reply);
        let mut reader = Reader::new(reply);
        while reader.next().is_some() {}
    }
}

/// Whether no error ends the connection.
fn frames_are_valid(bytes: &[u8]) -> bool {
    let mut frames = Frames::default();
    frames.append(bytes);
    loop {
        match frames.next() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// What is read of a broadcast without looking at the rest agrees with the rest.
fn classic_broadcast(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let sender = decode::sender(&bytes);
    let _ = decode::seq_no(&bytes);
    if let Ok(broadcast) = decode::broadcast(&bytes) {
        assert_eq!(sender, broadcast.from);
    }
}

fn classic_request(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = decode::request(&bytes);
    let _ = decode::response(&bytes, |_| true);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
