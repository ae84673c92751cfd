//! Rooms, as the server sees them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use trunkline_brokers::Nats;
use trunkline_core::{
    Backend, Counters, IdScheme, Message, Namespace, Node, Payload, Room, Target,
    inbox::{Delivery, Inbox},
    transport::{InboxLimits, Seat, WantsAll},
};
use trunkline_nats::{Config, connect};

struct Member {
    backend: Backend,
    node: Node,
    inbox: Inbox,
}

impl Member {
    async fn join(url: &str) -> Self {
        let backend = connect(Config::from_url(url).unwrap()).await.unwrap();
        let node = Node { id: IdScheme::Hex16.node_id(), namespace: Namespace::new("/") };
        let seat = Seat {
            node: node.clone(),
            wanted: Arc::new(WantsAll),
            counters: Arc::<Counters>::default(),
            limits: InboxLimits::default(),
        };
        let inbox = backend.transport.join(seat).await.unwrap();
        Self { backend, node, inbox }
    }

    async fn enter(&self, room: &Room) {
        self.backend.interest.as_ref().unwrap().enter(&self.node, room).await.unwrap();
    }

    async fn emit(&self, target: Target) {
        let message = Message::Broadcast { request: None, target, payload: Payload::event("e", "x").unwrap() };
        self.backend.transport.publish(&self.node, message).await.unwrap();
    }

    /// The targets of the broadcasts that arrive, up to the one to all.
    async fn targets(&mut self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut batch = std::collections::VecDeque::new();
        let all = async {
            loop {
                assert!(self.inbox.next_batch(&mut batch).await, "the inbox has ended");
                for delivery in batch.drain(..) {
                    let Delivery::Message { message: Message::Broadcast { target, .. }, .. } = delivery else {
                        continue;
                    };
                    if target.rooms.is_empty() {
                        return;
                    }
                    targets.push(target);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the marker arrives");
        targets
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_room_receive_none_of_its_traffic() {
    let server = Nats::start().await.unwrap();
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(Member::join(server.url()).await);
    }
    let room = Room::from("only there");
    members[3].enter(&room).await;
    for _ in 0..1000 {
        members[0].emit(Target::room(room.clone())).await;
    }
    members[0].emit(Target::all()).await;
    assert_eq!(members[3].targets().await.len(), 1000);
    for member in &mut members[1..3] {
        assert!(member.targets().await.is_empty(), "even the server sends it nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let server = Nats::start().await.unwrap();
    let sender = Member::join(server.url()).await;
    for round in 0..10 {
        let mut receiver = Member::join(server.url()).await;
        for room in 0..100 {
            let room = Room::new(format!("room {round} {room}"));
            receiver.enter(&room).await;
            sender.emit(Target::room(room)).await;
        }
        sender.emit(Target::all()).await;
        assert_eq!(receiver.targets().await.len(), 100, "round {round}");
        receiver.backend.transport.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_rooms_are_entered_and_left_at_once_without_disturbing_others() {
    let server = Nats::start().await.unwrap();
    let member = Member::join(server.url()).await;
    let (sender, mut receiver) = (Member::join(server.url()).await, Member::join(server.url()).await);
    for number in 0..50_000 {
        member.enter(&Room::new(format!("room {number}"))).await;
    }
    let start = Instant::now();
    member.backend.transport.leave(&member.node).await.unwrap();
    let left = start.elapsed();
    sender.emit(Target::all()).await;
    receiver.targets().await;
    let heard = start.elapsed();
    assert!(left < Duration::from_secs(1) && heard < Duration::from_secs(1), "left in {left:?}, heard after {heard:?}");
}
