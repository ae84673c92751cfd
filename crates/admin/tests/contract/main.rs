//! The contract of the page, as its sources have it, on servers over the memory transport.

// In helpers of tests, too, a panic is the failure message.
#![allow(clippy::unwrap_used)]

mod kit;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{pause, resume, sleep};
use trunkline_admin::{AdminConfig, Auth};

use crate::kit::{Client, HASH, Server, backend, password, within};

fn right() -> Value {
    json!({ "username": "admin", "password": "changeit" })
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_words_that_the_page_knows_and_cost_time() {
    let server = Server::start(&backend(), password()).await;
    let wrong = [
        json!({ "username": "admin", "password": "changed" }),
        json!({ "username": "other", "password": "changeit" }),
        json!({ "username": "admin", "password": "" }),
    ];
    for auth in wrong {
        let began = Instant::now();
        let refused = Client::page(&server, auth.clone()).await.err();
        assert_eq!(refused, Some(json!({ "message": "invalid credentials" })), "{auth}");
        assert!(began.elapsed() >= Duration::from_secs(1), "{auth}");
    }
    for auth in
        [json!({}), json!({ "sessionId": null }), json!({ "sessionId": "x" }), json!({ "username": {} }), json!(7)]
    {
        let refused = Client::page(&server, auth.clone()).await.err();
        assert_eq!(refused, Some(json!({ "message": "invalid credentials" })), "{auth}");
    }
}

#[tokio::test]
async fn a_session_is_valid_on_every_server_with_the_password() {
    let backend = backend();
    let [a, b] = [Server::start(&backend, password()).await, Server::start(&backend, password()).await];
    let mut page = Client::page(&a, right()).await.unwrap();
    let session = page.event("session").await.remove(0);
    assert!(Client::page(&b, json!({ "sessionId": session })).await.is_ok());
    let other = Auth::basic("admin", HASH.replace("zdB", "zdC").replace("2b", "2a")).unwrap();
    let c = Server::start(&backend, AdminConfig::new(other)).await;
    assert!(Client::page(&c, json!({ "sessionId": session })).await.is_err());
}

#[tokio::test]
async fn a_function_checks_names_and_passwords_and_without_auth_none_is_needed() {
    let check = Auth::check(async |name: String, password: String| name == "ada" && password == "secret");
    let server = Server::start(&backend(), AdminConfig::new(check)).await;
    let mut page = Client::page(&server, json!({ "username": "ada", "password": "secret" })).await.unwrap();
    let session = page.event("session").await.remove(0);
    assert!(Client::page(&server, json!({ "sessionId": session })).await.is_ok());
    assert!(Client::page(&server, right()).await.is_err());

    let server = Server::start(&backend(), AdminConfig::new(Auth::none())).await;
    let mut page = Client::page(&server, json!({})).await.unwrap();
    page.event("config").await;
}

#[test]
fn a_password_that_is_no_hash_is_an_error() {
    for password in ["", "changeit", "$2b$", &HASH[1..], &HASH.replace("$06$", "$99$")] {
        let error = Auth::basic("admin", password).unwrap_err();
        assert_eq!(error.to_string(), "configuration: the password of the admin page must be a bcrypt hash");
    }
}

#[tokio::test]
async fn by_default_the_page_gets_counts_and_changes_nothing() {
    let server = Server::start(&backend(), password().server_id("one")).await;
    let mut client = Client::of(&server).await;
    let mut page = Client::page(&server, right()).await.unwrap();
    assert_eq!(page.event("config").await, [json!({ "supportedFeatures": ["AGGREGATED_EVENTS"] })]);
    page.emit(json!(["_disconnect", "/", true])).await;
    page.emit(json!(["emit", "/", null, "forbidden"])).await;
    let stats = page.event("server_stats").await.remove(0);
    assert_eq!(stats["serverId"], "one");
    assert_eq!([&stats["clientsCount"], &stats["pollingClientsCount"]], [&json!(2), &json!(0)]);
    let namespaces = json!([{ "name": "/", "socketsCount": 1 }, { "name": "/admin", "socketsCount": 1 }]);
    assert_eq!(stats["namespaces"], namespaces);
    // What the page has sent was read: packets of a client are read in order.
    page.event("server_stats").await;
    client.emit(json!(["join", "x"])).await;
    client.event("joined").await;
    assert_eq!(client.unread_event(), None);
}

#[tokio::test]
async fn sockets_rooms_events_and_reasons_of_all_servers_are_told() {
    let backend = backend();
    let config = || password().development();
    let [a, b] = [Server::start(&backend, config()).await, Server::start(&backend, config()).await];
    a.knows(1).await;
    assert_ne!(a.admin.server_id(), b.admin.server_id());
    let mut before = Client::of(&b).await;
    before.emit(json!(["join", "early"])).await;
    before.event("joined").await;
    let mut page = Client::page(&a, right()).await.unwrap();
    let all = page.event("all_sockets").await.remove(0);
    let shown = all.as_array().unwrap().iter().find(|socket| socket["id"] == before.id.as_str()).unwrap();
    assert_eq!([&shown["nsp"], &shown["transport"], &shown["data"]], [&json!("/"), &json!("websocket"), &json!({})]);
    assert_eq!(shown["clientId"], before.id[..12]);
    assert!(shown["rooms"].as_array().unwrap().contains(&json!("early")));
    assert!(shown["handshake"]["issued"].is_number() && shown["handshake"]["headers"]["host"].is_string());

    // Counts come from a server when it knows of the page.
    for server in [&a, &b] {
        page.event_that("server_stats", |stats| stats[0]["serverId"] == server.admin.server_id()).await;
    }
    let mut late = Client::of(&b).await;
    let id = json!(late.id);
    page.event_that("socket_connected", |event| event[0]["id"] == id && event[1].is_string()).await;
    page.event_that("event_sent", |event| event[1] == id && event[2] == json!(["ready", 1])).await;
    late.emit(json!(["join", "garden"])).await;
    page.event_that("event_received", |event| event[1] == id && event[2] == json!(["join", "garden"])).await;
    page.event_that("room_joined", |event| event[..3] == [json!("/"), json!("garden"), id.clone()]).await;
    let socket = b.io.get_socket(late.id.parse().unwrap()).unwrap();
    b.cluster.of("/").unwrap().set_data(&socket, &json!({ "name": "Ada" })).unwrap();
    let updated = page.event_that("socket_updated", |event| event[0]["id"] == id).await.remove(0);
    assert_eq!(updated["data"], json!({ "name": "Ada" }));
    socket.leave("garden");
    page.event_that("room_left", |event| event[..3] == [json!("/"), json!("garden"), id.clone()]).await;
    socket.disconnect().unwrap();
    let gone = page.event_that("socket_disconnected", |event| event[1] == id).await;
    assert_eq!(gone[2], "server namespace disconnect");
}

#[tokio::test]
async fn what_a_page_asks_for_is_done_in_the_whole_cluster() {
    let backend = backend();
    let config = || password().writable();
    let [a, b] = [Server::start(&backend, config()).await, Server::start(&backend, config()).await];
    for server in [&a, &b] {
        server.cluster.of("/").unwrap().await_peers(1, kit::TIMEOUT).await.unwrap();
    }
    let mut clients = [Client::of(&a).await, Client::of(&b).await, Client::of(&b).await];
    let mut page = Client::page(&a, right()).await.unwrap();
    let config = page.event("config").await.remove(0);
    assert_eq!(config["supportedFeatures"].as_array().unwrap().len(), 8);

    page.emit(json!(["join", "/", "x", clients[1].id])).await;
    page.emit(json!(["join", "/", "y"])).await;
    page.emit(json!(["leave", "/", "y", clients[2].id])).await;
    page.emit(json!(["emit", "/", "x", "for x", 1])).await;
    page.emit(json!(["emit", "/", "y", "for y", { "a": [2] }])).await;
    page.emit(json!(["emit", "/", null, "for all"])).await;
    for (at, x, y) in [(0, false, true), (1, true, true), (2, false, false)] {
        let client = &mut clients[at];
        client.event("for all").await;
        let mut events = Vec::new();
        while let Some(event) = client.unread_event() {
            events.push(event);
        }
        let has = |event: Value| events.contains(&event);
        assert_eq!([has(json!(["for x", 1])), has(json!(["for y", { "a": [2] }]))], [x, y], "client {at}");
    }
    page.emit(json!(["_disconnect", "/", false, "x"])).await;
    clients[1].disconnected().await;
    page.emit(json!(["_disconnect", "/", true])).await;
    for at in [0, 2] {
        clients[at].disconnected().await;
    }
}

#[tokio::test]
async fn at_most_so_many_sockets_are_shown_and_all_are_counted() {
    let server = Server::start(&backend(), password().development().max_sockets(3)).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(Client::of(&server).await);
    }
    let mut page = Client::page(&server, right()).await.unwrap();
    assert_eq!(page.event("all_sockets").await[0].as_array().unwrap().len(), 3);
    let stats = page.event("server_stats").await.remove(0);
    assert_eq!(stats["clientsCount"], 7);
    assert_eq!(stats["namespaces"][0], json!({ "name": "/", "socketsCount": 6 }));
    // When those that are shown have gone, others make up for them.
    server.io.disconnect().await.unwrap();
    page.event("socket_disconnected").await;
    let late = Client::of(&server).await;
    page.event_that("socket_connected", |event| event[0]["id"] == late.id.as_str()).await;
}

/// A server knows of pages before it publishes, and stops when the last one has gone.
#[tokio::test]
async fn nothing_is_published_while_no_page_is_connected_to_any_server() {
    let backend = backend();
    let config = || password().development();
    let [a, b] = [Server::start(&backend, config()).await, Server::start(&backend, config()).await];
    a.knows(1).await;
    b.knows(1).await;
    let mut page = Client::page(&b, right()).await.unwrap();
    for server in [&a, &b] {
        page.event_that("server_stats", |stats| stats[0]["serverId"] == server.admin.server_id()).await;
    }
    drop(page);
    let published = || [&a, &b].map(|server| server.cluster.of("/admin").unwrap().metrics().published);
    // A page that is refused is none.
    assert!(Client::page(&a, json!({})).await.is_err());
    // Counts would be due every two seconds, of a clock that jumps to what is due next whenever nothing runs.
    pause();
    within(async {
        loop {
            let before = published();
            sleep(Duration::from_secs(3)).await;
            if published() == before {
                return;
            }
        }
    })
    .await;
    resume();
    let mut page = Client::page(&b, right()).await.unwrap();
    for server in [&a, &b] {
        page.event_that("server_stats", |stats| stats[0]["serverId"] == server.admin.server_id()).await;
    }
}
