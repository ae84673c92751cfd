//! Every message that was captured from the official packages, once more on a real server: what it brings about here,
//! and how our nodes would have sent it.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;
use trunkline_brokers::Postgres as Server;
use trunkline_conformance::kit::{ClientSpec, Failure, TestNode, TestSocket};
use trunkline_core::{
    Namespace, NodeId, NodeKey, Payload, Room,
    codec::{self, Body},
    model::Answer,
    transport::{JoinRequest, RoomFilter},
};

use crate::{
    captured::{self, CALLER, Captured, OTHER, encode, of_payload},
    support::{TIMEOUT, cluster, config, server, until},
    tap::Tap,
};

const EMITTER: &str = "[postgres-emitter]";

// --- what they bring about ---

/// Our nodes in the place of the other server, with the clients that it had.
struct Stage {
    tap: Tap,
    nodes: [TestNode; 2],
    /// By the names that the capture gives them.
    clients: [(&'static str, TestSocket); 3],
    /// So many packets have come to each.
    packets: [usize; 3],
    server_side_events: usize,
    _server: Server,
}

impl Stage {
    async fn set() -> Result<Self, Failure> {
        let server = server().await;
        let root = cluster(server.url(), "").node().await?;
        let custom = cluster(server.url(), "").build().namespace("/custom").sharing(&root).join().await?;
        // The ids below are those of the capture.
        server.sql("SELECT setval('socket_io_attachments_id_seq', 1000)").await.unwrap();
        let spec = |rooms: &[&str]| ClientSpec::new().rooms(rooms.iter().copied()).silent();
        let b1 = root.connect(spec(&["room1", "room2", "wej23EJ3VDATBA8yAAAC"])).await?;
        let b2 = root.connect(spec(&["room2", "_PCfappuDD1zAew9AAAD"]).room(Room::from(42))).await?;
        let cb = custom.connect(spec(&["room1", "AZ1lDsvn3PjtI_uKAAAF"])).await?;
        Ok(Self {
            tap: Tap::connect(server.url()).await,
            nodes: [root, custom],
            clients: [("b1", b1), ("b2", b2), ("cb", cb)],
            packets: [0; 3],
            server_side_events: 0,
            _server: server,
        })
    }

    /// Says what one call sent, and checks everything that was seen to follow.
    async fn replay(&mut self, operation: &[Captured]) -> Result<(), Failure> {
        let answers: Vec<_> = operation.iter().filter(|row| row.is_answer() && row.message().is_some()).collect();
        self.prepare_answer(&answers);
        for row in operation.iter().filter(|row| row.is_from(CALLER)) {
            self.tap.say(row).await;
        }
        let asked = self.expect_packets(operation).await?;
        self.acknowledge(&asked, &answers);
        self.expect_events(operation).await?;
        self.expect_disconnects(operation).await?;
        let answered = timeout(TIMEOUT, self.expect_answers(&operation[0].operation, &answers)).await;
        answered.map_err(|_| Failure::new(format!("{}: not all answers came", operation[0].operation)))
    }

    fn prepare_answer(&self, answers: &[&Captured]) {
        for answer in answers {
            if let Some(Answer::ServerSideEmit(value)) = response(answer) {
                self.nodes[0].answer_server_side(value);
            }
        }
    }

    /// Returns the clients that got something.
    async fn expect_packets(&mut self, operation: &[Captured]) -> Result<Vec<usize>, Failure> {
        let mut asked = Vec::new();
        for (index, (name, client)) in self.clients.iter().enumerate() {
            let expected: Vec<Value> =
                operation.iter().flat_map(|row| row.received(name)).filter(Value::is_array).collect();
            let before = self.packets[index];
            let packets = client.wait_for(before + expected.len()).await?;
            let arrived: Vec<_> = packets[before..].iter().map(|packet| of_payload(&packet.payload)).collect();
            assert_eq!(arrived, expected, "{name}: {}", operation[0].operation);
            self.packets[index] = packets.len();
            asked.extend((!expected.is_empty()).then_some(index));
        }
        Ok(asked)
    }

    /// In the order in which the clients of the other server did.
    fn acknowledge(&self, asked: &[usize], answers: &[&Captured]) {
        let values = answers.iter().filter_map(|answer| match response(answer) {
            Some(Answer::Ack(ack)) => Some(ack.value),
            _ => None,
        });
        for (client, value) in asked.iter().zip(values) {
            self.clients[*client].1.acknowledge(value.as_ref());
        }
    }

    async fn expect_events(&mut self, operation: &[Captured]) -> Result<(), Failure> {
        let expected: Vec<_> = operation.iter().filter_map(Captured::server_side_event).collect();
        let before = self.server_side_events;
        let events = self.nodes[0].wait_for_server_side_events(before + expected.len()).await?;
        let arrived: Vec<_> = events[before..].iter().map(|event| of_payload(&event.payload)).collect();
        assert_eq!(arrived, expected, "{}", operation[0].operation);
        self.server_side_events = events.len();
        Ok(())
    }

    async fn expect_disconnects(&self, operation: &[Captured]) -> Result<(), Failure> {
        let closes = operation.iter().any(|row| row.row["decoded"]["data"]["close"] == true);
        for (name, client) in &self.clients {
            if operation.iter().any(|row| row.row["received"][name][0]["disconnect"].is_string()) {
                assert_eq!(client.wait_for_disconnect().await?, closes, "{name}");
            }
        }
        Ok(())
    }

    /// What our nodes answer is byte for byte what the other server has answered, in some order.
    async fn expect_answers(&mut self, operation: &str, answers: &[&Captured]) {
        let mut expected: Vec<_> = answers.iter().map(|answer| shown(&answer.bytes)).collect();
        let mut arrived = Vec::new();
        while arrived.len() < expected.len() {
            let (_, text) = self.tap.hear().await;
            if self.is_own_answer(&text, answers) {
                let answer = shown(&official(&self.tap, &text).await);
                arrived.push(self.nodes.iter().fold(answer, |shown, node| shown.replace(node.id().as_str(), "ME")));
            }
        }
        expected
            .iter_mut()
            .for_each(|answer| *answer = OTHER.iter().fold(answer.clone(), |shown, id| shown.replace(id, "ME")));
        expected.sort();
        arrived.sort();
        assert_eq!(arrived, expected, "{operation}");
    }

    /// A client that left an earlier request unanswered answers that one, too, the next time.
    fn is_own_answer(&self, text: &str, answers: &[&Captured]) -> bool {
        let notification: Value = serde_json::from_str(text).unwrap();
        let request = &notification["data"]["requestId"];
        let is_earlier =
            request.is_string() && answers.iter().all(|answer| answer.row["decoded"]["data"]["requestId"] != *request);
        let is_answer = [8, 10, 11, 12].contains(&notification["type"].as_i64().unwrap());
        is_answer && !is_earlier && self.nodes.iter().any(|node| notification["uid"] == node.id().as_str())
    }
}

fn response(captured: &Captured) -> Option<Answer> {
    match captured.message()?.body {
        Body::Response(response) => Some(response.answer),
        Body::Message(_) => None,
    }
}

/// A message of one of our nodes without what the official adapter does not know: its bytes, wherever they lie.
async fn official(tap: &Tap, text: &str) -> Vec<u8> {
    let notification: Value = serde_json::from_str(text).unwrap();
    match notification["attachmentId"].as_str() {
        None => without_additions(text).into_bytes(),
        Some(id) => {
            let bytes = tap.row(id.parse().unwrap()).await;
            let message = codec::decode(&bytes).unwrap();
            encode(&bytes, &message, &message.from.clone().unwrap())
        }
    }
}

fn without_additions(text: &str) -> String {
    let end = [",\"room\":", ",\"stamp\":", ",\"counters\":"].iter().filter_map(|key| text.rfind(key)).min();
    end.map_or_else(|| text.to_owned(), |end| format!("{}}}", &text[..end]))
}

/// To compare. Sockets have other ids and handshakes here, but the same rooms.
fn shown(bytes: &[u8]) -> String {
    let message = codec::decode(&Bytes::copy_from_slice(bytes)).unwrap();
    let Body::Response(response) = &message.body else { panic!("no answer") };
    match &response.answer {
        Answer::Sockets(sockets) => {
            let rooms =
                |rooms: &[Room]| rooms.iter().filter(|room| is_room(room)).map(Room::to_text).map(Into::into).collect();
            let mut sockets: Vec<BTreeSet<String>> = sockets.iter().map(|socket| rooms(&socket.rooms)).collect();
            sockets.sort();
            format!("{} {:?} {sockets:?}", response.request, message.from)
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Whether it is none that is named by the id of a socket.
fn is_room(room: &Room) -> bool {
    room.to_text().len() < 20
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_message_has_the_effect_that_it_had() -> Result<(), Failure> {
    let mut stage = Stage::set().await?;
    let rows = captured::read();
    let operations = rows.chunk_by(|a, b| a.operation == b.operation);
    for operation in operations.filter(|rows| !rows[0].operation.starts_with(EMITTER)) {
        if operation[0].operation == "(shutdown) await A.io.close()" {
            let caller = NodeId::new(CALLER[0]).unwrap();
            assert_eq!(stage.nodes[0].peers(), [caller]);
        }
        stage.replay(operation).await?;
    }
    until("the caller has left", async || stage.nodes.iter().all(|node| node.peers().is_empty())).await;
    for node in &stage.nodes {
        let metrics = node.metrics();
        assert_eq!((metrics.malformed, metrics.unknown_type, metrics.missed), (0, 0, 0), "{metrics:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_official_emitter_are_delivered_though_they_name_no_namespace() -> Result<(), Failure> {
    let stage = Stage::set().await?;
    let rows = captured::read();
    for row in rows.iter().filter(|row| row.operation.starts_with(EMITTER) && row.row["decoded"]["uid"] == "emitter") {
        assert!(row.row["decoded"]["nsp"].is_null());
        stage.tap.say(row).await;
    }
    let [(_, b1), (_, b2), (_, cb)] = &stage.clients;
    for client in [b1, b2] {
        assert!(client.wait_for_disconnect().await?, "the last of them");
    }
    let arrived = |client: &TestSocket| {
        let first = |payload: &Payload| of_payload(payload)[1].as_str().unwrap().chars().take(5).collect::<String>();
        client.packets().iter().map(|packet| first(&packet.payload)).collect::<Vec<_>>()
    };
    // The second call was to rooms 1 and 2 except 2, where both of them are.
    assert_eq!(
        (arrived(b1), arrived(b2)),
        (vec!["xxxxx".into(), "r1".into(), "flags".into()], vec!["xxxxx".into(), "flags".into()])
    );
    cb.wait_for(1).await?;
    assert_eq!(arrived(cb), ["nsp"]);
    let events = stage.nodes[0].wait_for_server_side_events(1).await?;
    assert_eq!(of_payload(&events[0].payload), serde_json::json!(["sse", "from emitter", {"x": 1.0}]));
    assert_eq!(stage.nodes[0].peers(), [], "an emitter is no peer of any node");
    Ok(())
}

// --- how our nodes would have sent them ---

#[derive(Debug)]
struct NoMembers;

impl RoomFilter for NoMembers {
    fn may_have_members(&self, _: &Room) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_captured_message_is_sent_byte_for_byte_as_it_was() -> Result<(), Failure> {
    let server = server().await;
    let transport = trunkline_postgres::connect(config(server.url(), "")).await?.transport;
    let mut inboxes = Vec::new();
    for (index, id) in CALLER.iter().chain(&OTHER).enumerate() {
        let node = NodeKey { id: NodeId::new(*id).unwrap(), namespace: Namespace::new(["/", "/custom"][index % 2]) };
        let request = JoinRequest::new(node, Arc::new(NoMembers), Arc::default(), Default::default());
        inboxes.push(transport.join(request).await?);
    }
    let mut tap = Tap::connect(server.url()).await;
    let mut compared = 0;
    for row in captured::read() {
        let Some(message) = row.message().filter(|message| message.namespace.is_some()) else { continue };
        let from = message.from.clone().unwrap();
        let node = NodeKey { id: from.clone(), namespace: message.namespace.clone().unwrap() };
        match message.body {
            Body::Message(message) => transport.publish(&node, message).await?,
            Body::Response(response) => transport.send(&node, &NodeId::new(CALLER[0]).unwrap(), &response).await?,
        }
        let (channel, text) = tap.hear().await;
        assert_eq!(channel, format!("socket.io#{}", node.namespace));
        expect_same(&tap, &row, &from, &text).await;
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
    transport.close().await;
    Ok(())
}

async fn expect_same(tap: &Tap, row: &Captured, from: &NodeId, text: &str) {
    let sent = official(tap, text).await;
    let is_row = text.contains("\"attachmentId\":\"");
    let was_row = row.row_id().is_some();
    if is_row && !was_row {
        // With its number it does not fit into a notification any more.
        assert!(row.bytes.len() > 7_900, "{}", row.operation);
        return;
    }
    assert_eq!(is_row, was_row, "{}", row.operation);
    assert!(sent == row.bytes, "{}: {}", row.operation, String::from_utf8_lossy(&sent));
    if is_row {
        let head = without_additions(text);
        let kind = &row.row["decoded"]["type"];
        assert!(head.starts_with(&format!("{{\"uid\":\"{from}\",\"type\":{kind},\"attachmentId\":\"")), "{head}");
    }
}
