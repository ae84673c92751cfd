//! Applying the actions of a scenario: joins, crashes, lost connections, broadcasts, requests.

use std::sync::Arc;

use trunkline_core::{
    Gap, GapCause, Membership, Message, Target,
    engine::{Gather, Input, Request},
    model::{Delivery, SeqChannel},
    transport::{InboxLimits, inbox},
};

use crate::{
    checks::{Checked, PendingRequest},
    clock::Clock,
    names::{self, MAX_PEERS, Set},
    network::Partition,
    peer::{Backlog, Peer, State},
    scenario::{Action, Micros, SECOND},
    world::{Event, World},
};

impl World<'_> {
    pub(crate) fn action(&mut self, action: Action) -> Checked {
        self.trace.action(self.now, action);
        match action {
            Action::Join => self.join(),
            Action::ForeignJoin => self.foreign_join(),
            Action::Emitter => self.emitter(),
            Action::Partition { group, time } => {
                self.partitions.push(Partition { group, end: self.now + time });
                Ok(())
            }
            Action::Leave(node) if self.runs(node) => self.leave(node),
            Action::Crash { node, lingers } if self.lives(node) => self.crash(node, lingers),
            Action::Freeze { node, time, inbox, ticks_first } if self.runs(node) => {
                self.freeze(node, time, inbox, ticks_first)
            }
            Action::Cut { node, time } if self.lives(node) => self.cut(node, time),
            Action::Emit { node, channel, count } if self.is_running(node) => self.emit(node, channel, count),
            Action::Ask { node, gather, timeout, refused } if self.runs(node) => {
                self.ask(node, gather, timeout, refused, None)
            }
            Action::Cancel(node) if self.runs(node) => self.cancel(node),
            Action::Subscribe(node, channel) if self.runs(node) => self.subscribe(node, channel, true),
            Action::Unsubscribe(node, channel) if self.runs(node) => self.subscribe(node, channel, false),
            Action::ForeignLeave(node) => self.foreign_leave(node),
            _ => Ok(()),
        }
    }

    fn is_running(&self, node: usize) -> bool {
        self.peers.get(node).is_some_and(Peer::is_running)
    }

    /// Whether it is a running node with an engine.
    fn runs(&self, node: usize) -> bool {
        self.is_running(node) && !self.peers[node].is_foreign()
    }

    fn lives(&self, node: usize) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.is_present() && !peer.is_foreign())
    }

    // --- membership ---

    fn join(&mut self) -> Checked {
        let index = self.peers.len();
        if index == MAX_PEERS {
            return Ok(());
        }
        let mut chance = self.chance([index as u64, 6, 6, 6]);
        let (skew, rate) = (chance.below(20 * SECOND), 980 + chance.below(41));
        let clock = if self.scenario.faults.drift { Clock::new(skew, rate) } else { Clock::new(0, 1000) };
        self.peers.push(Peer::engine_node(index, self.scenario.kind, self.scenario.faults, clock));
        self.add_value(index);
        self.step(index, None, Input::Start)
    }

    fn foreign_join(&mut self) -> Checked {
        let index = self.peers.len();
        if index < MAX_PEERS {
            self.peers.push(Peer::foreign(index));
            self.add_value(index);
            self.foreign_heartbeat(index, true);
            self.queue.push(self.now + 5 * SECOND, Event::ForeignHeartbeat(index));
        }
        Ok(())
    }

    fn add_value(&mut self, index: usize) {
        let name = self.peers[index].id.as_str();
        self.values.push(trunkline_core::Payload::event(name, &()).unwrap());
    }

    pub(crate) fn foreign_heartbeat_due(&mut self, node: usize) {
        if self.peers[node].is_present() && self.scenario.kind.membership == Membership::Heartbeats {
            self.foreign_heartbeat(node, false);
            self.queue.push(self.now + 5 * SECOND, Event::ForeignHeartbeat(node));
        }
    }

    fn foreign_leave(&mut self, node: usize) -> Checked {
        if self.is_running(node) && self.peers[node].is_foreign() {
            if self.scenario.kind.membership == Membership::Heartbeats {
                self.publish(node, Message::Leaving, 0);
            }
            self.peers[node].state = State::Gone;
            self.peers[node].counted = false;
        }
        Ok(())
    }

    fn leave(&mut self, node: usize) -> Checked {
        self.step(node, None, Input::Leave)?;
        self.peers[node].state = State::Gone;
        self.peers[node].counted = false;
        Ok(())
    }

    /// Ends the process without a leave announcement.
    fn crash(&mut self, node: usize, lingers: Micros) -> Checked {
        self.peers[node].state = State::Gone;
        if lingers == 0 {
            self.peers[node].counted = false;
        } else {
            self.queue.push(self.now + lingers, Event::StopCounting(node));
        }
        Ok(())
    }

    /// Stops the process. What arrives meanwhile waits in a real inbox.
    fn freeze(&mut self, node: usize, time: Micros, messages: usize, ticks_first: bool) -> Checked {
        let now = self.now;
        let peer = &mut self.peers[node];
        let Some(engine_node) = &mut peer.engine_node else { return Ok(()) };
        engine_node.checker.froze(engine_node.clock.local(now));
        let limits = InboxLimits::default().with_messages(messages).with_bytes(usize::MAX);
        let (sender, inbox) = inbox(limits, Arc::clone(&engine_node.metrics));
        let responders = std::collections::VecDeque::new();
        engine_node.backlog = Some(Backlog { sender, inbox, responders, inputs: Vec::new(), ticks_first });
        peer.state = State::Frozen;
        self.queue.push(self.now + time, Event::Thaw(node));
        Ok(())
    }

    // --- the broker connection ---

    fn cut(&mut self, node: usize, time: Micros) -> Checked {
        let peer = &mut self.peers[node];
        if !peer.connected {
            return Ok(());
        }
        peer.connected = false;
        peer.counted = false;
        peer.connection += 1;
        self.queue.push(self.now + time, Event::Reconnect(node));
        self.arrive(node, None, Delivery::Lost("cut".to_owned()))
    }

    /// Restores the connection: unsent messages are published, and a gap is reported for the missed ones.
    pub(crate) fn reconnect(&mut self, node: usize) -> Checked {
        let peer = &mut self.peers[node];
        if peer.connected || !peer.is_present() {
            return Ok(());
        }
        peer.connected = true;
        peer.counted = true;
        for published in std::mem::take(&mut peer.unsent) {
            self.fan_out(node, &published);
        }
        let gap = Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None });
        let both = if self.chance([node as u64, self.now, 7, 7]).happens(500) {
            [gap, Delivery::Connected]
        } else {
            [Delivery::Connected, gap]
        };
        for delivery in both {
            self.arrive(node, None, delivery)?;
            self.handle_follow_ups()?;
        }
        Ok(())
    }

    fn subscribe(&mut self, node: usize, channel: usize, subscribed: bool) -> Checked {
        let name = SeqChannel(u16::try_from(channel).unwrap());
        if std::mem::replace(&mut self.peers[node].subscribed[channel], subscribed) == subscribed {
            return Ok(());
        }
        let delivery = if subscribed { Delivery::Subscribed(name) } else { Delivery::Unsubscribed(name) };
        self.arrive(node, None, delivery)
    }

    // --- messages ---

    /// Publishes plain broadcasts, which do not pass through the engine.
    fn emit(&mut self, node: usize, channel: usize, count: usize) -> Checked {
        let channel = if self.scenario.kind.numbered && !self.peers[node].is_foreign() { channel } else { 0 };
        for _ in 0..count {
            let message = Message::Broadcast { request: None, target: Target::all(), payload: self.payload.clone() };
            self.publish(node, message, channel);
        }
        Ok(())
    }

    fn emitter(&mut self) -> Checked {
        for to in 0..self.peers.len() {
            let message = Message::Broadcast { request: None, target: Target::all(), payload: self.payload.clone() };
            let delivery = Delivery::Message { from: None, seq_no: None, offset: None, message };
            self.arrive(to, None, delivery)?;
        }
        Ok(())
    }

    /// Sends a request to all nodes. It must be answered by each peer in `must_reach`.
    pub(crate) fn ask(
        &mut self,
        node: usize,
        gather: Gather,
        timeout: Micros,
        refused: bool,
        must_reach: Option<Set>,
    ) -> Checked {
        let foreign = self.foreign_peers();
        let (now, origin, payload) = (self.now, self.origin, self.payload.clone());
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        engine_node.requests += 1;
        engine_node.refuses = refused;
        let id = names::request(node, engine_node.requests);
        let began = engine_node.clock.local(now);
        let deadline = began + timeout;
        let message = match gather {
            Gather::Sockets | Gather::RoundTrips => {
                Message::FetchSockets { request: id.clone(), target: Target::all() }
            }
            Gather::Rooms => Message::AllRooms { request: id.clone() },
            Gather::Values | Gather::Session => Message::ServerSideEmit { request: Some(id.clone()), payload },
            Gather::Acks => Message::Broadcast { request: Some(id.clone()), target: Target::all(), payload },
        };
        engine_node.checker.request_begins(PendingRequest {
            must_reach,
            ..PendingRequest::new(id.clone(), gather, [began, deadline], foreign)
        });
        if gather == Gather::Acks {
            self.serve(node, None, &message);
        }
        let request = Request { id, gather, message: Some(message), deadline: origin.instant(deadline) };
        let own_answers = std::mem::take(&mut self.follow_ups);
        self.step(node, None, Input::Request(request))?;
        self.follow_ups.extend(own_answers);
        Ok(())
    }

    fn foreign_peers(&self) -> Set {
        let is_foreign = |peer: &usize| self.peers[*peer].is_foreign() && self.peers[*peer].is_present();
        (0..self.peers.len()).filter(is_foreign).collect()
    }

    /// Cancels the latest request.
    fn cancel(&mut self, node: usize) -> Checked {
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        let Some(id) = engine_node.checker.requests.latest() else { return Ok(()) };
        engine_node.checker.requests.cancelled(&id);
        self.step(node, None, Input::Cancel(id))
    }
}
