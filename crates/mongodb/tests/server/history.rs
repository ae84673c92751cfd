//! Session recovery and replay together with official adapters.

use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use trunkline_brokers::MongoDb as Server;
use trunkline_core::{ErrorKind, Message, Offset, Payload, Room, Session, SessionId, SocketId, model::Delivery};

use crate::support::{TestNode, config, documents, unique_name};

/// A broadcast as the official adapter inserts it.
fn broadcast(text: &str, rooms: Vec<Bson>, flags: Document) -> Document {
    doc! {
        "type": 3,
        "data": { "packet": { "type": 2, "data": ["hello", text] }, "opts": { "rooms": rooms, "except": [], "flags": flags } },
        "uid": "21b56301212abb69", "nsp": "/", "createdAt": DateTime::now(),
    }
}

fn offset(id: &Bson) -> Offset {
    Offset::new(id.as_object_id().unwrap().to_hex()).unwrap()
}

const KINDS: [&str; 2] = ["capped_bytes=1MiB", "ttl=1h"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_node_js_server_is_restored_once() {
    let url = Server::shared().await.unwrap();
    for kind in KINDS {
        let name = unique_name();
        let parameters = format!("collection={name}&{kind}");
        let (a, b) = (TestNode::join(config(&url, &parameters)).await, TestNode::join(config(&url, &parameters)).await);
        let official = documents(&url, &name).await;
        let session = doc! {
            "type": 13,
            "data": { "sid": "zbxrKwCerVeJnVY6AAAE", "pid": "zbxrKwCerVeJnVY6AAAF", "rooms": ["zbxrKwCerVeJnVY6AAAE", "room1", 42],
                "data": { "user": "c1", "n": 1 } },
            "uid": "21b56301212abb69", "nsp": "/", "createdAt": DateTime::now(),
        };
        let seen = official.insert_one(broadcast("seen", vec![], doc! {})).await.unwrap().inserted_id;
        official.insert_one(session).await.unwrap();
        for (text, rooms, flags) in [
            ("all", vec![], doc! {}),
            ("elsewhere", vec!["room2".into()], doc! {}),
            ("number", vec![Bson::Int32(42)], doc! {}),
            ("volatile", vec![], doc! { "volatile": true }),
            ("room", vec!["room2".into(), "room1".into()], doc! {}),
        ] {
            official.insert_one(broadcast(text, rooms, flags)).await.unwrap();
        }
        let pid = SessionId::new("zbxrKwCerVeJnVY6AAAF").unwrap();
        let restored = a.history().restore(&a.node, &pid, &offset(&seen)).await.unwrap().unwrap();
        assert_eq!(restored.session.socket.as_str(), "zbxrKwCerVeJnVY6AAAE");
        assert_eq!(restored.session.rooms, ["zbxrKwCerVeJnVY6AAAE".into(), Room::from("room1"), Room::from(42)]);
        assert_eq!(restored.session.data, Some(Payload::from_json(r#"{"user":"c1","n":1}"#.to_owned()).unwrap()));
        let texts: Vec<_> =
            restored.missed.iter().map(|missed| missed.payload.arguments::<(String,)>().unwrap().0).collect();
        assert_eq!(texts, ["all", "number", "room"], "{kind}");
        assert!(b.history().restore(&b.node, &pid, &offset(&seen)).await.unwrap().is_none(), "{kind}");
        // The official adapter does not find it any more, either.
        let found = official_session(&url, &name, pid.as_str(), kind).await;
        assert!(found.is_none_or(|found| !found.contains_key("sid")), "{kind}");
    }
}

/// The document that the official adapter finds for a `pid`: the one with the largest id, or any one that it can
/// delete.
async fn official_session(url: &str, name: &str, pid: &str, kind: &str) -> Option<Document> {
    let wanted = doc! { "type": 13, "data.pid": pid };
    let official = documents(url, name).await;
    let found = if kind.starts_with("ttl") {
        official.find_one_and_delete(wanted).await
    } else {
        official.find_one(wanted).sort(doc! { "_id": -1 }).await
    };
    found.unwrap().map(|found| found.get_document("data").unwrap().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_stored_as_a_node_js_server_stores_it() {
    let url = Server::shared().await.unwrap();
    for kind in KINDS {
        let name = unique_name();
        let mut a = TestNode::join(config(&url, &format!("collection={name}&{kind}"))).await;
        let (id, socket) = (SessionId::new("pid").unwrap(), SocketId::new("sid").unwrap());
        let data = Payload::value(&("x", 1.5)).unwrap();
        let session = Session::new(id, socket, vec!["sid".into(), Room::from(7)]).with_data(Some(data));
        a.history().persist(&a.node, session).await.unwrap();
        let found = official_session(&url, &name, "pid", kind).await.unwrap();
        assert_eq!(found, doc! { "sid": "sid", "pid": "pid", "rooms": ["sid", 7], "data": ["x", 1.5] }, "{kind}");
        // An offset is the id of a broadcast, by which the official adapter looks it up.
        a.emit(1).await.unwrap();
        let offset = a.number().await.1.unwrap();
        let id = ObjectId::parse_str(offset.as_str()).unwrap();
        let document = documents(&url, &name).await.find_one(doc! { "type": 3, "_id": id }).await.unwrap().unwrap();
        assert_eq!(document.contains_key("createdAt"), kind.starts_with("ttl"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_restore_a_session_at_once_one_wins() {
    let url = Server::shared().await.unwrap();
    for kind in KINDS {
        let parameters = format!("collection={}&{kind}", unique_name());
        let (mut a, b) =
            (TestNode::join(config(&url, &parameters)).await, TestNode::join(config(&url, &parameters)).await);
        a.emit(0).await.unwrap();
        let since = a.number().await.1.unwrap();
        for round in 0..20 {
            let id = SessionId::new(format!("p{round}")).unwrap();
            let socket = SocketId::new("s").unwrap();
            a.history().persist(&a.node, Session::new(id.clone(), socket, vec![])).await.unwrap();
            let (one, two) =
                tokio::join!(a.history().restore(&a.node, &id, &since), b.history().restore(&b.node, &id, &since));
            let won = [one, two].into_iter().filter(|restored| restored.as_ref().unwrap().is_some()).count();
            assert_eq!(won, 1, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_id_is_older_than_the_offset_is_replayed() {
    let url = Server::shared().await.unwrap();
    for kind in KINDS {
        let name = unique_name();
        let mut a = TestNode::join(config(&url, &format!("collection={name}&{kind}"))).await;
        a.emit(0).await.unwrap();
        let since = a.number().await.1.unwrap();
        // From a server whose clock is late.
        let mut late = broadcast("late", vec![], doc! {});
        let second = u32::from_str_radix(&since.as_str()[..8], 16).unwrap() - 20;
        late.insert("_id", ObjectId::parse_str(format!("{second:08x}{}", &since.as_str()[8..])).unwrap());
        documents(&url, &name).await.insert_one(late).await.unwrap();
        let missed = a.history().replay(&a.node, &since, &[]).await.unwrap();
        assert_eq!(missed.len(), 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_offset_and_a_malformed_one_are_different_errors() {
    let url = Server::shared().await.unwrap();
    let a = TestNode::join(config(&url, &format!("collection={}", unique_name()))).await;
    let replay = async |offset: &str| a.history().replay(&a.node, &Offset::new(offset.to_owned()).unwrap(), &[]).await;
    assert_eq!(replay("0123456789abcdef01234567").await.unwrap_err().kind(), ErrorKind::HistoryLost);
    assert_eq!(replay("abc").await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_of_a_node_js_server_arrives() {
    let url = Server::shared().await.unwrap();
    let name = unique_name();
    let mut a = TestNode::join(config(&url, &format!("collection={name}"))).await;
    let heartbeat = doc! { "type": 1.0, "uid": "21b56301212abb69", "nsp": "/" };
    documents(&url, &name).await.insert_one(heartbeat).await.unwrap();
    let is_heartbeat = |it: &Delivery| matches!(it, Delivery::Message { message: Message::Heartbeat(heartbeat), .. } if heartbeat.initial);
    a.find(is_heartbeat).await;
}
