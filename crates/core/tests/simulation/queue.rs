//! Future events in the order of time.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::scenario::Micros;

/// Events by time; those of equal time in the order in which they were added. The heap holds small keys only.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    keys: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    added: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { keys: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), added: 0 }
    }

    pub(crate) fn push(&mut self, at: Micros, event: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.added += 1;
        self.keys.push(Reverse((at, self.added, slot)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, T)> {
        let Reverse((at, _, slot)) = self.keys.pop()?;
        self.free.push(slot);
        self.slots[slot].take().map(|event| (at, event))
    }
}
