//! Answers between a node and Node.js servers over classic Redis, which are played by bare connections.

use serde_json::{Value, json};
use trunkline_brokers::Redis;
use trunkline_conformance::kit::{ClientSpec, Failure};
use trunkline_core::{ErrorKind, Payload, Target};

use crate::{
    support::{Wire, cluster, pair, until},
    tap::Tap,
};

const REQUESTS: &str = "socket.io-request#/#";
const RESPONSES: &str = "socket.io-response#/#";

/// The next request of this type.
async fn request(peer: &mut Tap, kind: u64) -> Value {
    loop {
        let (_, bytes) = peer.next("a request").await;
        if let Ok(request) = serde_json::from_slice::<Value>(&bytes)
            && request["type"] == kind
        {
            return request;
        }
    }
}

async fn publish(peer: &mut Tap, channel: &str, message: &Value) {
    redis::cmd("PUBLISH").arg(channel).arg(message.to_string()).exec_async(&mut peer.commands).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_a_server_side_event_need_no_type() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(Tap::new(server.url(), "SUBSCRIBE", &[REQUESTS.to_owned()]).await);
    }
    let node = cluster(Wire::PubSub, server.url(), "").node().await?;
    let ask = Payload::event("ask", &(1,)).unwrap();
    let asking = node.server_side_emit_with_ack(ask, None);
    let answering = async {
        for (number, peer) in peers.iter_mut().enumerate() {
            let id = request(peer, SERVER_SIDE_EMIT).await["requestId"].clone();
            let answer = match number {
                0 => json!({ "type": SERVER_SIDE_EMIT, "requestId": id, "data": "typed" }),
                1 => json!({ "requestId": id, "data": ["untyped"] }),
                2 => json!({ "requestId": id, "data": null }),
                // `undefined`
                _ => json!({ "requestId": id }),
            };
            publish(peer, RESPONSES, &answer).await;
        }
    };
    let (answers, ()) = tokio::join!(asking, answering);
    let mut texts: Vec<_> =
        answers?.iter().map(|answer| answer.as_ref().map(|value| value.to_json().text.to_string())).collect();
    texts.sort();
    assert_eq!(texts, [None, Some(r#""typed""#.into()), Some(r#"["untyped"]"#.into()), Some("null".into())]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_js_server_gets_an_answer_whole_or_not_at_all() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let mut peer = Tap::new(server.url(), "SUBSCRIBE", &[RESPONSES.to_owned()]).await;
    let [a, b] = pair(Wire::PubSub, server.url(), "max_message_bytes=256KiB").await?;
    let data = Payload::value(&"x".repeat(10_000)).unwrap();
    for _ in 0..20 {
        a.connect(ClientSpec::new().room("fits").data(data.clone())).await?;
    }
    for _ in 0..20 {
        a.connect(ClientSpec::new().room("large").data(data.clone())).await?;
    }
    let fetch = |id: &str, room: &str| {
        let opts = json!({ "rooms": [room], "except": [], "flags": {} });
        json!({ "uid": "peer01", "requestId": id, "type": REMOTE_FETCH, "opts": opts })
    };
    let large = json!({ "rooms": ["fits", "large"], "except": [], "flags": {} });
    let mut all = fetch("all", "large");
    all["opts"] = large;
    publish(&mut peer, REQUESTS, &all).await;
    publish(&mut peer, REQUESTS, &fetch("some", "fits")).await;
    let mut answered = Vec::new();
    while answered.len() < 20 {
        let (_, bytes) = peer.next("the answers to what fits").await;
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let sockets = answer["sockets"].as_array().unwrap();
        assert!(answer.get("part").is_none() && (answer["requestId"] == "some" || sockets.is_empty()), "{answer}");
        answered.extend(sockets.iter().map(|socket| socket["id"].clone()));
    }
    until("it is counted", async || a.metrics().answers_too_large == 1).await;

    // One of ours gets parts of it, and where that is not possible an error that names the limit.
    assert_eq!(b.fetch_sockets(Target::rooms(["fits", "large"])).await?.len(), 40);
    a.connect(ClientSpec::new().room("huge").data(Payload::value(&"x".repeat(300_000)).unwrap())).await?;
    let error = b.fetch_sockets(Target::room("huge")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("262144"), "{error}");
    Ok(())
}

/// `serverSideEmit` and `remoteFetch` among the requests of the official adapter.
const SERVER_SIDE_EMIT: u64 = 6;
const REMOTE_FETCH: u64 = 5;
