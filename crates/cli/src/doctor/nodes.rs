//! What nodes tell of themselves: versions, connections, missed messages.

use std::collections::BTreeMap;

use super::finding::{Findings, Report};
use crate::{
    gather::NodeStatus,
    output::{counted, shown},
};

pub(crate) fn examine(nodes: &[NodeStatus], findings: &mut Findings) {
    if nodes.is_empty() {
        for code in ["versions", "node-health", "node-gaps"] {
            findings.add(code, Report::skipped("no node tells about itself: only those of Trunkline do"));
        }
        return;
    }
    findings.add("versions", versions(nodes));
    findings.add("node-health", health(nodes));
    findings.add("node-gaps", gaps(nodes));
}

fn versions(nodes: &[NodeStatus]) -> Report {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in nodes {
        versions.entry(&node.version).or_default().push(shown(&node.node));
    }
    let list = versions.iter().map(|(version, nodes)| format!("{} ({})", shown(version), nodes.join(", ")));
    let list = list.collect::<Vec<_>>().join("; ");
    if versions.len() == 1 {
        return Report::ok(format!("{}, all with Trunkline {list}", counted(nodes.len(), "node")));
    }
    Report::warning(format!("nodes have different versions: {list}"))
        .cause("a rolling upgrade is under way, or a server was forgotten")
        .advice("fine while it lasts; then upgrade the rest: docs/operations.md#rolling-upgrades")
}

fn health(nodes: &[NodeStatus]) -> Report {
    let bad: Vec<_> = nodes
        .iter()
        .filter(|node| !node.health.connected || node.health.refused_messages > 0)
        .map(|node| match (&node.health.reason, &node.health.refusal) {
            (Some(reason), _) => format!("{} is not connected: {}", shown(&node.node), shown(reason)),
            (None, Some(refusal)) => {
                let refused = counted(node.health.refused_messages as usize, "message");
                format!(
                    "{}: the broker has refused {refused}, the last one because {}",
                    shown(&node.node),
                    shown(refusal)
                )
            }
            _ => format!("{} is not connected", shown(&node.node)),
        })
        .collect();
    if bad.is_empty() {
        return degraded(nodes);
    }
    Report::critical(format!("{} cannot send all", counted(bad.len(), "node")))
        .cause(bad.join("; "))
        .advice("look at the log of the nodes that are named, and at that of the broker")
}

/// What else nodes say is wrong with them.
fn degraded(nodes: &[NodeStatus]) -> Report {
    let complaints: Vec<_> = nodes
        .iter()
        .flat_map(|node| node.health.degraded.iter().map(|words| format!("{}: {}", shown(&node.node), shown(words))))
        .collect();
    if complaints.is_empty() {
        return Report::ok(format!("{} connected, no message refused", counted(nodes.len(), "node")));
    }
    Report::warning(format!("{} connected; not all is well", counted(nodes.len(), "node")))
        .cause(complaints.join("; "))
        .advice("look at the log of the nodes that are named; what lies more than a minute back is not told")
}

fn gaps(nodes: &[NodeStatus]) -> Report {
    let bad: Vec<_> = nodes
        .iter()
        .filter(|node| node.metrics.gaps > 0)
        .map(|node| format!("{}: {}", shown(&node.node), counted(node.metrics.gaps as usize, "gap")))
        .collect();
    if bad.is_empty() {
        return Report::ok("no node has missed messages");
    }
    Report::warning(format!("{} missed messages since the start", counted(bad.len(), "node")))
        .cause(bad.join("; "))
        .advice("watch them: trunkline tap --type gap; compare with the reconnects of the nodes (docs/metrics.md)")
}
