//! Handshakes and data of sockets, as other nodes see them in fetched sockets.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use socketioxide_core::Sid;
use trunkline_core::Payload;

/// What other nodes see of a socket besides its id and rooms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    /// The client's handshake, an object as in Socket.IO: what the application has set, or that of the request once it was
    /// needed.
    pub(crate) handshake: Option<Payload>,
    /// The application's data (`socket.data` on Node.js servers).
    pub(crate) data: Option<Payload>,
}

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
