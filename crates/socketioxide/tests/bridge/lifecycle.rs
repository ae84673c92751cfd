//! The end of servers and namespaces: announced, complete, and without a task left behind.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;
use trunkline_core::{DownReason, Event};

use crate::kit::{Client, Options, Server, TIMEOUT, connected, pair, within};

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until no more tasks than before are alive.
async fn back_to(before: usize) {
    within(async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn left(events: &mut tokio::sync::broadcast::Receiver<Event>) -> DownReason {
    loop {
        if let Event::NodeDown(_, reason) = within(events.recv()).await.unwrap() {
            return reason;
        }
    }
}

#[tokio::test]
async fn a_dropped_server_leaves_at_once_and_ends_its_tasks() {
    let before = tasks();
    let [a, b] = pair().await;
    let mut events = a.root().events();
    let handle = b.root();
    drop(b);
    assert_eq!(left(&mut events).await, DownReason::Left);
    within(handle.closed()).await;
    drop(a);
    back_to(before).await;
}

#[tokio::test]
async fn closing_a_server_waits_until_its_nodes_have_left() {
    let before = tasks();
    let [a, b] = pair().await;
    b.io.ns("/x", connected).await.unwrap();
    let mut client = Client::of(&b, &[]).await;
    b.io.close().await;
    client.disconnected().await;
    within(async {
        while !a.root().peers().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(b.cluster.of("/").is_err());
    drop((a, b, client));
    back_to(before).await;
}

/// A transport that is dropped ends its connections to the broker.
#[tokio::test]
async fn a_server_that_is_closed_with_clients_connected_lets_go_of_its_backend() {
    let before = tasks();
    for namespaces in [&["/"][..], &["/", "/x"]] {
        let options = Options::new();
        let transport = Arc::downgrade(&options.backend.transport);
        let server = Server::start(options).await;
        server.io.ns("/x", connected).await.unwrap();
        let mut clients = Vec::new();
        for namespace in namespaces {
            clients.push(Client::with(&server, namespace, &()).await);
        }
        server.io.close().await;
        for client in &mut clients {
            client.disconnected().await;
        }
        drop((server, clients));
        back_to(before).await;
        assert!(transport.upgrade().is_none(), "clients in {namespaces:?}");
    }
}

#[tokio::test]
async fn an_attached_server_lets_go_of_its_backend_when_it_or_the_cluster_is_closed() {
    let before = tasks();
    for closes_server in [true, false] {
        let options = Options::new();
        let transport = Arc::downgrade(&options.backend.transport);
        let server = Server::start(options).await;
        server.cluster.attach(&server.io);
        let client = Client::of(&server, &[]).await;
        if closes_server {
            server.io.close().await;
        } else {
            server.cluster.close();
        }
        drop((server, client));
        back_to(before).await;
        assert!(transport.upgrade().is_none(), "closes_server: {closes_server}");
    }
}

#[tokio::test]
async fn namespaces_open_and_close_in_traffic_without_leaving_tasks() {
    let [a, b] = pair().await;
    let before = tasks();
    for _ in 0..20 {
        b.io.ns("/x", connected).await.unwrap();
        a.io.ns("/x", connected).await.unwrap();
        a.cluster.of("/x").unwrap().await_peers(1, TIMEOUT).await.unwrap();
        let mut client = Client::with(&b, "/x", &()).await;
        let operators = a.io.of("/x").unwrap();
        for number in 0..50 {
            operators.clone().emit("tick", &number).await.unwrap();
        }
        client.event("tick").await;
        let handles = [a.cluster.of("/x").unwrap(), b.cluster.of("/x").unwrap()];
        b.io.delete_ns("/x");
        operators.emit("late", &()).await.unwrap();
        a.io.delete_ns("/x");
        for handle in handles {
            within(handle.closed()).await;
        }
    }
    back_to(before).await;
}

#[tokio::test]
async fn a_client_that_disconnects_in_traffic_harms_no_other_client() {
    let [a, b] = pair().await;
    let mut stays = Client::of(&b, &["x"]).await;
    for round in 0..20 {
        let leaving = Client::of(&b, &["x"]).await;
        for number in 0..50 {
            a.io.to("x").emit("tick", &(round, number)).await.unwrap();
        }
        drop(leaving);
    }
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(stays.until("end").await.len(), 1000);
}

#[tokio::test]
async fn a_dropped_stream_of_acknowledgements_leaves_no_task() {
    let options = Options::new();
    let server = Server::start(options).await;
    let mut client = Client::of(&server, &[]).await;
    let before = tasks();
    for _ in 0..10 {
        let asking = server.io.timeout(Duration::from_millis(20));
        drop(asking.emit_with_ack::<_, ()>("who", &()).await.unwrap());
        client.event("who").await;
    }
    back_to(before).await;
}
