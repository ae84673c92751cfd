//! How the connections are doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Written by the tasks that hold the connections, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Status {
    writing: AtomicBool,
    /// Something is on its way, and what is queued now is written at once behind it.
    prompt: AtomicBool,
    /// The server runs on this machine.
    near: AtomicBool,
    /// Reading connections that are down although something is wanted from them.
    deaf: AtomicU64,
    reconnects: AtomicU64,
}

impl Status {
    pub(crate) fn set_writing(&self, connected: bool) {
        self.writing.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn set_prompt(&self, prompt: bool) {
        self.prompt.store(prompt, Ordering::Relaxed);
    }

    pub(crate) fn set_near(&self, near: bool) {
        self.near.store(near, Ordering::Relaxed);
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        if deaf {
            self.deaf.fetch_add(1, Ordering::Relaxed);
        } else {
            self.deaf.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn is_prompt(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }

    pub(crate) fn is_near(&self) -> bool {
        self.near.load(Ordering::Relaxed)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.writing.load(Ordering::Relaxed) && self.deaf.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }
}
