//! Payloads and answers as text, for comparisons that a reader understands.

use trunkline_core::{Payload, Room, SocketInfo};

use super::{marker::Marker, socket::TestSocket};

/// A payload as text: JSON, binary as Node.js prints it.
#[must_use]
pub fn text(payload: &Payload) -> String {
    payload.to_json_plain().to_string()
}

/// Answers as texts, sorted; `undefined` where there was none.
#[must_use]
pub fn texts(answers: &[Option<Payload>]) -> Vec<String> {
    sorted(answers.iter().map(|answer| answer.as_ref().map_or_else(|| "undefined".to_owned(), text)))
}

/// What these clients answer by default, as [`texts`].
#[must_use]
pub fn ids_as_answers<'a>(sockets: impl IntoIterator<Item = &'a TestSocket>) -> Vec<String> {
    sorted(sockets.into_iter().map(|socket| format!("{:?}", socket.id().as_str())))
}

/// The ids of sockets, sorted.
#[must_use]
pub fn ids<'a>(sockets: impl IntoIterator<Item = &'a TestSocket>) -> Vec<String> {
    sorted(sockets.into_iter().map(|socket| socket.id().to_string()))
}

/// The ids of fetched sockets, sorted.
#[must_use]
pub fn fetched_ids(sockets: &[SocketInfo]) -> Vec<String> {
    sorted(sockets.iter().map(|socket| socket.id.to_string()))
}

/// Rooms, sorted.
#[must_use]
pub fn rooms(rooms: impl IntoIterator<Item = impl Into<Room>>) -> Vec<Room> {
    let mut rooms: Vec<_> = rooms.into_iter().map(Into::into).collect();
    rooms.sort_unstable();
    rooms
}

/// The names of events, without [`Marker`]s.
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
