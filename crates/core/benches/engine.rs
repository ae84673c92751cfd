//! Steps of the engine among nine other nodes: inputs, and everything that comes out of them.

#![allow(missing_docs, reason = "criterion's macro makes undocumented functions")]
// Helpers unwrap: a panic here is a broken benchmark.
#![allow(clippy::unwrap_used)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use trunkline_core::{
    Ack, Answer, Capabilities, Heartbeat, Membership, Message, Namespace, NodeId, NodeKey, NodeMetrics, Payload,
    RequestId, Response, SocketId, SocketInfo, Target,
    engine::{Engine, EngineConfig, Gather, Input, Output, Request},
    model::{Delivery, SeqChannel, SeqNo},
};

const PEERS: usize = 9;

/// Clients of each node that acknowledge, and sockets that it describes.
const CLIENTS: u32 = 10;

struct Bench {
    engine: Engine,
    now: Instant,
    peers: Vec<NodeId>,
    payload: Payload,
    sockets: Vec<SocketInfo>,
    /// The last number that each peer has given to a message.
    number: u64,
}

impl Bench {
    fn new() -> Self {
        let me = NodeKey { id: NodeId::new("0123456789abcdef").unwrap(), namespace: Namespace::new("/") };
        let engine = Engine::new(me, capabilities(), EngineConfig::default(), Arc::<NodeMetrics>::default());
        let peers = (0..PEERS).map(|peer| NodeId::new(format!("{peer:016x}")).unwrap()).collect();
        let payload = Payload::event("message", &("x".repeat(100),)).unwrap();
        let sockets = (0..CLIENTS).map(socket).collect();
        let mut bench = Self { engine, now: Instant::now(), peers, payload, sockets, number: 0 };
        bench.step(Input::Start);
        bench.heartbeats();
        bench
    }

    /// One input. Returns whether a request has ended by it.
    fn step(&mut self, input: Input) -> bool {
        self.engine.handle(self.now, input);
        let mut ended = false;
        while let Some(output) = self.engine.poll_output() {
            ended |= matches!(&output, Output::Finished(_, Ok(_)));
            black_box(output);
        }
        ended
    }

    fn hear(&mut self, peer: usize, seq_no: Option<SeqNo>, message: Message) -> bool {
        let from = Some(self.peers[peer].clone());
        self.step(Input::Delivery(Delivery::Message { from, seq_no, offset: None, message }))
    }

    /// One of each peer.
    fn heartbeats(&mut self) {
        let metrics = vec![SeqNo { channel: SeqChannel::ALL, number: self.number }];
        for peer in 0..PEERS {
            let heartbeat = Heartbeat::new(false).with_high_water_marks(metrics.clone());
            self.hear(peer, None, Message::Heartbeat(heartbeat));
        }
    }

    /// One of each peer.
    fn broadcasts(&mut self) {
        self.number += 1;
        for peer in 0..PEERS {
            let seq_no = Some(SeqNo { channel: SeqChannel::ALL, number: self.number });
            let message = Message::Broadcast { request: None, target: Target::all(), payload: self.payload.clone() };
            self.hear(peer, seq_no, message);
        }
    }

    fn ask(&mut self, gather: Gather, message: Message) -> RequestId {
        let id = message.request().unwrap().clone();
        let request = Request { id: id.clone(), gather, message: Some(message), deadline: self.now + TIMEOUT };
        self.step(Input::Request(request));
        id
    }

    fn answer(&mut self, peer: usize, request: &RequestId, answer: Answer) -> bool {
        let response = Response { request: request.clone(), answer };
        let from = Some(self.peers[peer].clone());
        self.step(Input::Delivery(Delivery::Response { from, response }))
    }

    /// A broadcast that ten clients of each peer acknowledge.
    fn acknowledged_broadcast(&mut self) {
        let request = Some(RequestId::new("0123456789abcdef").unwrap());
        let message = Message::Broadcast { request, target: Target::all(), payload: self.payload.clone() };
        let id = self.ask(Gather::Acks, message);
        self.step(Input::LocalAnswer { to: None, request: id.clone(), answer: Answer::ClientCount(0) });
        let mut ended = false;
        for peer in 0..PEERS {
            self.answer(peer, &id, Answer::ClientCount(CLIENTS));
            for _ in 0..CLIENTS {
                ended = self.answer(peer, &id, Answer::Ack(Ack::default()));
            }
        }
        assert!(ended, "every client has acknowledged");
    }

    /// Each peer describes ten sockets.
    fn fetch(&mut self) {
        let request = RequestId::new("0123456789abcdef").unwrap();
        let id = self.ask(Gather::Sockets, Message::FetchSockets { request, target: Target::all() });
        let mut ended = false;
        for peer in 0..PEERS {
            let sockets = self.sockets.clone();
            ended = self.answer(peer, &id, Answer::Sockets(sockets));
        }
        assert!(ended, "every node has answered");
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn capabilities() -> Capabilities {
    Capabilities::new(Membership::Heartbeats)
        .with_total_order(true)
        .with_acknowledged_in_order(true)
        .with_numbered(true)
        .with_announced_leave(true)
        .with_named_answers(true)
}

fn socket(number: u32) -> SocketInfo {
    let id = SocketId::new(format!("{number:020}")).unwrap();
    SocketInfo::new(id, vec!["room-1".into()])
}

fn steps(c: &mut Criterion) {
    let mut bench = Bench::new();
    let mut group = c.benchmark_group("engine");
    group.bench_function("9 heartbeats", |b| b.iter(|| bench.heartbeats()));
    group.bench_function("9 numbered broadcasts", |b| b.iter(|| bench.broadcasts()));
    group.bench_function("broadcast, 9 counts, 90 acknowledgements", |b| b.iter(|| bench.acknowledged_broadcast()));
    group.bench_function("fetch of 90 sockets from 9 nodes", |b| b.iter(|| bench.fetch()));
}

criterion_group!(benches, steps);
criterion_main!(benches);
