//! Counting the nodes of a namespace by their subscriptions.

use std::collections::HashMap;

use bytes::Bytes;
use trunkline_core::{Error, NodeId, Result, transport::NodeCount};

use crate::connect::{Destination, ServerPool};

/// Counts the subscribers of `counted`, and looks which of the `known` nodes have subscribed to their own channel. `me`
/// has done so.
///
/// A node that is subscribed to its own channel twice has come back over a new connection, while the server still keeps
/// the old one: it is one node.
pub(crate) async fn count_nodes(
    servers: &ServerPool,
    sharded: bool,
    counted: &Bytes,
    me: &NodeId,
    known: &[NodeId],
    own_channel: impl Fn(&NodeId) -> Bytes,
) -> Result<NodeCount> {
    let channels: Vec<_> = known.iter().map(&own_channel).collect();
    let mine = own_channel(me);
    let mut command = redis::cmd("PUBSUB");
    command.arg(if sharded { "SHARDNUMSUB" } else { "NUMSUB" }).arg(counted.as_ref());
    command.arg(mine.as_ref());
    for channel in &channels {
        command.arg(channel.as_ref());
    }
    let seen = ask_all(servers, &command).await?;
    let subscribers = |channel: &Bytes| seen.counts.get(channel.as_ref()).copied().unwrap_or(0);
    // The channels of a Redis Cluster's shards may be at different servers, over different connections.
    let has_surplus = !(sharded && servers.is_cluster());
    let own_channels = channels.iter().chain([&mine]).filter(|_| has_surplus);
    let surplus: usize = own_channels.map(|channel| subscribers(channel).saturating_sub(1)).sum();
    let is_seen = |(_, channel): &(&NodeId, &Bytes)| subscribers(channel) > 0;
    let (present, absent): (Vec<_>, Vec<_>) = known.iter().zip(&channels).partition(is_seen);
    // A node that is not seen may be on the server that did not answer.
    let absent = absent.into_iter().filter(|_| seen.is_complete).map(|(node, _)| node.clone()).collect();
    Ok(NodeCount::new(subscribers(counted).saturating_sub(surplus), present.len(), absent))
}

/// How many subscribers each channel has.
struct Seen {
    counts: HashMap<Vec<u8>, usize>,
    /// Every server has answered.
    is_complete: bool,
}

/// A cluster's nodes know only their own subscribers.
async fn ask_all(servers: &ServerPool, command: &redis::Cmd) -> Result<Seen> {
    let mut seen = Seen { counts: HashMap::new(), is_complete: true };
    let mut last: Option<Error> = None;
    let destinations = servers.all_destinations();
    let mut answered = 0;
    for destination in &destinations {
        match ask(servers, destination, command).await {
            Ok(counts) => {
                answered += 1;
                for (channel, count) in counts {
                    *seen.counts.entry(channel).or_default() += count;
                }
            }
            Err(error) => last = Some(error),
        }
    }
    seen.is_complete = answered == destinations.len();
    match last {
        Some(error) if answered == 0 => Err(error),
        _ => Ok(seen),
    }
}

async fn ask(servers: &ServerPool, destination: &Destination, command: &redis::Cmd) -> Result<Vec<(Vec<u8>, usize)>> {
    let connection = servers.command_connection(destination).await?;
    connection.run(command, servers.response_timeout()).await
}
