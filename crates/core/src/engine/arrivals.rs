//! Handling of what arrives from the transport.

use std::time::Instant;

use super::{Engine, interface::Output, members::Liveness, tracker::Verdict};
use crate::model::{Delivery, GapCause, Message, MessageKind, NodeId, Offset, SeqNo};

impl Engine {
    pub(super) fn delivery(&mut self, now: Instant, delivery: Delivery) {
        if !matches!(delivery, Delivery::Lost(_)) {
            self.arrived(now);
        }
        match delivery {
            Delivery::Message { from, seq_no, offset, message } => self.message(now, from, seq_no, offset, message),
            Delivery::Skipped { from, seq_no } => self.skipped(now, &from, seq_no),
            Delivery::Response { from, response } => self.response(now, from.as_ref(), response),
            Delivery::Stored { seq_no, message, offset } => self.stored(now, seq_no, message, offset),
            Delivery::Absent(node) => self.absent(now, &node),
            Delivery::Gap(gap) => self.transport_gap(now, &gap),
            Delivery::Overflow(overflow) => self.overflow(now, &overflow),
            Delivery::Connected => self.connected(now),
            Delivery::Lost(reason) => self.lost(now, reason),
            Delivery::Subscribed(channel) => self.tracker.subscribe(channel),
            Delivery::Unsubscribed(channel) => self.tracker.unsubscribe(channel),
        }
    }

    fn message(
        &mut self,
        now: Instant,
        from: Option<NodeId>,
        seq_no: Option<SeqNo>,
        offset: Option<Offset>,
        message: Message,
    ) {
        let from = from.unwrap_or(NodeId::EMITTER);
        if from == self.me.id {
            self.hears_itself = true;
            self.metrics.own_echoes.increment();
            if let Message::Heartbeat(heartbeat) = &message {
                self.own_heartbeat(now);
                self.heard_own_marks(now, &heartbeat.high_water_marks);
            }
        } else if from.is_emitter() {
            self.emitted(message, offset);
        } else if self.is_fresh(now, &from, seq_no) {
            self.said(now, from, seq_no.is_some(), message, offset);
        }
    }

    /// Handles a message of an emitter, which is no node: it can neither be answered nor be a peer.
    fn emitted(&mut self, message: Message, offset: Option<Offset>) {
        let is_nodes_only = matches!(message, Message::Heartbeat(_) | Message::Leaving);
        if is_nodes_only || message.request().is_some() {
            self.metrics.malformed.increment();
        } else {
            self.serve(NodeId::EMITTER, message, offset);
        }
    }

    /// Handles a message of another node that is no repeat.
    fn said(&mut self, now: Instant, from: NodeId, numbered: bool, message: Message, offset: Option<Offset>) {
        match message {
            Message::Leaving => self.left(now, &from),
            Message::Heartbeat(ref heartbeat) => {
                self.received(&message);
                self.heard(now, &from, if heartbeat.initial { Liveness::Hello } else { Liveness::Sign });
                self.heard_heartbeat(now, &from, heartbeat);
            }
            message => {
                self.sign_of_life(now, &from, numbered);
                self.serve(from, message, offset);
            }
        }
    }

    /// Handles an own message that has come back from the history, where what is lost on the way or comes twice would be
    /// lost or repeated for own sockets, too.
    fn stored(&mut self, now: Instant, seq_no: Option<SeqNo>, message: Message, offset: Option<Offset>) {
        self.hears_itself = true;
        let me = self.me.id.clone();
        if self.is_fresh(now, &me, seq_no) {
            self.serve(me, message, offset);
        }
    }

    fn skipped(&mut self, now: Instant, from: &NodeId, seq_no: Option<SeqNo>) {
        if *from == self.me.id {
            self.hears_itself = true;
            self.metrics.own_echoes.increment();
            if seq_no.is_none() {
                self.own_heartbeat(now);
            }
            if self.capabilities.history {
                self.is_fresh(now, from, seq_no);
            }
            return;
        }
        if from.is_emitter() {
            return;
        }
        if self.is_fresh(now, from, seq_no) {
            self.sign_of_life(now, from, seq_no.is_some());
            self.metrics.unwanted.increment();
        }
    }

    /// Measures how long an own heartbeat was under way.
    fn own_heartbeat(&mut self, now: Instant) {
        if let Some(sent) = self.awaits_echo.take() {
            let took = now.saturating_duration_since(sent);
            self.metrics.exported.echo(took);
            self.requests.iter_mut().for_each(|pending| pending.echoed(took));
            self.finish_complete();
        }
    }

    /// Whether the message is to be handled, by its number; counts it otherwise. A repeat may come long after its
    /// sender has gone: it is no sign of life.
    fn is_fresh(&mut self, now: Instant, from: &NodeId, seq_no: Option<SeqNo>) -> bool {
        let Some(seq_no) = seq_no else { return true };
        self.gap_number(from, seq_no);
        match self.tracker.arrived(now, from, seq_no) {
            Verdict::Fresh => true,
            Verdict::Hole(missing) => {
                self.missing(missing);
                true
            }
            Verdict::Repeat => {
                self.metrics.repeats.increment();
                false
            }
            Verdict::Anew => {
                self.report_gap(GapCause::Hole, None);
                true
            }
            Verdict::Malformed => {
                self.metrics.malformed.increment();
                false
            }
        }
    }

    fn received(&self, message: &Message) {
        self.metrics.delivered.increment();
        self.metrics.exported.received(MessageKind::of(message), || message.payload_bytes());
    }

    /// Hands a message to the server. Own ones that come back are checked like others': they may be forged.
    fn serve(&mut self, from: NodeId, message: Message, offset: Option<Offset>) {
        if is_unreadable(&message) {
            return self.metrics.malformed.increment();
        }
        if from != self.me.id {
            self.received(&message);
        }
        self.outputs.push_back(Output::Serve { from, message, offset });
    }
}

/// Whether clients would close their connection if they got the packet.
fn is_unreadable(message: &Message) -> bool {
    matches!(message, Message::Broadcast { payload, .. } if !payload.is_packet())
}
