//! The cluster: who is there, who answers, who is heard, who is set up differently.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::broadcast::error::TryRecvError, time::Instant};
use trunkline::{Event, Membership, NodeConfig, NodeId, SocketInfo, Target};

use super::{
    finding::{Findings, Measured, Report},
    nodes,
    redis::Server,
    target::{Backend, BrokerTarget},
};
use crate::{
    gather::{NodeStatus, TELLING, statuses, unheard},
    observer::{Heard, Missing, Observer, Sockets},
    options::DoctorOptions,
    output::{Failure, counted, shown},
};

pub(crate) async fn examine(
    target: &BrokerTarget,
    backend: &trunkline::Backend,
    options: &DoctorOptions,
    findings: &mut Findings,
) {
    if let Err(failure) = look(target, backend, options, findings).await {
        findings.skip_category("cluster", &format!("a node could not join or ask: {}", failure.text));
    }
}

async fn look(
    target: &BrokerTarget,
    backend: &trunkline::Backend,
    options: &DoctorOptions,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let config = NodeConfig::default().with_request_timeout(options.timeout);
    let observer =
        Observer::join_over(backend.clone(), &options.namespace, config, Arc::new(Sockets::default())).await?;
    let mut events = observer.node.events();
    observer.listen(&options.listen).await;
    let counted_nodes = observer.node.server_count().await?.saturating_sub(1);
    let began = Instant::now();
    let answers = observer.node.fetch_sockets(Target::all()).await;
    let took = began.elapsed();
    let (sockets, mut missing) = Missing::split(answers)?;
    let mut heard = observer.heard();
    // Node.js servers do not know the question: without a node of ours they are hardly waited for.
    let limit = if heard.values().any(|heard| heard.kind().is_some()) { options.timeout } else { TELLING };
    let mut told = Vec::new();
    if !heard.is_empty() || counted_nodes > 0 {
        told = statuses(&observer, Some(limit)).await?.0;
    }
    nodes::examine(&told, findings);
    heard.extend(observer.heard());
    let silent = unheard(&told, &heard, &observer.node.node().id);
    missing.name(silent.clone());
    let is_counted = observer.node.capabilities().membership == Membership::BrokerCount;
    present(&heard, counted_nodes, options.listen.nodes, findings);
    answering(sockets.len(), &missing, took, findings);
    heartbeats(&heard, &silent, findings);
    if is_counted {
        silent_nodes(counted_nodes.saturating_sub(heard.len()), missing.unnamed + silent.len(), findings);
    }
    let mut misconfigured = other_promises(&told, &format!("{:?}", observer.node.capabilities()));
    loop {
        match events.try_recv() {
            Ok(Event::Misconfigured(text)) => misconfigured.push(text),
            Ok(_) | Err(TryRecvError::Lagged(_)) => (),
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    if target.backend == Backend::Redis {
        misconfigured.extend(subscription(target, &options.namespace, &sockets).await);
    }
    settings(&heard, &misconfigured, findings);
    observer.node.close();
    observer.node.closed().await;
    Ok(())
}

fn present(heard: &BTreeMap<NodeId, Heard>, counted_nodes: usize, expected: Option<usize>, findings: &mut Findings) {
    let count = heard.len().max(counted_nodes);
    let names: Vec<_> = heard
        .iter()
        .map(|(id, heard)| format!("{} ({})", shown(id.as_str()), heard.kind().unwrap_or("node.js?")))
        .collect();
    let value = match expected {
        Some(expected) => Measured::new(count as f64, "").least(expected as f64, expected as f64),
        None => Measured::new(count as f64, "").least(1.0, 0.0),
    };
    let text = match count {
        0 => "no other node is there".to_owned(),
        _ if names.is_empty() => format!("{} there", is_or_are(count)),
        _ => format!("{} there: {}", is_or_are(count), names.join(", ")),
    };
    findings.add(
        "nodes",
        Report::measured(value, text)
            .cause("no server runs, or they use another broker, database, prefix, mode or namespace")
            .advice("compare this URL with that of the servers; before a deployment: trunkline doctor --pre"),
    );
}

fn is_or_are(count: usize) -> String {
    format!("{} {}", counted(count, "other node"), if count == 1 { "is" } else { "are" })
}

fn answering(sockets: usize, missing: &Missing, took: Duration, findings: &mut Findings) {
    let value = Measured::new(missing.count() as f64, "").limits(1.0, 1.0);
    let text = match missing.count() {
        0 => format!("all answered within {took:.1?}; {} in all", counted(sockets, "socket")),
        _ => format!("{} in what arrived{}", counted(sockets, "socket"), missing.text()),
    };
    findings.add("answers", Report::measured(value, text)
        .cause("a server is frozen or overloaded, or has been killed a moment ago and is still counted")
        .advice("look at the processes of the nodes that are named: is one stopped (ps, state T) or at 100 % of a core?"));
}

fn heartbeats(heard: &BTreeMap<NodeId, Heard>, silent: &[NodeId], findings: &mut Findings) {
    if !silent.is_empty() {
        let names: Vec<_> = silent.iter().map(|id| shown(id.as_str())).collect();
        let text = format!("not heard, though other nodes know it: {}", names.join(", "));
        let report = Report::critical(text)
            .cause("its process is frozen or cut off from the broker, or has been killed within the last 10 s")
            .advice(
                "look at its process (ps, state T), and at its connection to the broker; then again: trunkline nodes",
            );
        return findings.add("heartbeats", report);
    }
    let ages = heard.iter().filter_map(|(id, heard)| Some((heard.heartbeat?.elapsed(), id)));
    let Some((oldest, id)) = ages.max() else {
        return findings.add("heartbeats", Report::skipped("no other node sends heartbeats"));
    };
    let value = Measured::new(oldest.as_secs_f64(), "s").limits(7.5, 10.0);
    findings.add(
        "heartbeats",
        Report::measured(value, format!("the oldest heartbeat, of {}, is {oldest:.1?} old", shown(id.as_str())))
            .cause("nodes send one every 5 s; this one is frozen or cut off")
            .advice("look at its process, and at its connection to the broker"),
    );
}

fn silent_nodes(unnamed: usize, silent: usize, findings: &mut Findings) {
    let report = match (unnamed, silent) {
        (0, _) => Report::ok("every node that the broker counts is known by name"),
        (count, 0) => Report::ok(format!(
            "{} sent no heartbeats but answered, as Node.js servers do on this wire",
            counted(count, "counted node")
        )),
        (_, silent) => Report::critical(format!(
            "{} counted by the broker said nothing and did not answer",
            counted(silent, "node")
        ))
        .cause("a Node.js server or another node is frozen, or something else subscribes to the cluster's channels")
        .advice("see who is connected to the broker (redis-cli -h HOST -p PORT CLIENT LIST TYPE pubsub), and look at its process"),
    };
    findings.add("silent-nodes", report);
}

/// What shows that nodes have another `subscription` mode than the URL: channels of rooms, or none of them.
async fn subscription(target: &BrokerTarget, namespace: &str, sockets: &[SocketInfo]) -> Option<String> {
    let mut server = Server::at(&target.url).await.ok()?;
    let has_channels = server.has_room_channels()?;
    let channels: BTreeSet<_> = server.rooms(namespace).await.ok()?.into_iter().collect();
    let rooms = sockets.iter().flat_map(|socket| {
        let names = socket.rooms.iter().map(|room| room.to_text().to_string());
        names.filter(|name| name != socket.id.as_str())
    });
    let rooms: BTreeSet<_> = rooms.collect();
    match (has_channels, rooms.intersection(&channels).next()) {
        (false, Some(room)) => {
            Some(format!("room {:?} has a channel of its own, and this URL has subscription=static", shown(room)))
        }
        (true, None) if !rooms.is_empty() => Some(format!(
            "no room has a channel of its own, and this URL has a dynamic subscription: the nodes have subscription=static ({} there)",
            counted(rooms.len(), "room")
        )),
        _ => None,
    }
}

/// What the backend of a node promises and that of this URL does not, such as a history.
fn other_promises(told: &[NodeStatus], own: &str) -> Vec<String> {
    let of_version = told.iter().filter(|status| status.version == env!("CARGO_PKG_VERSION"));
    let differing = of_version.filter_map(|status| {
        let pairs = fields(&status.capabilities).zip(fields(own)).filter(|(theirs, ours)| theirs != ours);
        let pairs: Vec<_> = pairs.map(|(theirs, ours)| format!("{} instead of {}", shown(theirs), ours)).collect();
        (!pairs.is_empty()).then(|| format!("{} has {}", shown(&status.node), pairs.join(", ")))
    });
    differing.collect()
}

/// Fields and values of a struct, as `Debug` writes it.
fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.split_once('{').map_or("", |(_, fields)| fields).trim_matches([' ', '}']).split(", ")
}

fn settings(heard: &BTreeMap<NodeId, Heard>, misconfigured: &[String], findings: &mut Findings) {
    let report = if misconfigured.is_empty() {
        Report::ok(format!("nothing differs from this URL ({} looked at)", counted(heard.len(), "node")))
    } else {
        Report::critical("a node is set up differently from this URL").cause(misconfigured.join("; "))
    };
    findings.add("settings", report.advice("give all nodes, and this program, the same URL parameters"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_other_promises_is_named() {
        let told = |history: bool| NodeStatus {
            node: "a".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            capabilities: format!("Capabilities {{ numbered: true, history: {history}, max_message_bytes: Some(8) }}"),
            ..NodeStatus::default()
        };
        let own = told(true).capabilities;
        assert_eq!(other_promises(&[told(true)], &own), Vec::<String>::new());
        assert_eq!(other_promises(&[told(false)], &own), ["a has history: false instead of history: true"]);
    }
}
