//! Sessions as the official streams adapter keeps them and looks for them: nodes of ours take over from it, and it from
//! them.

use base64::{Engine, prelude::BASE64_STANDARD};
use redis::{AsyncCommands, Value as Answer};
use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_core::{Offset, Payload, Session, SessionId, SocketId, transport::RestoredSession};
use trunkline_redis::{Config, connect};

use super::{
    Wall,
    capture::{self, Capture, Operation},
    stage::Stage,
};
use crate::support::with;

/// What version 0.3.1 keeps for the client of the captures, with `{user: "c1", b: Buffer.from([1, 2, 3])}` as data.
const KEPT_BY_NODE: &str = "hKNzaWS0NGJDc3EzdjJOWU12eEtRYkFBQU2jcGlktHMxTkdyTEhrWkwtTUJ2Qk9BQUFOpXJvb21zkrQ0YkNzcTN2Mk5ZTXZ4S1FiQU\
                            FBTaVyb29tMaRkYXRhgqR1c2VyomMxoWLEAwECAw==";

struct Scene {
    capture: Capture,
    wall: Wall,
    stage: Stage,
    _server: Redis,
}

impl Scene {
    /// Server A has sent what the captures have of it while its client was there.
    async fn begin() -> Self {
        let capture = capture::read("redis-streams-csr");
        let server = Redis::start().await.unwrap();
        let url = with(server.url(), "mode=streams");
        let stage = Stage::join(&capture, "/", connect(Config::from_url(&url).unwrap()).await.unwrap()).await;
        let mut wall = Wall::start(server.url(), &capture).await;
        let entries: Vec<_> = capture.operations.iter().filter(|operation| is_of_recovery(operation)).collect();
        assert_eq!(entries.len(), 3);
        for row in entries.iter().flat_map(|operation| &operation.requests) {
            wall.send(row).await;
        }
        Self { capture, wall, stage, _server: server }
    }

    /// Where an operation lies.
    fn place(&self, operation: &str) -> Offset {
        let found = self.capture.operations.iter().find(|candidate| candidate.name.contains(operation)).unwrap();
        let captured = &found.requests[0].entry.as_ref().unwrap().id;
        Offset::new(self.wall.places[captured].clone()).unwrap()
    }

    async fn restore(&self, since: &Offset) -> Option<RestoredSession> {
        self.stage.adapter().restore_session(session().id, since.clone()).await.unwrap()
    }

    /// Does what server A did when a client came back with its session: what lay under its key, and the entry at its
    /// offset.
    async fn as_server_a_looks_for_it(&mut self) -> (Option<String>, usize) {
        let mut answers = Vec::new();
        for command in &self.capture.commands {
            let words = command.split(' ').map(|word| self.wall.places.get(word).map_or(word, String::as_str));
            let mut command = redis::Cmd::new();
            words.for_each(|word| {
                command.arg(word);
            });
            answers.push(command.query_async::<Answer>(&mut self.wall.tap.commands).await.unwrap());
        }
        let [_, _, _, Answer::Array(found), Answer::Array(entries)] = &answers[..] else { panic!("{answers:?}") };
        let session = match &found[0] {
            Answer::Nil => None,
            Answer::BulkString(text) => Some(String::from_utf8(text.clone()).unwrap()),
            other => panic!("{other:?}"),
        };
        (session, entries.len())
    }
}

fn is_of_recovery(operation: &Operation) -> bool {
    operation.name.starts_with("[csr] ")
}

/// That of the captured client.
fn session() -> Session {
    let data = json!({"user": "c1", "b": {"_placeholder": true, "num": 0}}).to_string();
    Session::new(
        SessionId::new("s1NGrLHkZL-MBvBOAAAN").unwrap(),
        SocketId::new("4bCsq3v2NYMvxKQbAAAM").unwrap(),
        vec!["4bCsq3v2NYMvxKQbAAAM".into(), "room1".into()],
    )
    .with_data(Some(Payload::from_json_with(data, vec![vec![1, 2, 3].into()]).unwrap()))
}

fn described(session: &Session) -> Value {
    let data = session.data.as_ref().map(capture::meaning);
    let rooms: Vec<_> = session.rooms.iter().map(|room| room.to_text().to_string()).collect();
    json!([session.id.as_str(), session.socket.as_str(), rooms, data])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_official_adapter_keeps_is_restored_once_with_what_it_has_missed() {
    let mut scene = Scene::begin().await;
    let key = format!("sio:session:{}", session().id.as_str());
    let () = scene.wall.tap.commands.set(key, KEPT_BY_NODE).await.unwrap();
    let restored = scene.restore(&scene.place(r#"emit("hello", "before")"#)).await.unwrap();
    assert_eq!(described(&restored.session), described(&session()));
    let missed: Vec<_> =
        restored.missed.iter().map(|missed| (capture::meaning(&missed.payload), missed.offset.clone())).collect();
    // Node.js would send the volatile one as well.
    let bin = scene.place(r#"emit("bin", Buffer.from([9]))"#);
    assert_eq!(missed, [(json!(["bin", {"$binary": "CQ=="}]), bin.clone())]);
    assert_eq!(scene.restore(&bin).await, None, "a second attempt");
    assert_eq!(scene.as_server_a_looks_for_it().await, (None, 1), "as the captured one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_our_node_keeps_is_found_by_the_commands_of_the_official_adapter() {
    let mut scene = Scene::begin().await;
    scene.stage.adapter().persist_session(session()).await.unwrap();
    let (found, entries) = scene.as_server_a_looks_for_it().await;
    let read = |text: &str| {
        let mut read = capture::meaning(&Payload::from_msgpack(BASE64_STANDARD.decode(text).unwrap()).unwrap());
        read.as_object_mut().unwrap().remove("nsp");
        read
    };
    assert_eq!(read(&found.unwrap()), read(KEPT_BY_NODE));
    assert_eq!(entries, 1);
    assert_eq!(scene.restore(&scene.place(r#"emit("hello", "before")"#)).await, None, "it was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_lost_to_an_offset_that_is_none() {
    let scene = Scene::begin().await;
    let adapter = scene.stage.adapter();
    adapter.persist_session(session()).await.unwrap();
    assert!(adapter.restore_session(session().id, Offset::new("abc").unwrap()).await.is_err());
    assert!(scene.restore(&scene.place(r#"emit("hello", "before")"#)).await.is_some());
}
