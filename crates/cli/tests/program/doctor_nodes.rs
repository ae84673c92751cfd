//! `doctor`: what nodes tell of themselves, asked for live.

use std::{collections::VecDeque, sync::Arc};

use serde_json::json;
use trunkline::{
    Backend, Namespace, NodeKey, NodeMetrics, Payload, Room, Target,
    core::{
        Answer, Message, Response,
        model::{Delivery, Heartbeat},
        transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
    },
};
use trunkline_brokers::Nats;
use trunkline_conformance::kit::{Failure, eventually};

use crate::{
    doctor::{check, expect},
    support::{Wire, cluster},
};

/// What the doctor needs to hear of every node.
const LISTEN: [&str; 8] = ["--nodes", "2", "--listen", "20s", "--timeout", "20s", "--skip", "echo-time"];

/// A node of an earlier version, as others see it: it is heard, and answers requests.
struct Earlier {
    backend: Backend,
    node: NodeKey,
    inbox: Inbox,
}

impl Earlier {
    async fn join(url: &str) -> Result<Self, Failure> {
        let backend = trunkline::connect(url).await?;
        let node = NodeKey { id: backend.ids.node_id(), namespace: Namespace::new("/") };
        let metrics = Arc::<NodeMetrics>::default();
        let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), metrics, InboxLimits::default());
        let inbox = backend.transport.join(request).await?;
        let joined = Self { backend, node, inbox };
        joined.be_heard(true).await?;
        Ok(joined)
    }

    async fn be_heard(&self, initial: bool) -> Result<(), Failure> {
        let heartbeat = Message::Heartbeat(Heartbeat::new(initial));
        Ok(self.backend.transport.publish(&self.node, heartbeat).await?)
    }

    async fn serve(mut self) -> Result<(), Failure> {
        let mut batch = VecDeque::new();
        while self.inbox.next_batch(&mut batch).await {
            for delivery in batch.drain(..) {
                let Delivery::Message { from: Some(from), message, .. } = delivery else { continue };
                if matches!(&message, Message::Heartbeat(heartbeat) if heartbeat.initial) {
                    self.be_heard(false).await?;
                }
                let Some(request) = message.request().cloned() else { continue };
                let status =
                    json!({ "node": self.node.id.as_str(), "version": "0.0.1", "health": { "connected": true } });
                let answer = match message {
                    Message::ServerSideEmit { .. } => Answer::ServerSideEmit(Payload::value(&status).ok()),
                    _ => Answer::Sockets(Vec::new()),
                };
                self.backend.transport.send(&self.node, &from, &Response { request, answer }).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_version() -> Result<(), Failure> {
    let url = Wire::Nats.url("doctor_versions").await;
    let [node] = cluster(&url).nodes().await?;
    let earlier = Earlier::join(&url).await?;
    let id = earlier.node.id.clone();
    let served = tokio::spawn(earlier.serve());
    node.wait_for_peers(1).await?;
    let ran = expect(&url, &[&LISTEN[..], &["--skip", "prefix"]].concat(), "versions", "warning", 1).await;
    served.abort();
    let text = check(&ran, "versions")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("0.0.1") && text.contains(id.as_str()) && text.contains(node.id().as_str()), "{text}");
    Ok(())
}

/// The user of a node may publish to all, and not to rooms.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_messages_the_broker_refuses() -> Result<(), Failure> {
    let users = "authorization: { users: [{ user: doctor, password: pw }, { user: node, password: pw, permissions: \
        { publish: { allow: \">\", deny: \"*.*.room.>\" }, subscribe: \">\" } }] }";
    let server = Nats::options().configuration(users).start().await.unwrap();
    let of = |user: &str| server.url().replacen("nats://", &format!("nats://{user}:pw@"), 1);
    let [node] = cluster(&of("node")).nodes().await?;
    let arguments = [&LISTEN[2..], &["--nodes", "1"]].concat();
    expect(&of("doctor"), &arguments, "node-health", "ok", 0).await;
    node.emit(Target::room(Room::new("lobby")), "refused").await?;
    let refused = async || node.health().refused_messages > 0;
    eventually(std::time::Duration::from_secs(20), || "a refusal".into(), refused).await?;
    let ran = expect(&of("doctor"), &arguments, "node-health", "critical", 2).await;
    let cause = check(&ran, "node-health")["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains(node.id().as_str()) && cause.contains("refused 1 message"), "{cause}");
    Ok(())
}
