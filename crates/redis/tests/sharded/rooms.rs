//! Rooms and connections, as the server sees them.

use std::time::Duration;

use trunkline_brokers::Redis;
use trunkline_core::{Error, ErrorKind, IdScheme, Room, Target};
use trunkline_redis::connect;

use crate::support::{Member, config, is_gap, is_lost, numbers, send, until};

/// How many connections listen to a channel.
async fn subscribers(server: &Redis, channel: &str) -> u64 {
    let printed = server.cli(&["PUBSUB", "SHARDNUMSUB", channel]).await.unwrap();
    printed.lines().last().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_a_room_receive_none_of_its_traffic() {
    let server = Redis::start().await.unwrap();
    let sender = Member::join(server.url(), "").await;
    let (mut inside, mut outside) = (Member::join(server.url(), "").await, Member::join(server.url(), "").await);
    inside.enter("r").await;
    assert_eq!(subscribers(&server, "socket.io#/#r#").await, 1);
    for number in 1..=1000 {
        sender.emit(Target::room("r"), number).await;
    }
    sender.emit(Target::all(), 0).await;
    for number in 1..=1000 {
        assert_eq!(inside.number().await, number);
    }
    assert_eq!(outside.number().await, 0, "even the server sends it nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let server = Redis::start().await.unwrap();
    let (sender, mut receiver) = (Member::join(server.url(), "").await, Member::join(server.url(), "").await);
    for number in 0..1000 {
        let room = Room::new(format!("room {number}"));
        receiver.enter(room.clone()).await;
        sender.emit(Target::room(room), number).await;
        assert_eq!(receiver.number().await, number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscription_of_a_room_outlasts_its_last_member_for_a_while() {
    let server = Redis::start().await.unwrap();
    let member = Member::join(server.url(), "linger=300ms").await;
    let interest = member.backend.interest.as_ref().unwrap();
    member.enter("r").await;
    for _ in 0..100 {
        interest.room_deleted(&member.node, &"r".into()).await.unwrap();
        member.enter("r").await;
    }
    interest.room_deleted(&member.node, &"r".into()).await.unwrap();
    assert_eq!(subscribers(&server, "socket.io#/#r#").await, 1);
    until("the subscription ends", async || subscribers(&server, "socket.io#/#r#").await == 0).await;
    member.enter("r").await;
    assert_eq!(subscribers(&server, "socket.io#/#r#").await, 1);
    member.backend.transport.leave(&member.node).await.unwrap();
    assert_eq!(subscribers(&server, "socket.io#/#r#").await + subscribers(&server, "socket.io#/#").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_namespaces_and_rooms_share_one_connection_to_publish_and_one_to_receive() {
    let server = Redis::start().await.unwrap();
    let backend = connect(config(server.url(), "")).await.unwrap();
    let mut members = Vec::new();
    for namespace in ["/", "/a", "/b", "/c"] {
        let member = Member::over(&backend, IdScheme::Hex16.node_id(), namespace).await;
        for room in 0..50 {
            member.enter(room).await;
            member.emit(Target::room(room), 1).await;
        }
        members.push(member);
    }
    let list = server.cli(&["CLIENT", "LIST"]).await.unwrap();
    for name in ["name=trunkline-publish", "name=trunkline-receive"] {
        assert_eq!(list.matches(name).count(), 1, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_every_connection_was_killed_rooms_are_there_again_and_one_gap_is_told() {
    let server = Redis::start().await.unwrap();
    let cluster = crate::support::cluster(server.url(), "");
    let [a, b] = cluster.nodes().await.unwrap();
    let there = b.socket(["r"]).await.unwrap();
    send(&a, 0).await;
    there.wait_for(1).await.unwrap();
    let (lost, gap) = (b.events(), b.events());
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await.unwrap();
    b.wait_for_event(gap, is_gap, "of a gap").await.unwrap();
    for number in 1..100 {
        send(&a, number).await;
    }
    until("the last one arrives", async || numbers(&there).last() == Some(&99)).await;
    assert_eq!((b.metrics().gaps, b.metrics().connections_lost), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_entered_while_the_server_is_away_is_there_when_it_is_back() {
    let server = Redis::start().await.unwrap();
    let (sender, mut receiver) = (Member::join(server.url(), "").await, Member::join(server.url(), "").await);
    server.kill().await.unwrap();
    until("the loss is noticed", async || !receiver.backend.transport.health().connected).await;
    receiver.enter("r").await;
    server.restart().await.unwrap();
    until("the room is there", async || subscribers(&server, "socket.io#/#r#").await == 1).await;
    sender.emit(Target::room("r"), 7).await;
    assert_eq!(receiver.number().await, 7);
}

async fn refused(url: &str, parameters: &str) -> Error {
    connect(config(url, parameters)).await.unwrap_err()
}

/// What a server before 7.0 answers, as far as one of today can be made to.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_sharded_pubsub_is_refused_with_its_version() {
    let server = Redis::options().arguments(&["--rename-command", "PUBSUB", ""]).start().await.unwrap();
    let error = refused(server.url(), "").await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let (text, info) = (error.to_string(), server.cli(&["INFO", "server"]).await.unwrap());
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // Valkey also says which Redis it is like.
    let valkey = field("valkey_version:").map(|version| format!("Valkey {version}"));
    let version = valkey.unwrap_or_else(|| format!("Redis {}", field("redis_version:").unwrap()));
    for part in ["mode=sharded", "SSUBSCRIBE", "7.0", &version] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_leave_to_subscribe_is_told_so() {
    let server = Redis::start().await.unwrap();
    let rule = ["ACL", "SETUSER", "app", "on", ">pw", "+@all", "-ssubscribe", "&*"];
    server.cli(&rule).await.unwrap();
    let url = server.url().replace("redis://", "redis://app:pw@");
    let backend = connect(config(&url, "")).await.unwrap();
    let cluster = trunkline_conformance::kit::TestCluster::new(&trunkline_conformance::Setup::new(move |_| {
        let backend = backend.clone();
        async move { Ok(backend) }
    }));
    let failure = tokio::time::timeout(Duration::from_secs(20), cluster.node()).await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("NOPERM"), "{failure}");
}
