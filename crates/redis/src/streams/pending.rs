//! Own broadcasts that have not come back from the stream yet.
//!
//! They are delivered to own clients when they come back, in their place among those of others. Until then they count
//! as queued, and when there are many of them no more are written: the stream would be trimmed before it is read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use trunkline_core::model::Message;

/// Own broadcasts of one node that are queued or in the stream, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct PendingOwn(Mutex<VecDeque<Pending>>);

#[derive(Debug)]
struct Pending {
    number: u64,
    message: Message,
    /// What it takes in the outbox.
    bytes: usize,
    /// The server has confirmed it.
    written: bool,
}

/// Own broadcasts that have come back, or never will.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// Those before it, which the stream no longer holds, with their numbers.
    pub(crate) lost: Vec<(u64, Message)>,
    /// The one with the number.
    pub(crate) found: Option<Message>,
    /// What the confirmed ones took in the outbox, which the caller has to release.
    pub(crate) bytes: usize,
    /// How many of them had been confirmed.
    pub(crate) written: usize,
}

impl PendingOwn {
    /// Notes a message that is about to be queued.
    pub(crate) fn add(&self, number: u64, message: Message, bytes: usize) {
        self.lock().push_back(Pending { number, message, bytes, written: false });
    }

    /// The server has confirmed a message. False if it has come back already.
    pub(crate) fn acknowledged(&self, number: u64) -> bool {
        let mut pending = self.lock();
        let found = pending.binary_search_by_key(&number, |pending| pending.number).ok();
        match found.and_then(|index| pending.get_mut(index)) {
            Some(pending) => {
                pending.written = true;
                true
            }
            None => false,
        }
    }

    /// A message has come back, or was refused. What was confirmed before it will not come any more.
    pub(crate) fn returned(&self, number: u64) -> Returned {
        let mut pending = self.lock();
        let mut returned = Returned::default();
        while pending.front().is_some_and(|first| first.number <= number) {
            let Some(first) = pending.pop_front() else { break };
            if first.written {
                returned.bytes += first.bytes;
                returned.written += 1;
            }
            if first.number == number {
                returned.found = Some(first.message);
            } else {
                returned.lost.push((first.number, first.message));
            }
        }
        returned
    }

    /// What was confirmed, because the stream was cut: from there it may never come back.
    pub(crate) fn take_written(&self) -> Returned {
        let last = self.lock().iter().take_while(|pending| pending.written).last().map(|pending| pending.number);
        let Some(last) = last else { return Returned::default() };
        let mut returned = self.returned(last);
        returned.lost.extend(returned.found.take().map(|message| (last, message)));
        returned
    }

    /// Everything, because the node leaves or the stream is gone.
    pub(crate) fn take_all(&self) -> Returned {
        self.returned(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending_own(numbers: &[u64]) -> PendingOwn {
        let own = PendingOwn::default();
        numbers.iter().for_each(|number| own.add(*number, Message::Leaving, 10));
        own
    }

    #[test]
    fn what_comes_back_gives_its_bytes_back_if_it_was_confirmed() {
        let own = pending_own(&[1, 3]);
        assert!(own.acknowledged(1));
        let returned = own.returned(1);
        assert_eq!((returned.found, returned.lost.len(), returned.bytes), (Some(Message::Leaving), 0, 10));
        let early = own.returned(3);
        assert_eq!((early.found, early.bytes), (Some(Message::Leaving), 0));
        assert!(!own.acknowledged(3), "it came back before its confirmation");
    }

    #[test]
    fn what_was_skipped_is_lost() {
        let own = pending_own(&[1, 2, 5]);
        own.acknowledged(1);
        let returned = own.returned(2);
        assert_eq!((returned.lost.len(), returned.found.is_some(), returned.bytes), (1, true, 10));
        let repeat = own.returned(2);
        assert_eq!((repeat.lost.len(), repeat.found), (0, None));
        assert_eq!(own.take_all().lost.len(), 1);
    }
}
