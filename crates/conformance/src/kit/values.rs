//! Payloads, answers and ids as text, for comparisons with readable failures.

use trunkline_core::{Payload, Room, SocketInfo};

use super::{client::TestSocket, marker::Marker};

/// Formats a payload as JSON, binary as Node.js prints a `Buffer`.
#[must_use]
pub fn text(payload: &Payload) -> String {
    payload.to_json_plain().to_string()
}

/// Formats answers as sorted texts, `undefined` for one without a value.
#[must_use]
pub fn texts<'a>(answers: impl IntoIterator<Item = &'a Option<Payload>>) -> Vec<String> {
    sorted(answers.into_iter().map(|answer| answer.as_ref().map_or_else(|| "undefined".to_owned(), text)))
}

/// The acknowledgements that these clients send by default, formatted as by [`texts`].
#[must_use]
pub fn ids_as_answers<'a>(sockets: impl IntoIterator<Item = &'a TestSocket>) -> Vec<String> {
    sorted(sockets.into_iter().map(|socket| format!("{:?}", socket.id().as_str())))
}

/// Sorted ids of sockets.
#[must_use]
pub fn ids<'a>(sockets: impl IntoIterator<Item = &'a TestSocket>) -> Vec<String> {
    sorted(sockets.into_iter().map(|socket| socket.id().to_string()))
}

/// Sorted ids of fetched sockets.
#[must_use]
pub fn fetched_ids(sockets: &[SocketInfo]) -> Vec<String> {
    sorted(sockets.iter().map(|socket| socket.id.to_string()))
}

/// Sorted rooms.
#[must_use]
pub fn rooms(rooms: impl IntoIterator<Item = impl Into<Room>>) -> Vec<Room> {
    let mut rooms: Vec<_> = rooms.into_iter().map(Into::into).collect();
    rooms.sort_unstable();
    rooms
}

/// Names of events, without [`Marker`]s.
#[must_use]
pub fn event_names<'a>(payloads: impl IntoIterator<Item = &'a Payload>) -> Vec<String> {
    let events = payloads.into_iter().filter(|payload| Marker::of(payload).is_none());
    events.map(|payload| payload.event_name().unwrap_or_default().into_owned()).collect()
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts
}
