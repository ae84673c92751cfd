//! What the application told about its sockets, for the answers to other nodes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use socketioxide_core::Sid;
use trunkline_core::Payload;

/// What other nodes see of a socket beside its id and rooms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Details {
    /// The client's handshake, an object as in Socket.IO.
    pub(crate) handshake: Option<Payload>,
    /// What the application attached to the socket (`socket.data` on Node.js servers).
    pub(crate) data: Option<Payload>,
}

/// The details of the sockets of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    details: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sockets: HashMap<Sid, Details>,
    /// From this many on, those of closed sockets are looked for.
    sweep_at: usize,
}

impl Attached {
    /// Changes the details of a socket. `is_open` is asked about the others now and then: nobody tells when a socket closes.
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
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Few enough to be kept although their sockets may be gone.
const SWEEP_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_of_closed_sockets_do_not_accumulate() {
        let attached = Attached::default();
        let open: Vec<_> = (0..100).map(|_| Sid::new()).collect();
        for socket in &open {
            attached.change(*socket, |_| true, |details| details.data = Payload::value(&1).ok());
        }
        for _ in 0..10_000 {
            attached.change(Sid::new(), |other| open.contains(&other), |_| {});
        }
        assert!(attached.lock().sockets.len() <= 200);
        assert!(open.iter().all(|socket| attached.of(*socket).data.is_some()));
    }
}
