//! `subscription=rooms` of the classic transport: what nodes subscribe to, as the server sees it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::time::timeout;
use trunkline_brokers::Redis;
use trunkline_conformance::kit::{Failure, TestNode, TestSocket};
use trunkline_core::{
    Backend, ErrorKind, IdScheme, Message, MetricsSnapshot, Namespace, NodeId, NodeKey, NodeMetrics, Payload, Room,
    Target,
    model::Delivery,
    transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
};

use crate::support::{TIMEOUT, Wire, backend, cluster, is_gap, until};

/// A member of a cluster without a server, which receives what its subscriptions bring.
struct Member {
    backend: Backend,
    node: NodeKey,
    inbox: Inbox,
    batch: VecDeque<Delivery>,
    metrics: Arc<NodeMetrics>,
}

impl Member {
    async fn join(server: &Redis, parameters: &str) -> Self {
        let backend = backend(Wire::PubSub, server.url(), parameters).await.unwrap();
        let node = NodeKey { id: IdScheme::Short6.node_id(), namespace: Namespace::new("/") };
        let metrics = Arc::<NodeMetrics>::default();
        let request =
            JoinRequest::new(node.clone(), Arc::new(Unfiltered), Arc::clone(&metrics), InboxLimits::default());
        let inbox = backend.transport.join(request).await.unwrap();
        Self { backend, node, inbox, batch: VecDeque::new(), metrics }
    }

    async fn enter(&self, room: impl Into<Room>) {
        let interest = self.backend.interest.as_ref().unwrap();
        interest.room_created(&self.node, &room.into()).await.unwrap();
    }

    async fn exit(&self, room: impl Into<Room>) {
        let interest = self.backend.interest.as_ref().unwrap();
        interest.room_deleted(&self.node, &room.into()).await.unwrap();
    }

    fn subscriptions(&self) -> usize {
        self.backend.interest.as_ref().unwrap().subscriptions(&self.node)
    }

    async fn publish(&self, message: Message) {
        self.backend.transport.publish(&self.node, message).await.unwrap();
    }

    async fn emit(&self, target: Target, number: u64) {
        self.publish(broadcast(target, number)).await;
    }

    /// The number of the next broadcast.
    async fn number(&mut self) -> u64 {
        let next = async {
            loop {
                while self.batch.is_empty() {
                    assert!(self.inbox.next_batch(&mut self.batch).await, "the inbox has ended");
                }
                if let Some(Delivery::Message { message: Message::Broadcast { payload, .. }, .. }) =
                    self.batch.pop_front()
                {
                    return payload.arguments::<(u64,)>().unwrap().0;
                }
            }
        };
        timeout(TIMEOUT, next).await.expect("something arrives")
    }
}

fn broadcast(target: Target, number: u64) -> Message {
    Message::Broadcast { request: None, target, payload: Payload::event("e", &number).unwrap() }
}

/// The channels of broadcasts that have subscribers.
async fn channels(server: &Redis) -> BTreeSet<String> {
    let printed = server.cli(&["PUBSUB", "CHANNELS", "socket.io#*"]).await.unwrap();
    printed.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

async fn subscribers(server: &Redis, channel: &str) -> u64 {
    let printed = server.cli(&["PUBSUB", "NUMSUB", channel]).await.unwrap();
    printed.lines().last().unwrap().parse().unwrap()
}

async fn patterns(server: &Redis) -> u64 {
    server.cli(&["PUBSUB", "NUMPAT"]).await.unwrap().trim().parse().unwrap()
}

const ROOMS: &str = "subscription=rooms";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_receives_only_what_goes_to_its_rooms_and_to_all() {
    let server = Redis::start().await.unwrap();
    let sender = Member::join(&server, ROOMS).await;
    let (mut inside, mut outside) = (Member::join(&server, ROOMS).await, Member::join(&server, ROOMS).await);
    inside.enter("r").await;
    assert_eq!(channels(&server).await, BTreeSet::from(["socket.io#/#".into(), "socket.io#/#r#".into()]));
    assert_eq!((subscribers(&server, "socket.io#/#r#").await, patterns(&server).await), (1, 0));
    for number in 1..=1000 {
        sender.emit(Target::room("r"), number).await;
    }
    sender.emit(Target::all(), 0).await;
    for number in (1..=1000).chain([0]) {
        assert_eq!(inside.number().await, number);
    }
    assert_eq!(outside.number().await, 0, "even the server sends it nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_and_its_text_share_a_channel_until_both_are_left() {
    let server = Redis::start().await.unwrap();
    let (sender, mut member) =
        (Member::join(&server, "").await, Member::join(&server, "subscription=rooms&linger=1ms").await);
    member.enter(42).await;
    member.enter("42").await;
    assert_eq!(member.subscriptions(), 1);
    member.exit(42).await;
    sender.emit(Target::room("42"), 1).await;
    assert_eq!(member.number().await, 1);
    member.exit("42").await;
    until("the subscription ends", async || subscribers(&server, "socket.io#/#42#").await == 0).await;
    assert_eq!(member.subscriptions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_outlasts_its_last_member_and_all_end_with_the_node() {
    let server = Redis::start().await.unwrap();
    let member = Member::join(&server, "subscription=rooms&linger=300ms").await;
    for _ in 0..100 {
        member.enter("r").await;
        member.exit("r").await;
    }
    assert_eq!(subscribers(&server, "socket.io#/#r#").await, 1);
    until("the subscription ends", async || subscribers(&server, "socket.io#/#r#").await == 0).await;
    member.enter("r").await;
    member.backend.transport.leave(&member.node).await.unwrap();
    assert_eq!(channels(&server).await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let server = Redis::start().await.unwrap();
    let (sender, mut receiver) = (Member::join(&server, "").await, Member::join(&server, ROOMS).await);
    for number in 0..1000 {
        let room = Room::new(format!("room {number}"));
        receiver.enter(room.clone()).await;
        sender.emit(Target::room(room), number).await;
        assert_eq!(receiver.number().await, number);
    }
}

/// A node that subscribes by pattern knows nothing of the others' way, and keeps to the grace period, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_right_after_remote_sockets_were_made_to_join_goes_to_all_nodes() {
    let server = Redis::start().await.unwrap();
    for parameters in ["", ROOMS] {
        let sender = Member::join(&server, parameters).await;
        let mut receiver = Member::join(&server, ROOMS).await;
        sender.publish(Message::Join { target: Target::all(), rooms: vec!["r".into()] }).await;
        sender.emit(Target::room("r"), 7).await;
        assert_eq!(receiver.number().await, 7, "it has not subscribed to the room");
        assert_eq!(subscribers(&server, "socket.io#/#r#").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_a_pattern_takes_the_place_of_the_channels_and_nothing_arrives_twice_or_never() {
    let server = Redis::start().await.unwrap();
    let sender = Member::join(&server, ROOMS).await;
    let mut member = Member::join(&server, "subscription=rooms&max_subscriptions=10").await;
    for room in 0..10 {
        member.enter(room).await;
    }
    assert_eq!((member.subscriptions(), member.metrics.snapshot().subscription_fallbacks), (10, 0));
    // Without numbers, as official peers send it: nothing but the subscriptions tells a repeat.
    let publishing = tokio::spawn({
        let emitter = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new("/") };
        let transport = Arc::clone(&sender.backend.transport);
        async move {
            for number in 0..20_000 {
                let target =
                    if number % 7 == 0 { Target::all() } else { Target::room(i32::try_from(number % 10).unwrap()) };
                transport.publish(&emitter, broadcast(target, number)).await.unwrap();
                if number % 100 == 0 {
                    transport.flush().await.unwrap();
                }
            }
        }
    });
    for number in 0..20_000 {
        assert_eq!(member.number().await, number);
        if number == 2000 {
            for room in 10..15 {
                member.enter(room).await;
            }
        }
    }
    publishing.await.unwrap();
    assert_eq!((member.subscriptions(), member.metrics.snapshot().subscription_fallbacks), (1, 1));
    let sender_only = async || channels(&server).await == BTreeSet::from(["socket.io#/#".into()]);
    until("the channels are given up", sender_only).await;
    assert_eq!(subscribers(&server, "socket.io#/#").await, 1);
    assert_eq!(patterns(&server).await, 1);
    member.backend.transport.leave(&member.node).await.unwrap();
    assert_eq!(patterns(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_patterns_all_rooms_are_subscribed_to_and_the_other_way_is_refused() {
    let server = Redis::options().arguments(&["--rename-command", "PSUBSCRIBE", ""]).start().await.unwrap();
    let refused = backend(Wire::PubSub, server.url(), "").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("subscription=rooms, mode=sharded and mode=streams do without"), "{refused}");
    let sender = Member::join(&server, ROOMS).await;
    let mut member = Member::join(&server, "subscription=rooms&max_subscriptions=2").await;
    for room in 0..5_i32 {
        let number = u64::from(room.unsigned_abs());
        member.enter(room).await;
        sender.emit(Target::room(room), number).await;
        assert_eq!(member.number().await, number);
    }
    assert_eq!((member.subscriptions(), member.metrics.snapshot().subscription_fallbacks), (5, 0));
}

// --- whole nodes ---

async fn node(server: &Redis, parameters: &str) -> Result<TestNode, Failure> {
    cluster(Wire::PubSub, server.url(), parameters).node().await
}

async fn send(node: &TestNode, target: Target, number: usize) -> Result<(), Failure> {
    Ok(node.broadcast(target, Payload::event("n", &number).unwrap()).await?)
}

fn numbers(socket: &TestSocket) -> Vec<usize> {
    socket.packets().iter().map(|packet| packet.payload.arguments::<(usize,)>().unwrap().0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_mixed_cluster_no_node_reports_a_gap_and_pattern_nodes_notice_one() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let (pattern, rooms) = (node(&server, "").await?, node(&server, ROOMS).await?);
    let [by_pattern, by_name] = [pattern.socket(["r"]).await?, rooms.socket(["r"]).await?];
    pattern.wait_for_peers(1).await?;
    rooms.wait_for_peers(1).await?;
    for number in 0..100 {
        let target = match number % 3 {
            0 => Target::all(),
            1 => Target::room("r"),
            _ => Target::room("without members on any node"),
        };
        send(&pattern, target.clone(), number).await?;
        send(&rooms, target, number).await?;
    }
    for socket in [&by_pattern, &by_name] {
        socket.wait_for(67 * 2).await?;
        assert_eq!(numbers(socket).len(), 67 * 2);
    }
    let quiet = |metrics: MetricsSnapshot| (metrics.gaps, metrics.repeats, metrics.malformed) == (0, 0, 0);
    assert!(quiet(pattern.metrics()) && quiet(rooms.metrics()), "{:?} {:?}", pattern.metrics(), rooms.metrics());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_every_connection_was_killed_rooms_are_there_again_and_one_gap_is_told() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let (a, b) = (node(&server, ROOMS).await?, node(&server, ROOMS).await?);
    let names: Vec<_> = (0..100).map(|room| format!("room {room}")).collect();
    let there = b.socket(names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let before = channels(&server).await;
    assert_eq!(before.len(), names.len() + 2, "the namespace's, each room's and the socket's own");
    let gap = b.events();
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    b.wait_for_event(gap, is_gap, "of a gap").await?;
    assert_eq!(channels(&server).await, before);
    for (number, name) in names.iter().enumerate() {
        send(&a, Target::room(name.as_str()), number).await?;
    }
    there.wait_for(names.len()).await?;
    assert_eq!(numbers(&there), (0..names.len()).collect::<Vec<_>>());
    assert_eq!((b.metrics().gaps, b.metrics().connections_lost), (1, 1));
    Ok(())
}
