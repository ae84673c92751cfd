//! Sessions on a Redis Cluster whose slots move, and whose masters die.

use trunkline_brokers::RedisCluster;
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{Offset, Session, SessionId, Target};

use crate::support::{Wire, cluster, send};

/// What a node keeps for a client, and where the client was; so many broadcasts have come since.
async fn persisted(node: &TestNode, missed: usize) -> Result<(Session, Offset), Failure> {
    let socket = node.socket(["r"]).await?;
    node.emit(Target::room(socket.room()), "seen").await?;
    let since = socket.wait_for(1).await?.last().and_then(|packet| packet.offset.clone()).unwrap();
    let id = SessionId::new(format!("session-of-{}", socket.id()))?;
    let session = Session::new(id, socket.id().clone(), vec!["r".into()]);
    node.persist_session(session.clone()).await?;
    send(node, 0..missed).await?;
    socket.wait_for(1 + missed).await?;
    Ok((session, since))
}

/// The session comes back, once, and with it what was missed.
async fn expect_back(node: &TestNode, session: &Session, since: &Offset, missed: usize) -> Result<(), Failure> {
    let restored = node.restore_session(session.id.clone(), since.clone()).await?.expect("the session is there");
    assert_eq!(restored.session.socket, session.socket);
    assert_eq!(restored.missed.len(), missed, "{:?}", restored.missed);
    assert!(node.restore_session(session.id.clone(), since.clone()).await?.is_none());
    Ok(())
}

async fn move_away(cluster: &RedisCluster, slot: u16) {
    let owner = cluster.owner(slot).await.unwrap().port();
    let target = cluster.nodes().iter().find(|node| node.port() != owner).unwrap();
    cluster.move_slot(slot, target).await.unwrap();
}

async fn slot_of_session(cluster: &RedisCluster, session: &Session) -> u16 {
    cluster.slot(&format!("sio:session:{}", session.id.as_str())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_follows_its_slot_to_another_node() -> Result<(), Failure> {
    let servers = RedisCluster::start().await.unwrap();
    let node = cluster(Wire::Streams, &format!("{}?cluster=on", servers.url()), "").node().await?;
    for _ in 0..20 {
        let (session, since) = persisted(&node, 1).await?;
        let slot = slot_of_session(&servers, &session).await;
        move_away(&servers, slot).await;
        expect_back(&node, &session, &since, 1).await?;
    }
    Ok(())
}

/// In between, the old node says that the key is with the new one, which does not serve it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_comes_back_while_its_slot_moves() -> Result<(), Failure> {
    let servers = RedisCluster::start().await.unwrap();
    let node = cluster(Wire::Streams, &format!("{}?cluster=on", servers.url()), "").node().await?;
    for _ in 0..20 {
        let (session, since) = persisted(&node, 1).await?;
        let slot = slot_of_session(&servers, &session).await;
        let ((), back) = tokio::join!(move_away(&servers, slot), expect_back(&node, &session, &since, 1));
        back?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_read_from_a_stream_that_has_moved() -> Result<(), Failure> {
    let servers = RedisCluster::start().await.unwrap();
    let node = cluster(Wire::Streams, &format!("{}?cluster=on", servers.url()), "").node().await?;
    let slot = servers.slot("socket.io").await.unwrap();
    for _ in 0..3 {
        let (session, since) = persisted(&node, 5).await?;
        move_away(&servers, slot).await;
        expect_back(&node, &session, &since, 5).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_comes_back_from_the_replica_of_a_master_that_died() -> Result<(), Failure> {
    let mut servers = RedisCluster::start().await.unwrap();
    let url = format!("{}?cluster=on", servers.url());
    let node = cluster(Wire::Streams, &url, "response_timeout=20s").node().await?;
    let (session, since) = persisted(&node, 0).await?;
    let owner = servers.owner(slot_of_session(&servers, &session).await).await.unwrap().port();
    let master = servers.nodes().iter().position(|node| node.port() == owner).unwrap();
    servers.add_replica(master).await.unwrap();
    servers.nodes()[master].kill().await.unwrap();
    // Asked for before the failure is noticed.
    expect_back(&node, &session, &since, 0).await
}
