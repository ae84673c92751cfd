//! What is measured: which servers over which broker.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// A broker that can be started here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BrokerKind {
    Redis,
    Mongodb,
    Postgres,
    Rabbitmq,
    Nats,
}

/// A way to connect two servers over a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    /// A Trunkline node; these parameters are appended to the broker's URL.
    Trunkline(&'static str),
    /// `node/bench/server.js` with this official adapter.
    Node(&'static str),
    /// socketioxide with its own adapter.
    Socketioxide(&'static str),
}

impl Subject {
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.server, Server::Trunkline(_))
    }

    /// The program of one server.
    pub(crate) fn command(&self, broker: &str, programs: &Programs) -> Command {
        let (program, arguments) = match self.server {
            Server::Trunkline(parameters) => (programs.node.clone(), vec![with_parameters(broker, parameters)]),
            Server::Socketioxide(adapter) => (programs.peer.clone(), vec![adapter.to_owned(), broker.to_owned()]),
            Server::Node(adapter) => (
                PathBuf::from("node"),
                vec![programs.script.display().to_string(), adapter.to_owned(), broker.to_owned()],
            ),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        command
    }
}

fn with_parameters(url: &str, parameters: &str) -> String {
    match parameters {
        "" => url.to_owned(),
        parameters => format!("{url}{}{parameters}", if url.contains('?') { '&' } else { '?' }),
    }
}

/// Where the programs of the servers are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) node: PathBuf,
    pub(crate) peer: PathBuf,
    pub(crate) script: PathBuf,
}

impl BrokerKind {
    /// What is measured over this broker; Trunkline comes last, where a broker that slows down would count against it.
    pub(crate) fn subjects(self) -> Vec<Subject> {
        let of =
            |list: &[(&'static str, Server)]| list.iter().map(|&(name, server)| Subject { name, server }).collect();
        match self {
            Self::Redis => of(&[
                ("Node.js, classic", Server::Node("redis-classic")),
                ("Node.js, sharded", Server::Node("redis-sharded")),
                ("Node.js, streams", Server::Node("redis-streams")),
                ("socketioxide-redis", Server::Socketioxide("redis")),
                ("Trunkline, classic", Server::Trunkline("mode=pubsub&subscription=pattern")),
                ("Trunkline, classic, by rooms", Server::Trunkline("mode=pubsub&subscription=rooms")),
                ("Trunkline, sharded", Server::Trunkline("mode=sharded")),
                ("Trunkline, streams", Server::Trunkline("mode=streams")),
            ]),
            Self::Mongodb => of(&[
                ("Node.js", Server::Node("mongodb")),
                ("socketioxide-mongodb", Server::Socketioxide("mongodb")),
                ("Trunkline", Server::Trunkline("")),
            ]),
            Self::Rabbitmq => of(&[
                ("Trunkline", Server::Trunkline("")),
                ("Trunkline, with history", Server::Trunkline("history=on")),
            ]),
            Self::Postgres => of(&[
                ("Node.js", Server::Node("postgres")),
                ("socketioxide-postgres", Server::Socketioxide("postgres")),
                ("Trunkline", Server::Trunkline("")),
                ("Trunkline, with history", Server::Trunkline("history=on")),
            ]),
            Self::Nats => of(&[
                ("Trunkline", Server::Trunkline("")),
                ("Trunkline, with history", Server::Trunkline("history=on")),
            ]),
        }
    }
}
