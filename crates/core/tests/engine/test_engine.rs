//! An engine with a simulated clock. Its outputs are formatted as text, so that a test reads like a transcript.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use trunkline_core::{
    Answer, Capabilities, Event, Heartbeat, Membership, Message, MetricsSnapshot, Namespace, NodeId, NodeKey,
    NodeMetrics, Payload, RequestError, RequestId, Response, SocketId, SocketInfo, Target,
    engine::{Engine, EngineConfig, Gather, Gathered, Input, Output, Request},
    model::{Delivery, SeqChannel, SeqNo},
    transport::NodeCount,
};

pub(crate) struct TestEngine {
    /// Whether own heartbeats come back.
    pub(crate) echoes: bool,
    pub(crate) inner: Engine,
    pub(crate) now: Instant,
    metrics: Arc<NodeMetrics>,
    /// What each request gathers, to format its result.
    gathers: HashMap<RequestId, Gather>,
}

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Capabilities of a backend on which all nodes send numbered heartbeats.
pub(crate) const HEARTBEATS: Capabilities = Capabilities::new(Membership::Heartbeats)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_all_rooms_request(true);

/// Capabilities of a backend whose broker counts the nodes.
pub(crate) const BROKER_COUNT: Capabilities = HEARTBEATS.with_membership(Membership::BrokerCount);

impl TestEngine {
    /// A node that has just sent its first heartbeat, over a backend with these capabilities.
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        Self::with(capabilities, EngineConfig::default())
    }

    pub(crate) fn with(capabilities: Capabilities, config: EngineConfig) -> Self {
        let metrics = Arc::<NodeMetrics>::default();
        let me = NodeKey { id: id("me"), namespace: Namespace::new("/") };
        let inner = Engine::new(me, capabilities, config, Arc::clone(&metrics));
        let mut engine = Self { inner, now: Instant::now(), metrics, gathers: HashMap::new(), echoes: true };
        engine.handle(Input::Start);
        engine
    }

    /// A node that knows these peers, over a backend on which all send heartbeats.
    pub(crate) fn with_peers(names: &[&str]) -> Self {
        let mut engine = Self::new(HEARTBEATS);
        names.iter().for_each(|name| drop(engine.first_heartbeat(name)));
        engine
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<String> {
        if let Input::Request(request) = &input {
            self.gathers.insert(request.id.clone(), request.gather);
        }
        self.inner.handle(self.now, input);
        let mut outputs: Vec<_> = std::iter::from_fn(|| self.inner.poll_output()).collect();
        let is_heartbeat = |output: &Output| matches!(output, Output::Publish(Message::Heartbeat(_)));
        if self.echoes && outputs.iter().any(is_heartbeat) {
            let echo = Delivery::Skipped { from: id("me"), seq_no: None };
            self.inner.handle(self.now, Input::Delivery(echo));
            outputs.extend(std::iter::from_fn(|| self.inner.poll_output()));
        }
        outputs.iter().map(|output| self.show(output)).collect()
    }

    /// Advances the clock, ticking when the engine asks for it.
    pub(crate) fn advance(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut shown = Vec::new();
        while let Some(deadline) = self.inner.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            shown.extend(self.handle(Input::Tick));
        }
        self.now = end;
        shown
    }

    pub(crate) fn deliver(&mut self, delivery: Delivery) -> Vec<String> {
        self.handle(Input::Delivery(delivery))
    }

    /// Delivers a message without a number.
    pub(crate) fn receive(&mut self, from: &str, message: Message) -> Vec<String> {
        self.deliver(Delivery::Message { from: Some(id(from)), seq_no: None, offset: None, message })
    }

    /// Delivers a broadcast with a number on the channel to all.
    pub(crate) fn receive_numbered(&mut self, from: &str, number: u64) -> Vec<String> {
        self.receive_on(SeqChannel::ALL, from, number)
    }

    pub(crate) fn receive_on(&mut self, channel: SeqChannel, from: &str, number: u64) -> Vec<String> {
        let seq_no = Some(SeqNo { channel, number });
        let message = broadcast(&format!("{from}{number}"));
        self.deliver(Delivery::Message { from: Some(id(from)), seq_no, offset: None, message })
    }

    /// Delivers the first heartbeat of a node that has published nothing yet.
    pub(crate) fn first_heartbeat(&mut self, name: &str) -> Vec<String> {
        self.receive(name, heartbeat(true, &[(0, 0)]))
    }

    pub(crate) fn send_request(&mut self, name: &str, gather: Gather) -> Vec<String> {
        let request = RequestId::new(name).unwrap();
        let message = match gather {
            Gather::Sockets | Gather::RoundTrips => {
                Message::FetchSockets { request: request.clone(), target: Target::all() }
            }
            Gather::Rooms => Message::AllRooms { request: request.clone() },
            Gather::Values | Gather::Session => {
                Message::ServerSideEmit { request: Some(request.clone()), payload: payload("ask") }
            }
            Gather::Acks => {
                Message::Broadcast { request: Some(request.clone()), target: Target::all(), payload: payload("ask") }
            }
        };
        self.request(name, gather, Some(message))
    }

    pub(crate) fn request(&mut self, name: &str, gather: Gather, message: Option<Message>) -> Vec<String> {
        let id = RequestId::new(name).unwrap();
        self.handle(Input::Request(Request { id, gather, message, deadline: self.now + TIMEOUT }))
    }

    pub(crate) fn answer(&mut self, from: &str, request: &str, answer: Answer) -> Vec<String> {
        self.respond(Some(id(from)), request, answer)
    }

    /// Delivers an answer without a node id.
    pub(crate) fn anonymous_answer(&mut self, request: &str, answer: Answer) -> Vec<String> {
        self.respond(None, request, answer)
    }

    fn respond(&mut self, from: Option<NodeId>, request: &str, answer: Answer) -> Vec<String> {
        let response = Response { request: RequestId::new(request).unwrap(), answer };
        self.deliver(Delivery::Response { from, response })
    }

    /// Gives the engine an answer of this node's own clients to an own request.
    pub(crate) fn own_answer(&mut self, request: &str, answer: Answer) -> Vec<String> {
        self.handle(Input::LocalAnswer { to: None, request: RequestId::new(request).unwrap(), answer })
    }

    /// Has the broker count these nodes known by id, this one, and some foreign ones.
    pub(crate) fn count(&mut self, named: &[&str], foreign: usize) -> Vec<String> {
        let asked = self.inner.begin_count(self.now);
        let (known, absent): (Vec<_>, Vec<_>) = asked.into_iter().partition(|node| named.contains(&node.as_str()));
        let node_count = NodeCount::new(1 + named.len() + foreign, known.len(), absent);
        self.handle(Input::NodeCount(Some(node_count)))
    }

    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        self.metrics.snapshot()
    }

    pub(crate) fn members(&self) -> Vec<&str> {
        self.inner.members().map(NodeId::as_str).collect()
    }

    fn show(&self, output: &Output) -> String {
        match output {
            Output::Publish(message) => format!("publish {}", show_message(message)),
            Output::Send(to, Response { request, answer }) => {
                format!("send {to} for {request}: {}", show_answer(answer))
            }
            Output::Serve { from, message, offset: None } => format!("serve {from}: {}", show_message(message)),
            Output::Serve { from, message, offset: Some(offset) } => {
                format!("serve {from}: {} at {offset}", show_message(message))
            }
            Output::Acknowledged(request, ack) => format!("{request}: ack {}", show_payload(ack.value.as_ref())),
            Output::Finished(request, result) => format!("{request}: {}", self.show_result(request, result)),
            Output::CountNodes => "count".to_owned(),
            Output::Event(event) => show_event(event),
        }
    }

    fn show_result(&self, request: &RequestId, result: &Result<Gathered, RequestError<Gathered>>) -> String {
        let gather = self.gathers[request];
        match result {
            Ok(gathered) => show_gathered(gather, gathered),
            Err(error) => {
                let received = error.incomplete().map(|incomplete| show_gathered(gather, &incomplete.received));
                format!("{error}{}", received.map(|received| format!("; {received}")).unwrap_or_default())
            }
        }
    }
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn payload(event: &str) -> Payload {
    Payload::event(event, &()).unwrap()
}

pub(crate) fn broadcast(event: &str) -> Message {
    Message::Broadcast { request: None, target: Target::all(), payload: payload(event) }
}

pub(crate) fn heartbeat(initial: bool, marks: &[(u16, u64)]) -> Message {
    let seq_no = |&(channel, number)| SeqNo { channel: SeqChannel(channel), number };
    Message::Heartbeat(Heartbeat::new(initial).with_high_water_marks(marks.iter().map(seq_no).collect()))
}

pub(crate) fn sockets(names: &[&str]) -> Answer {
    let socket = |name: &&str| SocketInfo::new(SocketId::new(*name).unwrap(), vec![(*name).into()]);
    Answer::Sockets(names.iter().map(socket).collect())
}

pub(crate) fn value(text: &str) -> Answer {
    Answer::ServerSideEmit(Some(payload(text)))
}

fn show_message(message: &Message) -> String {
    match message {
        Message::Heartbeat(heartbeat) => if heartbeat.initial { "hello" } else { "heartbeat" }.to_owned(),
        Message::Leaving => "leaving".to_owned(),
        Message::Broadcast { request: None, payload, .. } => show_payload(Some(payload)),
        Message::Broadcast { request: Some(request), .. } => format!("broadcast {request}"),
        Message::FetchSockets { request, .. } => format!("fetch {request}"),
        Message::AllRooms { request } => format!("rooms {request}"),
        Message::ServerSideEmit { request: Some(request), .. } => format!("ask {request}"),
        Message::ServerSideEmit { request: None, .. } => "tell".to_owned(),
        Message::Join { .. } => "join".to_owned(),
        Message::Leave { .. } => "leave".to_owned(),
        Message::Disconnect { .. } => "disconnect".to_owned(),
    }
}

fn show_answer(answer: &Answer) -> String {
    match answer {
        Answer::ClientCount(count) => format!("{count} clients"),
        Answer::Ack(ack) => format!("ack {}", show_payload(ack.value.as_ref())),
        answer => format!("{answer:?}"),
    }
}

fn show_gathered(gather: Gather, gathered: &Gathered) -> String {
    let list = |texts: Vec<String>| format!("[{}]", texts.join(" "));
    let Gathered { sockets, rooms, values, acks, answered_at, echo } = gathered;
    match gather {
        Gather::Sockets => list(sockets.iter().map(|socket| socket.id.to_string()).collect()),
        Gather::Rooms => list(rooms.iter().map(|room| room.to_text().to_string()).collect()),
        Gather::Values | Gather::Session => list(values.iter().map(|value| show_payload(value.as_ref())).collect()),
        Gather::Acks => format!("{} of {}", acks.received, acks.expected),
        Gather::RoundTrips => {
            format!("{} echo {echo:?}", list(answered_at.iter().map(|(node, _)| node.to_string()).collect()))
        }
    }
}

/// Formats a payload as its event name.
fn show_payload(payload: Option<&Payload>) -> String {
    payload.map_or_else(|| "nothing".to_owned(), |payload| payload.event_name().unwrap().into_owned())
}

fn show_event(event: &Event) -> String {
    match event {
        Event::NodeUp(node) => format!("up {node}"),
        Event::NodeDown(node, reason) => format!("down {node} {reason:?}"),
        Event::Gap(gap) => format!("gap {:?} {:?}", gap.cause, gap.missed),
        event => format!("{event:?}"),
    }
}
