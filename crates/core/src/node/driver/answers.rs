//! How answers leave: in the form that their receiver knows, and in parts where the broker does not take them whole.

use std::{collections::HashSet, sync::Arc};

use super::{Driver, Outgoing};
use crate::{
    error::Error,
    model::{Answer, NodeId, RequestId, Response, Room},
    node::parts,
};

impl Driver {
    pub(super) fn answer(&mut self, to: NodeId, request: RequestId, answer: Answer) {
        self.send(to, Response { request, answer });
    }

    /// Sends an answer, to an official peer as its own kind would send it.
    pub(super) fn send(&mut self, to: NodeId, mut response: Response) {
        let is_ours = self.engine.is_ours(&to);
        if let (false, Answer::Ack(ack)) = (is_ours, &mut response.answer) {
            ack.socket = None;
        }
        let limit = self.capabilities.max_message_bytes.unwrap_or(usize::MAX);
        // Not encoded in vain.
        let in_parts = is_ours && parts::is_divisible(&response.answer) && response.weight() > limit;
        let send = if in_parts { Outgoing::SendInParts } else { Outgoing::Send };
        drop(self.queue(send(to, Arc::new(response))));
    }

    /// Sends an answer that the broker does not take in another form. Official peers know no other.
    pub(super) fn too_large(&mut self, to: NodeId, response: Arc<Response>, error: &Error) {
        let is_ours = self.engine.is_ours(&to);
        if is_ours && parts::is_divisible(&response.answer) {
            return self.outgoing.push_front(Outgoing::SendInParts(to, response));
        }
        self.metrics.answers_too_large.increment();
        if is_ours && !matches!(response.answer, Answer::TooLarge(_)) {
            let answer = Answer::TooLarge(error.context().to_owned());
            let response = Arc::new(Response { request: response.request.clone(), answer });
            self.outgoing.push_front(Outgoing::Send(to, response));
        } else {
            // Once: it may ask every few seconds.
            if !std::mem::replace(&mut self.told_too_large, true) {
                tracing::warn!(node = %self.node.id, %to, %error, "a Node.js server waits for an answer in vain");
            }
        }
    }

    /// Tells the broker about rooms before an answer names them: its reader may send to them at once. A server may
    /// not have told it yet.
    pub(super) fn make_reachable<'a>(&mut self, rooms: impl IntoIterator<Item = &'a Room>) {
        let Some(interest) = &self.backend.interest else { return };
        // Where there is no room for an answer, nobody will read it.
        if self.outgoing.len() >= self.config.max_outgoing {
            return;
        }
        let unknown: HashSet<_> = rooms.into_iter().filter(|room| !interest.is_active(&self.node, room)).collect();
        if !unknown.is_empty() {
            self.interest(unknown.into_iter().cloned().collect(), false);
        }
    }
}
