//! The command line: which ports, how many nodes, which broker.

use std::{net::IpAddr, str::FromStr};

use clap::Parser;

use crate::adapter::ServerConfig;

/// A chat on several Socket.IO servers that behave as one.
///
/// Starts the servers in this process, each on a port of its own and each serving the same page. Open two of them,
/// talk, and stop one.
#[derive(Debug, Parser)]
#[command(name = "chat", version)]
pub(crate) struct Arguments {
    /// Where the nodes listen: a port to count up from (3001), a range (3001-3003) or a list (3001,3005); 0 takes free
    /// ports.
    #[arg(long, default_value = "3001")]
    pub(crate) ports: Ports,

    /// How many nodes to start [default: 3, or as many as --ports names].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=MAX_NODES))]
    pub(crate) nodes: Option<u16>,

    /// The address to listen on; with 0.0.0.0 a phone in the same network can take part.
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,

    /// The broker that connects the nodes. With a history in it, pages that move to another node get what was written
    /// meanwhile.
    #[arg(long, value_name = "URL", default_value = "memory://chat?history=on")]
    pub(crate) broker: String,

    /// Shows the nodes on the official admin page, to the user "admin" with the password that has this bcrypt hash
    /// (`htpasswd -nbB admin PASSWORD`); see crates/admin.
    #[arg(long, value_name = "HASH")]
    pub(crate) admin: Option<String>,
}

impl Arguments {
    /// What the servers of all nodes have in common.
    pub(crate) fn servers(&self) -> ServerConfig {
        ServerConfig { broker: self.broker.clone(), admin: self.admin.clone() }
    }
}

impl Arguments {
    /// One port for each node.
    pub(crate) fn node_ports(&self) -> Result<Vec<u16>, String> {
        let given = &self.ports.0;
        let single = given.len() == 1;
        let count = match self.nodes {
            Some(count) => usize::from(count),
            None if single => DEFAULT_NODES,
            None => given.len(),
        };
        if single {
            return count_up(given[0], count);
        }
        if count != given.len() {
            return Err(format!("--ports names {} ports, but --nodes asks for {count} nodes", given.len()));
        }
        Ok(given.clone())
    }
}

/// The ports as written; a single one is a start to count from.
#[derive(Clone, Debug)]
pub(crate) struct Ports(Vec<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ports = Vec::new();
        for item in text.split(',') {
            match item.split_once('-') {
                Some((first, last)) => ports.extend(port(first)?..=port(last)?),
                None => ports.push(port(item)?),
            }
        }
        let distinct = ports.iter().filter(|port| **port != 0).collect::<std::collections::BTreeSet<_>>().len();
        if ports.is_empty() || distinct + ports.iter().filter(|port| **port == 0).count() != ports.len() {
            return Err("expected distinct ports, for example 3001 or 3001-3003 or 3001,3005".to_owned());
        }
        if ports.len() > MAX_NODES as usize {
            return Err(format!("{} ports are too many, at most {MAX_NODES} nodes run in one process", ports.len()));
        }
        Ok(Self(ports))
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is not a port, expected 0 to 65535"))
}

fn count_up(first: u16, count: usize) -> Result<Vec<u16>, String> {
    if first == 0 {
        return Ok(vec![0; count]);
    }
    let ports: Vec<u16> = (first..=u16::MAX).take(count).collect();
    if ports.len() < count {
        return Err(format!("there are not {count} ports from {first} on: the last one is {}", u16::MAX));
    }
    Ok(ports)
}

const DEFAULT_NODES: usize = 3;
const MAX_NODES: i64 = 32;
