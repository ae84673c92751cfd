//! Counting nodes as Redis sees them: by their subscriptions.

use std::collections::HashMap;

use bytes::Bytes;
use trunkline_core::{Error, NodeId, Result, transport::NodeCount};

use crate::topology::{Place, Servers};

/// Counts the subscribers of `counted`, and looks which of the `known` nodes have subscribed to their own channel.
pub(crate) async fn count(
    servers: &Servers,
    sharded: bool,
    counted: &Bytes,
    known: &[NodeId],
    own_channel: impl Fn(&NodeId) -> Bytes,
) -> Result<NodeCount> {
    let channels: Vec<_> = known.iter().map(&own_channel).collect();
    let mut command = redis::cmd("PUBSUB");
    command.arg(if sharded { "SHARDNUMSUB" } else { "NUMSUB" }).arg(counted.as_ref());
    for channel in &channels {
        command.arg(channel.as_ref());
    }
    let seen = ask_everywhere(servers, &command).await?;
    let subscribers = |channel: &Bytes| seen.counts.get(channel.as_ref()).copied().unwrap_or(0);
    let is_seen = |(_, channel): &(&NodeId, &Bytes)| subscribers(channel) > 0;
    let (present, absent): (Vec<_>, Vec<_>) = known.iter().zip(&channels).partition(is_seen);
    Ok(NodeCount {
        nodes: subscribers(counted),
        known: present.len(),
        // Who is not seen may be on the node of the cluster that did not answer.
        absent: if seen.everywhere { absent.into_iter().map(|(node, _)| node.clone()).collect() } else { Vec::new() },
    })
}

/// How many subscribers each channel has.
struct Seen {
    counts: HashMap<Vec<u8>, usize>,
    /// Every place has answered.
    everywhere: bool,
}

/// A cluster's nodes know only their own subscribers.
async fn ask_everywhere(servers: &Servers, command: &redis::Cmd) -> Result<Seen> {
    let mut seen = Seen { counts: HashMap::new(), everywhere: true };
    let mut last: Option<Error> = None;
    let places = servers.all_places();
    let mut answered = 0;
    for place in &places {
        match ask(servers, place, command).await {
            Ok(counts) => {
                answered += 1;
                for (channel, count) in counts {
                    *seen.counts.entry(channel).or_default() += count;
                }
            }
            Err(error) => last = Some(error),
        }
    }
    seen.everywhere = answered == places.len();
    match last {
        Some(error) if answered == 0 => Err(error),
        _ => Ok(seen),
    }
}

async fn ask(servers: &Servers, place: &Place, command: &redis::Cmd) -> Result<Vec<(Vec<u8>, usize)>> {
    let control = servers.control_of(place).await?;
    control.run(command, servers.response_timeout()).await
}
