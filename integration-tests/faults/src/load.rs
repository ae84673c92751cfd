//! What runs at every node all the time: numbered messages, requests, and a look at its health.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    client::Client,
    ledger::audience,
    record::Record,
    requests::{Answer, Asked, Question, judge},
};

/// Room of all clients whose sockets are fetched.
pub(crate) const MEMBERS: &str = "members";

/// Time between two requests of a kind at a node.
const REQUESTS: Duration = Duration::from_millis(500);

/// Room of a group.
pub(crate) fn room(group: usize) -> String {
    format!("group{group}")
}

/// Characters of the text of a message.
fn size(number: u64) -> usize {
    match number {
        // Larger than a notification of PostgreSQL and than a packet.
        number if number % 40 == 10 => 20_000,
        number if number % 8 == 1 => 1_000,
        _ => 50,
    }
}

/// Emits numbered messages through one client, each when the one before has its place, until the connection ends.
pub(crate) async fn emit(client: Arc<Client>, record: Arc<Record>, process: usize, rate: u32) {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let number = record.ledger().send(process, Instant::now());
        let rooms: Vec<String> = audience(number).map(room).into_iter().collect();
        let text = "x".repeat(size(number));
        let operation =
            json!({ "kind": "emit", "select": { "to": rooms }, "event": "m", "args": [process, number, text] });
        match client.perform(&operation).await {
            Err(error) if error == "disconnected" => return,
            outcome => record.ledger().answered(process, number, outcome.is_ok()),
        }
    }
}

/// Asks both questions twice a second, without waiting for the answers before, until the connection ends.
pub(crate) async fn ask(client: Arc<Client>, record: Arc<Record>, node: usize) {
    let mut ticks = interval(REQUESTS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // Ended with this one.
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                for question in [Question::FetchSockets, Question::ServerSideEmit] {
                    requests.spawn(request(Arc::clone(&client), Arc::clone(&record), node, question));
                }
                requests.spawn(look(Arc::clone(&client), Arc::clone(&record), node));
            }
            Some(_) = requests.join_next() => {}
        }
    }
}

async fn request(client: Arc<Client>, record: Arc<Record>, node: usize, question: Question) {
    let operation = match question {
        Question::FetchSockets => json!({ "kind": "fetchSockets", "select": { "to": [MEMBERS] } }),
        Question::ServerSideEmit => json!({ "kind": "serverSideEmitWithAck", "event": "question", "args": [1] }),
    };
    let began = Instant::now();
    record.begun().push((node, began));
    let answer = match client.perform(&operation).await {
        Err(error) if error == "disconnected" => return,
        Err(error) => Answer::Failed(error),
        Ok(outcome) => answered(question, &outcome),
    };
    let ended = Instant::now();
    let verdict = judge(node, question, [began, ended], &answer, &record.running());
    record.asked().push(Asked { node, question, began, ended, answer, verdict });
}

fn answered(question: Question, outcome: &Value) -> Answer {
    let count = |name: &str| outcome[name].as_array().map_or(0, Vec::len);
    match question {
        Question::FetchSockets => Answer::Ok(count("sockets")),
        Question::ServerSideEmit => match outcome["missing"].as_u64() {
            Some(missing) if missing > 0 => Answer::Failed(format!("{missing} nodes are missing")),
            _ => Answer::Ok(count("servers")),
        },
    }
}

async fn look(client: Arc<Client>, record: Arc<Record>, node: usize) {
    if let Ok(outcome) = client.perform(&json!({ "kind": "health" })).await
        && outcome["connected"] == false
    {
        record.unhealthy().push((node, Instant::now()));
    }
}
