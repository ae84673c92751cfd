//! A node of the bench: what it is told to send, and what it finds.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    time::{Instant, interval, sleep, timeout},
};
use trunkline::{ClusterNode, Local, Namespace, NodeConfig, Payload, Target};

use super::receiver::{Packet, Receiver, now_micros};
use crate::{
    broker,
    observer::Sockets,
    options::BenchNodeOptions,
    output::{Failure, Status, print},
};

/// What a node is told to send.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    /// Number of the run, which the messages carry.
    pub(crate) run: u64,
    /// Messages of each node.
    pub(crate) messages: u64,
    /// Bytes of each message.
    pub(crate) bytes: usize,
    /// Time between two of them.
    pub(crate) pause: Duration,
}

/// What a node found.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Found {
    /// From its first message until its last one had its place in the queue.
    pub(crate) sending: Duration,
    /// From its first message until the last one of the others had arrived.
    pub(crate) receiving: Duration,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    pub(crate) repeated: u64,
    /// Microseconds on the way, and how often.
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// What a node tells the program that started it, a line each.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Line {
    /// It knows all others.
    Ready,
    /// Messages that arrived so far.
    Progress(u64),
    Found(Found),
    Failed(String),
}

impl Line {
    fn tell(&self) {
        print(format_args!("{}\n", serde_json::to_string(self).unwrap_or_default()));
    }
}

/// A node of the bench, in a process of its own: carries out the orders that it reads, until there are no more.
pub(crate) async fn node(options: BenchNodeOptions) -> Result<Status, Failure> {
    if let Err(failure) = serve(&options).await {
        Line::Failed(failure.text.clone()).tell();
        return Err(failure);
    }
    Ok(Status::Ok)
}

async fn serve(options: &BenchNodeOptions) -> Result<(), Failure> {
    let backend = broker::connect(&options.broker).await?;
    let receiver = Arc::new(Receiver::new(options.index));
    let counting = Arc::clone(&receiver);
    let local: Arc<dyn Local> = Arc::new(Sockets::taking(move |payload| counting.take(payload)));
    let namespace = Namespace::new(&options.namespace);
    let node = ClusterNode::join(backend.clone(), namespace, Arc::downgrade(&local), NodeConfig::default()).await?;
    node.await_peers(options.peers, options.timeout.max(START)).await?;
    Line::Ready.tell();
    let mut orders = BufReader::new(stdin()).lines();
    while let Ok(Some(order)) = orders.next_line().await {
        let order: Order = serde_json::from_str(&order).map_err(|error| Failure::usage(error.to_string()))?;
        let found = carry_out(&order, &node, &receiver, options).await?;
        Line::Found(found).tell();
    }
    node.close();
    let _ = timeout(CLOSE, node.closed()).await;
    broker::close(&backend).await;
    Ok(())
}

/// How long the others may take to be there.
const START: Duration = Duration::from_secs(30);

const CLOSE: Duration = Duration::from_secs(3);

/// How often it is told how many have arrived.
const TELL: Duration = Duration::from_millis(200);

async fn carry_out(
    order: &Order,
    node: &ClusterNode,
    receiver: &Receiver,
    options: &BenchNodeOptions,
) -> Result<Found, Failure> {
    let expected = order.messages * options.peers as u64;
    let filler = "x".repeat(order.bytes);
    let began = Instant::now();
    let work = async {
        for number in 0..order.messages {
            let packet: Packet = (order.run, options.index, number, now_micros(), filler.clone());
            node.broadcast(Target::all(), Payload::event(EVENT, &packet)?).await?;
            if !order.pause.is_zero() {
                sleep(order.pause).await;
            }
        }
        let sending = began.elapsed();
        while receiver.count(order.run) < expected && receiver.quiet_for(began) < options.timeout {
            sleep(LOOK).await;
        }
        Ok::<_, trunkline::Error>(sending)
    };
    tokio::pin!(work);
    let mut told = interval(TELL);
    let sending = loop {
        tokio::select! {
            sending = &mut work => break sending?,
            _ = told.tick() => Line::Progress(receiver.count(order.run)).tell(),
        }
    };
    Ok(Found { sending, ..receiver.found(order.run, began, expected) })
}

const EVENT: &str = "bench";

/// How often it is looked whether all have arrived.
const LOOK: Duration = Duration::from_millis(20);
