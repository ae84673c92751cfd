//! Handshakes and data of sockets, as other nodes see them in fetched sockets.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use socketioxide::{TransportType, adapter::Adapter, socket::Socket};
use socketioxide_core::Sid;
use trunkline_core::{Payload, payload::Json};

/// What other nodes see of a socket besides its id and rooms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    /// The client's handshake, an object as in Socket.IO: what the application has set, or that of the request once it was
    /// needed.
    pub(crate) handshake: Option<Payload>,
    /// The application's data (`socket.data` on Node.js servers).
    pub(crate) data: Option<Payload>,
}

/// Data with `_admin` as the official admin UI adds it; `None` if the data is no object.
pub(crate) fn with_connection<A: Adapter>(data: &Payload, socket: &Socket<A>) -> Option<Payload> {
    let transport = match socket.transport_type() {
        TransportType::Polling => "polling",
        TransportType::Websocket => "websocket",
    };
    // What a Node.js server calls the client is, here, the socket's id in every namespace.
    let client = socket.id.as_str().get(..CLIENT_ID)?;
    spliced(data, &format!(r#"{{"clientId":"{client}","transport":"{transport}"}}"#))
}

fn spliced(data: &Payload, admin: &str) -> Option<Payload> {
    let Json { text, attachments } = data.to_json();
    let fields = text.trim_end().strip_suffix('}').filter(|_| text.trim_start().starts_with('{'))?;
    let comma = if fields.trim_end().ends_with('{') { "" } else { "," };
    Some(Payload::from_trusted_json(format!("{fields}{comma}\"_admin\":{admin}}}"), attachments))
}

/// How much of a client's id the page shows.
const CLIENT_ID: usize = 12;

/// The details of the sockets of one namespace, where there are any.
#[derive(Debug, Default)]
pub(crate) struct SocketDetails(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sockets: HashMap<Sid, Details>,
    /// The number of entries from which on those of closed sockets are removed.
    sweep_at: usize,
}

impl SocketDetails {
    /// Changes the details of a socket. `is_open` is asked about the others now and then: socketioxide does not tell
    /// when a socket closes.
    pub(crate) fn change(&self, socket: Sid, is_open: impl Fn(Sid) -> bool, change: impl FnOnce(&mut Details)) {
        let mut state = self.lock();
        change(state.sockets.entry(socket).or_default());
        if state.sockets.len() >= state.sweep_at {
            state.sockets.retain(|other, _| *other == socket || is_open(*other));
            state.sweep_at = (state.sockets.len() * 2).max(SWEEP_MIN);
        }
    }

    /// The details of a socket.
    pub(crate) fn of(&self, socket: Sid) -> Details {
        self.lock().sockets.get(&socket).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The map is valid after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Few enough entries to be kept although their sockets may be closed.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_one_more_field_of_an_object() {
        let of = |data| spliced(&Payload::from_json(data).unwrap(), "1").map(|data| data.to_json_plain().to_string());
        assert_eq!(of("{}").unwrap(), r#"{"_admin":1}"#);
        assert_eq!(of(" { } ").unwrap().replace(' ', ""), r#"{"_admin":1}"#);
        assert_eq!(of(r#"{"a":{"b":"}"}}"#).unwrap(), r#"{"a":{"b":"}"},"_admin":1}"#);
        for data in ["[{}]", "1", r#""{}""#] {
            assert_eq!(of(data), None, "{data}");
        }
    }

    #[test]
    fn details_of_closed_sockets_do_not_accumulate() {
        let details = SocketDetails::default();
        let open: Vec<_> = (0..100).map(|_| Sid::new()).collect();
        for socket in &open {
            details.change(*socket, |_| true, |one| one.data = Payload::value(&1).ok());
        }
        for _ in 0..10_000 {
            details.change(Sid::new(), |other| open.contains(&other), |_| {});
        }
        assert!(details.lock().sockets.len() <= 200);
        assert!(open.iter().all(|socket| details.of(*socket).data.is_some()));
    }
}
