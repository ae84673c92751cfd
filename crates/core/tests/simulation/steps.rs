//! What one input does to one engine.

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
    checks::{Check, Checked, Count, ensure},
    names,
    peer::State,
    scenario::Micros,
    world::{Event, World},
};

impl World<'_> {
    /// Gives one input to one engine, and does what it says.
    pub(crate) fn step(&mut self, node: usize, from: Option<usize>, input: Input) -> Checked {
        let (now, origin) = (self.now, self.origin);
        let Some(own) = &mut self.peers[node].own else { return Ok(()) };
        let local = own.clock.local(now);
        match &input {
            Input::Start => own.witness.started(local),
            Input::Delivery(delivery) => own.witness.delivered(local, from, delivery),
            Input::LocalAnswer { to: None, request, answer } => own.witness.requests.own_answer(request, answer),
            _ => {}
        }
        let is_tick = matches!(input, Input::Tick);
        let skipped = skipped(from, &input);
        let unwanted = own.metrics.unwanted.value();
        self.trace.input(now, node, &input);
        self.steps += 1;
        if let Some((at, input)) = self.tamper.input(local, input) {
            own.engine.handle(origin.instant(at), input);
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.tamper.outputs(&mut own.engine, &mut outputs);
        self.trace.outputs(&outputs);
        if let Some((from, channel, number)) = skipped
            && own.metrics.unwanted.value() > unwanted
        {
            own.witness.skipped(local, from, channel, number);
        }
        outputs.iter().try_for_each(|output| own.witness.output(local, output))?;
        let wake = own.engine.deadline().map(|wake| self.tamper.wake(origin.local(wake)));
        own.witness.stepped(local, own.engine.pending_requests(), wake, own.metrics.missed.value())?;
        if is_tick {
            own.witness.ticked(local, &own.engine)?;
        }
        self.schedule(node, wake);
        outputs.drain(..).for_each(|output| self.perform(node, output));
        self.outputs = outputs;
        Ok(())
    }

    /// Puts the engine's wake-up into the queue, unless an earlier one lies there.
    fn schedule(&mut self, node: usize, wake: Option<Micros>) {
        let (Some(own), Some(wake)) = (&mut self.peers[node].own, wake) else { return };
        let at = own.clock.when(wake).max(self.now);
        if own.wake.is_none_or(|scheduled| at < scheduled) {
            own.wake = Some(at);
            self.queue.push(at, Event::Wake(node));
        }
    }

    pub(crate) fn wake(&mut self, node: usize) -> Checked {
        let now = self.now;
        let is_running = self.peers[node].is_running();
        let Some(own) = &mut self.peers[node].own else { return Ok(()) };
        if own.wake != Some(now) {
            return Ok(());
        }
        own.wake = None;
        let due = own.engine.deadline().map(|wake| self.tamper.wake(self.origin.local(wake)));
        match due {
            Some(due) if is_running && due <= own.clock.local(now) => self.step(node, None, Input::Tick),
            due => {
                self.schedule(node, due.filter(|_| is_running));
                Ok(())
            }
        }
    }

    /// Ticks some engine too early: nothing may come of it.
    pub(crate) fn tick_early(&mut self) -> Checked {
        let mut chance = self.chance([self.events, 5, 5, 5]);
        if self.peers.is_empty() || !chance.hits(50) {
            return Ok(());
        }
        let node = usize::try_from(chance.below(self.peers.len() as u64)).unwrap();
        let (now, origin) = (self.now, self.origin);
        let peer = &mut self.peers[node];
        let (State::Running, Some(own)) = (peer.state, &mut peer.own) else { return Ok(()) };
        let local = own.clock.local(now);
        if own.engine.deadline().is_none_or(|wake| origin.local(wake) <= local) {
            return Ok(());
        }
        self.steps += 1;
        own.engine.handle(origin.instant(self.tamper.early_tick(local)), Input::Tick);
        let output = own.engine.poll_output();
        ensure(output.is_none(), Check::Sleep, || format!("{output:?} before the deadline"))
    }

    /// Handles the inputs that follow from outputs.
    pub(crate) fn follow_up(&mut self) -> Checked {
        while let Some((node, input)) = self.todo.pop_front() {
            self.feed(node, input)?;
        }
        Ok(())
    }

    fn perform(&mut self, node: usize, output: Output) {
        match output {
            Output::Publish(message) => match message.request().filter(|_| self.is_refused(node)) {
                Some(request) => {
                    let error = Error::new(ErrorKind::QueueFull, "refused");
                    self.todo.push_back((node, Input::PublishFailed(request.clone(), error)));
                }
                None => self.publish(node, message, 0),
            },
            Output::Send(to, response) => {
                if let Some(to) = names::index(&to) {
                    self.respond(node, to, &response);
                }
            }
            Output::Serve { from, message, .. } => self.serve(node, Some(&from), &message),
            Output::AskCensus => self.ask_count(node),
            Output::Acknowledged(..) | Output::Finished(..) | Output::Event(_) => {}
        }
    }

    fn is_refused(&mut self, node: usize) -> bool {
        self.peers[node].own.as_mut().is_some_and(|own| std::mem::take(&mut own.refuses))
    }

    /// The sockets of a node answer a request: of another node, or of their own.
    pub(crate) fn serve(&mut self, node: usize, to: Option<&NodeId>, message: &Message) {
        let Some(request) = message.request() else { return };
        for (delay, answer) in self.answers(node, message) {
            if delay == 0 {
                let input = Input::LocalAnswer { to: to.cloned(), request: request.clone(), answer };
                self.todo.push_back((node, input));
            } else {
                let event = Event::ClientAnswer { node, to: to.cloned(), request: request.clone(), answer };
                self.queue.push(self.now + delay, event);
            }
        }
    }

    pub(crate) fn client_answer(&mut self, node: usize, to: Option<NodeId>, request: RequestId, answer: Answer) {
        self.todo.push_back((node, Input::LocalAnswer { to, request, answer }));
    }

    /// The broker's count is back.
    pub(crate) fn counted(&mut self, node: usize, node_count: Option<NodeCount>, count: Count) -> Checked {
        let Some(own) = &mut self.peers[node].own else { return Ok(()) };
        own.counting = false;
        let again = std::mem::take(&mut own.count_again);
        if node_count.is_some() {
            own.witness.counted(count);
        }
        self.feed(node, Input::NodeCount(node_count))?;
        if again && self.peers[node].is_there() {
            self.ask_count(node);
        }
        Ok(())
    }

    /// The process goes on. Whether its timer or its inbox is faster is a matter of chance.
    pub(crate) fn thaw(&mut self, node: usize) -> Checked {
        let now = self.now;
        let peer = &mut self.peers[node];
        let (State::Frozen, Some(own)) = (peer.state, &mut peer.own) else { return Ok(()) };
        peer.state = State::Running;
        let Some(backlog) = own.backlog.take() else { return Ok(()) };
        own.witness.thawed(own.clock.local(now));
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
            self.follow_up()?;
        }
        for input in backlog.inputs {
            self.feed(node, input)?;
            self.follow_up()?;
        }
        self.tick_if_due(node)
    }

    fn tick_if_due(&mut self, node: usize) -> Checked {
        let now = self.now;
        let Some(own) = &mut self.peers[node].own else { return Ok(()) };
        own.wake = None;
        let wake = own.engine.deadline().map(|wake| self.tamper.wake(self.origin.local(wake)));
        if wake.is_some_and(|wake| wake <= own.clock.local(now)) {
            return self.step(node, None, Input::Tick);
        }
        self.schedule(node, wake);
        Ok(())
    }
}

/// The sender, channel and number of a message that nobody wants.
fn skipped(from: Option<usize>, input: &Input) -> Option<(usize, usize, u64)> {
    match input {
        Input::Delivery(Delivery::Skipped { seq_no: Some(seq_no), .. }) => {
            Some((from?, usize::from(seq_no.channel.0), seq_no.number))
        }
        _ => None,
    }
}

/// Everything that is in an inbox.
fn drain(mut inbox: Inbox) -> VecDeque<Delivery> {
    let mut batch = VecDeque::new();
    {
        let taken = pin!(inbox.next_batch(&mut batch));
        // Either something is there, or there is nothing to wait for.
        let _ = taken.poll(&mut Context::from_waker(Waker::noop()));
    }
    batch
}
