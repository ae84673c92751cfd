//! `nodes`, `sockets`, `rooms`: who is where.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trunkline::{NodeId, SocketInfo, Target};

use crate::{
    broker,
    emit::json_value,
    gather::{self, TELLING},
    observer::{Missing, Observer},
    options::{RoomsOptions, SocketsOptions, WhoOptions},
    output::{Failure, NOTHING_HEARD, Output, Status, counted, shown, table},
};

pub(crate) async fn nodes(options: WhoOptions, output: &Output) -> Result<Status, Failure> {
    let Found { sockets, missing, nodes, counted_nodes } = Found::ask(&options, Target::all()).await?;
    let of_unknown = sockets.iter().filter(|socket| socket.node.is_none()).count();
    let unnamed = counted_nodes.saturating_sub(nodes.len());
    let rows = nodes.iter().map(|(id, node)| {
        let own: Vec<_> = sockets.iter().filter(|socket| socket.node.as_ref() == Some(id)).collect();
        let rooms: BTreeSet<_> = own.iter().flat_map(|socket| rooms_but_own(socket)).collect();
        (id, node, own.len(), rooms.len(), !missing.named.contains(id))
    });
    let rows: Vec<_> = rows.collect();
    let lines: Vec<_> = rows
        .iter()
        .map(|(id, node, sockets, rooms, answered)| {
            let answered = if *answered { "yes" } else { "NO" };
            vec![
                shown(id.as_str()),
                node.kind.unwrap_or(NOT_PROVED).to_owned(),
                sockets.to_string(),
                rooms.to_string(),
                node.silent_seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s")),
                answered.to_owned(),
            ]
        })
        .collect();
    let mut text = String::new();
    if !lines.is_empty() {
        text = table(&["NODE", "KIND", "SOCKETS", "ROOMS", "HEARD", "ANSWERED"], &lines) + "\n";
    }
    let count = nodes.len().max(counted_nodes);
    text.push_str(&format!("{}{}", counted(count, "node"), missing.text()));
    if count == 0 {
        text.push_str(NOTHING_HEARD);
    }
    if unnamed > 0 {
        let are = if unnamed == 1 { "is" } else { "are" };
        text.push_str(&format!(
            "\n{unnamed} of them {are} counted by the broker and not named by this wire format, with {} in all",
            counted(of_unknown, "socket"),
        ));
    }
    let json: Vec<_> = rows
        .iter()
        .map(|(id, node, sockets, rooms, answered)| {
            json!({ "id": id.as_str(), "kind": node.kind, "sockets": sockets, "rooms": rooms,
                "heard_seconds_ago": node.silent_seconds, "answered": answered, "buckets": node.buckets })
        })
        .collect();
    let status = missing.status();
    output.result(
        text,
        &json!({ "status": status.word(), "nodes": json, "unnamed_nodes": unnamed, "sockets": sockets.len(),
            "sockets_of_unnamed_nodes": of_unknown, "missing": missing.json() }),
    );
    Ok(status)
}

pub(crate) async fn sockets(options: SocketsOptions, output: &Output) -> Result<Status, Failure> {
    let Found { mut sockets, missing, .. } = Found::ask(&options.who, options.selection.target()).await?;
    if let Some(node) = &options.node {
        sockets.retain(|socket| socket.node.as_ref().is_some_and(|id| id.as_str() == node));
    }
    sockets.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
    let lines: Vec<_> = sockets
        .iter()
        .map(|socket| {
            let rooms: Vec<_> = rooms_but_own(socket).map(|room| shown(&room)).collect();
            let mut line = vec![shown(socket.id.as_str()), shown(node_of(socket)), rooms.join(", ")];
            if options.data {
                line.push(shown(&json_value(socket.data.as_ref()).to_string()));
            }
            line
        })
        .collect();
    let mut text = String::new();
    if !lines.is_empty() {
        let header = ["SOCKET", "NODE", "ROOMS", "DATA"];
        text = table(&header[..if options.data { 4 } else { 3 }], &lines) + "\n";
    }
    text.push_str(&format!("{}{}", counted(sockets.len(), "socket"), missing.text()));
    let json: Vec<_> = sockets
        .iter()
        .map(|socket| {
            let rooms: Vec<_> = rooms_but_own(socket).collect();
            let node = socket.node.as_ref().map(NodeId::as_str);
            let mut json = json!({ "id": socket.id.as_str(), "node": node, "rooms": rooms });
            if options.data {
                json["data"] = json_value(socket.data.as_ref());
            }
            json
        })
        .collect();
    let status = missing.status();
    output.result(text, &json!({ "status": status.word(), "sockets": json, "missing": missing.json() }));
    Ok(status)
}

pub(crate) async fn rooms(options: RoomsOptions, output: &Output) -> Result<Status, Failure> {
    let Found { sockets, missing, .. } = Found::ask(&options.who, Target::all()).await?;
    let mut rooms: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for socket in &sockets {
        for room in &socket.rooms {
            let name = room.to_text().to_string();
            let is_own = name == socket.id.as_str();
            if (options.own || !is_own) && options.containing.as_ref().is_none_or(|text| name.contains(text)) {
                *rooms.entry(name).or_default().entry(node_of(socket).to_owned()).or_default() += 1;
            }
        }
    }
    if let Some(node) = &options.node {
        rooms.retain(|_, members| members.contains_key(node));
    }
    let lines: Vec<_> = rooms
        .iter()
        .map(|(room, members)| {
            let by_node = members.iter().map(|(node, count)| format!("{} ({count})", shown(node)));
            let by_node = by_node.collect::<Vec<_>>().join(", ");
            vec![shown(room), members.values().sum::<usize>().to_string(), by_node]
        })
        .collect();
    let mut text = String::new();
    if !lines.is_empty() {
        text = table(&["ROOM", "SOCKETS", "NODES"], &lines) + "\n";
    }
    text.push_str(&format!("{}{}", counted(rooms.len(), "room"), missing.text()));
    let json: Vec<Value> = rooms
        .iter()
        .map(|(room, members)| json!({ "name": room, "sockets": members.values().sum::<usize>(), "nodes": members }))
        .collect();
    let status = missing.status();
    output.result(text, &json!({ "status": status.word(), "rooms": json, "missing": missing.json() }));
    Ok(status)
}

/// What the nodes of a namespace have told.
struct Found {
    sockets: Vec<SocketInfo>,
    missing: Missing,
    nodes: BTreeMap<NodeId, Node>,
    /// Number of nodes, this program not included, as the broker counts them or as they are known.
    counted_nodes: usize,
}

struct Node {
    kind: Option<&'static str>,
    /// `None` if only other nodes know it.
    silent_seconds: Option<f64>,
    buckets: Option<u16>,
}

impl Found {
    async fn ask(options: &WhoOptions, target: Target) -> Result<Self, Failure> {
        let observer = Observer::join(&options.broker.broker, &options.broker.namespace, options.timeout).await?;
        observer.listen(&options.listen).await;
        let counted_nodes = observer.node.server_count().await?.saturating_sub(1);
        let mut heard = observer.heard();
        // Nodes that are only counted so far may be ours and not yet heard, or Node.js servers, which tell no status and
        // are hardly waited for.
        let telling = async {
            if heard.is_empty() && counted_nodes == 0 {
                return Ok(Default::default());
            }
            gather::statuses(&observer, Some(options.timeout.min(TELLING))).await
        };
        let (answers, statuses) = tokio::join!(observer.node.fetch_sockets(target), telling);
        let (statuses, _) = statuses?;
        heard.extend(observer.heard());
        let silent = gather::unheard(&statuses, &heard, &observer.node.node().id);
        let obstacle = broker::obstacle(&observer.backend);
        observer.leave().await;
        if let Some(reason) = obstacle {
            return Err(Failure::critical(format!("the broker takes nothing, so that no node can be asked: {reason}")));
        }
        let (sockets, mut missing) = Missing::split(answers)?;
        missing.name(silent);
        let nodes = heard.into_iter().map(|(id, heard)| {
            let silent_seconds = Some(heard.last.elapsed().as_secs_f64());
            (id, Node { kind: heard.kind(), silent_seconds, buckets: heard.buckets })
        });
        let mut nodes: BTreeMap<_, _> = nodes.collect();
        for id in &missing.named {
            nodes.entry(id.clone()).or_insert(Node { kind: None, silent_seconds: None, buckets: None });
        }
        Ok(Self { sockets, missing, nodes, counted_nodes })
    }
}

/// Kind of a node that has numbered nothing so far.
const NOT_PROVED: &str = "node.js?";

/// The rooms of a socket without the one that is named by its id.
fn rooms_but_own(socket: &SocketInfo) -> impl Iterator<Item = String> {
    let rooms = socket.rooms.iter().map(|room| room.to_text().to_string());
    rooms.filter(|room| room != socket.id.as_str())
}

fn node_of(socket: &SocketInfo) -> &str {
    socket.node.as_ref().map_or("?", NodeId::as_str)
}
