//! Requests of this node and its answers to those of others.

use std::time::Instant;

use super::{
    Engine,
    interface::{Gather, Output, Request},
    members::Liveness,
    pending::{AnswerOutcome, Pending},
    unnamed_peers::UnnamedPeers,
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Answer, MessageKind, NodeId, RequestId, Response},
};

impl Engine {
    pub(super) fn request(&mut self, now: Instant, request: Request) {
        if let Err(error) = self.check_request(&request) {
            self.outputs.push_back(Output::Finished(request.id, Err(error.into())));
            return;
        }
        let Request { id, gather, message, deadline } = request;
        self.metrics.requests.increment();
        let only_ours = gather == Gather::Session;
        let is_counted = message.is_some() && self.broker_counts() && !only_ours;
        let unnamed_peers = is_counted.then(|| UnnamedPeers::new(now, self.counts, self.members.unnamed()));
        let is_probe = gather == Gather::RoundTrips;
        let is_asked = |node: &&NodeId| message.is_some() && (!only_ours || self.is_ours(node));
        let nodes = self.members.names().filter(is_asked);
        let absent = self.members.absent(now, self.config.heartbeat_timeout).filter(is_asked);
        let pending = Pending::new(gather, deadline, nodes, absent, unnamed_peers);
        self.requests.insert(id.clone(), pending.awaiting_echo(is_probe && self.hears_itself));
        self.wake_by(deadline);
        if is_probe {
            self.heartbeat(now, false);
        }
        if let Some(message) = message {
            self.outputs.push_back(Output::Publish(message));
            self.postpone_heartbeat(now);
        }
        if is_counted {
            self.ask_for_count(now);
        }
        self.finish_if_complete(&id);
    }

    fn check_request(&self, request: &Request) -> Result<()> {
        if self.has_left {
            return Err(self.closed());
        }
        let pending = self.requests.len();
        if pending >= self.config.max_pending_requests {
            return Err(Error::new(
                ErrorKind::QueueFull,
                format!("{pending} requests are pending, more are not allowed"),
            ));
        }
        if self.requests.contains(&request.id) {
            return Err(Error::new(ErrorKind::Config, format!("request id {} is taken", request.id)));
        }
        Ok(())
    }

    pub(super) fn closed(&self) -> Error {
        let context = format!("node {} of namespace {} has left", self.me.id, self.me.namespace);
        Error::new(ErrorKind::Closed, context)
    }

    pub(super) fn cancel(&mut self, id: &RequestId) {
        self.requests.end(id);
    }

    pub(super) fn publish_failed(&mut self, now: Instant, id: RequestId, error: Error) {
        // No peer has heard it: it was no sign of life of this node.
        self.heartbeat_soon(now);
        if self.requests.end(&id).is_some() {
            self.outputs.push_back(Output::Finished(id, Err(error.into())));
        }
    }

    pub(super) fn response(&mut self, now: Instant, from: Option<&NodeId>, response: Response) {
        if from == Some(&self.me.id) {
            self.metrics.own_echoes.increment();
            return;
        }
        let known = from.is_some_and(|from| self.is_known(now, from));
        let Response { request, answer } = response;
        self.metrics.exported.received(MessageKind::Answer, || answer.weight());
        let Some(pending) = self.requests.get_mut(&request) else {
            self.metrics.late_answers.add(u64::from(self.requests.has_ended(&request)));
            return;
        };
        let outcome = pending.answer(now, from, known, answer);
        self.outcome(&request, outcome);
    }

    /// Notes that the answering node is alive. One that fell silent is known again; others may be official peers, which
    /// stay unnamed.
    fn is_known(&mut self, now: Instant, from: &NodeId) -> bool {
        if self.members.refresh(now, from) {
            return true;
        }
        if self.members.is_lost(from) {
            self.heard(now, from, Liveness::Sign);
            return true;
        }
        false
    }

    pub(super) fn local_answer(&mut self, to: Option<NodeId>, request: RequestId, answer: Answer) {
        if let Some(to) = to {
            self.outputs.push_back(Output::Send(to, Response { request, answer }));
        } else if let Some(pending) = self.requests.get_mut(&request) {
            let outcome = pending.own_answer(answer);
            self.outcome(&request, outcome);
        }
    }

    fn outcome(&mut self, id: &RequestId, outcome: AnswerOutcome) {
        match outcome {
            AnswerOutcome::Acknowledgement(ack) => self.outputs.push_back(Output::Acknowledged(id.clone(), ack)),
            AnswerOutcome::Noted => {}
            AnswerOutcome::Nothing => self.metrics.late_answers.increment(),
        }
        self.finish_if_complete(id);
    }

    // --- how requests end ---

    fn finish_if_complete(&mut self, id: &RequestId) {
        if self.requests.get_mut(id).is_some_and(|pending| pending.is_complete()) {
            self.finish(id);
        }
    }

    /// Ends the requests that have become complete, after an input that concerns all of them.
    pub(super) fn finish_complete(&mut self) {
        for id in self.requests.complete() {
            self.finish(&id);
        }
    }

    /// Ends the requests whose time is up.
    pub(super) fn finish_due(&mut self, now: Instant) {
        while let Some(id) = self.requests.next_due(now) {
            self.finish(&id);
        }
    }

    fn finish(&mut self, id: &RequestId) {
        let Some(pending) = self.requests.end(id) else { return };
        let result = pending.finish();
        if let Err(error) = &result {
            self.metrics.requests_timed_out.add(u64::from(error.kind() == ErrorKind::Timeout));
            let partial = error.incomplete().is_some_and(|incomplete| incomplete.missing_nodes() > 0);
            self.metrics.requests_partial.add(u64::from(partial));
        }
        self.outputs.push_back(Output::Finished(id.clone(), result));
    }

    /// Ends all requests, because the node leaves.
    pub(super) fn abandon_requests(&mut self) {
        for id in self.requests.all() {
            self.requests.end(&id);
            self.outputs.push_back(Output::Finished(id, Err(self.closed().into())));
        }
    }
}
