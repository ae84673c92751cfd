//! Waiting until everything sent so far has arrived, without sleeping.
//!
//! A test must often show that a packet was *not* delivered, and no amount of waiting shows that. A later message does.
//! Messages of one sender on one path arrive in the order in which they were sent; that is one of the promises under
//! test, which the cases of the group `order` check by the numbers of the packets. So once a [`Marker`] that was sent last has
//! arrived at a node and at each of its clients, whatever was sent before it on the same path has either arrived there
//! as well or never will: what a client has not recorded by then is absent. A marker takes each path separately. Where
//! the transport keeps a total order there is one path; otherwise acknowledged messages, and messages to one room, may
//! travel apart from broadcasts to all, and each of those paths needs a marker of its own.

use std::{panic::Location, sync::Arc, time::Duration};

use tokio::time::timeout;
use trunkline_core::{Capabilities, ClusterNode, Emitter, Namespace, Result, Room, Target};

use super::{
    failure::{Checked, Failure},
    marker::Marker,
    node_list::{NodeList, NodeProbe},
};

/// A sender of markers: a node of the cluster or an emitter.
#[derive(Debug)]
pub(super) enum Sender<'a> {
    Node(&'a ClusterNode, &'a Arc<NodeProbe>),
    Emitter(&'a Emitter),
}

/// A path from a sender to other nodes on which messages keep their order.
#[derive(Debug)]
enum Path {
    /// Broadcasts to this target.
    Broadcast(Target),
    /// Server-side events, and requests of all kinds.
    ServerSide,
}

impl Sender<'_> {
    async fn send(&self, path: &Path, marker: Marker) -> Result<()> {
        let payload = marker.payload();
        match (self, path) {
            (Self::Node(node, _), Path::Broadcast(target)) => node.broadcast(target.clone(), payload).await,
            (Self::Node(node, _), Path::ServerSide) => node.server_side_emit(payload).await,
            (Self::Emitter(emitter), Path::Broadcast(target)) => emitter.emit(target.clone(), payload).await,
            (Self::Emitter(emitter), Path::ServerSide) => emitter.server_side_emit(payload).await,
        }
    }

    fn is(&self, probe: &Arc<NodeProbe>) -> bool {
        matches!(self, Self::Node(_, own) if Arc::ptr_eq(own, probe))
    }
}

impl Path {
    /// The only room to which the path leads, if it does not lead to all nodes.
    fn room(&self) -> Option<&Room> {
        match self {
            Self::Broadcast(target) => target.single_room(),
            Self::ServerSide => None,
        }
    }

    /// Whether messages on the path arrive at a node. Server-side events do not come back to their sender.
    fn leads_to(&self, probe: &Arc<NodeProbe>, sender: &Sender<'_>) -> bool {
        match self {
            Self::Broadcast(_) => self.room().is_none_or(|room| probe.has_room(room)),
            Self::ServerSide => !sender.is(probe),
        }
    }
}

/// Sends a marker on each path, and waits until all have arrived at the running nodes of the namespace. A marker that
/// does not arrive is a failure at `at`.
pub(super) async fn settle(
    at: &'static Location<'static>,
    sender: Sender<'_>,
    nodes: &NodeList,
    namespace: &Namespace,
    capabilities: Capabilities,
) -> Checked {
    let probes = nodes.running(namespace);
    for path in common_paths(capabilities) {
        settle_path(at, &sender, &path, &probes).await?;
    }
    // Listed only now: which rooms other nodes have may be what has just arrived.
    for path in room_paths(capabilities, &probes) {
        settle_path(at, &sender, &path, &probes).await?;
    }
    Ok(())
}

/// Sends markers on one path until one has arrived at all nodes to which it leads.
async fn settle_path(
    at: &'static Location<'static>,
    sender: &Sender<'_>,
    path: &Path,
    probes: &[Arc<NodeProbe>],
) -> Checked {
    let mut repeats = if path.room().is_some() { REPEATS } else { 0 };
    loop {
        let marker = Marker::unique();
        sender.send(path, marker).await.map_err(|error| Failure::at(at, error.to_string()))?;
        let arriving = async {
            for probe in probes.iter().filter(|probe| path.leads_to(probe, sender)) {
                probe.wait_for(at, marker).await?;
            }
            Ok(())
        };
        if repeats == 0 {
            return arriving.await;
        }
        if let Ok(arrived) = timeout(REPEAT_AFTER, arriving).await {
            return arrived;
        }
        repeats -= 1;
    }
}

/// How often a marker to one room is sent again, and after how long: it is lost while a node is still telling its
/// broker about the room.
const REPEATS: usize = 20;
const REPEAT_AFTER: Duration = Duration::from_millis(500);

/// The paths of messages to all nodes.
fn common_paths(capabilities: Capabilities) -> Vec<Path> {
    let mut paths = vec![Path::Broadcast(Target::all())];
    if !capabilities.acknowledged_in_order {
        paths.push(Path::ServerSide);
    }
    paths
}

/// The paths of messages to one room: one for each room, none besides the common ones if the transport keeps a total
/// order.
fn room_paths(capabilities: Capabilities, probes: &[Arc<NodeProbe>]) -> Vec<Path> {
    if capabilities.total_order {
        return Vec::new();
    }
    let mut rooms: Vec<_> = probes.iter().flat_map(|probe| probe.rooms()).collect();
    rooms.sort_unstable();
    rooms.dedup();
    rooms.into_iter().map(|room| Path::Broadcast(Target::room(room))).collect()
}
