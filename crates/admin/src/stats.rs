//! Counts of this server, in production mode too.

use std::{
    collections::{BTreeMap, HashSet},
    time::Instant,
};

use serde::Serialize;
use socketioxide::TransportType;
use socketioxide_core::Sid;
use trunkline_socketioxide::ClusterIo;

use crate::time::second;

/// Counts the clients and sockets of this server.
pub(crate) struct Counter {
    server_id: String,
    hostname: String,
    started: Instant,
    /// The clients of the last count.
    clients: Option<HashSet<Sid>>,
    /// Of each namespace that was ever counted: the page keeps what it is not told to be empty.
    namespaces: BTreeMap<String, usize>,
}

/// What the page calls `server_stats`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerStats<'a> {
    server_id: &'a str,
    hostname: &'a str,
    pid: u32,
    uptime: f64,
    clients_count: usize,
    polling_clients_count: usize,
    aggregated_events: Vec<AggregatedEvents>,
    namespaces: Vec<NamespaceStats<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceStats<'a> {
    name: &'a str,
    sockets_count: usize,
}

/// How many clients have come or gone since the last count, for the page's histogram.
#[derive(Serialize)]
struct AggregatedEvents {
    timestamp: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    count: usize,
}

impl Counter {
    pub(crate) fn new(server_id: String, hostname: String) -> Self {
        Self { server_id, hostname, started: Instant::now(), clients: None, namespaces: BTreeMap::new() }
    }

    /// Forgets the last count: what came and went while no page was connected is told to none.
    pub(crate) fn pause(&mut self) {
        self.clients = None;
    }

    pub(crate) fn count(&mut self, io: &ClusterIo) -> ServerStats<'_> {
        self.namespaces.values_mut().for_each(|count| *count = 0);
        let mut clients = HashSet::new();
        let mut polling = 0;
        for namespace in io.nsps() {
            let name = namespace.ns_path().to_owned();
            let sockets = namespace.sockets();
            self.namespaces.insert(name, sockets.len());
            for socket in sockets {
                // A client has one id in all namespaces.
                if clients.insert(socket.id) && socket.transport_type() == TransportType::Polling {
                    polling += 1;
                }
            }
        }
        let clients_count = clients.len();
        let aggregated_events = self.clients.as_ref().map(|before| changes(before, &clients)).unwrap_or_default();
        self.clients = Some(clients);
        let namespaces =
            self.namespaces.iter().map(|(name, count)| NamespaceStats { name, sockets_count: *count }).collect();
        ServerStats {
            server_id: &self.server_id,
            hostname: &self.hostname,
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs_f64(),
            clients_count,
            polling_clients_count: polling,
            aggregated_events,
            namespaces,
        }
    }
}

fn changes(before: &HashSet<Sid>, now: &HashSet<Sid>) -> Vec<AggregatedEvents> {
    let counts =
        [("rawConnection", now.difference(before).count()), ("rawDisconnection", before.difference(now).count())];
    let happened = counts.into_iter().filter(|(_, count)| *count > 0);
    happened.map(|(kind, count)| AggregatedEvents { timestamp: second(), kind, count }).collect()
}
