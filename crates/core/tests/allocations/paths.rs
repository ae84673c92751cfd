//! What one broadcast allocates on its way, from the server's call to the sockets of another node.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use allocation_counter::measure;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::timeout,
};
use trunkline_core::{
    AckSink, Backend, ClusterNode, DeliveryReport, EventReply, Local, Namespace, NodeConfig, NodeId, Offset, Payload,
    Room, SocketInfo, Target,
    codec::Format,
    memory::{self, MemoryConfig},
    payload::Rules,
};

use crate::{SIZES, answers, objects, packed, text, transport::RecordingTransport};

/// Number of messages per measurement.
const MESSAGES: usize = 1000;

/// Allocations of an emit: the target for the own sockets, the encoded message.
const EMIT: f64 = 2.0;

/// Allocations of a received message: the list of rooms.
const RECEIVE: f64 = 1.0;

/// Allocations of a received message whose room has no member: none, only the room is read.
const DROP: f64 = 0.0;

/// Allocations over the memory transport: the target for the own sockets and that for the other node's.
const MEMORY: f64 = 2.0;

/// A server with a member in one room, which counts deliveries, with sockets that can be fetched, and
/// with clients that acknowledge at once.
#[derive(Debug)]
struct Server {
    delivered: AtomicU64,
    sockets: Vec<SocketInfo>,
}

impl Local for Server {
    fn deliver(&self, _: &Target, _: &Payload, _: Option<&Offset>) -> DeliveryReport {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, acks: AckSink) -> u32 {
        (0..answers::CLIENTS).for_each(|_| acks.ack(None));
        answers::CLIENTS
    }

    fn sockets(&self, _: &Target) -> Vec<SocketInfo> {
        self.sockets.clone()
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn has_room(&self, room: &Room) -> bool {
        room.as_text() == Some("room-1")
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}

/// A node whose server counts deliveries.
pub(crate) struct CountedNode {
    node: ClusterNode,
    server: Arc<Server>,
}

impl CountedNode {
    pub(crate) async fn join(backend: Backend) -> Self {
        let server = Arc::new(Server { delivered: AtomicU64::new(0), sockets: answers::sockets() });
        let local: Arc<dyn Local> = Arc::clone(&server) as _;
        let config = NodeConfig::default();
        let node = ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&local), config).await.unwrap();
        Self { node, server }
    }

    pub(crate) fn describe(&self) -> Vec<SocketInfo> {
        self.server.sockets(&Target::all())
    }

    async fn broadcast(&self, targets: Vec<Target>, payload: &Payload) {
        for target in targets {
            self.node.broadcast(target, payload.clone()).await.unwrap();
        }
    }

    /// Waits until `more` messages have been delivered.
    async fn delivered(&self, more: usize) {
        let all = async {
            while self.server.delivered.load(Ordering::Relaxed) < more as u64 {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), all).await.expect("all messages are delivered");
        self.server.delivered.store(0, Ordering::Relaxed);
    }
}

/// A runtime with one thread and a stopped clock: nothing but what is measured happens meanwhile.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn targets(room: &str) -> Vec<Target> {
    vec![Target::room(room); MESSAGES]
}

/// Allocations per message.
fn allocations(runtime: &Runtime, work: impl Future<Output = ()>) -> f64 {
    measure(|| runtime.block_on(work)).count_total as f64 / MESSAGES as f64
}

/// Checks a bound per message. Batches add a few allocations for all of them.
#[track_caller]
fn at_most(bound: f64, counted: f64, what: &str) {
    println!("{what}: {counted:.2}");
    assert!(counted <= bound + 0.05, "{what}: {counted} allocations a message, at most {bound} should be");
}

#[test]
fn a_broadcast_costs_two_allocations_at_the_sender_and_one_at_the_receiver() {
    let runtime = runtime();
    for payload in SIZES.into_iter().flat_map(|size| [text(size), objects(size)]) {
        for (format, payload) in [(Format::Json, payload.clone()), (Format::MsgPack(Rules::Notepack), packed(&payload))]
        {
            let (here, there) = (RecordingTransport::new(format), RecordingTransport::new(format));
            let sender = runtime.block_on(CountedNode::join(here.backend()));
            let receiver = runtime.block_on(CountedNode::join(there.backend()));
            let what = |what: &str| format!("{what} {payload:?} as {format:?}");
            let emit = |room: &str| {
                let targets = targets(room);
                let counted = allocations(&runtime, sender.broadcast(targets, &payload));
                (counted, runtime.block_on(here.written()))
            };
            let receive = |messages: &[_], expected| {
                allocations(&runtime, async {
                    there.arrive(messages);
                    receiver.delivered(expected).await;
                })
            };
            // Until all queues have their size.
            receive(&emit("room-1").1, MESSAGES);

            let (counted, messages) = emit("room-1");
            at_most(EMIT, counted, &what("emitting"));
            at_most(RECEIVE, receive(&messages, MESSAGES), &what("receiving"));
            let (_, mut messages) = emit("nowhere");
            messages.extend(emit("room-1").1.pop());
            at_most(DROP, receive(&messages, 1), &what("dropping"));
        }
    }
}

#[test]
fn in_memory_a_broadcast_costs_two_allocations_to_the_sockets_of_another_node() {
    let runtime = runtime();
    let backend = memory::backend("allocations", MemoryConfig::default()).unwrap();
    let sender = runtime.block_on(CountedNode::join(backend.clone()));
    let receiver = runtime.block_on(CountedNode::join(backend));
    for payload in SIZES.into_iter().flat_map(|size| [text(size), packed(&objects(size))]) {
        let all = |targets| async {
            sender.broadcast(targets, &payload).await;
            receiver.delivered(MESSAGES).await;
        };
        runtime.block_on(all(targets("room-1")));
        let targets = targets("room-1");
        at_most(MEMORY, allocations(&runtime, all(targets)), &format!("{payload:?} in memory"));
    }
}
