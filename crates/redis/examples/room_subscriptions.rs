//! What `subscription=pattern` and `subscription=rooms` cost: processor time of the nodes and of the server.
//!
//! ```sh
//! cargo run --release -p trunkline-redis --example room_subscriptions
//! ```
//!
//! Each node is a thread of its own with a runtime of its own, and its time is that of the thread. Linux only.

use std::{
    collections::VecDeque,
    fs,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::task::TaskTracker;
use trunkline_brokers::Redis;
use trunkline_core::{
    Backend, IdScheme, Message, Namespace, NodeKey, NodeMetrics, Payload, Room, Target,
    model::Delivery,
    transport::{InboxLimits, JoinRequest, RoomFilter},
};
use trunkline_redis::{Config, connect};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Rooms of each node.
const ROOMS: [usize; 3] = [1, 1_000, 50_000];

/// Messages, or joins and as many leaves, a second.
const RATES: [u32; 2] = [2_000, 1_000];

const DURATION: Duration = Duration::from_secs(5);

/// How long a node stays subscribed to a room that it has left.
const LINGER: Duration = Duration::from_secs(1);

/// A node has members in these.
#[derive(Debug)]
struct Members(&'static str);

impl RoomFilter for Members {
    fn may_have_members(&self, room: &Room) -> bool {
        matches!(room, Room::Text(name) if **name == *self.0)
    }
}

/// A node in a thread of its own.
struct Node {
    handle: runtime::Handle,
    backend: Backend,
    key: NodeKey,
    thread: u32,
    _end: oneshot::Sender<()>,
}

impl Node {
    fn start(url: String, member_of: &'static str) -> Result<Self, Failure> {
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from);
            let served = runtime.and_then(|runtime| runtime.block_on(serve(url, member_of, &ready)));
            if let Err(error) = served {
                eprintln!("{error}");
            }
        });
        Ok(is_ready.recv()?)
    }

    fn cpu(&self) -> Result<u64, Failure> {
        cpu_time(&format!("/proc/self/task/{}/schedstat", self.thread))
    }

    /// Enters, or leaves, rooms on the node's thread.
    async fn rooms(&self, rooms: Vec<Room>, enters: bool) -> Result<(), Failure> {
        let Some(interest) = self.backend.interest.clone() else { return Ok(()) };
        let key = self.key.clone();
        let changed = self.handle.spawn(async move {
            for some in rooms.chunks(1_000) {
                let calls = some.iter().map(|room| async {
                    if enters {
                        interest.room_created(&key, room).await
                    } else {
                        interest.room_deleted(&key, room).await
                    }
                });
                for result in futures_util::future::join_all(calls).await {
                    result?;
                }
            }
            Ok::<_, trunkline_core::Error>(())
        });
        Ok(changed.await??)
    }
}

async fn serve(url: String, member_of: &'static str, ready: &mpsc::Sender<Node>) -> Result<(), Failure> {
    let backend = connect(Config::from_url(&url)?).await?;
    let key = NodeKey { id: IdScheme::Short6.node_id(), namespace: Namespace::new("/") };
    let metrics = Arc::<NodeMetrics>::default();
    let request = JoinRequest::new(key.clone(), Arc::new(Members(member_of)), metrics, InboxLimits::default());
    let mut inbox = backend.transport.join(request).await?;
    let (end, ended) = oneshot::channel();
    let thread = fs::read_link("/proc/thread-self")?;
    let thread = thread.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse()?;
    let handle = runtime::Handle::current();
    ready.send(Node { handle, backend: backend.clone(), key, thread, _end: end })?;
    let mut batch = VecDeque::<Delivery>::new();
    tokio::select! {
        () = async { while inbox.next_batch(&mut batch).await { batch.clear(); } } => {}
        _ = ended => {}
    }
    backend.transport.close().await;
    Ok(())
}

/// Nanoseconds on a processor.
fn cpu_time(path: &str) -> Result<u64, Failure> {
    Ok(fs::read_to_string(path)?.split(' ').next().unwrap_or_default().parse()?)
}

async fn info(server: &Redis, section: &str, field: &str) -> Result<u64, Failure> {
    let info = server.cli(&["INFO", section]).await?;
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.ok_or("the server does not say")?.trim().parse()?)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds for a table")]
fn micros(from: u64, to: u64, count: u32) -> f64 {
    (to - from) as f64 / 1000.0 / f64::from(count)
}

/// Does something so many times a second.
async fn at_rate<F>(rate: u32, mut each: impl FnMut(u32) -> F) -> Result<u32, Failure>
where
    F: Future<Output = trunkline_core::Result<()>>,
{
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + DURATION;
    let mut count = 0;
    while Instant::now() < end {
        ticks.tick().await;
        each(count).await?;
        count += 1;
    }
    Ok(count)
}

async fn measure(subscription: &str, rooms: usize) -> Result<(), Failure> {
    let server = Redis::start().await?;
    let linger = LINGER.as_secs();
    let url = format!("{}?subscription={subscription}&linger={linger}s", server.url());
    let members = ["", "hot", "", ""];
    let nodes = members.map(|member| Node::start(url.clone(), member));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let [sender, receiver, bystander, other] = &nodes[..] else { return Err("four nodes".into()) };
    receiver.rooms(vec!["hot".into()], true).await?;
    let began = Instant::now();
    for (index, node) in nodes.iter().enumerate() {
        node.rooms((0..rooms).map(|room| Room::new(format!("room {room} of {index}"))).collect(), true).await?;
    }
    let entered = began.elapsed();
    let memory = info(&server, "memory", "used_memory").await? >> 10;
    let server_path = format!("/proc/{}/schedstat", info(&server, "server", "process_id").await?);
    let server_cpu = || cpu_time(&server_path);

    let before = [server_cpu()?, receiver.cpu()?, bystander.cpu()?];
    let payload = Payload::event("e", &"x".repeat(128))?;
    let (transport, from) = (Arc::clone(&sender.backend.transport), sender.key.clone());
    let sending = sender.handle.spawn(at_rate(RATES[0], move |_| {
        let message = Message::Broadcast { request: None, target: Target::room("hot"), payload: payload.clone() };
        let (transport, from) = (Arc::clone(&transport), from.clone());
        async move { transport.publish(&from, message).await }
    }));
    let sent = sending.await??;
    let after = [server_cpu()?, receiver.cpu()?, bystander.cpu()?];
    let [server_message, receiver_message, bystander_message] =
        [0, 1, 2].map(|index| micros(before[index], after[index], sent));

    let channels = async || info(&server, "stats", "pubsub_channels").await;
    let subscribed = channels().await?;
    let before = [server_cpu()?, other.cpu()?];
    let (interest, key) = (other.backend.interest.clone(), other.key.clone());
    let passing = TaskTracker::new();
    let passed = passing.clone();
    let joining = other.handle.spawn(at_rate(RATES[1], move |number| {
        let (interest, key, passing) = (interest.clone(), key.clone(), passing.clone());
        async move {
            let Some(interest) = interest else { return Ok(()) };
            let room = Room::new(format!("passing {number}"));
            // The next one does not wait for this.
            passing.spawn(async move {
                interest.room_created(&key, &room).await?;
                interest.room_deleted(&key, &room).await
            });
            Ok(())
        }
    }));
    let joined = joining.await??;
    passed.close();
    passed.wait().await;
    // The last subscriptions end.
    while channels().await? > subscribed {
        sleep(LINGER / 4).await;
    }
    let after = [server_cpu()?, other.cpu()?];
    let [server_join, node_join] = [0, 1].map(|index| micros(before[index], after[index], joined));
    println!(
        "| {subscription} | {rooms} | {bystander_message:.1} | {receiver_message:.1} | {server_message:.1} | \
         {node_join:.1} | {server_join:.1} | {} | {} ms | {memory} KiB |",
        joined / 5,
        entered.as_millis() / 4,
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    println!(
        "| subscription | rooms per node | bystander, µs per message | receiver | server | node, µs per join and leave \
         | server | joins/s | to enter all rooms of a node | server's memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for rooms in ROOMS {
        for subscription in ["pattern", "rooms"] {
            measure(subscription, rooms).await?;
        }
    }
    Ok(())
}
