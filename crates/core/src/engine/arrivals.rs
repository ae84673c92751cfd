//! What arrives from the transport.

use std::time::Instant;

use super::{Engine, interface::Output, members::Life, tracker::Verdict};
use crate::{
    id::{NodeId, Offset},
    inbox::Delivery,
    message::{Message, Stamp},
};

impl Engine {
    pub(super) fn delivery(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Message { from, stamp, offset, message } => self.message(now, from, stamp, offset, message),
            Delivery::Skipped { from, stamp } => self.skipped(now, &from, stamp),
            Delivery::Response { from, response } => self.response(now, from.as_ref(), response),
            Delivery::Stored { message, offset } => self.serve(self.me.id.clone(), message, offset),
            Delivery::Gap(gap) => self.transport_gap(now, &gap),
            Delivery::Overflow(overflow) => self.overflow(now, &overflow),
            Delivery::Connected => self.connected(now),
            Delivery::Lost(reason) => self.lost(reason),
            Delivery::Subscribed(channel) => self.tracker.subscribe(channel),
            Delivery::Unsubscribed(channel) => self.tracker.unsubscribe(channel),
        }
    }

    fn message(
        &mut self,
        now: Instant,
        from: Option<NodeId>,
        stamp: Option<Stamp>,
        offset: Option<Offset>,
        message: Message,
    ) {
        let from = from.unwrap_or(NodeId::EMITTER);
        if from == self.me.id {
            self.counters.own_echoes.increment();
        } else if from.is_emitter() {
            self.emitted(message, offset);
        } else if self.is_fresh(now, &from, stamp) {
            self.said(now, from, stamp.is_some(), message, offset);
        } else {
            self.counters.repeats.increment();
        }
    }

    /// An emitter is no node: it can neither be answered nor be there.
    fn emitted(&mut self, message: Message, offset: Option<Offset>) {
        let is_nodes_only = matches!(message, Message::Heartbeat(_) | Message::Leaving);
        if is_nodes_only || message.request().is_some() {
            self.counters.malformed.increment();
        } else {
            self.counters.delivered.increment();
            self.serve(NodeId::EMITTER, message, offset);
        }
    }

    /// A node says something for the first time.
    fn said(&mut self, now: Instant, from: NodeId, numbered: bool, message: Message, offset: Option<Offset>) {
        match message {
            Message::Leaving => return self.left(now, &from),
            Message::Heartbeat(heartbeat) => {
                self.heard(now, &from, if heartbeat.initial { Life::Hello } else { Life::Sign });
                self.heard_heartbeat(now, &from, &heartbeat);
            }
            message => {
                self.sign_of_life(now, &from, numbered);
                self.serve(from, message, offset);
            }
        }
        self.counters.delivered.increment();
    }

    fn skipped(&mut self, now: Instant, from: &NodeId, stamp: Option<Stamp>) {
        if *from == self.me.id || from.is_emitter() {
            return;
        }
        if self.is_fresh(now, from, stamp) {
            self.sign_of_life(now, from, stamp.is_some());
            self.counters.unwanted.increment();
        } else {
            self.counters.repeats.increment();
        }
    }

    /// Judges the number. A repeat may come long after its sender has gone: it is no sign of life.
    fn is_fresh(&mut self, now: Instant, from: &NodeId, stamp: Option<Stamp>) -> bool {
        let Some(stamp) = stamp else { return true };
        self.gap_number(from, stamp);
        match self.tracker.arrived(now, from, stamp) {
            Verdict::Fresh => true,
            Verdict::Hole(missing) => {
                self.missing(missing);
                true
            }
            Verdict::Repeat => false,
        }
    }

    fn serve(&mut self, from: NodeId, message: Message, offset: Option<Offset>) {
        self.outputs.push_back(Output::Serve { from, message, offset });
    }
}
