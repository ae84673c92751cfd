//! One engine and a clock. What comes out is shown as text, so that a scenario reads like a transcript.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use trunkline_core::{
    Answer, Answers, Capabilities, Error, Event, Heartbeat, Membership, Message, MetricsSnapshot, Namespace, NodeId,
    NodeKey, NodeMetrics, Payload, RequestId, Response, Result, SocketId, SocketInfo, Target,
    engine::{Engine, EngineConfig, Gather, Input, Output, Request},
    model::{Delivery, SeqChannel, SeqNo},
    transport::NodeCount,
};

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    metrics: Arc<NodeMetrics>,
}

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// All nodes send heartbeats, numbered.
pub(crate) const HEARTBEATS: Capabilities = Capabilities {
    membership: Membership::Heartbeats,
    total_order: true,
    acknowledged_in_order: true,
    numbered: true,
    announced_leave: true,
    named_answers: true,
    all_rooms_request: true,
    room_interest: false,
    history: false,
    max_message_bytes: None,
};

/// The broker counts the nodes.
pub(crate) const CENSUS: Capabilities = Capabilities { membership: Membership::BrokerCount, ..HEARTBEATS };

impl Rig {
    /// A node that has just said hello, over a backend of these abilities.
    pub(crate) fn new(capabilities: Capabilities) -> Self {
        Self::with(capabilities, EngineConfig::default())
    }

    pub(crate) fn with(capabilities: Capabilities, config: EngineConfig) -> Self {
        let metrics = Arc::<NodeMetrics>::default();
        let me = NodeKey { id: id("me"), namespace: Namespace::new("/") };
        let engine = Engine::new(me, capabilities, config, Arc::clone(&metrics));
        let mut rig = Self { engine, now: Instant::now(), metrics };
        rig.handle(Input::Start);
        rig
    }

    /// A node that knows these others, over a backend on which all send heartbeats.
    pub(crate) fn among(names: &[&str]) -> Self {
        let mut rig = Self::new(HEARTBEATS);
        names.iter().for_each(|name| drop(rig.meet(name)));
        rig
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<String> {
        self.engine.handle(self.now, input);
        std::iter::from_fn(|| self.engine.poll_output()).map(|output| show(&output)).collect()
    }

    /// Lets time pass, ticking when the engine asks for it.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut shown = Vec::new();
        while let Some(deadline) = self.engine.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            shown.extend(self.handle(Input::Tick));
        }
        self.now = end;
        shown
    }

    pub(crate) fn deliver(&mut self, delivery: Delivery) -> Vec<String> {
        self.handle(Input::Delivery(delivery))
    }

    /// A message without a number.
    pub(crate) fn hear(&mut self, from: &str, message: Message) -> Vec<String> {
        self.deliver(Delivery::Message { from: Some(id(from)), seq_no: None, offset: None, message })
    }

    /// A broadcast with a number on the channel to all.
    pub(crate) fn hear_numbered(&mut self, from: &str, number: u64) -> Vec<String> {
        self.hear_on(SeqChannel::ALL, from, number)
    }

    pub(crate) fn hear_on(&mut self, channel: SeqChannel, from: &str, number: u64) -> Vec<String> {
        let seq_no = Some(SeqNo { channel, number });
        let message = broadcast(&format!("{from}{number}"));
        self.deliver(Delivery::Message { from: Some(id(from)), seq_no, offset: None, message })
    }

    /// The first heartbeat of a node that has published nothing yet.
    pub(crate) fn meet(&mut self, name: &str) -> Vec<String> {
        self.hear(name, heartbeat(true, &[(0, 0)]))
    }

    pub(crate) fn ask(&mut self, name: &str, gather: Gather) -> Vec<String> {
        let request = RequestId::new(name).unwrap();
        let message = match gather {
            Gather::Sockets => Message::FetchSockets { request: request.clone(), target: Target::all() },
            Gather::Rooms => Message::AllRooms { request: request.clone() },
            Gather::Values => Message::ServerSideEmit { request: Some(request.clone()), payload: payload("ask") },
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

    /// An answer that names nobody.
    pub(crate) fn anonymous_answer(&mut self, request: &str, answer: Answer) -> Vec<String> {
        self.respond(None, request, answer)
    }

    fn respond(&mut self, from: Option<NodeId>, request: &str, answer: Answer) -> Vec<String> {
        let response = Response { request: RequestId::new(request).unwrap(), answer };
        self.deliver(Delivery::Response { from, response })
    }

    /// An answer of this node's own clients to an own request.
    pub(crate) fn own_answer(&mut self, request: &str, answer: Answer) -> Vec<String> {
        self.handle(Input::LocalAnswer { to: None, request: RequestId::new(request).unwrap(), answer })
    }

    /// The broker counts these nodes by name, this one, and some foreign ones.
    pub(crate) fn count(&mut self, named: &[&str], foreign: usize) -> Vec<String> {
        let asked = self.engine.begin_count(self.now);
        let (known, absent): (Vec<_>, Vec<_>) = asked.into_iter().partition(|node| named.contains(&node.as_str()));
        let node_count = NodeCount { nodes: 1 + named.len() + foreign, known: known.len(), absent };
        self.handle(Input::NodeCount(Some(node_count)))
    }

    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        self.metrics.snapshot()
    }

    pub(crate) fn members(&self) -> Vec<&str> {
        self.engine.members().map(NodeId::as_str).collect()
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

pub(crate) fn heartbeat(initial: bool, metrics: &[(u16, u64)]) -> Message {
    let seq_no = |&(channel, number)| SeqNo { channel: SeqChannel(channel), number };
    Message::Heartbeat(Heartbeat { initial, high_water_marks: metrics.iter().map(seq_no).collect(), buckets: None })
}

pub(crate) fn sockets(names: &[&str]) -> Answer {
    let socket = |name: &&str| SocketInfo {
        id: SocketId::new(*name).unwrap(),
        node: None,
        rooms: vec![(*name).into()],
        handshake: None,
        data: None,
    };
    Answer::Sockets(names.iter().map(socket).collect())
}

pub(crate) fn value(text: &str) -> Answer {
    Answer::ServerSideEmit(Some(payload(text)))
}

fn show(output: &Output) -> String {
    match output {
        Output::Publish(message) => format!("publish {}", show_message(message)),
        Output::Send(to, Response { request, answer }) => format!("send {to} for {request}: {}", show_answer(answer)),
        Output::Serve { from, message, offset: None } => format!("serve {from}: {}", show_message(message)),
        Output::Serve { from, message, offset: Some(offset) } => {
            format!("serve {from}: {} at {offset}", show_message(message))
        }
        Output::Acknowledged(request, value) => format!("{request}: ack {}", show_payload(value.as_ref())),
        Output::Finished(request, result) => format!("{request}: {}", show_result(result)),
        Output::AskCensus => "count".to_owned(),
        Output::Event(event) => show_event(event),
    }
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
        Answer::Ack(value) => format!("ack {}", show_payload(value.as_ref())),
        answer => format!("{answer:?}"),
    }
}

fn show_result(result: &Result<Answers>) -> String {
    match result {
        Ok(answers) => show_answers(answers),
        Err(error) => show_error(error),
    }
}

fn show_error(error: &Error) -> String {
    let answers = error.partial().map(|partial| format!("; {}", show_answers(&partial.answers)));
    format!("{error}{}", answers.unwrap_or_default())
}

fn show_answers(answers: &Answers) -> String {
    let list = |texts: Vec<String>| format!("[{}]", texts.join(" "));
    match answers {
        Answers::Sockets(sockets) => list(sockets.iter().map(|socket| socket.id.to_string()).collect()),
        Answers::Rooms(rooms) => list(rooms.iter().map(|room| room.to_text().to_string()).collect()),
        Answers::Values(values) => list(values.iter().map(|value| show_payload(value.as_ref())).collect()),
        Answers::Acks { expected, received } => format!("{received} of {expected}"),
    }
}

/// The name of the event in a payload.
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
