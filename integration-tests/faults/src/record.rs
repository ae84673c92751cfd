//! What is written down while a cell runs, by many tasks.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::Deserialize;

use crate::{
    ledger::Ledger,
    requests::{Asked, Running},
};

/// The books of a cell.
#[derive(Debug)]
pub(crate) struct Record {
    ledger: Mutex<Ledger>,
    running: Mutex<Running>,
    begun: Mutex<Vec<(usize, Instant)>>,
    asked: Mutex<Vec<Asked>>,
    events: Mutex<Vec<Noted>>,
    unhealthy: Mutex<Vec<(usize, Instant)>>,
}

/// An event of a node, as `test-node` shows it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) text: String,
    /// Of a gap: its size, if it is known.
    pub(crate) missed: Option<u64>,
}

/// An event, and where and when it happened.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) process: usize,
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

impl Record {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            ledger: Mutex::default(),
            running: Mutex::new(Running::new(nodes, Instant::now())),
            begun: Mutex::default(),
            asked: Mutex::default(),
            events: Mutex::default(),
            unhealthy: Mutex::default(),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, Running> {
        lock(&self.running)
    }

    /// Requests, by the node that asked: those without an end, too.
    pub(crate) fn begun(&self) -> MutexGuard<'_, Vec<(usize, Instant)>> {
        lock(&self.begun)
    }

    /// Requests that have ended.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        lock(&self.asked)
    }

    pub(crate) fn events(&self) -> MutexGuard<'_, Vec<Noted>> {
        lock(&self.events)
    }

    /// Nodes that said that the broker cannot be reached, and when.
    pub(crate) fn unhealthy(&self) -> MutexGuard<'_, Vec<(usize, Instant)>> {
        lock(&self.unhealthy)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
