//! A process with a node in it that is killed, and what the broker keeps of it.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Read as _},
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};
use trunkline_brokers::RabbitMq;
use trunkline_core::{Room, Target};

use crate::{
    member::Member,
    support::{TIMEOUT, config, shared, until},
};

const PREFIX: &str = "sigkill";

/// Makes this program a node: where its broker is.
const BROKER: &str = "TRUNKLINE_TEST_NODE_BROKER";

/// What the node prints when it is in all of its rooms.
const READY: &str = "in all rooms";

const ROOMS: usize = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_with_sigkill_leaves_nothing_behind_in_the_broker() {
    if let Ok(url) = env::var(BROKER) {
        return be_a_node(&url).await;
    }
    let broker = shared().await;
    let mut survivor = Member::join(config(broker.url(), PREFIX)).await;
    let room = Room::from("room 0");
    survivor.enter(&room).await;
    let before = Listed::by(broker).await;
    assert_eq!(before.sizes(), [1, 3, 2], "queue, bindings, connections of the survivor");

    let mut node = start_node(broker).await;
    let during = Listed::by(broker).await;
    assert_eq!(during.sizes(), [2, 3 + 258, 4], "with those of the node in its own process");

    node.kill().await.unwrap();
    until("only what is the survivor's is left", async || Listed::by(broker).await == before).await;

    let sender = Member::join(config(broker.url(), PREFIX)).await;
    sender.emit(Target::room(room.clone())).await;
    sender.emit(Target::all()).await;
    assert_eq!(survivor.targets().await, [Target::room(room)]);
}

/// What the broker lists of this prefix.
#[derive(Debug, PartialEq)]
struct Listed {
    queues: BTreeSet<String>,
    bindings: BTreeSet<String>,
    connections: BTreeSet<String>,
}

impl Listed {
    async fn by(broker: &RabbitMq) -> Self {
        let lines = async |command: &[&str], name: &str| -> BTreeSet<String> {
            let text = broker.ctl(command).await.unwrap();
            text.lines().filter(|line| line.contains(&format!("{name}{PREFIX}"))).map(str::to_owned).collect()
        };
        let bindings = ["list_bindings", "source_name", "destination_name", "routing_key"];
        let mut bindings = lines(&bindings, "trunkline.").await;
        // Every queue has one to the exchange without a name.
        bindings.retain(|line| !line.starts_with('\t'));
        Self {
            queues: lines(&["list_queues", "name"], "trunkline.").await,
            bindings,
            connections: lines(&["list_connections", "client_properties"], "trunkline ").await,
        }
    }

    fn sizes(&self) -> [usize; 3] {
        [&self.queues, &self.bindings, &self.connections].map(BTreeSet::len)
    }
}

/// Runs this test in a process of its own, as a node. Returns when it is in all of its rooms.
async fn start_node(broker: &RabbitMq) -> Child {
    let this_test =
        ["--exact", "killed::a_node_killed_with_sigkill_leaves_nothing_behind_in_the_broker", "--nocapture"];
    let mut node = Command::new(env::current_exe().unwrap());
    node.args(this_test).env(BROKER, broker.url()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut node = node.spawn().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(READY) {
                return;
            }
        }
        panic!("the node has ended");
    };
    timeout(TIMEOUT, ready).await.expect("the node gets ready");
    node
}

/// A node with many rooms. It ends when it is killed, or when the process that started it is gone.
async fn be_a_node(url: &str) {
    let member = Member::join(config(url, PREFIX)).await;
    for number in 0..ROOMS {
        member.enter(&Room::new(format!("room {number}"))).await;
    }
    println!("{READY}");
    let until_closed = || io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(until_closed).await.unwrap().unwrap();
}
