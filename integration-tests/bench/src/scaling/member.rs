//! One node of a cluster, a process without a Socket.IO server: its sockets are entries of a room index.
//!
//! It prints `joining ID TIME`, `ready TIME`, then `up ID TIME` and `down ID TIME` of other nodes, and `lost TIME` and `connected TIME` of its
//! connection. On standard input it is told `count`, and prints `counted PUBLISHED`; `fetch`, and prints `fetched SOCKETS NANOSECONDS`. It leaves
//! when standard input is closed. Times are nanoseconds of the monotonic clock.

use std::{
    sync::{Arc, RwLock},
    time::Duration,
};

use clap::Args;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::broadcast::error::RecvError,
};
use trunkline::core::{
    AckSink, ClusterNode, DeliveryReport, Event, EventReply, Local, Namespace, NodeConfig, NodeId, Offset, Payload,
    Room, RoomIndex, SocketId, SocketInfo, Target,
};

use crate::{Failure, now, process};

#[derive(Debug, Args)]
pub(crate) struct Member {
    /// The broker.
    url: String,
    /// Its sockets.
    #[arg(long, default_value_t = 1)]
    sockets: usize,
    /// Rooms that have members here.
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Rooms that each socket is in.
    #[arg(long, default_value_t = 1)]
    rooms_per_socket: usize,
    /// Its namespaces; what it prints and is told is of the first.
    #[arg(long, default_value_t = 1)]
    namespaces: usize,
}

pub(crate) async fn run(member: &Member) -> Result<(), Failure> {
    let before = process::resident_memory(std::process::id());
    let server = Arc::new(Sockets::new(member)?);
    let local: Arc<dyn Local> = Arc::clone(&server) as _;
    let backend = trunkline::connect(&member.url).await?;
    let mut others = Vec::new();
    for number in 1..member.namespaces {
        let namespace = Namespace::new(&format!("/{number}"));
        let local = Arc::downgrade(&local);
        others.push(ClusterNode::join(backend.clone(), namespace, local, NodeConfig::default()).await?);
    }
    let began = now();
    let node = ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&local), NodeConfig::default()).await?;
    println!("joining {} {began}", node.node().id);
    let mut events = node.events();
    for id in node.peers() {
        println!("up {id} {}", now());
    }
    node.rooms_created(&server.rooms()).await?;
    println!("ready {} {}", now(), process::resident_memory(std::process::id()) - before);

    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => print_event(&event),
                Err(RecvError::Lagged(missed)) => eprintln!("{missed} events missed"),
                Err(RecvError::Closed) => break,
            },
            line = lines.next_line() => match line?.as_deref() {
                Some("count") => println!("counted {}", node.metrics().published),
                Some("fetch") => {
                    let began = now();
                    let sockets = node.fetch_sockets(Target::all()).await.map_err(|error| error.to_string())?;
                    println!("fetched {} {}", sockets.len(), now() - began);
                }
                _ => break,
            }
        }
    }
    for node in others.iter().chain([&node]) {
        node.close();
        node.closed().await;
    }
    Ok(())
}

fn print_event(event: &Event) {
    match event {
        Event::NodeUp(id) => println!("up {id} {}", now()),
        Event::NodeDown(id, _) => println!("down {id} {}", now()),
        Event::Connected => println!("connected {}", now()),
        Event::Lost(_) => println!("lost {}", now()),
        _ => {}
    }
}

#[derive(Debug)]
struct Sockets(RwLock<RoomIndex<SocketId>>);

impl Sockets {
    fn new(member: &Member) -> Result<Self, Failure> {
        let mut index = RoomIndex::new();
        let rooms: Vec<Room> = (0..member.rooms.max(1)).map(|room| format!("room-{room:06}").into()).collect();
        // A single socket is in all rooms.
        let per_socket = if member.sockets == 1 { rooms.len() } else { member.rooms_per_socket };
        for number in 0..member.sockets {
            let id = SocketId::new(format!("{number:020}"))?;
            index.insert(id.clone());
            for room in 0..per_socket {
                index.join(&id, &rooms[(number * per_socket + room) % rooms.len()]);
            }
        }
        Ok(Self(RwLock::new(index)))
    }

    fn read<T>(&self, of: impl FnOnce(&RoomIndex<SocketId>) -> T) -> T {
        of(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Local for Sockets {
    fn deliver(&self, _: &Target, _: &Payload, _: Option<&Offset>) -> DeliveryReport {
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: AckSink) -> u32 {
        0
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        self.read(|index| {
            let rooms = |id: &SocketId| index.rooms_of(id).into_iter().flatten().cloned().collect();
            index.matching(target).into_iter().map(|id| SocketInfo::new(id.clone(), rooms(&id))).collect()
        })
    }

    fn rooms(&self) -> Vec<Room> {
        self.read(|index| index.rooms().cloned().collect())
    }

    fn has_room(&self, room: &Room) -> bool {
        self.read(|index| index.has_room(room))
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
