//! One step of one engine: an input, and its outputs.

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use trunkline_core::{
    Answer, Error, ErrorKind, Message, NodeId, RequestId,
    engine::{Input, Output},
    model::Delivery,
    transport::{Inbox, NodeCount},
};

use crate::{
    checks::{BrokerCount, Check, Checked, ensure},
    names,
    peer::State,
    scenario::Micros,
    world::{Event, World},
};

impl World<'_> {
    /// Gives an input to an engine, checks its outputs, and performs them.
    pub(crate) fn step(&mut self, node: usize, from: Option<usize>, input: Input) -> Checked {
        let (now, origin) = (self.now, self.origin);
        let alive = (0..self.peers.len()).filter(|peer| self.peers[*peer].is_present()).collect();
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        let local = engine_node.clock.local(now);
        match &input {
            Input::Start => engine_node.checker.started(local),
            Input::Delivery(delivery) => engine_node.checker.delivered(local, from, delivery),
            Input::LocalAnswer { to: None, request, answer } => {
                engine_node.checker.requests.own_answer(request, answer)
            }
            _ => {}
        }
        let is_tick = matches!(input, Input::Tick);
        let skipped = skipped(from, &input);
        let unwanted = engine_node.metrics.unwanted.value();
        self.trace.input(now, node, &input);
        self.steps += 1;
        if let Some((at, input)) = self.defects.input(local, input) {
            engine_node.engine.handle(origin.instant(at), input);
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.defects.outputs(&mut engine_node.engine, &mut outputs);
        self.trace.outputs(&outputs);
        if let Some((from, channel, number)) = skipped
            && engine_node.metrics.unwanted.value() > unwanted
        {
            engine_node.checker.skipped(local, from, channel, number);
        }
        outputs.iter().try_for_each(|output| engine_node.checker.output(local, output, alive))?;
        let wake = engine_node.engine.deadline().map(|wake| self.defects.wake(origin.local(wake)));
        engine_node.checker.stepped(
            local,
            engine_node.engine.pending_requests(),
            wake,
            engine_node.metrics.missed.value(),
        )?;
        if is_tick {
            engine_node.checker.ticked(local, &engine_node.engine)?;
        }
        self.schedule(node, wake);
        outputs.drain(..).for_each(|output| self.perform(node, output));
        self.outputs = outputs;
        Ok(())
    }

    /// Schedules the engine's wake-up, unless an earlier one is scheduled.
    fn schedule(&mut self, node: usize, wake: Option<Micros>) {
        let (Some(engine_node), Some(wake)) = (&mut self.peers[node].engine_node, wake) else { return };
        let at = engine_node.clock.when(wake).max(self.now);
        if engine_node.wake.is_none_or(|scheduled| at < scheduled) {
            engine_node.wake = Some(at);
            self.queue.push(at, Event::Wake(node));
        }
    }

    pub(crate) fn wake(&mut self, node: usize) -> Checked {
        let now = self.now;
        let is_running = self.peers[node].is_running();
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        if engine_node.wake != Some(now) {
            return Ok(());
        }
        engine_node.wake = None;
        let due = engine_node.engine.deadline().map(|wake| self.defects.wake(self.origin.local(wake)));
        match due {
            Some(due) if is_running && due <= engine_node.clock.local(now) => self.step(node, None, Input::Tick),
            due => {
                self.schedule(node, due.filter(|_| is_running));
                Ok(())
            }
        }
    }

    /// Ticks some engine before its deadline: there must be no output.
    pub(crate) fn tick_early(&mut self) -> Checked {
        let mut chance = self.chance([self.events, 5, 5, 5]);
        if self.peers.is_empty() || !chance.happens(50) {
            return Ok(());
        }
        let node = usize::try_from(chance.below(self.peers.len() as u64)).unwrap();
        let (now, origin) = (self.now, self.origin);
        let peer = &mut self.peers[node];
        let (State::Running, Some(engine_node)) = (peer.state, &mut peer.engine_node) else { return Ok(()) };
        let local = engine_node.clock.local(now);
        if engine_node.engine.deadline().is_none_or(|wake| origin.local(wake) <= local) {
            return Ok(());
        }
        self.steps += 1;
        engine_node.engine.handle(origin.instant(self.defects.early_tick(local)), Input::Tick);
        let output = engine_node.engine.poll_output();
        ensure(output.is_none(), Check::WakeUp, || format!("{output:?} before the deadline"))
    }

    /// Handles the inputs that follow from outputs.
    pub(crate) fn handle_follow_ups(&mut self) -> Checked {
        while let Some((node, input)) = self.follow_ups.pop_front() {
            self.feed(node, input)?;
        }
        Ok(())
    }

    fn perform(&mut self, node: usize, output: Output) {
        match output {
            Output::Publish(message) => match message.request().filter(|_| self.is_refused(node)) {
                Some(request) => {
                    let error = Error::new(ErrorKind::QueueFull, "refused");
                    self.follow_ups.push_back((node, Input::PublishFailed(request.clone(), error)));
                }
                None => self.publish(node, message, 0),
            },
            Output::Send(to, response) => {
                if let Some(to) = names::index(&to) {
                    self.respond(node, to, &response);
                }
            }
            Output::Serve { from, message, .. } => self.serve(node, Some(&from), &message),
            Output::CountNodes => self.ask_count(node),
            Output::Acknowledged(..) | Output::Finished(..) | Output::Event(_) => {}
        }
    }

    fn is_refused(&mut self, node: usize) -> bool {
        self.peers[node].engine_node.as_mut().is_some_and(|engine_node| std::mem::take(&mut engine_node.refuses))
    }

    /// Answers a request by the sockets of a node: one of another node, or of its own.
    pub(crate) fn serve(&mut self, node: usize, to: Option<&NodeId>, message: &Message) {
        let Some(request) = message.request() else { return };
        for (delay, answer) in self.answers(node, message) {
            if delay == 0 {
                let input = Input::LocalAnswer { to: to.cloned(), request: request.clone(), answer };
                self.follow_ups.push_back((node, input));
            } else {
                let event = Event::ClientAnswer { node, to: to.cloned(), request: request.clone(), answer };
                self.queue.push(self.now + delay, event);
            }
        }
    }

    pub(crate) fn client_answer(&mut self, node: usize, to: Option<NodeId>, request: RequestId, answer: Answer) {
        self.follow_ups.push_back((node, Input::LocalAnswer { to, request, answer }));
    }

    /// Delivers the broker's count to a node.
    pub(crate) fn counted(&mut self, node: usize, node_count: Option<NodeCount>, count: BrokerCount) -> Checked {
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        engine_node.counting = false;
        let again = std::mem::take(&mut engine_node.count_again);
        if node_count.is_some() {
            engine_node.checker.counted(count);
        }
        self.feed(node, Input::NodeCount(node_count))?;
        if again && self.peers[node].is_present() {
            self.ask_count(node);
        }
        Ok(())
    }

    /// Continues a frozen process. Whether its timer or its inbox is first was drawn before.
    pub(crate) fn thaw(&mut self, node: usize) -> Checked {
        let now = self.now;
        let peer = &mut self.peers[node];
        let (State::Frozen, Some(engine_node)) = (peer.state, &mut peer.engine_node) else { return Ok(()) };
        peer.state = State::Running;
        let Some(backlog) = engine_node.backlog.take() else { return Ok(()) };
        engine_node.checker.thawed(engine_node.clock.local(now));
        if backlog.ticks_first {
            self.tick_if_due(node)?;
        }
        let (deliveries, mut responders) = (drain(backlog.inbox), backlog.responders);
        for delivery in deliveries {
            let from = match &delivery {
                Delivery::Message { from, .. } => from.as_ref().and_then(names::index),
                Delivery::Skipped { from, .. } => names::index(from),
                Delivery::Response { .. } => responders.pop_front(),
                _ => None,
            };
            self.step(node, from, Input::Delivery(delivery))?;
            self.handle_follow_ups()?;
        }
        for input in backlog.inputs {
            self.feed(node, input)?;
            self.handle_follow_ups()?;
        }
        self.tick_if_due(node)
    }

    fn tick_if_due(&mut self, node: usize) -> Checked {
        let now = self.now;
        let Some(engine_node) = &mut self.peers[node].engine_node else { return Ok(()) };
        engine_node.wake = None;
        let wake = engine_node.engine.deadline().map(|wake| self.defects.wake(self.origin.local(wake)));
        if wake.is_some_and(|wake| wake <= engine_node.clock.local(now)) {
            return self.step(node, None, Input::Tick);
        }
        self.schedule(node, wake);
        Ok(())
    }
}

/// Sender, channel and number of a message without matching sockets.
fn skipped(from: Option<usize>, input: &Input) -> Option<(usize, usize, u64)> {
    match input {
        Input::Delivery(Delivery::Skipped { seq_no: Some(seq_no), .. }) => {
            Some((from?, usize::from(seq_no.channel.0), seq_no.number))
        }
        _ => None,
    }
}

/// Takes everything out of an inbox.
fn drain(mut inbox: Inbox) -> VecDeque<Delivery> {
    let mut batch = VecDeque::new();
    {
        let taken = pin!(inbox.next_batch(&mut batch));
        // Either something is there, or there is nothing to wait for.
        let _ = taken.poll(&mut Context::from_waker(Waker::noop()));
    }
    batch
}
