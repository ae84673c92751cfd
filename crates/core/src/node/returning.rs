//! Own changes of sockets that are on their way through the history, and the calls that wait for them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::model::Message;

/// Calls that return when their message has come back from the history and is applied.
#[derive(Debug, Default)]
pub(super) struct Returning(Mutex<VecDeque<(Message, oneshot::Sender<()>)>>);

impl Returning {
    /// To be called before the message is published. The receiver is told when it is applied.
    pub(super) fn expect(&self, message: &Message) -> oneshot::Receiver<()> {
        let (applied, told) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.retain(|(_, waits)| !waits.is_closed());
        waiting.push_back((message.clone(), applied));
        told
    }

    /// Tells the oldest call that waits for the message. On some wires not all flags come back: then it is the oldest
    /// one for a message of this kind.
    pub(super) fn applied(&self, message: &Message) {
        let mut waiting = self.waiting();
        let is_same = |waits: &Message| waits == message;
        let is_alike = |waits: &Message| std::mem::discriminant(waits) == std::mem::discriminant(message);
        let position = waiting.iter().position(|(waits, _)| is_same(waits));
        let position = position.or_else(|| waiting.iter().position(|(waits, _)| is_alike(waits)));
        if let Some((_, applied)) = position.and_then(|index| waiting.remove(index)) {
            // Fails only when the call has ended.
            let _ = applied.send(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(Message, oneshot::Sender<()>)>> {
        // Valid after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
